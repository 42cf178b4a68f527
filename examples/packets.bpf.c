// SPDX-License-Identifier: MIT OR Apache-2.0
// Counts packets per protocol and destination port, and reports each new flow once.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Who talks to whom; IPv4 addresses are mapped into IPv6. */
struct flow {
	struct in6_addr source;
	struct in6_addr destination;
	__be16 source_port;
	__be16 destination_port;
	__u32 protocol;
};

struct service {
	__u16 protocol;
	__u16 port;
};

struct traffic {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct service);
	__type(value, struct traffic);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct flow);
	__type(value, struct traffic);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} new_flows SEC(".maps");

static __always_inline void map_ipv4(struct in6_addr *to, __be32 address)
{
	to->s6_addr32[0] = 0;
	to->s6_addr32[1] = 0;
	to->s6_addr32[2] = bpf_htonl(0xffff);
	to->s6_addr32[3] = address;
}

/* Fills addresses and protocol; returns the transport header or a null pointer. */
static __always_inline void *parse_network(struct xdp_md *ctx, struct flow *flow)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = data;

	if ((void *)(ethernet + 1) > data_end)
		return 0;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(ethernet + 1);

		if ((void *)(ip + 1) > data_end || ip->ihl != 5)
			return 0;
		map_ipv4(&flow->source, ip->saddr);
		map_ipv4(&flow->destination, ip->daddr);
		flow->protocol = ip->protocol;
		return ip + 1;
	}
	if (ethernet->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(ethernet + 1);

		if ((void *)(ip + 1) > data_end)
			return 0;
		flow->source = ip->saddr;
		flow->destination = ip->daddr;
		flow->protocol = ip->nexthdr;
		return ip + 1;
	}
	return 0;
}

static __always_inline void parse_ports(struct xdp_md *ctx, void *transport, struct flow *flow)
{
	void *data_end = (void *)(long)ctx->data_end;
	struct udphdr *ports = transport; /* ports are at the same place in TCP */

	if (flow->protocol != IPPROTO_TCP && flow->protocol != IPPROTO_UDP)
		return;
	if ((void *)(ports + 1) > data_end)
		return;
	flow->source_port = ports->source;
	flow->destination_port = ports->dest;
}

/* Adds a packet to a counter; returns how many it has now. */
static __always_inline __u64 count(void *map, const void *key, __u64 bytes)
{
	struct traffic *traffic = bpf_map_lookup_elem(map, key);
	struct traffic first = { .packets = 1, .bytes = bytes };

	if (!traffic) {
		bpf_map_update_elem(map, key, &first, BPF_ANY);
		return 1;
	}
	__sync_fetch_and_add(&traffic->bytes, bytes);
	return __sync_fetch_and_add(&traffic->packets, 1) + 1;
}

SEC("xdp")
int packets(struct xdp_md *ctx)
{
	__u64 bytes = ctx->data_end - ctx->data;
	struct service service = {};
	struct flow flow = {};
	void *transport;

	transport = parse_network(ctx, &flow);
	if (!transport)
		return XDP_PASS;
	parse_ports(ctx, transport, &flow);
	service.protocol = flow.protocol;
	service.port = bpf_ntohs(flow.destination_port);
	count(&services, &service, bytes);
	if (count(&flows, &flow, bytes) == 1)
		bpf_ringbuf_output(&new_flows, &flow, sizeof(flow), 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
