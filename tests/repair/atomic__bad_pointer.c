// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* A number is exchanged and the old one returned. */
#include "corpus.h"

MAP(ARRAY, u32, u64, 1, state);

SEC("tc")
int atomic_pointer(struct __sk_buff *skb)
{
	u32 zero = 0;
	u64 *v = bpf_map_lookup_elem(&state, &zero);

	if (!v)
		return 1;
	return (u32)__sync_lock_test_and_set(v, (u64)skb->len);
}

LICENSE;
