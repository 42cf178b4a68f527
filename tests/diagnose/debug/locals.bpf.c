// SPDX-License-Identifier: MIT OR Apache-2.0
// Names that only the debug information knows: this object keeps it. Checked for a loader with CAP_BPF alone.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct flow {
	__u8 proto;
	__u32 addr;
	struct {
		__u16 port;
		__u16 zone;
	} to;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, struct flow);
	__type(value, __u64[8]);
} flows SEC(".maps");

// The bytes behind `proto` are never written.
SEC("tc") int padding(struct __sk_buff *skb)
{
	struct flow flow;

	flow.proto = 6;
	flow.addr = skb->len;
	flow.to.port = 80;
	flow.to.zone = 0;
	return bpf_map_lookup_elem(&flows, &flow) != 0;
}

// One member is never written.
SEC("tc") int member(struct __sk_buff *skb)
{
	struct flow flow;

	__builtin_memset(&flow, 0, 8);
	flow.to.zone = skb->mark;
	return bpf_map_lookup_elem(&flows, &flow) != 0;
}

// Assembly has no expression that could be named, but the register holds a variable.
SEC("tc") int assembly(struct __sk_buff *skb)
{
	struct flow flow = {};
	__u64 *counters = bpf_map_lookup_elem(&flows, &flow);

	asm volatile("r5 = *(u64 *)(%[p] + 0)" : : [p] "r"(counters) : "r5");
	return 0;
}

// The variable is one of an inlined function.
static __always_inline __u64 first(const __u64 *row)
{
	asm volatile("r5 = *(u64 *)(%[p] + 0)" : : [p] "r"(row) : "r5");
	return 0;
}

SEC("tc") int inlined(struct __sk_buff *skb)
{
	struct flow flow = {};

	return first(bpf_map_lookup_elem(&flows, &flow));
}

// r5 holds another thing than the variable that the compiler keeps there: it must not be named.
SEC("tc") int clobbered(struct __sk_buff *skb)
{
	asm volatile("r1 = 0; r5 = *(u64 *)(r1 + 0)" : : : "r1", "r5");
	return skb->len;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
