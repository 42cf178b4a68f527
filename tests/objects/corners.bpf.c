// SPDX-License-Identifier: MIT OR Apache-2.0
// Corners of helpers and test runs that were once different from the kernel's; each program returns what it found.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define __ksym __attribute__((section(".ksyms")))

struct bpf_iter_num {
	__u64 opaque;
} __attribute__((aligned(8)));
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;

#define INT_MIN (-2147483647 - 1)

SEC("raw_tp/sys_enter")
int from_the_lowest_number(void *ctx)
{
	struct bpf_iter_num it;
	__u32 sum = 0;
	int *i;

	bpf_iter_num_new(&it, INT_MIN, INT_MIN + 3);
	while ((i = bpf_iter_num_next(&it)))
		sum = sum * 3 + *i;
	bpf_iter_num_destroy(&it);
	return sum;
}

SEC("tc")
int tunnel_without_key(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = { .remote_ipv4 = 1, .tunnel_ttl = 64 };
	int sum = 0;

	for (int flag = 0; flag < 7; flag++)
		sum = sum * 3 + bpf_skb_set_tunnel_key(skb, &key, sizeof(key), 1 << flag);
	return sum;
}

SEC("flow_dissector")
int nothing_dissected(struct __sk_buff *skb)
{
	return BPF_OK;
}

SEC("xdp/devmap")
int behind_a_devmap(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("xdp/cpumap")
int behind_a_cpumap(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
