// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* Checked on both sides. */
#include "corpus.h"

SEC("uprobe")
int stack_str(struct pt_regs_x86 *r)
{
	char buf[64] = {};
	long n = bpf_probe_read_user_str(buf, sizeof(buf), (void *)r->di);

	opaque(n);
	if (n < 0 || n >= sizeof(buf))
		return 0;
	buf[n] = 0;
	return buf[0];
}

LICENSE;
