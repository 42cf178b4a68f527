// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The map of the right type. */
#include "corpus.h"

MAP(PROG_ARRAY, u32, u32, 8, jmp_wrong);

SEC("xdp")
int tail_index(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &jmp_wrong, ctx->rx_queue_index);
	return XDP_PASS;
}

LICENSE;
