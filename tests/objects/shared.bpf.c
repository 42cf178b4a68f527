// SPDX-License-Identifier: MIT OR Apache-2.0
// What several may hold or come for later: counted objects, resilient locks, timers, work queues. Programs are named after what
// must come of them: ok_…, or bad_CODE_….
#include <stdbool.h>
#include "graph.h"

#define bpf_refcount_acquire(object) bpf_refcount_acquire_impl(object, 0)

/* As in newer headers than those of the machine that builds this. */
struct bpf_refcount {
	__u32 opaque[1];
} __attribute__((aligned(4)));

struct bpf_res_spin_lock {
	__u32 val;
};

struct bpf_wq {
	__u64 opaque[2];
} __attribute__((aligned(8)));

extern void *bpf_refcount_acquire_impl(void *object, void *meta) __ksym;
extern int bpf_res_spin_lock(struct bpf_res_spin_lock *lock) __ksym;
extern void bpf_res_spin_unlock(struct bpf_res_spin_lock *lock) __ksym;
extern int bpf_res_spin_lock_irqsave(struct bpf_res_spin_lock *lock, unsigned long *flags__irq_flag) __ksym;
extern void bpf_res_spin_unlock_irqrestore(struct bpf_res_spin_lock *lock, unsigned long *flags__irq_flag) __ksym;
extern void bpf_local_irq_restore(unsigned long *flags) __ksym;
extern int bpf_wq_init(struct bpf_wq *wq, void *p__map, unsigned int flags) __ksym;
extern int bpf_wq_start(struct bpf_wq *wq, unsigned int flags) __ksym;
extern int bpf_wq_set_callback_impl(struct bpf_wq *wq, int(callback_fn)(void *map, int *key, void *value), unsigned int flags,
				    void *aux__prog) __ksym;

struct counted {
	struct bpf_refcount references;
	struct bpf_rb_node in_tree;
	long value;
};

struct plain {
	struct bpf_rb_node in_no_tree;
	long value;
};

struct forest {
	struct bpf_spin_lock lock;
	struct bpf_rb_root tree __contains(counted, in_tree);
	struct counted __kptr *slot;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct forest);
} forests SEC(".maps");

struct guarded {
	struct bpf_res_spin_lock lock;
	__u32 value;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct guarded);
} guards SEC(".maps");

struct later {
	struct bpf_timer timer;
	struct bpf_wq work;
	__u64 seen;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct later);
} waiting SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct later);
} others SEC(".maps");

char LICENSE[] SEC("license") = "GPL";
long seen;
char room[8];
static const __u32 first = 0, second = 1;

#define element(map, key, type)                                  \
	({                                                       \
		type *found = bpf_map_lookup_elem(&(map), &(key)); \
		if (!found)                                      \
			return 0;                                \
		found;                                           \
	})

static bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return ((struct counted *)((char *)a - __builtin_offsetof(struct counted, in_tree)))->value <
	       ((const struct counted *)((const char *)b - __builtin_offsetof(struct counted, in_tree)))->value;
}

/* Counted objects. */

SEC("tc")
int ok_second_reference(struct __sk_buff *ctx)
{
	struct counted *object = NEW(counted), *again;

	if (!object)
		return 0;
	again = bpf_refcount_acquire(object);
	bpf_obj_drop_impl(object, 0);
	again->value = 1;
	bpf_obj_drop_impl(again, 0);
	return 0;
}

SEC("tc")
int bad_V0601_second_reference_leaks(struct __sk_buff *ctx)
{
	struct counted *object = NEW(counted);

	if (!object)
		return 0;
	bpf_refcount_acquire(object);
	bpf_obj_drop_impl(object, 0);
	return 0;
}

SEC("tc")
int bad_V0804_reference_of_uncounted_object(struct __sk_buff *ctx)
{
	struct plain *object = NEW(plain), *again;

	if (!object)
		return 0;
	again = bpf_refcount_acquire(object);
	bpf_obj_drop_impl(object, 0);
	bpf_obj_drop_impl(again, 0);
	return 0;
}

SEC("tc")
int ok_in_tree_and_slot(struct __sk_buff *ctx)
{
	struct forest *forest = element(forests, first, struct forest);
	struct counted *object = NEW(counted), *again;

	if (!object)
		return 0;
	again = bpf_refcount_acquire(object);
	bpf_spin_lock(&forest->lock);
	bpf_rbtree_add_impl(&forest->tree, &object->in_tree, less, 0, 0);
	object->value = 2;
	bpf_spin_unlock(&forest->lock);
	again = bpf_kptr_xchg(&forest->slot, again);
	if (again)
		bpf_obj_drop_impl(again, 0);
	return 0;
}

SEC("tc")
int bad_V0202_written_after_unlock(struct __sk_buff *ctx)
{
	struct forest *forest = element(forests, first, struct forest);
	struct counted *object = NEW(counted);

	if (!object)
		return 0;
	bpf_spin_lock(&forest->lock);
	bpf_rbtree_add_impl(&forest->tree, &object->in_tree, less, 0, 0);
	bpf_spin_unlock(&forest->lock);
	object->value = 2;
	return 0;
}

SEC("tc")
int ok_reference_of_borrowed_node(struct __sk_buff *ctx)
{
	struct forest *forest = element(forests, first, struct forest);
	struct counted *object = NEW(counted), *again;

	if (!object)
		return 0;
	bpf_spin_lock(&forest->lock);
	bpf_rbtree_add_impl(&forest->tree, &object->in_tree, less, 0, 0);
	again = bpf_refcount_acquire(object);
	bpf_spin_unlock(&forest->lock);
	if (again)
		bpf_obj_drop_impl(again, 0);
	return 0;
}

SEC("tc")
int bad_V0203_reference_of_borrowed_node_may_be_null(struct __sk_buff *ctx)
{
	struct forest *forest = element(forests, first, struct forest);
	struct counted *object = NEW(counted), *again;

	if (!object)
		return 0;
	bpf_spin_lock(&forest->lock);
	bpf_rbtree_add_impl(&forest->tree, &object->in_tree, less, 0, 0);
	again = bpf_refcount_acquire(object);
	bpf_spin_unlock(&forest->lock);
	again->value = 3;
	bpf_obj_drop_impl(again, 0);
	return 0;
}

SEC("tc")
int bad_V0203_removed_node_may_be_null(struct __sk_buff *ctx)
{
	struct forest *forest = element(forests, first, struct forest);
	struct bpf_rb_node *node;

	bpf_spin_lock(&forest->lock);
	node = bpf_rbtree_first(&forest->tree);
	if (!node) {
		bpf_spin_unlock(&forest->lock);
		return 0;
	}
	node = bpf_rbtree_remove(&forest->tree, node);
	bpf_spin_unlock(&forest->lock);
	seen = ((struct counted *)((char *)node - __builtin_offsetof(struct counted, in_tree)))->value;
	return 0;
}

SEC("tc")
int ok_neighbour_in_tree(struct __sk_buff *ctx)
{
	struct forest *forest = element(forests, first, struct forest);
	struct bpf_rb_node *node;

	bpf_spin_lock(&forest->lock);
	node = bpf_rbtree_first(&forest->tree);
	if (node)
		node = bpf_rbtree_left(&forest->tree, node);
	if (node)
		seen = ((struct counted *)((char *)node - __builtin_offsetof(struct counted, in_tree)))->value;
	bpf_spin_unlock(&forest->lock);
	return 0;
}

SEC("tc")
int bad_V0603_neighbour_without_lock(struct __sk_buff *ctx)
{
	struct forest *forest = element(forests, first, struct forest);
	struct bpf_rb_node *node;

	bpf_spin_lock(&forest->lock);
	node = bpf_rbtree_first(&forest->tree);
	bpf_spin_unlock(&forest->lock);
	bpf_rbtree_left(&forest->tree, node);
	return 0;
}

/* Resilient locks: taking one may fail; they nest in order. */

SEC("tc")
int ok_resilient(struct __sk_buff *ctx)
{
	struct guarded *guard = element(guards, first, struct guarded);

	if (bpf_res_spin_lock(&guard->lock))
		return 0;
	guard->value = 1;
	bpf_res_spin_unlock(&guard->lock);
	return 0;
}

SEC("tc")
int bad_V0603_success_is_not_checked(struct __sk_buff *ctx)
{
	struct guarded *guard = element(guards, first, struct guarded);

	bpf_res_spin_lock(&guard->lock);
	bpf_res_spin_unlock(&guard->lock);
	return 0;
}

SEC("tc")
int bad_V0603_stays_locked(struct __sk_buff *ctx)
{
	struct guarded *guard = element(guards, first, struct guarded);

	if (bpf_res_spin_lock(&guard->lock))
		return 0;
	return 1;
}

SEC("tc")
int bad_V0603_same_lock_twice(struct __sk_buff *ctx)
{
	struct guarded *guard = element(guards, first, struct guarded);

	if (bpf_res_spin_lock(&guard->lock))
		return 0;
	if (!bpf_res_spin_lock(&guard->lock))
		bpf_res_spin_unlock(&guard->lock);
	bpf_res_spin_unlock(&guard->lock);
	return 0;
}

SEC("tc")
int ok_nested_locks(struct __sk_buff *ctx)
{
	struct guarded *guard = element(guards, first, struct guarded);
	struct guarded *inner = element(guards, second, struct guarded);

	if (bpf_res_spin_lock(&guard->lock))
		return 0;
	if (!bpf_res_spin_lock(&inner->lock))
		bpf_res_spin_unlock(&inner->lock);
	bpf_res_spin_unlock(&guard->lock);
	return 0;
}

SEC("tc")
int bad_V0603_unlocked_out_of_order(struct __sk_buff *ctx)
{
	struct guarded *guard = element(guards, first, struct guarded);
	struct guarded *inner = element(guards, second, struct guarded);

	if (bpf_res_spin_lock(&guard->lock))
		return 0;
	if (bpf_res_spin_lock(&inner->lock)) {
		bpf_res_spin_unlock(&guard->lock);
		return 0;
	}
	bpf_res_spin_unlock(&guard->lock);
	bpf_res_spin_unlock(&inner->lock);
	return 0;
}

SEC("tc")
int ok_resilient_without_interrupts(struct __sk_buff *ctx)
{
	struct guarded *guard = element(guards, first, struct guarded);
	unsigned long flags;

	if (bpf_res_spin_lock_irqsave(&guard->lock, &flags))
		return 0;
	bpf_res_spin_unlock_irqrestore(&guard->lock, &flags);
	return 0;
}

SEC("tc")
int bad_V0603_interrupts_stay_off(struct __sk_buff *ctx)
{
	struct guarded *guard = element(guards, first, struct guarded);
	unsigned long flags;

	if (bpf_res_spin_lock_irqsave(&guard->lock, &flags))
		return 0;
	bpf_res_spin_unlock(&guard->lock);
	return 0;
}

SEC("tc")
int bad_V0604_flags_of_a_lock(struct __sk_buff *ctx)
{
	struct guarded *guard = element(guards, first, struct guarded);
	unsigned long flags;

	if (bpf_res_spin_lock_irqsave(&guard->lock, &flags))
		return 0;
	bpf_local_irq_restore(&flags);
	bpf_res_spin_unlock(&guard->lock);
	return 0;
}

SEC("tc")
int bad_V0603_plain_lock_taken_resiliently(struct __sk_buff *ctx)
{
	struct forest *forest = element(forests, first, struct forest);

	if (bpf_res_spin_lock((void *)&forest->lock))
		return 0;
	bpf_res_spin_unlock((void *)&forest->lock);
	return 0;
}

SEC("tc")
int bad_V0212_lock_is_written(struct __sk_buff *ctx)
{
	struct guarded *guard = element(guards, first, struct guarded);

	guard->lock.val = 0;
	return 0;
}

/* Timers. */

static int on_timer(void *map, __u32 *key, struct later *value)
{
	value->seen = *key;
	return 0;
}

static int on_timer_wrong(void *map, __u32 *key, struct later *value)
{
	return 1;
}

static int on_timer_starts(void *map, __u32 *key, struct later *value)
{
	bpf_timer_start(&value->timer, 1, 0);
	return 0;
}

SEC("tc")
int ok_timer(struct __sk_buff *ctx)
{
	struct later *later = element(waiting, first, struct later);

	bpf_timer_init(&later->timer, &waiting, 1);
	bpf_timer_set_callback(&later->timer, on_timer);
	bpf_timer_set_callback(&later->timer, on_timer_starts);
	bpf_timer_start(&later->timer, 1, 0);
	return 0;
}

SEC("tc")
int bad_V0501_timer_of_another_map(struct __sk_buff *ctx)
{
	struct later *later = element(waiting, first, struct later);

	bpf_timer_init(&later->timer, &others, 1);
	return 0;
}

SEC("tc")
int bad_V0501_timer_at_another_place(struct __sk_buff *ctx)
{
	struct later *later = element(waiting, first, struct later);

	bpf_timer_init((void *)&later->seen, &waiting, 1);
	return 0;
}

SEC("tc")
int bad_V0501_timer_on_the_stack(struct __sk_buff *ctx)
{
	struct bpf_timer timer = {};

	bpf_timer_init(&timer, &waiting, 1);
	return 0;
}

SEC("tc")
int bad_V0703_callback_answers_1(struct __sk_buff *ctx)
{
	struct later *later = element(waiting, first, struct later);

	bpf_timer_set_callback(&later->timer, on_timer_wrong);
	return 0;
}

SEC("tc")
int bad_V0212_timer_is_read(struct __sk_buff *ctx)
{
	struct later *later = element(waiting, first, struct later);

	seen = *(__u64 *)&later->timer;
	return 0;
}

SEC("tracepoint/sched/sched_switch")
int bad_E0107_timer_in_tracepoint(void *ctx)
{
	struct later *later = element(waiting, first, struct later);

	bpf_timer_init(&later->timer, &waiting, 1);
	return 0;
}

/* Work queues: their callbacks may sleep. */

static int on_work(void *map, int *key, void *value)
{
	bpf_copy_from_user(room, sizeof(room), 0);
	return 0;
}

static int on_work_wrong(void *map, int *key, void *value)
{
	return 1;
}

SEC("tc")
int ok_work(struct __sk_buff *ctx)
{
	struct later *later = element(waiting, first, struct later);

	if (bpf_wq_init(&later->work, &waiting, 0))
		return 0;
	if (bpf_wq_set_callback_impl(&later->work, on_work, 0, 0))
		return 0;
	bpf_wq_start(&later->work, 0);
	return 0;
}

SEC("tc")
int bad_V0804_work_of_another_map(struct __sk_buff *ctx)
{
	struct later *later = element(waiting, first, struct later);

	bpf_wq_init(&later->work, &others, 0);
	return 0;
}

SEC("tc")
int bad_V0804_work_at_another_place(struct __sk_buff *ctx)
{
	struct later *later = element(waiting, first, struct later);

	bpf_wq_init((void *)&later->timer, &waiting, 0);
	return 0;
}

SEC("tc")
int bad_V0804_work_on_the_stack(struct __sk_buff *ctx)
{
	struct bpf_wq work = {};

	bpf_wq_init(&work, &waiting, 0);
	return 0;
}

SEC("tc")
int bad_V0703_work_answers_1(struct __sk_buff *ctx)
{
	struct later *later = element(waiting, first, struct later);

	bpf_wq_set_callback_impl(&later->work, on_work_wrong, 0, 0);
	return 0;
}

static int sleeps_on_timer(void *map, __u32 *key, struct later *value)
{
	bpf_copy_from_user(room, sizeof(room), 0);
	return 0;
}

SEC("syscall")
int bad_V0606_timers_do_not_sleep(void *ctx)
{
	struct later *later = element(waiting, first, struct later);

	bpf_timer_set_callback(&later->timer, sleeps_on_timer);
	return 0;
}
