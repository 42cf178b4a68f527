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

char LICENSE[] SEC("license") = "Dual MIT/GPL";
