/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the programs of the sweeps have in common: words that the test gives, and words that it compares. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define __ksym __attribute__((section(".ksyms")))
#define IN_WORDS 16
#define OUT_WORDS 112

/* The only variable: the test writes `in`, and reads `out`. */
struct {
	__u64 in[IN_WORDS];
	__u64 out[OUT_WORDS];
} io;

/* Words of `in` that are not random. */
#define TEXT io.in[8] /* address of a text that ends where nothing is mapped */
#define NOWHERE io.in[9] /* address of nothing */
#define AT io.in[10] /* one of those, or near them, or an odd one */
#define DEVICE io.in[11]
#define INODE io.in[12] /* of the PID namespace */
#define SECOND 1000000000ull

/* Number `n` of what the test gives, in the range from 0 to `mask`. */
#define GIVEN(n, mask) (*(volatile __u64 *)&io.in[n] & (mask))
#define SAY(n, value) (io.out[n] = (value))
/* All bytes of something. */
static __always_inline __u64 sum_of(const volatile void *at, int bytes)
{
	const volatile unsigned char *byte = at;
	__u64 sum = 0;

	for (int i = 0; i < bytes; i++)
		sum = sum * 31 + byte[i];
	return sum;
}
