// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The slice is written before the record goes. */
#include "corpus.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("tc")
int use_after_submit(struct __sk_buff *skb)
{
	struct bpf_dynptr d;
	u64 *p = NULL;

	if (!bpf_ringbuf_reserve_dynptr(&events, 64, 0, &d))
		p = bpf_dynptr_data(&d, 0, 8);
	if (p)
		*p = 1;
	bpf_ringbuf_submit_dynptr(&d, 0);
	return 0;
}

LICENSE;
