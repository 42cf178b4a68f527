// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* Only a socket is released. */
#include "corpus.h"

SEC("tc")
int sk_release_null(struct __sk_buff *skb)
{
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk;

	sk = bpf_sk_lookup_tcp(skb, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (sk)
		bpf_sk_release(sk);
	return 0;
}

LICENSE;
