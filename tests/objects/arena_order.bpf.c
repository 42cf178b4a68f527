// SPDX-License-Identifier: MIT OR Apache-2.0
// Acquiring loads and releasing stores in an arena: where memory is, where none is, and across words.
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

__u64 ARENA words[8] = { 0x123456789abcdef0, 0xfedcba9876543210 };

// The compiler knows neither instruction: r2 = load_acquire((u64 *)(r1 + 0)), store_release((u64 *)(r1 + 0), r2).
#define LOAD_ACQUIRE ".8byte 0x00000100000012db\n"
#define STORE_RELEASE ".8byte 0x00000110000021db\n"

#define ORDERED(insn, at, value) \
	asm volatile( \
		"r1 = %[place]\n" \
		"r2 = %[number]\n" \
		insn \
		"%[number] = r2\n" \
		: [number] "+r"(value) \
		: [place] "r"((__u64 *)(at)) \
		: "r1", "r2", "memory")

static __u64 ordered(char ARENA *at)
{
	__u64 value = 0x1111222233334444, sum;

	ORDERED(LOAD_ACQUIRE, at, value);
	sum = value;
	value = 0x5555666677778888;
	ORDERED(STORE_RELEASE, at, value);
	ORDERED(LOAD_ACQUIRE, at, value);
	return sum * 31 + value;
}

SEC("syscall") int there(void *ctx)
{
	__u64 sum = ordered((char ARENA *)words);

	return (__u32)(sum ^ sum >> 32);
}

SEC("syscall") int across_words(void *ctx)
{
	__u64 sum = 0;

	for (int i = 1; i < 8; i++)
		sum = sum * 31 + ordered((char ARENA *)words + i);
	for (int i = 0; i < 3; i++)
		sum = sum * 31 + words[i];
	return (__u32)(sum ^ sum >> 32);
}

SEC("syscall") int hole(void *ctx)
{
	__u64 sum = ordered((char ARENA *)words + 10 * 4096);

	return (__u32)(sum ^ sum >> 32);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
