// SPDX-License-Identifier: MIT OR Apache-2.0
// A map that exists only in a kernel, a program that names it, and one that does not. Another map is pinned by its name.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} skep_test_runs SEC(".maps");

SEC("xdp")
int counts(void *ctx)
{
	__u32 key = 0;
	__u64 *runs = bpf_map_lookup_elem(&skep_test_runs, &key);

	return runs ? ++*runs : 0;
}

SEC("xdp")
int looks(void *ctx)
{
	__u32 key = 0;
	void *socket = bpf_map_lookup_elem(&sockets, &key);

	if (socket)
		bpf_sk_release(socket);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
