// SPDX-License-Identifier: MIT OR Apache-2.0
// TCP congestion control that counts its calls, registered by a link and by setting the map.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct sock;

// Less than the kernel has, in another order; members go by name. The last one is in no kernel.
struct tcp_congestion_ops {
	char name[16];
	void (*init)(struct sock *sk);
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	__u32 in_no_kernel;
};

__u64 inits;

SEC("struct_ops/cc_init") int cc_init(void *ctx)
{
	__sync_fetch_and_add(&inits, 1);
	return 0;
}

SEC("struct_ops/cc_ssthresh") int cc_ssthresh(void *ctx)
{
	return 2;
}

SEC("struct_ops/cc_cong_avoid") int cc_cong_avoid(void *ctx)
{
	return 0;
}

SEC("struct_ops/cc_undo_cwnd") int cc_undo_cwnd(void *ctx)
{
	return 2;
}

SEC(".struct_ops") struct tcp_congestion_ops by_value = {
	.name = "skep_value",
	.init = (void *)cc_init,
	.ssthresh = (void *)cc_ssthresh,
	.cong_avoid = (void *)cc_cong_avoid,
	.undo_cwnd = (void *)cc_undo_cwnd,
};

SEC(".struct_ops.link") struct tcp_congestion_ops by_link = {
	.name = "skep_link",
	.init = (void *)cc_init,
	.ssthresh = (void *)cc_ssthresh,
	.cong_avoid = (void *)cc_cong_avoid,
	.undo_cwnd = (void *)cc_undo_cwnd,
};

char LICENSE[] SEC("license") = "Dual MIT/GPL";
