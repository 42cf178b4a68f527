// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* Values of maps are aligned already. */
#include "corpus.h"

MAP(ARRAY, u32, u64, 4, vals);

SEC("syscall")
int div_ptr(struct words *c)
{
	u32 zero = 0;
	u64 *v = bpf_map_lookup_elem(&vals, &zero);
	u64 p;

	if (!v)
		return 1;
	p = (u64)v;
	*(u64 *)p = 1;
	return 0;
}

LICENSE;
