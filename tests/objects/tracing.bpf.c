// SPDX-License-Identifier: MIT OR Apache-2.0
// One program a helper of tracing; what it came to is in its place of `results`: numbers that may be 0 plus one.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define SIGTERM 15
#define FRAMES 16

enum place { READS_KERNEL, KERNEL_STACK, USER_STACK, SIGNALS, COPIES, PLACES };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, __s64);
} results SEC(".maps");

// An address of the process that is looked at.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} address SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 16);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, FRAMES * sizeof(__u64));
} stacks SEC(".maps");

static __always_inline int result(__u32 place, __s64 value)
{
	bpf_map_update_elem(&results, &place, &value, BPF_ANY);
	return 0;
}

SEC("raw_tp") int reads_kernel(void *ctx)
{
	__u64 *of_map, copy = 0;
	__u32 zero = 0;

	of_map = bpf_map_lookup_elem(&address, &zero);
	if (!of_map || bpf_probe_read_kernel(&copy, sizeof(copy), of_map))
		return 0;
	return result(READS_KERNEL, copy);
}

SEC("raw_tp") int writes_user(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 value = 7;

	return bpf_probe_write_user((void *)ctx->args[0], &value, sizeof(value));
}

SEC("raw_tp") int kernel_stack(void *ctx)
{
	return result(KERNEL_STACK, bpf_get_stackid(ctx, &stacks, 0) + 1);
}

SEC("perf_event") int user_stack(struct bpf_perf_event_data *ctx)
{
	return result(USER_STACK, bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK) + 1);
}

SEC("uprobe/libc.so.6:getppid") int signals(void *ctx)
{
	return result(SIGNALS, bpf_send_signal(SIGTERM) + 1);
}

SEC("uprobe.s/libc.so.6:getppid") int copies(void *ctx)
{
	__u64 *from, copy = 0;
	__u32 zero = 0;

	from = bpf_map_lookup_elem(&address, &zero);
	if (!from || bpf_copy_from_user(&copy, sizeof(copy), (void *)*from))
		return 0;
	return result(COPIES, copy);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
