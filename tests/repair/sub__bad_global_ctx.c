// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* A static function is verified with its caller and may take packet pointers. */
#include "corpus.h"

static noinline u32 first(struct ethhdr *eth)
{
	return eth ? eth->h_proto : 0;
}

SEC("xdp")
int global_ctx(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + 14 > end)
		return XDP_DROP;
	return first((void *)(long)ctx->data) ? XDP_PASS : XDP_DROP;
}

LICENSE;
