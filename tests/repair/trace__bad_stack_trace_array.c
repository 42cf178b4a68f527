// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The map of the right type. */
#include "corpus.h"

MAP(PERF_EVENT_ARRAY, u32, u32, 4, out);

SEC("kprobe/vfs_read")
int perf_wrong_map(void *c)
{
	u64 v = 1;

	return bpf_perf_event_output(c, &out, 0, &v, sizeof(v));
}

LICENSE;
