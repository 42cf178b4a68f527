// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* An argument that there is. */
#include "corpus.h"

SEC("tp_btf/sched_process_exit")
int tp_btf_args(u64 *c)
{
	return c[0] == 0;
}

LICENSE;
