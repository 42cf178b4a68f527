// SPDX-License-Identifier: MIT OR Apache-2.0
// One load serves the stack and the context: "same insn cannot be used with different pointers".
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int mixed_pointers(struct __sk_buff *skb)
{
	__u64 local[2] = { 1, 2 };
	int result;

	asm volatile("r2 = %1\n\t"
		     "r3 = *(u32 *)(%1 + 8)\n\t"
		     "if r3 == 0 goto +2\n\t"
		     "r2 = %2\n\t"
		     "r2 += 0\n\t"
		     "%0 = *(u32 *)(r2 + 0)"
		     : "=r"(result)
		     : "r"(skb), "r"(local)
		     : "r2", "r3");
	return result;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
