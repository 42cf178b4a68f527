// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* Interrupts are restored on both paths. */
#include "corpus.h"

extern void bpf_local_irq_save(unsigned long *flags) __ksym;
extern void bpf_local_irq_restore(unsigned long *flags) __ksym;

SEC("tc")
int irq_exit(struct __sk_buff *skb)
{
	unsigned long a;

	bpf_local_irq_save(&a);
	if (skb->len == 1) {
		bpf_local_irq_restore(&a);
		return 1;
	}
	bpf_local_irq_restore(&a);
	return 0;
}

LICENSE;
