// SPDX-License-Identifier: MIT OR Apache-2.0
// A signed index with an upper check only: "math between map_value pointer and register with unbounded min value".
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct table {
	__u32 cell[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct table);
} tables SEC(".maps");

SEC("tc")
int signed_index(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct table *t = bpf_map_lookup_elem(&tables, &key);
	long i = (long)skb->len - skb->mark;

	if (!t)
		return 0;
	asm volatile("" : "+r"(i));
	if (i > 15)
		return 0;
	t->cell[i] = 1;
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
