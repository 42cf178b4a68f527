// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The context has the time stamp. */
#include "corpus.h"

struct task_struct;

extern struct task_struct *bpf_task_from_pid(s32 pid) __ksym;

SEC("tc")
int not_allowed(struct __sk_buff *skb)
{
	u64 ts = 0;

	ts = skb->hwtstamp;
	opaque(ts);
	return 0;
}

LICENSE;
