// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* A whole key. */
#include "corpus.h"

struct key {
	u64 a, b;
};

MAP(HASH, struct key, u64, 16, pairs);

SEC("xdp")
int key_size(struct xdp_md *ctx)
{
	struct key k = { ctx->rx_queue_index, 0 };
	u64 *v;

	v = bpf_map_lookup_elem(&pairs, &k);
	return v ? XDP_PASS : XDP_DROP;
}

LICENSE;
