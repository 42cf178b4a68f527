// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The section is closed on both paths. */
#include "corpus.h"

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;

SEC("tp_btf/task_newtask")
int rcu_unlock(u64 *c)
{
	struct task_struct *t = bpf_get_current_task_btf();

	bpf_rcu_read_lock();
	if (t->pid == 1) {
		bpf_rcu_read_unlock();
		return 1;
	}
	bpf_rcu_read_unlock();
	return 0;
}

LICENSE;
