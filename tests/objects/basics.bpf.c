// SPDX-License-Identifier: MIT OR Apache-2.0
// What objects of any age are made of: functions, callbacks, atomic operations that fetch, large frames.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static __noinline int fibonacci(int n)
{
	int a = 0, b = 1;

	for (int i = 0; i < 20 && i < n; i++) {
		int next = a + b;

		a = b;
		b = next;
	}
	return a;
}

SEC("xdp") int functions(void *ctx)
{
	return fibonacci(10) + fibonacci(12);
}

static int add(__u32 n, void *sum)
{
	*(__u64 *)sum += n;
	return 0;
}

SEC("xdp") int callbacks(void *ctx)
{
	__u64 sum = 0;

	bpf_loop(100, add, &sum, 0);
	return sum;
}

SEC("xdp") int fetches(void *ctx)
{
	__u64 word = 5;
	__u64 before = __sync_fetch_and_add(&word, 7);

	before += __sync_lock_test_and_set(&word, 100);
	before += __sync_val_compare_and_swap(&word, 100, 1000);
	return before + word;
}

SEC("xdp") int frames(struct xdp_md *ctx)
{
	volatile __u8 bytes[480];

	for (int i = 0; i < 480; i++)
		bytes[i] = i;
	return bytes[ctx->rx_queue_index & 255] + bytes[479];
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
