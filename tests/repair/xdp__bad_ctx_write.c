// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The context is only read. */
#include "corpus.h"

SEC("xdp")
int ctx_write(struct xdp_md *ctx)
{
	return XDP_PASS;
}

LICENSE;
