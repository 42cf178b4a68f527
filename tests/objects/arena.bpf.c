// SPDX-License-Identifier: MIT OR Apache-2.0
// Variables in an arena: one that the object sets, one that the program counts in; a list, atomics, narrow numbers.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define ARENA __attribute__((address_space(1)))

// Younger than the headers of some distributions.
enum { MAP_TYPE_ARENA = 33 };

struct {
	__uint(type, MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16);
} memory SEC(".maps");

// Beyond the first page, so that several are filled.
__u64 ARENA padding[1024] = { 7 };
__u64 ARENA step = 3;
__u64 ARENA count = 100;

SEC("syscall") int add(void *ctx)
{
	count += step + padding[0];
	return count;
}

struct node {
	struct node ARENA *next;
	__u64 value;
};

struct node ARENA nodes[8];
struct node ARENA *ARENA head;
__u64 ARENA wide = 0x123456789abcdef0;
__u32 ARENA narrow = 0xfedcba98;
__s8 ARENA s8 = -8;
__s16 ARENA s16 = -16;
__s32 ARENA s32 = -32;

static __u64 walk(void)
{
	struct node ARENA *n = head;
	__u64 sum = 0;

	for (int i = 0; i < 16 && n; i++, n = n->next)
		sum = sum * 31 + n->value;
	return sum;
}

#define ATOMICS(sum, at) \
	sum = sum * 31 + __sync_fetch_and_add(&at, 7); \
	(void)__sync_fetch_and_or(&at, 0x1100); \
	(void)__sync_fetch_and_and(&at, 0xfffffff7); \
	(void)__sync_fetch_and_xor(&at, 0x5555); \
	sum = sum * 31 + __sync_lock_test_and_set(&at, sum); \
	sum = sum * 31 + __sync_val_compare_and_swap(&at, at, sum + 1); \
	sum = sum * 31 + __sync_val_compare_and_swap(&at, 0, 3)

SEC("syscall") int mix(void *ctx)
{
	__u64 sum = wide;

	for (int i = 0; i < 8; i++) {
		nodes[i].value = i * i - 5;
		nodes[i].next = i ? head : 0;
		head = &nodes[i];
	}
	sum += walk();
	ATOMICS(sum, wide);
	ATOMICS(sum, narrow);
	sum = sum * 31 + *(volatile __s8 ARENA *)&s8;
	sum = sum * 31 + *(volatile __s16 ARENA *)&s16;
	sum = sum * 31 + *(volatile __s32 ARENA *)&s32;
	s8 = sum;
	s16 = sum >> 8;
	s32 = sum >> 16;
	return (__u32)(sum ^ sum >> 32);
}

#define PAGE 4096
// Of a page that nobody allocated.
#define HOLE ((char ARENA *)padding + 10 * PAGE)

// Words that begin anywhere, also where a page ends.
#define CHANGE(sum, at) \
	sum = sum * 31 + __sync_fetch_and_add(at, 0x1234567); \
	(void)__sync_fetch_and_xor(at, 0x5555); \
	sum = sum * 31 + __sync_lock_test_and_set(at, 0xabcdef); \
	sum = sum * 31 + __sync_val_compare_and_swap(at, 0xabcdef, 77); \
	sum = sum * 31 + __sync_val_compare_and_swap(at, 78, 79)

SEC("syscall") int misaligned(void *ctx)
{
	char ARENA *bytes = (char ARENA *)padding;
	__u64 sum = 0;

	for (int i = 0; i < 12; i++) {
		CHANGE(sum, (__u64 ARENA *)(bytes + 8 + i));
		CHANGE(sum, (__u32 ARENA *)(bytes + 40 + i));
	}
	for (int i = 1; i < 8; i++)
		sum = sum * 31 + padding[i];
	return (__u32)(sum ^ sum >> 32);
}

SEC("syscall") int hole(void *ctx)
{
	__u64 ARENA *wide = (__u64 ARENA *)HOLE;
	__u32 ARENA *narrow = (__u32 ARENA *)HOLE;
	__u64 sum = *wide;

	CHANGE(sum, wide);
	CHANGE(sum, narrow);
	*wide = 5;
	sum = sum * 31 + *wide;
	return (__u32)(sum ^ sum >> 32);
}

// A compare and exchange of 32 bits that touches no memory, with more than 32 bits in r0.
SEC("syscall") int hole_with_large_r0(void *ctx)
{
	__u64 sum;

	asm volatile(
		"r1 = %[at]\n"
		"r0 = 0x500000003 ll\n"
		"w2 = 9\n"
		"w0 = cmpxchg32_32(r1 + 0, w0, w2)\n"
		"%[sum] = r0\n"
		: [sum] "=r"(sum)
		: [at] "r"((__u32 *)(__u32 ARENA *)HOLE)
		: "r0", "r1", "r2", "memory");
	return (__u32)(sum ^ sum >> 32);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
