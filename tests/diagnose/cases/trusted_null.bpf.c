// SPDX-License-Identifier: MIT OR Apache-2.0
// What a lookup of a task returns may be NULL: "Possibly NULL pointer passed to trusted arg0".
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

extern struct task_struct *bpf_task_from_pid(__s32 pid) __ksym;
extern void bpf_task_release(struct task_struct *task) __ksym;

SEC("syscall")
int trusted_null(void *ctx)
{
	struct task_struct *init = bpf_task_from_pid(1);

	bpf_task_release(init);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
