// SPDX-License-Identifier: MIT OR Apache-2.0
// Helpers on arguments that the test gives. A program says what must be the same in both backends; of what may differ
// (time, chance, numbers of things) whether it is as it must be.
#include "sweep.h"

#define MAP(name, kind, keys, values, entries, flags)                                                                 \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_##kind);                                                                     \
		__uint(key_size, keys);                                                                                \
		__uint(value_size, values);                                                                            \
		__uint(max_entries, entries);                                                                          \
		__uint(map_flags, flags);                                                                              \
	} name SEC(".maps")

MAP(hash, HASH, 4, 8, 5, 0);
MAP(array, ARRAY, 4, 8, 5, 0);
MAP(lru, LRU_HASH, 4, 8, 64, 0);
MAP(percpu, PERCPU_ARRAY, 4, 8, 5, 0);
MAP(percpu_hash, PERCPU_HASH, 4, 8, 5, 0);
MAP(lpm, LPM_TRIE, 8, 8, 5, BPF_F_NO_PREALLOC);
MAP(queue, QUEUE, 0, 8, 3, 0);
MAP(stack, STACK, 0, 8, 3, 0);
MAP(bloom, BLOOM_FILTER, 0, 8, 64, 0);
MAP(ring, RINGBUF, 0, 0, 4096, 0);
MAP(small_ring, RINGBUF, 0, 0, 4096, 0);
MAP(users, USER_RINGBUF, 0, 0, 4096, 0);
MAP(samples, PERF_EVENT_ARRAY, 4, 4, 0, 0);
MAP(stacks, STACK_TRACE, 4, 8 * 8, 16, 0);
MAP(progs, PROG_ARRAY, 4, 4, 4, 0);
MAP(devices, DEVMAP, 4, 4, 4, 0);
MAP(cpus, CPUMAP, 4, 4, 4, 0);

/* Two words as arguments to a callback. */
struct sum {
	__u64 sum;
	__u64 stop;
};

#define KEYED(n, map)                                                                                                 \
	do {                                                                                                           \
		__u32 key = GIVEN(n, 7);                                                                               \
		__u64 value = io.in[n + 1], flags = GIVEN(n + 2, 7), *found;                                          \
		SAY(n * 5, bpf_map_update_elem(&map, &key, &value, flags));                                           \
		key = GIVEN(n + 3, 7);                                                                                 \
		found = bpf_map_lookup_elem(&map, &key);                                                               \
		SAY(n * 5 + 1, found ? *found : -1);                                                                  \
		key = GIVEN(n + 4, 15);                                                                               \
		SAY(n * 5 + 2, bpf_map_delete_elem(&map, &key));                                                      \
	} while (0)

SEC("tc")
int maps_by_key(struct __sk_buff *skb)
{
	KEYED(0, hash);
	KEYED(1, array);
	KEYED(2, percpu);
	KEYED(3, percpu_hash);
	KEYED(4, lru);
	return 0;
}

SEC("tc")
int prefixes(struct __sk_buff *skb)
{
	__u32 key[2] = { GIVEN(0, 63), (__u32)GIVEN(1, 0xc0c0) };
	__u64 value = io.in[2], *found;

	SAY(0, bpf_map_update_elem(&lpm, key, &value, GIVEN(3, 7)));
	key[0] = 32;
	key[1] = GIVEN(4, 0xffff);
	found = bpf_map_lookup_elem(&lpm, key);
	SAY(1, found ? *found : -1);
	key[0] = GIVEN(5, 63);
	found = bpf_map_lookup_elem(&lpm, key);
	SAY(2, found ? *found : -1);
	SAY(3, bpf_map_delete_elem(&lpm, key));
	return 0;
}

#define PUSHED(n, map)                                                                                                \
	do {                                                                                                           \
		__u64 value = io.in[n];                                                                               \
		SAY(n * 9, bpf_map_push_elem(&map, &value, GIVEN(n + 1, 7)));                                         \
		SAY(n * 9 + 1, bpf_map_push_elem(&map, &value, GIVEN(n + 2, 2)));                                     \
		SAY(n * 9 + 2, bpf_map_peek_elem(&map, &value));                                                      \
		SAY(n * 9 + 3, value);                                                                                 \
		SAY(n * 9 + 4, bpf_map_pop_elem(&map, &value));                                                       \
		SAY(n * 9 + 5, value);                                                                                 \
		if (GIVEN(n + 3, 1))                                                                                   \
			SAY(n * 9 + 6, bpf_map_pop_elem(&map, &value));                                               \
		SAY(n * 9 + 7, value);                                                                                 \
	} while (0)

SEC("tc")
int queues(struct __sk_buff *skb)
{
	__u64 value = GIVEN(4, 15);

	PUSHED(0, queue);
	PUSHED(1, stack);
	SAY(40, bpf_map_push_elem(&bloom, &value, GIVEN(5, 3)));
	/* What is not in may seem to be: which values depends on a seed of chance. */
	SAY(41, bpf_map_peek_elem(&bloom, &value) == 0 || GIVEN(5, 3));
	return 0;
}

SEC("tc")
int copies_of_cpus(struct __sk_buff *skb)
{
	__u32 key = GIVEN(0, 7), cpu = bpf_get_smp_processor_id();
	__u64 *here, *there;

	here = bpf_map_lookup_elem(&percpu, &key);
	if (here)
		*here = io.in[1];
	there = bpf_map_lookup_percpu_elem(&percpu, &key, cpu);
	SAY(0, here == there);
	SAY(1, there ? *there : -1);
	SAY(2, bpf_map_lookup_percpu_elem(&percpu, &key, GIVEN(2, 1) ? 99999 : -1) == 0);
	SAY(3, bpf_map_lookup_percpu_elem(&percpu_hash, &key, cpu) == bpf_map_lookup_elem(&percpu_hash, &key));
	return 0;
}

/* In any order. */
static long add_all(void *map, __u32 *key, __u64 *value, struct sum *sum)
{
	sum->sum += *value * 3 + *key;
	return 0;
}

static long add_up(void *map, __u32 *key, __u64 *value, struct sum *sum)
{
	sum->sum += *value * 3 + *key;
	return sum->stop-- == 0;
}

static long count_up(__u32 i, struct sum *sum)
{
	sum->sum = sum->sum * 31 + i;
	return sum->stop-- == 0 ? 1 : 0;
}

SEC("tc")
int over_all(struct __sk_buff *skb)
{
	struct sum all = {}, some = { 0, GIVEN(0, 7) }, twice = { 0, GIVEN(1, 1023) };

	SAY(0, bpf_for_each_map_elem(&hash, add_all, &all, 0));
	SAY(1, all.sum);
	SAY(2, bpf_for_each_map_elem(&array, add_up, &some, 0));
	SAY(3, some.sum);
	SAY(4, some.stop);
	SAY(5, bpf_for_each_map_elem(&array, add_up, &some, GIVEN(2, 3)));
	SAY(6, bpf_for_each_map_elem(&percpu, add_all, &all, 0));
	SAY(12, all.sum);
	SAY(7, bpf_for_each_map_elem(&lru, add_all, &all, 0));
	SAY(8, bpf_loop(GIVEN(3, 511), count_up, &twice, 0));
	SAY(9, twice.sum);
	SAY(10, bpf_loop(GIVEN(4, 1) ? (1 << 23) + 1 : 0, count_up, &twice, 0));
	SAY(11, bpf_loop(3, count_up, &twice, GIVEN(5, 3)));
	return 0;
}

/* Reads of addresses: `AT` is good, bad, or becomes bad in the middle. */
SEC("raw_tp/sys_enter")
int reads(void *ctx)
{
	char buffer[32] = "0123456789abcdef0123456789abcde";
	__u32 bytes = GIVEN(0, 31);

	SAY(0, bpf_probe_read_user(buffer, bytes, (void *)AT));
	SAY(1, sum_of(buffer, 32));
	SAY(2, bpf_probe_read_user_str(buffer, bytes, (void *)AT));
	SAY(3, sum_of(buffer, 32));
	SAY(4, bpf_probe_read(buffer, GIVEN(1, 31), (void *)AT));
	SAY(5, sum_of(buffer, 32));
	SAY(6, bpf_probe_read_str(buffer, GIVEN(2, 31), (void *)AT));
	SAY(7, sum_of(buffer, 32));
	SAY(8, bpf_probe_read_kernel(buffer, GIVEN(3, 31), &io.in[GIVEN(4, 7)]));
	SAY(9, sum_of(buffer, 32));
	SAY(10, bpf_probe_read_kernel_str(buffer, GIVEN(3, 31), &io.in[GIVEN(4, 7)]));
	SAY(11, sum_of(buffer, 32));
	SAY(12, bpf_probe_read_kernel(buffer, bytes, (void *)NOWHERE));
	SAY(13, bpf_probe_read_kernel_str(buffer, bytes, (void *)NOWHERE));
	SAY(14, sum_of(buffer, 32));
	SAY(15, bpf_probe_read_user(buffer, bytes, (void *)TEXT));
	SAY(16, sum_of(buffer, 32));
	return 0;
}

SEC("syscall")
int sleeping_reads(void *ctx)
{
	char buffer[32] = "0123456789abcdef0123456789abcde";

	SAY(0, bpf_copy_from_user(buffer, GIVEN(0, 31), (void *)AT));
	SAY(1, sum_of(buffer, 32));
	SAY(2, bpf_copy_from_user(buffer, GIVEN(1, 31), (void *)TEXT));
	SAY(3, sum_of(buffer, 32));
	return 0;
}

/* The task that runs is the test's own thread. */
SEC("raw_tp/sys_enter")
int who(void *ctx)
{
	struct bpf_pidns_info ns = { 7, 7 };
	char comm[16] = "123456789abcdef";

	SAY(0, bpf_get_current_pid_tgid());
	SAY(1, bpf_get_current_uid_gid());
	SAY(2, bpf_get_current_comm(comm, 1 + GIVEN(0, 15)));
	SAY(3, sum_of(comm, 16));
	SAY(4, bpf_get_current_cgroup_id());
	SAY(5, bpf_get_numa_node_id());
	SAY(6, bpf_get_ns_current_pid_tgid(DEVICE, INODE, &ns, sizeof(ns)));
	SAY(7, ns.pid);
	SAY(8, ns.tgid);
	SAY(9, bpf_get_ns_current_pid_tgid(DEVICE + GIVEN(1, 1), INODE + GIVEN(2, 1), &ns, GIVEN(3, 1) ? 8 : 4));
	SAY(10, ns.pid);
	SAY(11, ns.tgid);
	SAY(12, bpf_get_attach_cookie(ctx));
	SAY(13, bpf_get_current_task() == (__u64)bpf_get_current_task_btf());
	return 0;
}

/* Clocks do not go back, agree with each other, and with that of the test. */
SEC("tc")
int clocks(struct __sk_buff *skb)
{
	__u64 now = bpf_ktime_get_ns(), coarse = bpf_ktime_get_coarse_ns(), boot = bpf_ktime_get_boot_ns();
	__u64 tai = bpf_ktime_get_tai_ns(), jiffies = bpf_jiffies64(), later = bpf_ktime_get_ns();

	SAY(0, later >= now && later - now < 100 * SECOND);
	SAY(1, coarse <= later && now - coarse + SECOND < 2 * SECOND);
	SAY(2, boot >= now && bpf_ktime_get_boot_ns() >= boot);
	SAY(3, bpf_ktime_get_tai_ns() >= tai && tai > now);
	SAY(4, bpf_jiffies64() >= jiffies && bpf_jiffies64() - jiffies < 100000);
	/* The low half wraps five minutes after the start; hundredths to thousandths of a second. */
	SAY(5, jiffies - (1ull << 32) + 300000 < 400 * (now / SECOND) * 10 + 600000);
	return 0;
}

SEC("tc")
int chance(struct __sk_buff *skb)
{
	__u32 ones = 0, zeros = 0;

	for (int i = 0; i < 64; i++) {
		__u32 n = bpf_get_prandom_u32();

		ones |= n;
		zeros |= ~n;
	}
	SAY(0, ones);
	SAY(1, zeros);
	return 0;
}

SEC("tc")
int texts(struct __sk_buff *skb)
{
	static const char other[] = "some text";
	char text[24] = {};
	long number = 77;

	bpf_probe_read_kernel(text, 8, &io.in[0]);
	if (GIVEN(1, 1))
		__builtin_memcpy(text, "some tex", 8);
	text[8] = GIVEN(2, 1) ? 't' : GIVEN(3, 255);
	SAY(0, bpf_strncmp(text, 1 + GIVEN(4, 15), other));
	SAY(1, bpf_strtol(text, 1 + GIVEN(5, 7), GIVEN(6, 31), &number));
	SAY(2, number);
	SAY(3, bpf_trace_printk("swept %d %s\n", 13, (int)io.in[0], 0));
	return 0;
}

/* Locks. */
struct locked {
	struct bpf_spin_lock lock;
	__u32 word;
	__u64 wide;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct locked);
} locks SEC(".maps");

SEC("tc")
int under_a_lock(struct __sk_buff *skb)
{
	__u32 key = GIVEN(0, 1);
	struct locked *locked = bpf_map_lookup_elem(&locks, &key), fresh = { .word = 5, .wide = io.in[1] };

	if (!locked)
		return 1;
	bpf_spin_lock(&locked->lock);
	locked->word++;
	locked->wide += io.in[2];
	bpf_spin_unlock(&locked->lock);
	SAY(0, locked->word);
	SAY(1, locked->wide);
	SAY(2, bpf_map_update_elem(&locks, &key, &fresh, GIVEN(3, 7)));
	SAY(3, locked->word);
	return 0;
}

/* Records: what the test reads afterwards must be the same as well. */
SEC("tc")
int records(struct __sk_buff *skb)
{
	__u64 *record;
	struct bpf_dynptr dynptr;

	SAY(0, bpf_ringbuf_output(&ring, &io.in[0], GIVEN(0, 63), GIVEN(1, 7)));
	record = bpf_ringbuf_reserve(&ring, 16, GIVEN(2, 1));
	SAY(1, record != 0);
	if (record) {
		record[0] = io.in[1];
		record[1] = io.in[2];
		if (GIVEN(3, 1))
			bpf_ringbuf_submit(record, GIVEN(4, 3));
		else
			bpf_ringbuf_discard(record, GIVEN(4, 3));
	}
	SAY(2, bpf_ringbuf_reserve_dynptr(&ring, GIVEN(5, 127), GIVEN(6, 1), &dynptr));
	/* All of it: what else is there is from older records. */
	SAY(3, bpf_dynptr_write(&dynptr, 0, &io.in[0], GIVEN(5, 127), 0));
	SAY(4, bpf_dynptr_write(&dynptr, GIVEN(7, 127), &io.in[0], 8, GIVEN(1, 1)));
	if (GIVEN(3, 2))
		bpf_ringbuf_submit_dynptr(&dynptr, 0);
	else
		bpf_ringbuf_discard_dynptr(&dynptr, 0);
	return 0;
}

/* A ring that nobody reads. */
SEC("tc")
int a_ring_that_fills(struct __sk_buff *skb)
{
	SAY(0, bpf_ringbuf_output(&small_ring, &io.in[0], GIVEN(0, 127), 0));
	for (int what = 0; what < 5; what++)
		SAY(1 + what, bpf_ringbuf_query(&small_ring, what));
	SAY(6, bpf_ringbuf_query(&small_ring, io.in[1]));
	return 0;
}

SEC("tc")
int samples_of_packets(struct __sk_buff *skb)
{
	/* A packet's bytes behind those of the program; another processor; none; unknown flags. */
	__u64 flags = BPF_F_CURRENT_CPU, odd = GIVEN(2, 15);

	SAY(0, bpf_perf_event_output(skb, &samples, flags | GIVEN(0, 63) << 32, &io.in[0], 1 + GIVEN(1, 63)));
	SAY(1, odd == 7 ? bpf_perf_event_output(skb, &samples, 12345, &io.in[0], 8) : 0);
	SAY(2, odd == 5 ? bpf_perf_event_output(skb, &samples, flags | 1ull << 60, &io.in[0], 8) : 0);
	SAY(3, odd == 3 ? bpf_perf_event_output(skb, &samples, flags | 0xfffffull << 32, &io.in[0], 8) : 0);
	return 0;
}

SEC("raw_tp/sys_enter")
int samples_of_tasks(void *ctx)
{
	SAY(0, bpf_perf_event_output(ctx, &samples, BPF_F_CURRENT_CPU, &io.in[0], 1 + GIVEN(0, 63)));
	SAY(1, GIVEN(1, 7) ? 0 : bpf_perf_event_output(ctx, &samples, BPF_F_CURRENT_CPU | 1ull << 40, &io.in[0], 8));
	return 0;
}

SEC("xdp")
int samples_of_frames(struct xdp_md *xdp)
{
	__u64 flags = BPF_F_CURRENT_CPU;

	SAY(0, bpf_perf_event_output(xdp, &samples, flags | GIVEN(0, 63) << 32, &io.in[0], 1 + GIVEN(1, 63)));
	SAY(1, GIVEN(2, 7) ? 0 : bpf_perf_event_output(xdp, &samples, flags | 0xfffffull << 32, &io.in[0], 8));
	return XDP_PASS;
}

/* Stacks are those of each backend; what is refused is not. */
SEC("raw_tp/sys_enter")
int stacks_refused(void *ctx)
{
	__u64 stack[4] = { 1, 2, 3, 4 };
	struct task_struct *task = (void *)bpf_get_current_task_btf();

	SAY(0, bpf_get_stackid(ctx, &stacks, 1ull << (11 + GIVEN(0, 31))));
	SAY(1, bpf_get_stack(ctx, stack, 32, 1ull << (12 + GIVEN(1, 31))));
	SAY(2, sum_of(stack, 32));
	stack[0] = 5;
	SAY(3, bpf_get_stack(ctx, stack, 12 + GIVEN(2, 3), 0));
	SAY(4, sum_of(stack, 32));
	SAY(5, bpf_get_task_stack(task, stack, 32, 1ull << (12 + GIVEN(1, 31))));
	return 0;
}

SEC("tc")
int dynptrs(struct __sk_buff *skb)
{
	struct bpf_dynptr dynptr;
	char buffer[16] = "0123456789abcde";
	__u64 *slice;

	SAY(0, bpf_dynptr_from_mem(&io.in[0], 64, GIVEN(0, 1), &dynptr));
	SAY(1, bpf_dynptr_read(buffer, GIVEN(1, 15), &dynptr, GIVEN(2, 127), GIVEN(3, 1)));
	SAY(2, sum_of(buffer, 16));
	SAY(3, bpf_dynptr_write(&dynptr, GIVEN(4, 127), buffer, GIVEN(5, 15), GIVEN(6, 1)));
	slice = bpf_dynptr_data(&dynptr, GIVEN(7, 127), 8);
	SAY(4, slice ? *slice : -1);
	SAY(5, sum_of(io.in, 64));
	SAY(6, bpf_dynptr_read(buffer, 8, &dynptr, io.in[1] | 1u << 31, 0));
	return 0;
}

static long on_message(struct bpf_dynptr *dynptr, struct sum *sum)
{
	char buffer[8] = {};

	bpf_dynptr_read(buffer, 8, dynptr, 0, 0);
	sum->sum = sum->sum * 31 + sum_of(buffer, 8);
	return sum->stop-- == 0;
}

/* Nobody sends anything. */
SEC("tc")
int messages_of_users(struct __sk_buff *skb)
{
	struct sum sum = { 0, GIVEN(0, 3) };

	SAY(0, bpf_user_ringbuf_drain(&users, on_message, &sum, GIVEN(1, 7)));
	SAY(1, sum.sum);
	return 0;
}

SEC("tc")
int whose_packet(struct __sk_buff *skb)
{
	SAY(0, bpf_get_cgroup_classid(skb));
	SAY(1, bpf_get_socket_cookie(skb) != 0);
	SAY(2, bpf_get_socket_uid(skb));
	SAY(3, bpf_skb_cgroup_id(skb));
	SAY(4, bpf_skb_ancestor_cgroup_id(skb, GIVEN(0, 3)));
	SAY(5, bpf_skb_cgroup_classid(skb));
	SAY(6, bpf_get_netns_cookie(skb) == bpf_get_netns_cookie(0));
	SAY(7, (bpf_get_hash_recalc(skb) == bpf_get_hash_recalc(skb)));
	bpf_set_hash(skb, io.in[0]);
	SAY(8, bpf_get_hash_recalc(skb));
	SAY(9, bpf_get_route_realm(skb));
	return 0;
}

SEC("socket")
int whose_packet_a_socket_sees(struct __sk_buff *skb)
{
	char buffer[8] = "0123456";

	SAY(0, bpf_get_socket_cookie(skb) != 0);
	SAY(1, bpf_get_socket_uid(skb));
	SAY(2, bpf_skb_load_bytes(skb, GIVEN(0, 127), buffer, 1 + GIVEN(1, 7)));
	SAY(3, sum_of(buffer, 8));
	SAY(4, bpf_skb_load_bytes_relative(skb, GIVEN(0, 127), buffer, 8, GIVEN(1, 3)));
	SAY(5, sum_of(buffer, 8));
	return GIVEN(2, 255);
}

SEC("tc")
int redirected(struct __sk_buff *skb)
{
	struct bpf_redir_neigh neigh = { .nh_family = GIVEN(0, 15), .ipv4_nh = 1 };

	SAY(0, bpf_redirect_neigh(1 + GIVEN(1, 3), &neigh, sizeof(neigh) - 8 * GIVEN(2, 1), GIVEN(4, 3)));
	SAY(4, bpf_redirect_neigh(1 + GIVEN(1, 3), 0, 0, GIVEN(4, 3)));
	SAY(1, bpf_redirect_peer(1 + GIVEN(1, 3), GIVEN(2, 3)));
	SAY(2, bpf_redirect(1 + GIVEN(5, 3), GIVEN(6, 7)));
	/* To a device that is not there. */
	SAY(3, bpf_clone_redirect(skb, 99999, GIVEN(7, 3)));
	return 0;
}

SEC("xdp")
int redirected_by_map(struct xdp_md *xdp)
{
	SAY(0, bpf_redirect_map(&devices, GIVEN(0, 7), GIVEN(1, 31)));
	SAY(1, bpf_redirect_map(&cpus, GIVEN(2, 7), GIVEN(3, 7)));
	SAY(2, bpf_redirect(1 + GIVEN(4, 3), GIVEN(5, 3)));
	return XDP_PASS;
}

SEC("tc")
int tunnels(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = { .tunnel_id = 7, .remote_ipv4 = io.in[0], .tunnel_ttl = GIVEN(1, 255) };

	SAY(0, bpf_skb_get_tunnel_key(skb, &key, sizeof(key), GIVEN(2, 3)));
	SAY(1, sum_of(&key, sizeof(key)));
	key.tunnel_id = io.in[3];
	key.tunnel_tos = io.in[4];
	key.local_ipv4 = io.in[5];
	SAY(2, bpf_skb_set_tunnel_key(skb, &key, 4 + GIVEN(6, 40), GIVEN(7, 63)));
	__builtin_memset(&key, 0x55, sizeof(key));
	SAY(3, bpf_skb_get_tunnel_key(skb, &key, 1 + GIVEN(3, 43), GIVEN(2, 3)));
	SAY(4, sum_of(&key, sizeof(key)));
	return 0;
}

/* The socket of a packet, and what is kept with it. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} of_sockets SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} of_tasks SEC(".maps");

SEC("tc")
int sockets_of_packets(struct __sk_buff *skb)
{
	struct bpf_sock *sock = skb->sk, *full, *listener;
	__u64 *kept, start = io.in[0];

	SAY(0, sock != 0);
	if (!sock)
		return 0;
	full = bpf_sk_fullsock(sock);
	SAY(1, full != 0);
	if (!full)
		return 0;
	SAY(2, bpf_tcp_sock(full) != 0);
	listener = bpf_get_listener_sock(full);
	SAY(3, listener != 0);
	SAY(4, full->family * 3 + full->type * 5 + full->protocol * 7 + full->state * 11 + full->mark);
	kept = bpf_sk_storage_get(&of_sockets, full, &start, GIVEN(1, 3));
	SAY(5, kept ? *kept : -1);
	if (kept)
		*kept += 3;
	kept = bpf_sk_storage_get(&of_sockets, full, 0, 0);
	SAY(6, kept ? *kept : -1);
	SAY(7, bpf_sk_storage_delete(&of_sockets, full));
	SAY(8, bpf_sk_storage_delete(&of_sockets, full));
	return 0;
}

SEC("raw_tp/sys_enter")
int kept_with_tasks(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	__u64 *kept, start = io.in[0];

	kept = bpf_task_storage_get(&of_tasks, task, &start, GIVEN(1, 3));
	SAY(0, kept ? *kept : -1);
	if (kept)
		*kept += 3;
	kept = bpf_task_storage_get(&of_tasks, task, 0, 0);
	SAY(1, kept ? *kept : -1);
	SAY(2, GIVEN(2, 1) ? bpf_task_storage_delete(&of_tasks, task) : 1);
	return 0;
}

/* A socket for a packet: there is none to give. */
SEC("sk_lookup")
int socket_for_a_packet(struct bpf_sk_lookup *lookup)
{
	SAY(0, bpf_sk_assign(lookup, 0, GIVEN(0, 7)));
	return GIVEN(1, 1);
}

SEC("tc")
int called_in_place(struct __sk_buff *skb)
{
	/* The array is empty, and ends. */
	bpf_tail_call(skb, &progs, GIVEN(0, 7));
	SAY(0, 1);
	return 3;
}

SEC("tc")
int room(struct __sk_buff *skb)
{
	/* A header outside of the packet's own has a transport header only if it is that of a tunnel over one. */
	__u64 flags = GIVEN(0, 1) ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;

	if (GIVEN(1, 1))
		flags |= BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
	SAY(0, bpf_skb_adjust_room(skb, GIVEN(2, 4095), BPF_ADJ_ROOM_MAC, flags));
	SAY(1, bpf_skb_change_tail(skb, GIVEN(3, 255), 0));
	SAY(2, bpf_skb_change_tail(skb, GIVEN(4, 4095), 0));
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
