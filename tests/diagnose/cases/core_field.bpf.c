// SPDX-License-Identifier: MIT OR Apache-2.0
// A field that no kernel has: the kernel says "invalid func unknown#195896080".
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct task_struct {
	int pid;
	int favourite_colour;
} __attribute__((preserve_access_index));

SEC("raw_tp/sys_enter")
int core_field(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, favourite_colour) == 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
