// SPDX-License-Identifier: MIT OR Apache-2.0
// Every round doubles the paths: "BPF program is too large. Processed 1000001 insn".
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int too_large(struct __sk_buff *skb)
{
	__u32 len = skb->len, mark = skb->mark, sum = 1;

#pragma clang loop unroll(full)
	for (int i = 0; i < 50; i++) {
		if (len & (1u << (i & 31)))
			sum = sum * 3 + i;
		asm volatile("" : "+r"(sum));
		if (mark > (__u32)i * 7)
			sum += 5;
		asm volatile("" : "+r"(sum));
	}
	return sum;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
