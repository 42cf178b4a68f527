/* One operation on a map, ITERATIONS times in one run; "empty" programs do the rest of the work without the map. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define ITERATIONS 10000
#define KEYS 10000
#define MANY 1000000

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct turn {
	__u64 state; /* of the generator */
	__u64 sum;
};

#define MAP(name, map_type, key_type, entries, flags)                                                                  \
	struct {                                                                                                       \
		__uint(type, map_type);                                                                                \
		__uint(max_entries, entries);                                                                          \
		__uint(map_flags, flags);                                                                              \
		__type(key, key_type);                                                                                 \
		__type(value, __u64);                                                                                  \
	} name SEC(".maps")

struct prefix {
	__u32 len;
	__u32 address;
};

MAP(hash, BPF_MAP_TYPE_HASH, __u64, KEYS, 0);
MAP(many, BPF_MAP_TYPE_HASH, __u64, MANY, 0);
MAP(lru, BPF_MAP_TYPE_LRU_HASH, __u64, 2 * KEYS, 0);
MAP(array, BPF_MAP_TYPE_ARRAY, __u32, KEYS, 0);
MAP(lpm, BPF_MAP_TYPE_LPM_TRIE, struct prefix, 16384, BPF_F_NO_PREALLOC);
MAP(addresses, BPF_MAP_TYPE_ARRAY, __u32, 16384, 0);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 24);
} ring SEC(".maps");

static __always_inline __u64 next(struct turn *t)
{
	t->state = t->state * 6364136223846793005ULL + 1442695040888963407ULL;
	return t->state >> 32;
}

/* The key with number n. */
static __always_inline __u64 spread(__u64 n)
{
	return n * 0x9E3779B97F4A7C15ULL;
}

#define PROGRAM(name, ...)                                                                                            \
	static long turn_##name(__u32 i, struct turn *t)                                                               \
	{                                                                                                              \
		__VA_ARGS__;                                                                                                \
		return 0;                                                                                              \
	}                                                                                                              \
	SEC("tc") int name(struct __sk_buff *skb)                                                                      \
	{                                                                                                              \
		struct turn t = { .state = 88172645463325252ULL };                                                     \
		bpf_loop(ITERATIONS, turn_##name, &t, 0);                                                              \
		return (int)t.sum;                                                                                     \
	}

#define RANDOM_KEY(count) __u64 key = spread((next(t) * (count)) >> 32)
#define IN_ORDER __u64 key = spread(i)

PROGRAM(empty, RANDOM_KEY(KEYS); asm volatile("" : "+r"(key)); t->sum += key)
PROGRAM(empty_in_order, IN_ORDER; asm volatile("" : "+r"(key)); t->sum += key)
PROGRAM(hash_lookup, RANDOM_KEY(KEYS); __u64 *v = bpf_map_lookup_elem(&hash, &key); if (v) t->sum += *v)
PROGRAM(hash_update, RANDOM_KEY(KEYS); __u64 v = t->state; t->sum += bpf_map_update_elem(&hash, &key, &v, BPF_ANY))
PROGRAM(hash_delete, IN_ORDER; t->sum += bpf_map_delete_elem(&hash, &key))
PROGRAM(hash_insert, IN_ORDER; __u64 v = 1; t->sum += bpf_map_update_elem(&hash, &key, &v, BPF_ANY))
PROGRAM(many_lookup, RANDOM_KEY(MANY); __u64 *v = bpf_map_lookup_elem(&many, &key); if (v) t->sum += *v)
PROGRAM(lru_lookup, RANDOM_KEY(KEYS); __u64 *v = bpf_map_lookup_elem(&lru, &key); if (v) t->sum += *v)
PROGRAM(lru_update, RANDOM_KEY(KEYS); __u64 v = t->state; t->sum += bpf_map_update_elem(&lru, &key, &v, BPF_ANY))
PROGRAM(array_lookup, __u32 key = (next(t) * KEYS) >> 32; __u64 *v = bpf_map_lookup_elem(&array, &key); if (v) t->sum += *v)
PROGRAM(empty_lpm, __u32 n = (next(t) * KEYS) >> 32; __u64 *a = bpf_map_lookup_elem(&addresses, &n); if (a) t->sum += *a)
PROGRAM(lpm_lookup, __u32 n = (next(t) * KEYS) >> 32; __u64 *a = bpf_map_lookup_elem(&addresses, &n); if (!a) return 0;
	struct prefix key = { 32, (__u32)*a }; __u64 *v = bpf_map_lookup_elem(&lpm, &key); if (v) t->sum += *v)
PROGRAM(ring_submit, __u64 *e = bpf_ringbuf_reserve(&ring, 64, 0); if (!e) return 0; e[0] = i; e[1] = next(t);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP); t->sum++)

/* One of two threads at a time: keys of its own half, which the packet names, in "hash". */
#define HALF_AT 16
#define TURNS_OF_HALF (16 * ITERATIONS)
struct half {
	__u64 state;
	__u64 first;
};
#define HALVES(name, ...)                                                                                              \
	static long turn_##name(__u32 i, struct half *t)                                                               \
	{                                                                                                              \
		__u64 key;                                                                                             \
		t->state = t->state * 6364136223846793005ULL + 1442695040888963407ULL;                                 \
		key = spread(t->first + ((t->state >> 32) * (KEYS / 2) >> 32));                                        \
		__VA_ARGS__;                                                                                           \
		return 0;                                                                                              \
	}                                                                                                              \
	SEC("tc") int name(struct __sk_buff *skb)                                                                      \
	{                                                                                                              \
		struct half t = {};                                                                                    \
		bpf_skb_load_bytes(skb, HALF_AT, &t, sizeof(t));                                                       \
		bpf_loop(TURNS_OF_HALF, turn_##name, &t, 0);                                                           \
		return 0;                                                                                              \
	}
HALVES(half_lookup, __u64 *v = bpf_map_lookup_elem(&hash, &key); if (v) t->state += *v)
HALVES(half_update, __u64 v = t->state; bpf_map_update_elem(&hash, &key, &v, BPF_ANY))
