// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* No flags. */
#include "corpus.h"

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
	__type(key, struct bpf_cgroup_storage_key);
	__type(value, u64);
} counters SEC(".maps");

SEC("cgroup/sock_create")
int storage_flags(struct bpf_sock *sk)
{
	u64 *n = bpf_get_local_storage(&counters, 0);

	return *n < 1000;
}

LICENSE;
