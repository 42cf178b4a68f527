// SPDX-License-Identifier: MIT OR Apache-2.0
// Tasks, control groups, mappings and signals: what programs find of them. The context holds what is asked for and the answers.
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define CORE __attribute__((preserve_access_index))

/* As in newer headers than those of the machine that builds this. */
#define CGRP_STORAGE 32
struct bpf_iter_task {
	__u64 opaque[3];
} __attribute__((aligned(8)));
struct bpf_iter_task_vma {
	__u64 opaque[1];
} __attribute__((aligned(8)));

typedef struct {
	__u32 val;
} kuid_t, kgid_t;
struct cred {
	kuid_t uid, euid;
	kgid_t gid, egid;
} CORE;
struct kernfs_node {
	__u64 id;
	const char *name;
} CORE;
struct cgroup {
	int level;
	struct kernfs_node *kn;
} CORE;
struct css_set {
	struct cgroup *dfl_cgrp;
} CORE;
struct mm_struct;
struct task_struct {
	int pid, tgid, exit_state;
	unsigned int flags;
	char comm[16];
	struct task_struct *group_leader, *real_parent;
	struct mm_struct *mm;
	const struct cred *cred;
	struct css_set *cgroups;
} CORE;
struct vm_area_struct {
	unsigned long vm_start, vm_end;
} CORE;

extern int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *task__nullable, unsigned int flags) __ksym;
extern struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it) __ksym;
extern void bpf_iter_task_destroy(struct bpf_iter_task *it) __ksym;
extern int bpf_iter_task_vma_new(struct bpf_iter_task_vma *it, struct task_struct *task, __u64 addr) __ksym;
extern struct vm_area_struct *bpf_iter_task_vma_next(struct bpf_iter_task_vma *it) __ksym;
extern void bpf_iter_task_vma_destroy(struct bpf_iter_task_vma *it) __ksym;
extern struct task_struct *bpf_task_from_pid(int pid) __ksym;
extern struct task_struct *bpf_task_from_vpid(int vpid) __ksym;
extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;
extern struct cgroup *bpf_cgroup_from_id(__u64 id) __ksym;
extern struct cgroup *bpf_cgroup_acquire(struct cgroup *cgrp) __ksym;
extern struct cgroup *bpf_cgroup_ancestor(struct cgroup *cgrp, int level) __ksym;
extern void bpf_cgroup_release(struct cgroup *cgrp) __ksym;
extern long bpf_task_under_cgroup(struct task_struct *task, struct cgroup *ancestor) __ksym;
extern int bpf_copy_from_user_task_str(void *dst, __u32 dst__sz, const void *unsafe_ptr__ign, struct task_struct *tsk,
				       __u64 flags) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

#define FOUND 4096
#define TEXT 32

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FOUND);
	__type(key, __u32);
	__type(value, __u64[2]);
} found SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} groups SEC(".maps");

struct {
	__uint(type, CGRP_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} of_groups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} of_tasks SEC(".maps");

/* What is asked for, and what came of it. */
struct call {
	__u64 a, b, c;
	__s64 out[20];
	__u64 text[TEXT / 8];
};

/* A context is no memory for helpers. */
static __always_inline void put_text(struct call *call, const __u64 *text)
{
	for (int i = 0; i < TEXT / 8; i++)
		call->text[i] = text[i];
}

/* Notes two numbers at place `n`, if it is one. */
static void note(__u32 n, __u64 a, __u64 b)
{
	__u64 *to = bpf_map_lookup_elem(&found, &n);

	if (to) {
		to[0] = a;
		to[1] = b;
	}
}

/* Tasks with their ids and the ends of their names: how many. */
static __always_inline int walk(struct call *call, struct task_struct *from)
{
	struct bpf_iter_task it;
	struct task_struct *task;
	int n = 0;

	bpf_rcu_read_lock();
	call->out[0] = bpf_iter_task_new(&it, from, call->a);
	while ((task = bpf_iter_task_next(&it))) {
		note(n++, task->pid | (__u64)task->tgid << 32, *(__u64 *)(task->comm + 8));
	}
	bpf_iter_task_destroy(&it);
	bpf_rcu_read_unlock();
	return n;
}

SEC("syscall")
int all(struct call *call)
{
	return walk(call, 0);
}

SEC("syscall")
int threads(struct call *call)
{
	struct task_struct *task = bpf_task_from_pid(call->b);
	int n;

	if (!task)
		return -1;
	n = walk(call, task);
	bpf_task_release(task);
	return n;
}

/* Two iterations, one in the other: each process with the number of its threads. */
SEC("syscall")
int processes_and_threads(struct call *call)
{
	struct bpf_iter_task processes, threads;
	struct task_struct *process, *held;
	int n = 0;

	bpf_rcu_read_lock();
	bpf_iter_task_new(&processes, 0, 0);
	while ((process = bpf_iter_task_next(&processes))) {
		int count = 0;

		held = bpf_task_acquire(process);
		if (!held)
			continue;
		bpf_iter_task_new(&threads, held, 2);
		while (bpf_iter_task_next(&threads))
			count++;
		bpf_iter_task_destroy(&threads);
		note(n++, held->pid, count);
		bpf_task_release(held);
	}
	bpf_iter_task_destroy(&processes);
	bpf_rcu_read_unlock();
	return n;
}

/* Within an RCU section. */
static __always_inline void describe(struct call *call, struct task_struct *task)
{
	__u64 text[TEXT / 8] = {};
	struct cgroup *group;

	group = task->cgroups->dfl_cgrp;
	call->out[0] = task->pid;
	call->out[1] = task->tgid;
	call->out[2] = task->exit_state;
	call->out[3] = task->flags;
	call->out[4] = task->group_leader->pid;
	call->out[5] = task->real_parent->pid;
	call->out[6] = task->real_parent->tgid;
	call->out[7] = !task->mm;
	call->out[8] = task->cred->uid.val;
	call->out[9] = task->cred->egid.val;
	call->out[10] = group->level;
	call->out[11] = group->kn->id;
	call->out[12] = bpf_probe_read_kernel_str(text, sizeof(text), group->kn->name);
	put_text(call, text);
	call->out[13] = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	call->out[14] = task->group_leader == task;
	call->out[15] = task->real_parent->cgroups->dfl_cgrp->kn->id;
	call->out[16] = *(__u64 *)task->comm;
	call->out[17] = BPF_CORE_READ(task, real_parent, real_parent, flags) & 0x00200000;
}

SEC("syscall")
int by_id(struct call *call)
{
	struct task_struct *task = bpf_task_from_pid(call->a), *same, *again;

	if (!task)
		return 1;
	bpf_rcu_read_lock();
	describe(call, task);
	bpf_rcu_read_unlock();
	same = bpf_task_from_vpid(call->a);
	if (same) {
		call->out[18] = same == task;
		bpf_task_release(same);
	}
	again = bpf_task_acquire(task);
	if (again) {
		call->out[19] = again == bpf_get_current_task_btf();
		bpf_task_release(again);
	}
	bpf_task_release(task);
	return 2;
}

SEC("syscall")
int idle(struct call *call)
{
	struct bpf_iter_task it;
	struct task_struct *task;

	bpf_rcu_read_lock();
	bpf_iter_task_new(&it, 0, 0);
	task = bpf_iter_task_next(&it);
	if (task)
		describe(call, task);
	bpf_iter_task_destroy(&it);
	bpf_rcu_read_unlock();
	return 0;
}

SEC("syscall")
int task_storage(struct call *call)
{
	struct task_struct *task = bpf_task_from_pid(call->a);
	__u64 *value;

	if (!task)
		return 1;
	value = bpf_task_storage_get(&of_tasks, task, 0, call->b);
	if (value)
		call->out[0] = ++*value;
	if (call->c)
		call->out[1] = bpf_task_storage_delete(&of_tasks, task);
	bpf_task_release(task);
	return value ? 2 : 3;
}

SEC("syscall")
int group(struct call *call)
{
	struct cgroup *group = bpf_cgroup_from_id(call->a), *above;
	struct task_struct *task;
	__u64 *value;

	if (!group)
		return 1;
	call->out[0] = group->level;
	call->out[1] = group->kn->id;
	above = bpf_cgroup_ancestor(group, call->b);
	if (above) {
		call->out[2] = above->kn->id;
		call->out[3] = above == group;
		bpf_cgroup_release(above);
	}
	task = bpf_task_from_pid(call->c);
	if (task) {
		call->out[4] = bpf_task_under_cgroup(task, group);
		bpf_task_release(task);
	}
	value = bpf_cgrp_storage_get(&of_groups, group, 0, call->b);
	if (value)
		call->out[5] = ++*value;
	if (call->b > 1)
		call->out[6] = bpf_cgrp_storage_delete(&of_groups, group);
	above = bpf_cgroup_acquire(group);
	if (above) {
		call->out[7] = above == group;
		bpf_cgroup_release(above);
	}
	bpf_cgroup_release(group);
	return value ? 2 : 3;
}

/* Index in the array, level. */
SEC("raw_tp/sys_enter")
int own_groups(__u64 *args)
{
	note(0, bpf_current_task_under_cgroup(&groups, args[0]), bpf_get_current_ancestor_cgroup_id(args[1]));
	note(1, bpf_get_current_cgroup_id(), 0);
	return 0;
}

/* The own group, without a load of it. */
SEC("raw_tp/sys_enter")
int reads_group(__u64 *args)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id) * 8 + BPF_CORE_READ(task, cgroups, dfl_cgrp, level);
}

SEC("syscall")
int sends(struct call *call)
{
	return bpf_send_signal(call->a);
}

SEC("syscall")
int sends_to_thread(struct call *call)
{
	return bpf_send_signal_thread(call->a);
}

static long noted(struct task_struct *task, struct vm_area_struct *vma, void *ctx)
{
	note(0, vma->vm_start, vma->vm_end);
	note(1, task->pid, task->tgid);
	return 0;
}

SEC("syscall")
int finds_vma(struct call *call)
{
	__u64 none = 0;

	note(0, 0, 0);
	note(1, 0, 0);
	return bpf_find_vma(bpf_get_current_task_btf(), call->a, noted, &none, call->b);
}

SEC("syscall")
int vmas(struct call *call)
{
	struct task_struct *task = bpf_task_from_pid(call->a);
	struct bpf_iter_task_vma it;
	struct vm_area_struct *vma;
	int n = 0;

	if (!task)
		return -1;
	call->out[0] = bpf_iter_task_vma_new(&it, task, call->b);
	while ((vma = bpf_iter_task_vma_next(&it))) {
		note(n++, vma->vm_start, vma->vm_end);
	}
	bpf_iter_task_vma_destroy(&it);
	bpf_task_release(task);
	return n;
}

SEC("syscall")
int copies(struct call *call)
{
	struct task_struct *task = bpf_task_from_pid(call->a);
	__u64 text[TEXT / 8] = {};

	if (!task)
		return 1;
	call->out[0] = bpf_copy_from_user_task(text, sizeof(text), (void *)call->b, task, call->c);
	put_text(call, text);
	/* What lies behind the end of a string is nobody's business. */
	__builtin_memset(text, 0, sizeof(text));
	call->out[1] = bpf_copy_from_user_task_str(text, sizeof(text), (void *)call->b, task, call->c);
	for (int i = 0; i < TEXT / 8; i++)
		call->out[2 + i] = text[i];
	bpf_task_release(task);
	return 0;
}

SEC("syscall")
int other_stack(struct call *call)
{
	struct task_struct *task = bpf_task_from_pid(call->a);
	long result = 0;
	__u64 room[4];

	if (task) {
		result = bpf_get_task_stack(task, room, sizeof(room), BPF_F_USER_STACK);
		bpf_task_release(task);
	}
	return result;
}

static __always_inline int group_of(struct __sk_buff *skb)
{
	int at[3] = { bpf_skb_cgroup_id(skb), bpf_skb_ancestor_cgroup_id(skb, 0), bpf_skb_ancestor_cgroup_id(skb, 1) };
	int under[3] = { bpf_skb_under_cgroup(skb, &groups, 0), bpf_skb_under_cgroup(skb, &groups, 1),
			 bpf_skb_under_cgroup(skb, &groups, 9) };

	return at[0] * 5 + at[1] * 3 + at[2] + under[0] * 100 + under[1] * 10000 + under[2] * 1000000 +
	       bpf_skb_cgroup_classid(skb);
}

SEC("tc")
int skb_group(struct __sk_buff *skb)
{
	return group_of(skb);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
