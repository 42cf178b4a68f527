// SPDX-License-Identifier: MIT OR Apache-2.0
// A program whose global function another program replaces.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__attribute__((noinline)) int decide(struct xdp_md *ctx)
{
	volatile int verdict = XDP_PASS;

	return ctx ? verdict : XDP_ABORTED;
}

SEC("xdp") int base(struct xdp_md *ctx)
{
	return decide(ctx);
}

SEC("?freplace/decide") int drop(struct xdp_md *ctx)
{
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
