// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* As wide as the value. */
#include "corpus.h"

MAP(ARRAY, u32, u32, 4, counts);

SEC("xdp")
int too_wide(struct xdp_md *ctx)
{
	u32 key = 1;
	u32 *n = bpf_map_lookup_elem(&counts, &key);

	if (n)
		*n += 1;
	return XDP_PASS;
}

LICENSE;
