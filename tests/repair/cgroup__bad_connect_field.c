// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The field of this hook. */
#include "corpus.h"

SEC("cgroup/connect4")
int connect_field(struct bpf_sock_addr *ctx)
{
	return ctx->user_ip4 == 0;
}

LICENSE;
