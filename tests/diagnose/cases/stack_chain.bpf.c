// SPDX-License-Identifier: MIT OR Apache-2.0
// Three frames that fit one by one: "combined stack size of 3 calls is 544. Too large".
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static __attribute__((noinline)) int leaf(__u64 v)
{
	volatile __u64 buf[20];

	for (int i = 0; i < 20; i++)
		buf[i] = v + i;
	return (int)buf[5];
}

static __attribute__((noinline)) int middle(__u64 v)
{
	volatile __u64 buf[22];

	for (int i = 0; i < 22; i++)
		buf[i] = v + i;
	return leaf(v) + (int)buf[7];
}

SEC("tc")
int stack_chain(struct __sk_buff *skb)
{
	volatile __u64 buf[24];

	for (int i = 0; i < 24; i++)
		buf[i] = skb->len + i;
	return middle(skb->len) + (int)buf[3];
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
