// SPDX-License-Identifier: MIT OR Apache-2.0
// Objects that programs own, share and keep in maps, lists and trees. Programs are named after what must come of them: ok_…,
// or bad_CODE_….
#include <stdbool.h>
#include "graph.h"

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

extern struct task_struct *bpf_task_from_pid(int pid) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;

struct item {
	struct bpf_list_node in_list;
	long value;
};

struct leaf {
	struct bpf_rb_node in_tree;
	long value;
};

struct shelf {
	struct bpf_spin_lock lock;
	struct bpf_list_head list __contains(item, in_list);
};

struct forest {
	struct bpf_spin_lock lock;
	struct bpf_rb_root tree __contains(leaf, in_tree);
};

struct stash {
	struct task_struct __kptr *task;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, int);
	__type(value, struct shelf);
} shelves SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, struct forest);
} forests SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, struct stash);
} stashes SEC(".maps");

char LICENSE[] SEC("license") = "GPL";
int key;

SEC("tc")
int ok_object_is_dropped(void *ctx)
{
	struct item *item = NEW(item);

	if (!item)
		return 0;
	item->value = 1;
	bpf_obj_drop_impl(item, 0);
	return 0;
}

SEC("tc")
int bad_V0601_object_leaks(void *ctx)
{
	struct item *item = NEW(item);

	return item ? 1 : 0;
}

SEC("tc")
int bad_V0203_object_may_be_null(void *ctx)
{
	struct item *item = NEW(item);

	item->value = 1;
	if (item)
		bpf_obj_drop_impl(item, 0);
	return 0;
}

SEC("tc")
int bad_V0212_node_is_written(void *ctx)
{
	struct item *item = NEW(item);

	if (!item)
		return 0;
	*(volatile long *)&item->in_list = 1;
	bpf_obj_drop_impl(item, 0);
	return 0;
}

SEC("tc")
int bad_V0202_use_after_drop(void *ctx)
{
	struct item *item = NEW(item);

	if (!item)
		return 0;
	bpf_obj_drop_impl(item, 0);
	return item->value;
}

SEC("tc")
int ok_list(void *ctx)
{
	struct shelf *shelf = bpf_map_lookup_elem(&shelves, &key);
	struct bpf_list_node *node;
	struct item *item;

	if (!shelf)
		return 0;
	item = NEW(item);
	if (!item)
		return 0;
	bpf_spin_lock(&shelf->lock);
	bpf_list_push_front_impl(&shelf->list, &item->in_list, 0, 0);
	item->value = 7;
	node = bpf_list_pop_front(&shelf->list);
	bpf_spin_unlock(&shelf->lock);
	if (node)
		bpf_obj_drop_impl(OUTER(node, struct item, in_list), 0);
	return 0;
}

SEC("tc")
int bad_V0603_list_without_lock(void *ctx)
{
	struct shelf *shelf = bpf_map_lookup_elem(&shelves, &key);
	struct bpf_list_node *node;

	if (!shelf)
		return 0;
	node = bpf_list_pop_front(&shelf->list);
	if (node)
		bpf_obj_drop_impl(OUTER(node, struct item, in_list), 0);
	return 0;
}

SEC("tc")
int bad_V0603_lock_of_another_value(void *ctx)
{
	int other = 1;
	struct shelf *shelf = bpf_map_lookup_elem(&shelves, &key);
	struct shelf *beside = bpf_map_lookup_elem(&shelves, &other);
	struct bpf_list_node *node;

	if (!shelf || !beside)
		return 0;
	bpf_spin_lock(&beside->lock);
	node = bpf_list_pop_front(&shelf->list);
	bpf_spin_unlock(&beside->lock);
	if (node)
		bpf_obj_drop_impl(OUTER(node, struct item, in_list), 0);
	return 0;
}

SEC("tc")
int bad_V0202_borrowed_after_unlock(void *ctx)
{
	struct shelf *shelf = bpf_map_lookup_elem(&shelves, &key);
	struct item *item;

	if (!shelf)
		return 0;
	item = NEW(item);
	if (!item)
		return 0;
	bpf_spin_lock(&shelf->lock);
	bpf_list_push_front_impl(&shelf->list, &item->in_list, 0, 0);
	bpf_spin_unlock(&shelf->lock);
	return item->value;
}

SEC("tc")
int bad_V0604_allocation_under_lock(void *ctx)
{
	struct shelf *shelf = bpf_map_lookup_elem(&shelves, &key);
	struct item *item;

	if (!shelf)
		return 0;
	bpf_spin_lock(&shelf->lock);
	item = NEW(item);
	bpf_spin_unlock(&shelf->lock);
	if (item)
		bpf_obj_drop_impl(item, 0);
	return 0;
}

static bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return OUTER(a, struct leaf, in_tree)->value < OUTER(b, struct leaf, in_tree)->value;
}

SEC("tc")
int ok_tree(void *ctx)
{
	struct forest *forest = bpf_map_lookup_elem(&forests, &key);
	struct bpf_rb_node *node;
	struct leaf *leaf;

	if (!forest)
		return 0;
	leaf = NEW(leaf);
	if (!leaf)
		return 0;
	leaf->value = 3;
	bpf_spin_lock(&forest->lock);
	bpf_rbtree_add_impl(&forest->tree, &leaf->in_tree, less, 0, 0);
	node = bpf_rbtree_first(&forest->tree);
	if (node)
		node = bpf_rbtree_remove(&forest->tree, node);
	bpf_spin_unlock(&forest->lock);
	if (node)
		bpf_obj_drop_impl(OUTER(node, struct leaf, in_tree), 0);
	return 0;
}

SEC("tc")
int bad_V0806_object_that_is_in_no_tree(void *ctx)
{
	struct forest *forest = bpf_map_lookup_elem(&forests, &key);
	struct leaf *leaf;

	if (!forest)
		return 0;
	leaf = NEW(leaf);
	if (!leaf)
		return 0;
	bpf_spin_lock(&forest->lock);
	bpf_rbtree_add_impl(&forest->tree, &leaf->in_tree, less, 0, 0);
	bpf_rbtree_add_impl(&forest->tree, &leaf->in_tree, less, 0, 0);
	bpf_spin_unlock(&forest->lock);
	return 0;
}

SEC("tc")
int ok_kptr_is_exchanged(void *ctx)
{
	struct stash *stash = bpf_map_lookup_elem(&stashes, &key);
	struct task_struct *task;

	if (!stash)
		return 0;
	task = bpf_task_from_pid(1);
	if (!task)
		return 0;
	task = bpf_kptr_xchg(&stash->task, task);
	if (task)
		bpf_task_release(task);
	return 0;
}

SEC("tc")
int bad_V0601_what_was_in_the_slot_leaks(void *ctx)
{
	struct stash *stash = bpf_map_lookup_elem(&stashes, &key);

	if (stash)
		bpf_kptr_xchg(&stash->task, 0);
	return 0;
}

SEC("tc")
int bad_V0607_kptr_is_stored(void *ctx)
{
	struct stash *stash = bpf_map_lookup_elem(&stashes, &key);

	if (stash)
		stash->task = 0;
	return 0;
}

SEC("tc")
int ok_kptr_is_read(void *ctx)
{
	struct stash *stash = bpf_map_lookup_elem(&stashes, &key);
	struct task_struct *task;

	if (!stash)
		return 0;
	task = stash->task;
	return task ? task->pid : 0;
}

SEC("tc")
int bad_V0203_kptr_may_be_null(void *ctx)
{
	struct stash *stash = bpf_map_lookup_elem(&stashes, &key);

	return stash ? stash->task->pid : 0;
}
