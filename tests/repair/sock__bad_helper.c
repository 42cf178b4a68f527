// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* A program type that may redirect. */
#include "corpus.h"

SEC("tc")
int sock_redirect(struct __sk_buff *skb)
{
	return bpf_redirect(1, 0);
}

LICENSE;
