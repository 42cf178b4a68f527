// SPDX-License-Identifier: MIT OR Apache-2.0
// A record is used after it was submitted: "R7 invalid mem access 'scalar'".
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	__u32 pid;
	__u32 len;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("tc")
int record_submitted(struct __sk_buff *skb)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return 0;
	e->pid = 1;
	bpf_ringbuf_submit(e, 0);
	e->len = skb->len;
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
