// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The counter advances on every path. */
#include "corpus.h"

SEC("socket")
int no_progress(struct __sk_buff *skb)
{
	u32 i = 0, skip = skb->mark;

	opaque(i);
	while (i < 10) {
		if (i == skip) {
			i++;
			opaque(i);
			continue;
		}
		i++;
		opaque(i);
	}
	return i;
}

LICENSE;
