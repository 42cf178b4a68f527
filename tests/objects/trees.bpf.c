// SPDX-License-Identifier: MIT OR Apache-2.0
// A tree and a list of objects, changed as the packet says and looked at along a path: both backends must show the same.
#include "graph.h"

#define LEVELS 10

struct leaf {
	struct bpf_rb_node node;
	__u32 key;
};
struct item {
	struct bpf_list_node node;
	__u32 key;
};
struct forest {
	struct bpf_spin_lock lock;
	__u32 unused;
	struct bpf_rb_root leaves __contains(leaf, node);
	struct bpf_list_head items __contains(item, node);
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct forest);
} forests SEC(".maps");

struct stash {
	struct item __kptr *kept;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stash);
} stashes SEC(".maps");

/* What a run is to do, in its packet behind the Ethernet header. */
#define CALL_AT 16
struct call {
	__u32 key;
	__u32 path;
	__u32 end;
};

static _Bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return OUTER(a, struct leaf, node)->key < OUTER(b, struct leaf, node)->key;
}

static __always_inline struct forest *begin(struct __sk_buff *skb, struct call *call)
{
	__u32 zero = 0;

	bpf_skb_load_bytes(skb, CALL_AT, call, sizeof(*call));
	return bpf_map_lookup_elem(&forests, &zero);
}

SEC("tc")
int grow(struct __sk_buff *skb)
{
	struct call call = {};
	struct forest *f = begin(skb, &call);
	struct leaf *leaf;
	int result;

	if (!f)
		return -1;
	leaf = NEW(leaf);
	if (!leaf)
		return -2;
	leaf->key = call.key;
	bpf_spin_lock(&f->lock);
	result = bpf_rbtree_add_impl(&f->leaves, &leaf->node, less, 0, 0);
	bpf_spin_unlock(&f->lock);
	return result;
}

/* Goes along a path from the root, one bit a step; the keys on it, folded. */
SEC("tc")
int look(struct __sk_buff *skb)
{
	struct call call = {};
	struct forest *f = begin(skb, &call);
	struct bpf_rb_node *node;
	__u32 folded = 1;

	if (!f)
		return -1;
	bpf_spin_lock(&f->lock);
	node = bpf_rbtree_root(&f->leaves);
	for (int i = 0; i < LEVELS && node; i++) {
		folded = folded * 31 + OUTER(node, struct leaf, node)->key;
		node = call.path >> i & 1 ? bpf_rbtree_right(&f->leaves, node) : bpf_rbtree_left(&f->leaves, node);
	}
	bpf_spin_unlock(&f->lock);
	return node ? -2 : (int)(folded & 0x7fffffff);
}

/* Cuts the node off that is so many steps down a path, the first one for a step too many. */
SEC("tc")
int cut(struct __sk_buff *skb)
{
	struct call call = {};
	struct forest *f = begin(skb, &call);
	struct bpf_rb_node *node;
	struct leaf *leaf;
	int key = -2;

	if (!f)
		return -1;
	bpf_spin_lock(&f->lock);
	node = bpf_rbtree_root(&f->leaves);
	for (int i = 0; i < LEVELS && node && i < call.end; i++)
		node = call.path >> i & 1 ? bpf_rbtree_right(&f->leaves, node) : bpf_rbtree_left(&f->leaves, node);
	if (!node)
		node = bpf_rbtree_first(&f->leaves);
	if (node)
		node = bpf_rbtree_remove(&f->leaves, node);
	bpf_spin_unlock(&f->lock);
	if (!node)
		return -3;
	leaf = OUTER(node, struct leaf, node);
	key = leaf->key;
	bpf_obj_drop_impl(leaf, 0);
	return key;
}

/* The list: the lowest bit of the path says which end. */
SEC("tc")
int push(struct __sk_buff *skb)
{
	struct call call = {};
	struct forest *f = begin(skb, &call);
	struct item *item;
	int result;

	if (!f)
		return -1;
	item = NEW(item);
	if (!item)
		return -2;
	item->key = call.key;
	bpf_spin_lock(&f->lock);
	if (call.path & 1)
		result = bpf_list_push_back_impl(&f->items, &item->node, 0, 0);
	else
		result = bpf_list_push_front_impl(&f->items, &item->node, 0, 0);
	bpf_spin_unlock(&f->lock);
	return result;
}

SEC("tc")
int pop(struct __sk_buff *skb)
{
	struct call call = {};
	struct forest *f = begin(skb, &call);
	struct bpf_list_node *node;
	struct item *item;
	int key;

	if (!f)
		return -1;
	bpf_spin_lock(&f->lock);
	node = call.path & 1 ? bpf_list_pop_back(&f->items) : bpf_list_pop_front(&f->items);
	bpf_spin_unlock(&f->lock);
	if (!node)
		return -3;
	item = OUTER(node, struct item, node);
	key = item->key;
	bpf_obj_drop_impl(item, 0);
	return key;
}

/* Keeps an item beside everything; the key of the one before, or -3. */
SEC("tc")
int keep(struct __sk_buff *skb)
{
	struct call call = {};
	struct item *item;
	struct stash *s;
	__u32 zero = 0;
	int key = -3;

	bpf_skb_load_bytes(skb, CALL_AT, &call, sizeof(call));
	s = bpf_map_lookup_elem(&stashes, &zero);
	if (!s)
		return -1;
	item = NEW(item);
	if (!item)
		return -2;
	item->key = call.key;
	item = bpf_kptr_xchg(&s->kept, item);
	if (item) {
		key = item->key;
		bpf_obj_drop_impl(item, 0);
	}
	return key;
}

/* The key of the item that is kept, or -3. */
SEC("tc")
int peek(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct stash *s = bpf_map_lookup_elem(&stashes, &zero);
	struct item *item;

	if (!s)
		return -1;
	item = s->kept;
	return item ? item->key : -3;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
