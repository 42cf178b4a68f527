// SPDX-License-Identifier: MIT OR Apache-2.0
// Storage that belongs to objects of the kernel: each program counts in that of the object it is run for.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define CORE __attribute__((preserve_access_index))

struct task_struct;
struct cgroup;
struct sock_common;
struct inode;

struct file {
	struct inode *f_inode;
} CORE;

struct bpf_iter__task {
	struct task_struct *task;
} CORE;

struct bpf_iter__cgroup {
	struct cgroup *cgroup;
} CORE;

struct bpf_iter__tcp {
	struct sock_common *sk_common;
} CORE;

#define STORAGE(name, map_type)				\
	struct {					\
		__uint(type, map_type);			\
		__uint(map_flags, BPF_F_NO_PREALLOC);	\
		__type(key, int);			\
		__type(value, __u64);			\
	} name SEC(".maps")

// Younger than the headers.
#define CGRP_STORAGE 32
static void *(*bpf_cgroup_storage)(void *map, struct cgroup *cgroup, void *value, __u64 flags) = (void *)210;

STORAGE(of_tasks, BPF_MAP_TYPE_TASK_STORAGE);
STORAGE(of_groups, CGRP_STORAGE);
STORAGE(of_sockets, BPF_MAP_TYPE_SK_STORAGE);
STORAGE(of_files, BPF_MAP_TYPE_INODE_STORAGE);

static __always_inline int count(__u64 *value)
{
	if (value)
		*value += 1;
	return 0;
}

SEC("iter/task") int tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	return task ? count(bpf_task_storage_get(&of_tasks, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE)) : 0;
}

SEC("iter/cgroup") int groups(struct bpf_iter__cgroup *ctx)
{
	struct cgroup *group = ctx->cgroup;

	return group ? count(bpf_cgroup_storage(&of_groups, group, 0, BPF_LOCAL_STORAGE_GET_F_CREATE)) : 0;
}

SEC("iter/tcp") int tcp_sockets(struct bpf_iter__tcp *ctx)
{
	struct sock_common *socket = ctx->sk_common;

	return socket ? count(bpf_sk_storage_get(&of_sockets, socket, 0, BPF_SK_STORAGE_GET_F_CREATE)) : 0;
}

SEC("lsm/file_open") int BPF_PROG(files, struct file *file)
{
	return count(bpf_inode_storage_get(&of_files, file->f_inode, 0, BPF_LOCAL_STORAGE_GET_F_CREATE));
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
