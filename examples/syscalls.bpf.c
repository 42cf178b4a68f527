// SPDX-License-Identifier: MIT OR Apache-2.0
// Counts system calls and how long they take, for a process or control group.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Only this process, or this control group; 0 is everyone. Set by `skep run --pid`, `--cgroup` and `-- COMMAND`. */
const volatile __u32 skep_tgid = 0;
const volatile __u64 skep_cgroup = 0;

#define SLOTS 32

struct call {
	__u64 nr;
	__u64 start_ns;
};

/* slots[n] counts calls that took at least 2^n ns and less than 2^(n+1). */
struct latency {
	__u64 count;
	__u64 total_ns;
	__u32 slots[SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u64);
	__type(value, struct call);
} running SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct latency);
} latencies SEC(".maps");

static const struct latency none;

static __always_inline int is_wanted(__u64 id)
{
	if (skep_tgid && skep_tgid != id >> 32)
		return 0;
	if (skep_cgroup && skep_cgroup != bpf_get_current_cgroup_id())
		return 0;
	return 1;
}

static __always_inline __u32 log2_of(__u64 value)
{
	__u32 result = 0;

	if (value >> 32) {
		value >>= 32;
		result += 32;
	}
	if (value >> 16) {
		value >>= 16;
		result += 16;
	}
	if (value >> 8) {
		value >>= 8;
		result += 8;
	}
	if (value >> 4) {
		value >>= 4;
		result += 4;
	}
	if (value >> 2) {
		value >>= 2;
		result += 2;
	}
	return result + (value >> 1);
}

SEC("raw_tp/sys_enter")
int enter(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct call call = { .nr = ctx->args[1], .start_ns = bpf_ktime_get_ns() };

	if (is_wanted(id))
		bpf_map_update_elem(&running, &id, &call, BPF_ANY);
	return 0;
}

SEC("raw_tp/sys_exit")
int leave(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct call *call = bpf_map_lookup_elem(&running, &id);
	struct latency *latency;
	__u64 took_ns;
	__u32 slot, nr;

	if (!call)
		return 0;
	took_ns = bpf_ktime_get_ns() - call->start_ns;
	nr = call->nr;
	bpf_map_delete_elem(&running, &id);
	latency = bpf_map_lookup_elem(&latencies, &nr);
	if (!latency) {
		bpf_map_update_elem(&latencies, &nr, &none, BPF_NOEXIST);
		latency = bpf_map_lookup_elem(&latencies, &nr);
		if (!latency)
			return 0;
	}
	__sync_fetch_and_add(&latency->count, 1);
	__sync_fetch_and_add(&latency->total_ns, took_ns);
	slot = log2_of(took_ns);
	if (slot >= SLOTS)
		slot = SLOTS - 1;
	__sync_fetch_and_add(&latency->slots[slot], 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
