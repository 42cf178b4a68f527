// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The socket is given back. */
#include "corpus.h"

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 4);
	__type(key, u32);
	__type(value, u64);
} targets SEC(".maps");

SEC("sk_lookup")
int lookup_leak(struct bpf_sk_lookup *ctx)
{
	u32 key = 0;
	struct bpf_sock *sk = bpf_map_lookup_elem(&targets, &key);

	if (!sk)
		return 1;
	bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
	return 1;
}

LICENSE;
