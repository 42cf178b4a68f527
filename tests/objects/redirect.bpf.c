// SPDX-License-Identifier: MIT OR Apache-2.0
// XDP programs for pairs of devices: what they do with the packets of a test shows at the other end.
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// ETH_P_802_EX1, for experiments; nobody else sends it.
#define TESTED bpf_htons(0x88b5)
#define AF_INET 2

enum place { DROP, BACK, SEEN, PARTS, TO_DEVICE, TO_DEVMAP, ON_DEVICE, TO_CPUMAP, ON_CPU, TO_SOCKET, FIB, FOUND_DEVICE, PLACES };
enum setting { DEVICE, ADDRESS, SETTINGS };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SETTINGS);
	__type(key, __u32);
	__type(value, __u32);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct bpf_devmap_val);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bpf_cpumap_val);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

static __always_inline void set(__u32 place, __u64 value)
{
	bpf_map_update_elem(&counts, &place, &value, BPF_ANY);
}

static __always_inline void count(__u32 place)
{
	__u64 *count = bpf_map_lookup_elem(&counts, &place);

	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline __u32 setting(__u32 place)
{
	__u32 *value = bpf_map_lookup_elem(&settings, &place);

	return value ? *value : 0;
}

// Is it a packet of the test?
static __always_inline int tested(struct xdp_md *ctx)
{
	__u16 *type = (void *)(long)ctx->data + 12;

	return (void *)(type + 1) <= (void *)(long)ctx->data_end && *type == TESTED;
}

#define PROGRAM(section, name, place, verdict)		\
	SEC(section) int name(struct xdp_md *ctx)	\
	{						\
		if (!tested(ctx))			\
			return XDP_PASS;		\
		count(place);				\
		return verdict;				\
	}

PROGRAM("xdp", drop, DROP, XDP_DROP)
PROGRAM("xdp", back, BACK, XDP_TX)
PROGRAM("xdp", seen, SEEN, XDP_PASS)
PROGRAM("xdp", to_device, TO_DEVICE, bpf_redirect(setting(DEVICE), 0))
PROGRAM("xdp", to_devmap, TO_DEVMAP, bpf_redirect_map(&devices, 0, 0))
PROGRAM("xdp/devmap", on_device, ON_DEVICE, XDP_PASS)
PROGRAM("xdp", to_cpumap, TO_CPUMAP, bpf_redirect_map(&cpus, 0, 0))
PROGRAM("xdp/cpumap", on_cpu, ON_CPU, XDP_PASS)
PROGRAM("xdp", to_socket, TO_SOCKET, bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP))

SEC("xdp.frags") int parts(struct xdp_md *ctx)
{
	if (!tested(ctx))
		return XDP_PASS;
	if (bpf_xdp_get_buff_len(ctx) > ctx->data_end - ctx->data)
		count(PARTS);
	return XDP_PASS;
}

SEC("xdp") int fib(struct xdp_md *ctx)
{
	struct bpf_fib_lookup asked = {};

	if (!tested(ctx))
		return XDP_PASS;
	asked.family = AF_INET;
	asked.ipv4_dst = setting(ADDRESS);
	asked.ifindex = ctx->ingress_ifindex;
	set(FIB, bpf_fib_lookup(ctx, &asked, sizeof(asked), 0) + 1);
	set(FOUND_DEVICE, asked.ifindex);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
