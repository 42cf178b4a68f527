// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The pointer is checked where it is used. */
#include "corpus.h"

noinline u32 sum(const u32 *p)
{
	return p ? *p + 1 : 0;
}

SEC("tc")
int global_null(struct __sk_buff *skb)
{
	u32 v = skb->len;

	return sum(&v);
}

LICENSE;
