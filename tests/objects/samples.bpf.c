// SPDX-License-Identifier: MIT OR Apache-2.0
// A perf sample and a ring buffer record a run, and no trace line, which every reader of the kernel's trace would see.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct seen {
	__u32 run;
	__u32 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} records SEC(".maps");

volatile __u32 runs;

SEC("xdp")
int sample(struct xdp_md *ctx)
{
	struct seen seen = { .bytes = ctx->data_end - ctx->data };

	seen.run = ++runs;
	bpf_perf_event_output(ctx, &samples, BPF_F_CURRENT_CPU, &seen, sizeof(seen));
	bpf_ringbuf_output(&records, &seen, sizeof(seen), 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
