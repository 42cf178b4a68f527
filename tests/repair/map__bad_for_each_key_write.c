// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The value may be written. */
#include "corpus.h"

MAP(HASH, u32, u64, 32, sums);

static long visit(struct bpf_map *map, u32 *key, u64 *val, void *p)
{
	*val = 1;
	return 0;
}

SEC("syscall")
int key_write(struct words *c)
{
	return bpf_for_each_map_elem(&sums, visit, NULL, 0);
}

LICENSE;
