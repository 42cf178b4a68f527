// SPDX-License-Identifier: MIT OR Apache-2.0
// Adds up the samples that user space has written.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} samples SEC(".maps");

struct sums {
	__u64 count;
	__u64 firsts;
};

static long add(struct bpf_dynptr *sample, struct sums *sums)
{
	__u8 first = 0;

	bpf_dynptr_read(&first, sizeof(first), sample, 0, 0);
	sums->firsts += first;
	sums->count++;
	return 0;
}

SEC("xdp") int drain(void *ctx)
{
	struct sums sums = {};
	long count = bpf_user_ringbuf_drain(&samples, add, &sums, 0);

	return count == (long)sums.count ? sums.firsts << 16 | sums.count : -1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
