// SPDX-License-Identifier: MIT OR Apache-2.0
// Reports every openat: when, who, what, and how it ended.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Only this process, or this control group; 0 is everyone. Set by `skep run --pid`, `--cgroup` and `-- COMMAND`. */
const volatile __u32 skep_tgid = 0;
const volatile __u64 skep_cgroup = 0;

struct open {
	__u64 time_ns;
	__u32 pid;
	__u32 uid;
	__s64 result;
	char comm[16];
	char path[256];
};

/* What tracepoints of system calls hand over; layout from their format files. */
struct enter_openat {
	__u64 common;
	__s64 nr;
	__u64 dfd;
	const char *filename;
	__u64 flags;
	__u64 mode;
};

struct exit_openat {
	__u64 common;
	__s64 nr;
	__s64 ret;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u64);
	__type(value, __u64);
} pending SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct open);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} opens SEC(".maps");

static __always_inline int is_wanted(__u64 id)
{
	if (skep_tgid && skep_tgid != id >> 32)
		return 0;
	if (skep_cgroup && skep_cgroup != bpf_get_current_cgroup_id())
		return 0;
	return 1;
}

SEC("tracepoint/syscalls/sys_enter_openat")
int enter(struct enter_openat *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u64 path = (__u64)ctx->filename;

	if (is_wanted(id))
		bpf_map_update_elem(&pending, &id, &path, BPF_ANY);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_openat")
int leave(struct exit_openat *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u64 *path = bpf_map_lookup_elem(&pending, &id);
	__u32 zero = 0;
	struct open *open;

	if (!path)
		return 0;
	open = bpf_map_lookup_elem(&scratch, &zero);
	if (open) {
		open->time_ns = bpf_ktime_get_ns();
		open->pid = id >> 32;
		open->uid = bpf_get_current_uid_gid();
		open->result = ctx->ret;
		bpf_get_current_comm(open->comm, sizeof(open->comm));
		/* Read after the call: the kernel has brought the page in. */
		bpf_probe_read_user_str(open->path, sizeof(open->path), (void *)*path);
		bpf_ringbuf_output(&opens, open, sizeof(*open), 0);
	}
	bpf_map_delete_elem(&pending, &id);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
