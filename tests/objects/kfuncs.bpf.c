// SPDX-License-Identifier: MIT OR Apache-2.0
// Functions of the kernel that came after helpers: a loop over an open-coded iterator, and a packet as a dynptr.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct bpf_iter_num {
	__u64 opaque;
} __attribute__((aligned(8)));

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;
extern int bpf_dynptr_from_xdp(struct xdp_md *xdp, __u64 flags, struct bpf_dynptr *ptr) __ksym;

SEC("xdp") int sums(struct xdp_md *ctx)
{
	struct bpf_iter_num it;
	int *n, sum = 0;

	bpf_iter_num_new(&it, 0, 1000);
	while ((n = bpf_iter_num_next(&it)))
		sum += *n;
	bpf_iter_num_destroy(&it);
	return sum;
}

SEC("xdp") int third_byte(struct xdp_md *ctx)
{
	struct bpf_dynptr packet;
	__u8 byte = 0;

	if (bpf_dynptr_from_xdp(ctx, 0, &packet) || bpf_dynptr_read(&byte, sizeof(byte), &packet, 2, 0))
		return -1;
	return byte;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
