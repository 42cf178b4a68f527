// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The callback goes on each time. */
#include "corpus.h"

static long step(u32 i, void *p)
{
	u64 *sum = p;

	*sum += i;
	return 0;
}

SEC("syscall")
int callback_return(struct words *c)
{
	u64 sum = c->w[0];

	bpf_loop(4, step, &sum, 0);
	return (int)sum;
}

LICENSE;
