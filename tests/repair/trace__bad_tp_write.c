// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* Arguments are only read. */
#include "corpus.h"

SEC("tracepoint/raw_syscalls/sys_exit")
int tp_write(u64 *c)
{
	return 0;
}

LICENSE;
