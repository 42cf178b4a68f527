// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* Arguments are only read. */
#include "corpus.h"

SEC("raw_tp/sys_enter")
int raw_tp_write(struct bpf_raw_tracepoint_args *c)
{
	return 0;
}

LICENSE;
