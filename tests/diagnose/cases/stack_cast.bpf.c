// SPDX-License-Identifier: MIT OR Apache-2.0
// A small key is cast to a large one: "invalid read from stack R2 off=-4 size=16".
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct flow {
	__u32 from, to;
	__u64 ports;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct flow);
	__type(value, __u64);
} flows SEC(".maps");

SEC("tc")
int stack_cast(struct __sk_buff *skb)
{
	__u32 from = skb->mark;
	__u64 *n = bpf_map_lookup_elem(&flows, (struct flow *)&from);

	return n ? *n : 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
