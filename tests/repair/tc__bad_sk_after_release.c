// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The field is read before the release. */
#include "corpus.h"

SEC("tc")
int sk_after_release(struct __sk_buff *skb)
{
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk;

	sk = bpf_skc_lookup_tcp(skb, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 5;
	u32 family = sk->family;

	bpf_sk_release(sk);
	return family;
}

LICENSE;
