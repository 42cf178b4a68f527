// SPDX-License-Identifier: MIT OR Apache-2.0
// Objects that own others: a list in an object, a pointer in an object, and both in values of maps.
#include "graph.h"

struct leaf {
	struct bpf_list_node node;
	__u64 word;
};
struct branch {
	struct bpf_list_node node;
	struct leaf __kptr *single;
	struct bpf_spin_lock lock;
	struct bpf_list_head leaves __contains(leaf, node);
};
struct value {
	struct branch __kptr *branch;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct value);
} branches SEC(".maps");

/* A branch with leaves in its list and one beside it. */
static __always_inline struct branch *grown(void)
{
	struct branch *branch = NEW(branch);
	struct leaf *leaf;

	if (!branch)
		return 0;
	for (int i = 0; i < 3; i++) {
		leaf = NEW(leaf);
		if (!leaf)
			break;
		bpf_spin_lock(&branch->lock);
		bpf_list_push_back_impl(&branch->leaves, &leaf->node, 0, 0);
		bpf_spin_unlock(&branch->lock);
	}
	leaf = NEW(leaf);
	if (leaf) {
		leaf = bpf_kptr_xchg(&branch->single, leaf);
		if (leaf)
			bpf_obj_drop_impl(leaf, 0);
	}
	return branch;
}

SEC("tc")
int dropped(struct __sk_buff *skb)
{
	struct branch *branch = grown();

	if (!branch)
		return 1;
	bpf_obj_drop_impl(branch, 0);
	return 0;
}

SEC("tc")
int kept(struct __sk_buff *skb)
{
	struct value empty = {}, *value;
	struct branch *branch;
	__u32 key = 1;

	bpf_map_update_elem(&branches, &key, &empty, BPF_NOEXIST);
	value = bpf_map_lookup_elem(&branches, &key);
	if (!value)
		return 1;
	branch = grown();
	if (!branch)
		return 2;
	branch = bpf_kptr_xchg(&value->branch, branch);
	if (branch)
		bpf_obj_drop_impl(branch, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
