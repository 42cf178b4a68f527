// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* What the pointers point to is added. */
#include "corpus.h"

MAP(ARRAY, u32, u64, 4, vals);

SEC("syscall")
int two_ptrs(struct words *c)
{
	u32 zero = 0;
	u64 *v = bpf_map_lookup_elem(&vals, &zero);
	u64 sum;

	if (!v)
		return 1;
	sum = *v + c->w[0];
	return (u32)sum;
}

LICENSE;
