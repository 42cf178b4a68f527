// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The context is passed as it is. */
#include "corpus.h"

SEC("tc")
int ctx_to_helper(struct __sk_buff *skb)
{
	u8 b = 0;
	void *p = skb;

	opaque(p);
	return bpf_skb_load_bytes(p, 0, &b, 1);
}

LICENSE;
