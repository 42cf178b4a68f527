// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The iteration is inside of an RCU section. */
#include "corpus.h"

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

struct bpf_iter_task {
	u64 opaque_words[3];
} __attribute__((aligned(8)));

extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *t, u32 flags) __ksym;
extern struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it) __ksym;
extern void bpf_iter_task_destroy(struct bpf_iter_task *it) __ksym;

SEC("syscall")
int iter_task(struct words *c)
{
	struct bpf_iter_task it;
	struct task_struct *t;
	int n = 0;

	bpf_rcu_read_lock();
	bpf_iter_task_new(&it, NULL, 0);
	while ((t = bpf_iter_task_next(&it)))
		n += t->pid & 1;
	bpf_iter_task_destroy(&it);
	bpf_rcu_read_unlock();
	return n;
}

LICENSE;
