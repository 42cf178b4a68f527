// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The index is checked where the verifier sees it. */
#include "corpus.h"

#define ROWS 6
#define COLS 11

struct grid {
	u16 at[ROWS * COLS];
};

MAP(ARRAY, u32, struct grid, 1, grids);

SEC("syscall")
int mod_bounds(struct words *c)
{
	u32 zero = 0;
	struct grid *g = bpf_map_lookup_elem(&grids, &zero);
	u64 row = c->w[0], col = c->w[1];
	u64 cell;

	if (!g)
		return 1;
	row %= ROWS;
	if (col >= COLS)
		col = COLS - 1;
	cell = row * COLS + col;
	opaque(cell);
	if (cell >= ROWS * COLS)
		return 1;
	g->at[cell] += (u16)(c->w[2] + 1);
	return g->at[cell] + (int)cell;
}

LICENSE;
