// SPDX-License-Identifier: MIT OR Apache-2.0
// Asks for the route that the packet describes, flags behind it, and writes the answer back.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct asked {
	struct bpf_fib_lookup params;
	__u32 flags;
	int result;
};

SEC("xdp")
int route(struct xdp_md *ctx)
{
	struct asked asked;

	if (bpf_xdp_load_bytes(ctx, 0, &asked, sizeof(asked)))
		return XDP_ABORTED;
	asked.result = bpf_fib_lookup(ctx, &asked.params, sizeof(asked.params), asked.flags);
	bpf_xdp_store_bytes(ctx, 0, &asked, sizeof(asked));
	return XDP_PASS;
}

SEC("tc")
int route_of_skb(struct __sk_buff *skb)
{
	struct asked asked;

	if (bpf_skb_load_bytes(skb, 0, &asked, sizeof(asked)))
		return 2;
	asked.result = bpf_fib_lookup(skb, &asked.params, sizeof(asked.params), asked.flags);
	bpf_skb_store_bytes(skb, 0, &asked, sizeof(asked), 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
