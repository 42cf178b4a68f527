// SPDX-License-Identifier: MIT OR Apache-2.0
// A socket is kept on one path: "Unreleased reference id=2".
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int reference_leak(struct __sk_buff *skb)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	int verdict = 0;

	sk = bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	if (sk->state != 1)
		return 2;
	verdict = sk->mark;
	bpf_sk_release(sk);
	return verdict & 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
