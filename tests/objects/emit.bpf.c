// SPDX-License-Identifier: MIT OR Apache-2.0
// Says the same in all three ways: trace line, perf sample, ring buffer record.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

volatile __u32 runs;
const volatile __u32 step = 1;

struct seen {
	__u32 run;
	__u32 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct seen);
} last SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} records SEC(".maps");

SEC("xdp")
int emit(struct xdp_md *ctx)
{
	struct seen seen = { .bytes = ctx->data_end - ctx->data };
	__u32 zero = 0;

	runs += step;
	seen.run = runs;
	bpf_printk("run %u: %u bytes", seen.run, seen.bytes);
	bpf_perf_event_output(ctx, &samples, BPF_F_CURRENT_CPU, &seen, sizeof(seen));
	bpf_ringbuf_output(&records, &seen, sizeof(seen), 0);
	bpf_map_update_elem(&last, &zero, &seen, BPF_ANY);
	return seen.run & 1 ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
