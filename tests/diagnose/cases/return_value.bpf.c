// SPDX-License-Identifier: MIT OR Apache-2.0
// "At program exit the register R0 has smin=0 smax=4294967295 should have been in [0, 3]".
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("cgroup_skb/egress")
int return_value(struct __sk_buff *skb)
{
	__u32 verdict = skb->mark;

	return verdict;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
