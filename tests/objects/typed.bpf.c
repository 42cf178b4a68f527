// SPDX-License-Identifier: MIT OR Apache-2.0
// Types of every shape, for the bindings that `skep gen` makes.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum verdict { VERDICT_PASS, VERDICT_DROP = 7 };
enum change { CHANGE_LESS = -1, CHANGE_MORE = 1 };

/* Bit fields, a hole, an anonymous union, a reserved word. */
struct packet {
	__u8 type;
	__u16 version : 4, urgent : 1, length : 11;
	__be32 source;
	enum verdict verdict;
	union {
		__u64 whole;
		struct {
			__u32 low, high;
		} halves;
	};
	char name[8];
};

struct __attribute__((packed)) narrow {
	__u8 kind;
	__u64 total;
	_Bool seen;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, struct narrow);
	__type(value, struct packet);
} packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct narrow);
} per_cpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 4);
	__type(value, __u64);
} waiting SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} records SEC(".maps");

const volatile __u32 limit = 3;
enum change step = CHANGE_MORE;
__u64 runs;
static __u16 odd;

SEC("xdp")
int fill(struct xdp_md *ctx)
{
	struct narrow key = { .kind = 1, .total = 1ULL << 40, .seen = 1 };
	struct packet packet = { .type = 5, .version = 6, .urgent = 1, .length = 1500, .verdict = VERDICT_DROP };
	struct narrow *own;
	__u32 first = 0;

	runs += limit;
	odd++;
	packet.source = 0x0100007f; /* 127.0.0.1, little-endian */
	packet.halves.high = 9;
	__builtin_memcpy(packet.name, "skep", 5);
	bpf_map_update_elem(&packets, &key, &packet, BPF_ANY);
	own = bpf_map_lookup_elem(&per_cpu, &first);
	if (own)
		own->total = step;
	bpf_map_push_elem(&waiting, &runs, BPF_ANY);
	bpf_ringbuf_output(&records, &packet, sizeof(packet), 0);
	return odd;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
