// SPDX-License-Identifier: MIT OR Apache-2.0
// Looks for the socket that the packet describes, and writes what it found over it.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum { TCP, UDP, TCP_COMMON };
struct asked {
	struct bpf_sock_tuple tuple;
	__u32 tuple_bytes;
	__u32 kind;
	__u64 netns;
	__u64 flags;
};
struct found {
	__u32 there, family, type, protocol, src_port, dst_port, state, device, listens;
	__u32 src[4], dst[4];
};

static __always_inline int look_up(void *ctx, struct asked *asked, struct found *found, int is_skb)
{
	__u32 bytes = asked->tuple_bytes;
	struct bpf_sock *sk;

	if (bytes > sizeof(asked->tuple))
		return -1;
	if (asked->kind == TCP_COMMON) {
		sk = bpf_skc_lookup_tcp(ctx, &asked->tuple, bytes, asked->netns, asked->flags);
		if (!sk)
			return 0;
		found->there = 1;
		found->family = sk->family;
		found->src_port = sk->src_port;
		found->dst_port = sk->dst_port;
		found->state = sk->state;
		bpf_sk_release(sk);
		return 0;
	}
	if (asked->kind == UDP)
		sk = bpf_sk_lookup_udp(ctx, &asked->tuple, bytes, asked->netns, asked->flags);
	else
		sk = bpf_sk_lookup_tcp(ctx, &asked->tuple, bytes, asked->netns, asked->flags);
	if (!sk)
		return 0;
	found->there = 1;
	found->family = sk->family;
	found->type = sk->type;
	found->protocol = sk->protocol;
	found->src_port = sk->src_port;
	found->dst_port = sk->dst_port;
	found->state = sk->state;
	found->device = sk->bound_dev_if;
	if (is_skb)
		found->listens = bpf_get_listener_sock(sk) != 0;
	if (sk->family == 2) {
		found->src[0] = sk->src_ip4;
		found->dst[0] = sk->dst_ip4;
	} else {
		found->src[0] = sk->src_ip6[0];
		found->src[1] = sk->src_ip6[1];
		found->src[2] = sk->src_ip6[2];
		found->src[3] = sk->src_ip6[3];
		found->dst[0] = sk->dst_ip6[0];
		found->dst[1] = sk->dst_ip6[1];
		found->dst[2] = sk->dst_ip6[2];
		found->dst[3] = sk->dst_ip6[3];
	}
	bpf_sk_release(sk);
	return 0;
}

SEC("xdp")
int find(struct xdp_md *ctx)
{
	struct found found = {};
	struct asked asked;

	if (bpf_xdp_load_bytes(ctx, 0, &asked, sizeof(asked)))
		return XDP_ABORTED;
	if (look_up(ctx, &asked, &found, 0))
		return XDP_DROP;
	bpf_xdp_store_bytes(ctx, 0, &found, sizeof(found));
	return XDP_PASS;
}

SEC("tc")
int find_of_skb(struct __sk_buff *skb)
{
	struct found found = {};
	struct asked asked;

	if (bpf_skb_load_bytes(skb, 0, &asked, sizeof(asked)))
		return 1;
	if (look_up(skb, &asked, &found, 1))
		return 2;
	bpf_skb_store_bytes(skb, 0, &found, sizeof(found), 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
