// SPDX-License-Identifier: MIT OR Apache-2.0
// A list is used under the lock of another value: "held lock and object are not in the same allocation".
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define CONTAINS(type, field) __attribute__((btf_decl_tag("contains:" #type ":" #field)))

struct bpf_list_head {
	__u64 opaque_words[2];
} __attribute__((aligned(8)));

struct bpf_list_node {
	__u64 opaque_words[3];
} __attribute__((aligned(8)));

struct item {
	struct bpf_list_node node;
	__u64 value;
};

struct item described; // a type that no global has is not in the BTF

struct shared {
	struct bpf_spin_lock lock;
	struct bpf_list_head items CONTAINS(item, node);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct shared);
} lists SEC(".maps");

extern struct bpf_list_node *bpf_list_pop_front(struct bpf_list_head *head) __ksym;
extern void bpf_obj_drop_impl(void *object, void *meta) __ksym;

SEC("tc")
int wrong_lock(struct __sk_buff *skb)
{
	__u32 zero = 0, one = 1;
	struct shared *a = bpf_map_lookup_elem(&lists, &zero);
	struct shared *b = bpf_map_lookup_elem(&lists, &one);
	struct bpf_list_node *node;
	struct item *item;

	if (!a || !b)
		return 0;
	bpf_spin_lock(&a->lock);
	node = bpf_list_pop_front(&b->items);
	bpf_spin_unlock(&a->lock);
	if (node) {
		item = (void *)node - __builtin_offsetof(struct item, node);
		bpf_obj_drop_impl(item, 0);
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
