// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* A helper copies the byte. */
#include "corpus.h"

SEC("socket")
int direct_access(struct __sk_buff *skb)
{
	u8 first;

	return bpf_skb_load_bytes(skb, 0, &first, 1) ? 0 : first;
}

LICENSE;
