// SPDX-License-Identifier: MIT OR Apache-2.0
// The context is moved before a call: "dereference of modified ctx ptr R1 off=4 disallowed".
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int moved_context(struct __sk_buff *skb)
{
	void *inner = skb;
	__u8 byte = 0;

	asm volatile("" : "+r"(inner));
	bpf_skb_load_bytes(inner + 4, 0, &byte, 1);
	return byte;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
