// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The socket is released on both paths. */
#include "corpus.h"

SEC("tc")
int sk_leak(struct __sk_buff *skb)
{
	struct bpf_sock_tuple t = {};
	struct bpf_sock *sk;

	sk = bpf_sk_lookup_udp(skb, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 5;
	if (sk->family != 2) {
		bpf_sk_release(sk);
		return 1;
	}
	bpf_sk_release(sk);
	return 0;
}

LICENSE;
