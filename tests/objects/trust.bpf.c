// SPDX-License-Identifier: MIT OR Apache-2.0
// How far typed kernel pointers can be trusted. A program is named after what must come of it: ok_…, or bad_CODE_….
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define CORE __attribute__((preserve_access_index))
#ifndef __arg_trusted
#define __arg_trusted __attribute__((btf_decl_tag("arg:trusted")))
#endif

struct cgroup {
	int level;
} CORE;

struct css_set {
	struct cgroup *dfl_cgrp;
} CORE;

struct mm_struct;

struct task_struct {
	int pid;
	struct task_struct *real_parent;
	struct task_struct *last_wakee;
	struct css_set *cgroups;
	struct mm_struct *mm;
	char comm[16];
} CORE;

struct bpf_iter_meta {
	struct seq_file *seq;
} CORE;

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} CORE;

extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern struct task_struct *bpf_task_from_pid(int pid) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

char LICENSE[] SEC("license") = "GPL";
long seen;

SEC("tp_btf/sched_switch")
int BPF_PROG(ok_read_through_pointers, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	seen = prev->real_parent->pid + next->cgroups->dfl_cgrp->level;
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(bad_V0401_no_such_argument, bool preempt)
{
	seen = ctx[7];
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(bad_V0207_write, bool preempt, struct task_struct *prev)
{
	prev->pid = 1;
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(bad_V0404_beyond_the_field, bool preempt, struct task_struct *prev)
{
	seen = *(long *)&prev->comm[12];
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(ok_acquire_trusted, bool preempt, struct task_struct *prev)
{
	struct task_struct *task = bpf_task_acquire(prev);

	if (task)
		bpf_task_release(task);
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(bad_V0601_leak, bool preempt, struct task_struct *prev)
{
	bpf_task_acquire(prev);
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(bad_V0805_release_null, bool preempt, struct task_struct *prev)
{
	bpf_task_release(bpf_task_acquire(prev));
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(ok_acquire_protected_field, bool preempt, struct task_struct *prev)
{
	struct task_struct *task = bpf_task_acquire(prev->real_parent);

	if (task)
		bpf_task_release(task);
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(bad_V0805_acquire_plain_field, bool preempt, struct task_struct *prev)
{
	struct task_struct *task = bpf_task_acquire(prev->last_wakee);

	if (task)
		bpf_task_release(task);
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(bad_V0509_release_of_another, bool preempt, struct task_struct *prev)
{
	bpf_task_release(prev);
	return 0;
}

SEC("tp_btf/sched_pi_setprio")
int BPF_PROG(bad_V0203_argument_may_be_null, struct task_struct *task, struct task_struct *donor)
{
	seen = donor->pid;
	return 0;
}

SEC("tp_btf/sched_pi_setprio")
int BPF_PROG(ok_argument_was_checked, struct task_struct *task, struct task_struct *donor)
{
	if (donor)
		seen = donor->pid;
	return 0;
}

SEC("tp_btf/no_such_tracepoint")
int BPF_PROG(bad_E0110_no_such_tracepoint)
{
	return 0;
}

SEC("iter/task")
int bad_V0203_iterator_ends_with_null(struct bpf_iter__task *ctx)
{
	seen = ctx->task->pid;
	return 0;
}

SEC("iter/task")
int ok_iterator(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (task)
		seen = task->pid;
	return 0;
}

SEC("iter/task")
int bad_V0701_iterators_return_0_or_1(struct bpf_iter__task *ctx)
{
	return 2;
}

SEC("iter.s/task")
int bad_V0805_no_rcu_section(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task, *parent;

	if (!task)
		return 0;
	parent = bpf_task_acquire(task->real_parent);
	if (parent)
		bpf_task_release(parent);
	return 0;
}

SEC("iter.s/task")
int ok_in_rcu_section(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task, *parent;

	if (!task)
		return 0;
	bpf_rcu_read_lock();
	parent = bpf_task_acquire(task->real_parent);
	bpf_rcu_read_unlock();
	if (parent)
		bpf_task_release(parent);
	return 0;
}

SEC("iter.s/task")
int bad_V0805_after_rcu_section(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task, *parent;

	if (!task)
		return 0;
	bpf_rcu_read_lock();
	parent = task->real_parent;
	bpf_rcu_read_unlock();
	parent = bpf_task_acquire(parent);
	if (parent)
		bpf_task_release(parent);
	return 0;
}

__noinline int pid_of(struct task_struct *task __arg_trusted)
{
	return task->pid;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(ok_trusted_parameter, bool preempt, struct task_struct *prev)
{
	seen = pid_of(prev);
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(bad_V0510_number_as_structure, bool preempt)
{
	seen = pid_of((void *)seen);
	return 0;
}
