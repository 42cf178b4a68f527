// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The function checks its argument. */
#include "corpus.h"

u32 table[16];

noinline u32 fetch(u32 i)
{
	opaque(i);
	if (i >= 16)
		return 0;
	return table[i];
}

SEC("tc")
int global_bounds(struct __sk_buff *skb)
{
	return fetch(skb->len & 15);
}

LICENSE;
