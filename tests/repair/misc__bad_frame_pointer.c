// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The frame pointer stays. */
#include "corpus.h"

SEC("socket")
__attribute__((naked)) int frame_pointer(struct __sk_buff *skb)
{
	asm volatile("r0 = 0\n\t"
		     "exit");
}

LICENSE;
