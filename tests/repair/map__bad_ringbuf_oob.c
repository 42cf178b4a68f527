// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* Room for three words. */
#include "corpus.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("tc")
int ringbuf_oob(struct __sk_buff *skb)
{
	u64 *e = bpf_ringbuf_reserve(&events, 24, 0);

	if (!e)
		return 1;
	e[0] = skb->len;
	e[2] = skb->mark;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

LICENSE;
