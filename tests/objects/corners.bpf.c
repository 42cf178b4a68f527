// SPDX-License-Identifier: MIT OR Apache-2.0
// Corners of helpers and test runs that were once different from the kernel's; each program returns what it found.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define __ksym __attribute__((section(".ksyms")))

struct bpf_iter_num {
	__u64 opaque;
} __attribute__((aligned(8)));
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;

#define INT_MIN (-2147483647 - 1)

SEC("raw_tp/sys_enter")
int from_the_lowest_number(void *ctx)
{
	struct bpf_iter_num it;
	__u32 sum = 0;
	int *i;

	bpf_iter_num_new(&it, INT_MIN, INT_MIN + 3);
	while ((i = bpf_iter_num_next(&it)))
		sum = sum * 3 + *i;
	bpf_iter_num_destroy(&it);
	return sum;
}

SEC("tc")
int tunnel_without_key(struct __sk_buff *skb)
{
	struct bpf_tunnel_key key = { .remote_ipv4 = 1, .tunnel_ttl = 64 };
	int sum = 0;

	for (int flag = 0; flag < 7; flag++)
		sum = sum * 3 + bpf_skb_set_tunnel_key(skb, &key, sizeof(key), 1 << flag);
	return sum;
}

SEC("flow_dissector")
int nothing_dissected(struct __sk_buff *skb)
{
	return BPF_OK;
}

SEC("xdp/devmap")
int behind_a_devmap(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("xdp/cpumap")
int behind_a_cpumap(struct xdp_md *ctx)
{
	return XDP_PASS;
}

/* Routes: devices that are there and not, families, flags; whether a device passes packets on. */
SEC("tc")
int routes_of_devices(struct __sk_buff *skb)
{
	int sum = 0;

	for (__u32 device = 0; device < 3; device++) {
		for (__u32 family = 1; family < 12; family++) {
			struct bpf_fib_lookup params = { .family = family, .ifindex = device == 2 ? 99999 : device };

			sum = sum * 3 + bpf_fib_lookup(skb, &params, sizeof(params), 0);
			sum = sum * 3 + bpf_fib_lookup(skb, &params, sizeof(params) - 1, 0);
		}
	}
	return sum;
}

#ifndef __percpu_kptr
#define __percpu_kptr __attribute__((btf_type_tag("percpu_kptr")))
#endif
struct copy {
	__u64 word;
	__u64 more;
};
extern void *bpf_percpu_obj_new_impl(__u64 type, void *meta) __ksym;
extern void bpf_percpu_obj_drop_impl(void *object, void *meta) __ksym;

struct holder {
	struct copy __percpu_kptr *object;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct holder);
} holders SEC(".maps");

/* An object with a copy a CPU. */
SEC("tc")
int copies_of_an_object(struct __sk_buff *skb)
{
	struct copy __percpu_kptr *object;
	struct copy *copy;
	struct holder *holder;
	__u32 key = 0;
	int sum = 0;

	holder = bpf_map_lookup_elem(&holders, &key);
	object = bpf_percpu_obj_new_impl(bpf_core_type_id_local(struct copy), 0);
	if (!object)
		return -1;
	if (!holder) {
		bpf_percpu_obj_drop_impl(object, 0);
		return -2;
	}
	object = bpf_kptr_xchg(&holder->object, object);
	if (object)
		bpf_percpu_obj_drop_impl(object, 0);
	object = holder->object;
	if (!object)
		return -3;
	copy = bpf_this_cpu_ptr(object);
	copy->word = 5;
	copy = bpf_per_cpu_ptr(object, bpf_get_smp_processor_id());
	if (copy)
		sum = copy->word + copy->more;
	copy = bpf_per_cpu_ptr(object, bpf_get_smp_processor_id() ^ 1);
	if (copy)
		sum = sum * 3 + copy->word;
	return sum * 3 + (bpf_per_cpu_ptr(object, 99999) == 0);
}

/* What the test gives programs of this type. */
struct given {
	__u64 text;
};
extern int bpf_copy_from_user_str(void *dst, __u32 size, const void *from, __u64 flags) __ksym;

SEC("syscall")
int strings_of_user_space(struct given *given)
{
	char buffer[8] = "abcdefg";
	int sum = 0;

	sum = sum * 7 + bpf_copy_from_user_str(buffer, 8, (void *)given->text, 0);
	sum = sum * 7 + buffer[2] + buffer[7];
	sum = sum * 7 + bpf_copy_from_user_str(buffer, 3, (void *)given->text, 0);
	sum = sum * 7 + buffer[2] + buffer[4];
	sum = sum * 7 + bpf_copy_from_user_str(buffer, 8, (void *)given->text, 1);
	sum = sum * 7 + buffer[4] + buffer[7];
	sum = sum * 7 + bpf_copy_from_user_str(buffer, 8, (void *)given->text, 2);
	sum = sum * 7 + bpf_copy_from_user_str(buffer, 8, 0, 0);
	return sum * 7 + buffer[0];
}

struct {
	__uint(type, 33); /* BPF_MAP_TYPE_ARENA */
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 8);
	enum { user_address = 0x1ull << 44 } map_extra;
} arena SEC(".maps");
#define __arena __attribute__((address_space(1)))
#define PAGE 4096
extern void __arena *bpf_arena_alloc_pages(void *map, void __arena *at, __u32 pages, int node, __u64 flags) __ksym;
extern void bpf_arena_free_pages(void *map, void __arena *at, __u32 pages) __ksym;
extern int bpf_arena_reserve_pages(void *map, void __arena *at, __u32 pages) __ksym;

SEC("syscall")
int pages_kept_free(struct given *given)
{
	char __arena *page = bpf_arena_alloc_pages(&arena, 0, 1, -1, 0);
	int sum = 0;

	if (!page)
		return -1;
	sum = sum * 7 + bpf_arena_reserve_pages(&arena, page + PAGE, 2);
	sum = sum * 7 + bpf_arena_reserve_pages(&arena, page + 2 * PAGE, 1);
	sum = sum * 7 + bpf_arena_reserve_pages(&arena, page + 2 * PAGE, 0);
	sum = sum * 7 + bpf_arena_reserve_pages(&arena, page + 6 * PAGE, 9);
	sum = sum * 7 + (bpf_arena_alloc_pages(&arena, page + PAGE, 1, -1, 0) == 0);
	bpf_arena_free_pages(&arena, page + PAGE, 2);
	sum = sum * 7 + (bpf_arena_alloc_pages(&arena, page + PAGE, 2, -1, 0) == 0);
	bpf_arena_free_pages(&arena, page, 3);
	return sum;
}

typedef volatile __u64 __arena word;

/* Pages that are not there: loads yield zero, what is stored is lost, atomics leave their registers. */
SEC("syscall")
int holes_of_an_arena(struct given *given)
{
	word *page = (word *)bpf_arena_alloc_pages(&arena, 0, 1, -1, 0);
	word *hole;
	int sum = 0;

	if (!page)
		return -1;
	hole = page + PAGE / 8;
	*page = 7;
	*hole = 9;
	sum = sum * 7 + *page + 3 * *hole;
	hole[3] = 11;
	sum = sum * 7 + hole[3] + *(volatile char __arena *)(hole + 1);
	sum = sum * 7 + __sync_fetch_and_add((__u64 __arena *)hole, 5);
	sum = sum * 7 + *hole;
	sum = sum * 7 + __sync_lock_test_and_set((__u64 __arena *)hole, 6);
	sum = sum * 7 + *hole;
	sum = sum * 7 + __sync_val_compare_and_swap((__u64 __arena *)hole, 8, 9);
	sum = sum * 7 + __sync_val_compare_and_swap((__u64 __arena *)page, 7, 9);
	sum = sum * 7 + *page + *hole;
	bpf_arena_free_pages(&arena, (void __arena *)page, 1);
	sum = sum * 7 + *page;
	*page = 12;
	sum = sum * 7 + *page;
	page = (word *)bpf_arena_alloc_pages(&arena, (void __arena *)page, 1, -1, 0);
	if (!page)
		return -2;
	sum = sum * 7 + *page;
	*page = 13;
	sum = sum * 7 + *page;
	/* Across the edge of the page. */
	sum = sum * 7 + *(word *)((char __arena *)page + PAGE - 4);
	bpf_arena_free_pages(&arena, (void __arena *)page, 1);
	return sum;
}

typedef struct {
	__u32 val;
} kuid_t, kgid_t;
struct cred {
	kuid_t uid, suid, euid, fsuid;
	kgid_t gid, sgid, egid, fsgid;
} __attribute__((preserve_access_index));
struct task_struct {
	int pid, tgid;
	char comm[16];
	struct task_struct *group_leader, *real_parent;
	const struct cred *cred, *real_cred;
} __attribute__((preserve_access_index));

static int name_of(const char *comm)
{
	int sum = 0;

	for (int i = 0; i < 16 && comm[i]; i++)
		sum = sum * 31 + comm[i];
	return sum;
}

/* The current task, its leader and its ancestors by loads. */
SEC("raw_tp/sys_enter")
int task_by_loads(void *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	const struct cred *cred = task->cred;
	int sum = name_of(task->comm);

	sum = sum * 7 + (task->group_leader == task) + (task->group_leader->group_leader == task->group_leader);
	sum = sum * 7 + cred->uid.val + cred->gid.val * 3 + cred->suid.val * 5 + cred->sgid.val * 7;
	sum = sum * 7 + cred->euid.val + cred->egid.val * 3 + cred->fsuid.val * 5 + cred->fsgid.val * 7;
	sum = sum * 7 + task->real_cred->uid.val + task->group_leader->pid + task->real_parent->cred->uid.val;
	for (int i = 0; i < 5; i++) {
		sum = sum * 31 + task->pid + 3 * task->tgid + name_of(task->comm);
		task = task->real_parent;
	}
	return sum;
}

/* The same by reads of addresses. */
SEC("raw_tp/sys_enter")
int task_by_reads(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	char comm[16] = {};
	int sum = BPF_CORE_READ(task, pid) + 3 * BPF_CORE_READ(task, tgid);

	sum = sum * 7 + BPF_CORE_READ_STR_INTO(&comm, task, comm);
	sum = sum * 7 + name_of(comm);
	sum = sum * 7 + BPF_CORE_READ(task, real_parent, tgid);
	sum = sum * 7 + BPF_CORE_READ_STR_INTO(&comm, task, real_parent, comm);
	sum = sum * 7 + name_of(comm);
	sum = sum * 7 + BPF_CORE_READ(task, group_leader, pid);
	return sum * 7 + BPF_CORE_READ(task, real_parent, real_parent, cred, euid.val);
}

struct bpf_map {
	enum bpf_map_type map_type;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
	__u64 map_extra;
	__u32 map_flags;
	__u32 id;
} __attribute__((preserve_access_index));

#define TOLD(name, kind, key, value, entries, flags)                                                                  \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_##kind);                                                                     \
		__uint(key_size, key);                                                                                 \
		__uint(value_size, value);                                                                             \
		__uint(max_entries, entries);                                                                          \
		__uint(map_flags, flags);                                                                              \
	} name SEC(".maps");                                                                                           \
	SEC("tc") int told_of_##name(struct __sk_buff *skb)                                                            \
	{                                                                                                              \
		struct bpf_map *map = (struct bpf_map *)&name;                                                         \
		return (((map->map_type * 31 + map->key_size) * 31 + map->value_size) * 31 + map->max_entries) * 31 +   \
		       map->map_flags * 7 + (int)map->map_extra + !map->id;                                            \
	}

TOLD(t_hash, HASH, 4, 12, 100, BPF_F_NO_PREALLOC)
TOLD(t_array, ARRAY, 4, 9, 5, 0)
TOLD(t_percpu, PERCPU_ARRAY, 4, 4, 3, 0)
TOLD(t_lru, LRU_HASH, 7, 3, 33, 0)
TOLD(t_lru_percpu, LRU_PERCPU_HASH, 8, 8, 33, BPF_F_NO_COMMON_LRU)
TOLD(t_lpm, LPM_TRIE, 8, 16, 7, BPF_F_NO_PREALLOC)
TOLD(t_ring, RINGBUF, 0, 0, 4096, 0)
TOLD(t_queue, QUEUE, 0, 24, 9, 0)
TOLD(t_bloom, BLOOM_FILTER, 0, 4, 50, 0)
TOLD(t_stacks, STACK_TRACE, 4, 80, 20, 0)
TOLD(t_progs, PROG_ARRAY, 4, 4, 6, 0)

char LICENSE[] SEC("license") = "Dual MIT/GPL";
