// SPDX-License-Identifier: MIT OR Apache-2.0
// Variables in an arena: one that the object sets, one that the program counts in.
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

char LICENSE[] SEC("license") = "Dual MIT/GPL";
