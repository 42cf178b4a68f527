// SPDX-License-Identifier: MIT OR Apache-2.0
// Programs that decide: one thread may open no file, and connections to a port go to another.
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define EACCES 13

enum setting { THREAD, FROM_PORT, TO_PORT, SETTINGS };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SETTINGS);
	__type(key, __u32);
	__type(value, __u32);
} settings SEC(".maps");

static __always_inline __u32 setting(__u32 place)
{
	__u32 *value = bpf_map_lookup_elem(&settings, &place);

	return value ? *value : 0;
}

static __always_inline int verdict(void)
{
	return (__u32)bpf_get_current_pid_tgid() == setting(THREAD) ? -EACCES : 0;
}

SEC("lsm/file_open") int lsm_denies(void *ctx)
{
	return verdict();
}

SEC("fmod_ret/security_file_open") int fmod_ret_denies(void *ctx)
{
	return verdict();
}

SEC("cgroup/connect4") int connect4_elsewhere(struct bpf_sock_addr *ctx)
{
	if (ctx->user_port == bpf_htons(setting(FROM_PORT)))
		ctx->user_port = bpf_htons(setting(TO_PORT));
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
