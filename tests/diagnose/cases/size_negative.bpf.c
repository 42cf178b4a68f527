// SPDX-License-Identifier: MIT OR Apache-2.0
// The length is checked in one direction only: "R2 min value is negative, either use unsigned or 'var &= const'".
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tracepoint/raw_syscalls/sys_enter")
int size_negative(long *ctx)
{
	char buf[64];
	long len = ctx[3];

	asm volatile("" : "+r"(len));
	if (len > 64)
		return 0;
	return bpf_probe_read_user(buf, len, (void *)ctx[2]);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
