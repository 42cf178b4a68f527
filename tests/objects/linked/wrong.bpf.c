// SPDX-License-Identifier: MIT OR Apache-2.0
// Agrees with neither half.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

__u64 scale(__u64 value, int more)
{
	return value + more;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
