// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* A plain addition. */
#include "corpus.h"

SEC("xdp")
int atomic_packet(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + 8 > end)
		return XDP_DROP;
	*(u32 *)data += 1;
	return XDP_PASS;
}

LICENSE;
