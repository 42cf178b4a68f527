// SPDX-License-Identifier: MIT OR Apache-2.0
// One program a kind of map: each does some hundred random operations on a map that several processes share, and checks what
// the kernel promises of them. A victim will be killed at any time; it leaves alone what is counted.
#include "graph.h"

#define STEPS 256
#define COUNTERS 16
#define WORDS 8
#define CHURN_KEYS 96
#define SALT 0x9e3779b97f4a7c15ull

// What a run is to do lies in its packet, behind the Ethernet header.
#define CALL_AT 16
struct call {
	__u64 seed;
	__u32 victim;
	__u32 unused;
};

struct words {
	__u64 word[WORDS];
};

struct guarded {
	struct bpf_spin_lock lock;
	__u32 unused;
	__u64 word[WORDS];
};

struct prefix {
	__u32 len;
	__u32 address;
};

#define SHARED(NAME, TYPE, ENTRIES, KEY, VALUE, FLAGS) \
	struct { \
		__uint(type, BPF_MAP_TYPE_##TYPE); \
		__uint(max_entries, ENTRIES); \
		__type(key, KEY); \
		__type(value, VALUE); \
		__uint(map_flags, FLAGS); \
		__uint(pinning, LIBBPF_PIN_BY_NAME); \
	} NAME SEC(".maps")
#define SHARED_VALUES(NAME, TYPE, ENTRIES, VALUE) \
	struct { \
		__uint(type, BPF_MAP_TYPE_##TYPE); \
		__uint(max_entries, ENTRIES); \
		__type(value, VALUE); \
		__uint(pinning, LIBBPF_PIN_BY_NAME); \
	} NAME SEC(".maps")

SHARED(h_counters, HASH, 64, __u64, __u64, 0);
SHARED(h_churn, HASH, 64, __u64, struct words, 0);
SHARED(h_guarded, HASH, 8, __u32, struct guarded, 0);
SHARED(h_percpu, PERCPU_HASH, 64, __u32, __u64, 0);
SHARED(h_lru, LRU_HASH, 64, __u64, struct words, 0);
SHARED(h_lru_percpu, LRU_PERCPU_HASH, 64, __u32, __u64, 0);
SHARED(h_lpm, LPM_TRIE, 64, struct prefix, __u64, BPF_F_NO_PREALLOC);
SHARED(h_array, ARRAY, 16, __u32, __u64, 0);
SHARED(h_array_lock, ARRAY, 4, __u32, struct guarded, 0);
SHARED(h_array_cpu, PERCPU_ARRAY, 4, __u32, __u64, 0);
SHARED_VALUES(h_queue, QUEUE, 32, struct words);
SHARED_VALUES(h_stack, STACK, 32, struct words);
SHARED_VALUES(h_bloom, BLOOM_FILTER, 1024, __u64);
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} h_ring SEC(".maps");

// Objects on their way: from the list to the tree and back, one beside them.
struct item {
	struct bpf_list_node node;
	struct words words;
};
struct leaf {
	struct bpf_rb_node node;
	struct words words;
};
struct shelf {
	struct bpf_spin_lock lock;
	__u32 unused;
	struct bpf_list_head items __contains(item, node);
	struct bpf_rb_root leaves __contains(leaf, node);
	struct leaf __kptr *beside;
};
SHARED(h_shelves, ARRAY, 2, __u32, struct shelf, 0);

// What this process did and found, read when it ends; the last three are breaches of a promise.
struct tally {
	__u64 counted_hash, counted_array, counted_percpu_hash, counted_percpu_array, submitted;
	__u64 torn, wrong, missing;
} tally;

#define ADD(WHAT, N) __sync_fetch_and_add(&tally.WHAT, N)

static __u64 step(__u64 *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return *state >> 33;
}

static void fill(__u64 *word, __u64 stamp)
{
	for (int i = 0; i < WORDS; i++)
		word[i] = stamp;
}

static int is_torn(const __u64 *word)
{
	for (int i = 1; i < WORDS; i++)
		if (word[i] != word[0])
			return 1;
	return 0;
}

// Words that belong together: the second is made from the first.
static void sign(struct words *w, __u64 stamp)
{
	w->word[0] = stamp;
	for (int i = 1; i < WORDS; i++)
		w->word[i] = (stamp + i) * SALT;
}

static int is_signed(const struct words *w)
{
	for (int i = 1; i < WORDS; i++)
		if (w->word[i] != (w->word[0] + i) * SALT)
			return 0;
	return 1;
}

struct local {
	__u64 state;
	__u32 victim;
};

#define PROGRAM(NAME, ...) \
	static long each_##NAME(__u32 i, struct local *l) __VA_ARGS__ \
	SEC("tc") int NAME(struct __sk_buff *skb) \
	{ \
		struct call call = {}; \
		struct local l; \
		bpf_skb_load_bytes(skb, CALL_AT, &call, sizeof(call)); \
		l.state = call.seed; \
		l.victim = call.victim; \
		bpf_loop(STEPS, each_##NAME, &l, 0); \
		return 0; \
	}

// A counter per key that nobody deletes: no increment is lost.
PROGRAM(count, {
	__u64 key = step(&l->state) % COUNTERS;
	__u32 index = key;
	__u64 *value;

	if (l->victim)
		key += COUNTERS;
	value = bpf_map_lookup_elem(&h_counters, &key);
	if (!value) {
		ADD(missing, 1);
		return 0;
	}
	__sync_fetch_and_add(value, 1);
	if (l->victim)
		return 0;
	ADD(counted_hash, 1);
	value = bpf_map_lookup_elem(&h_array, &index);
	if (!value)
		return 0;
	__sync_fetch_and_add(value, 1);
	ADD(counted_array, 1);
	return 0;
})

// The same with plain additions to the CPU's own value.
PROGRAM(count_percpu, {
	__u32 key = step(&l->state) % 4;
	__u32 hashed = key + (l->victim ? 4 : 0);
	__u64 *value = bpf_map_lookup_elem(&h_percpu, &hashed);

	if (!value) {
		ADD(missing, 1);
		return 0;
	}
	*value += 1;
	if (l->victim)
		return 0;
	ADD(counted_percpu_hash, 1);
	value = bpf_map_lookup_elem(&h_array_cpu, &key);
	if (!value)
		return 0;
	*value += 1;
	ADD(counted_percpu_array, 1);
	return 0;
})

// Keys come and go. An element's value may be reused under a reader, but a lookup never finds another key's.
PROGRAM(churn, {
	__u64 number = step(&l->state);
	__u64 key = number % CHURN_KEYS * SALT;
	struct words w;
	struct words *found;

	switch (number >> 8 & 3) {
	case 0:
		bpf_map_delete_elem(&h_churn, &key);
		break;
	case 1:
		found = bpf_map_lookup_elem(&h_churn, &key);
		if (found)
			__sync_fetch_and_add(&found->word[1], 0);
		break;
	default:
		fill(w.word, key);
		bpf_map_update_elem(&h_churn, &key, &w, number >> 10 & 1 ? BPF_ANY : BPF_NOEXIST);
	}
	return 0;
})

// Under the lock all words are the same. The victim only looks.
#define UNDER_LOCK(MAP, KEYS) { \
	__u64 number = step(&l->state); \
	__u32 key = number % KEYS; \
	struct guarded *value = bpf_map_lookup_elem(&MAP, &key); \
	int broken; \
	if (!value) { \
		ADD(missing, 1); \
		return 0; \
	} \
	bpf_spin_lock(&value->lock); \
	broken = is_torn(value->word); \
	if (!l->victim) \
		fill(value->word, number); \
	bpf_spin_unlock(&value->lock); \
	if (broken) \
		ADD(torn, 1); \
	return 0; \
}
PROGRAM(guarded_hash, UNDER_LOCK(h_guarded, 4))
PROGRAM(guarded_array, UNDER_LOCK(h_array_lock, 4))

PROGRAM(lru, {
	__u64 number = step(&l->state);
	__u64 key = number % 300;
	__u32 small = key;
	struct words w;
	__u64 *count;

	if (number >> 9 & 1) {
		bpf_map_lookup_elem(&h_lru, &key);
	} else if (number >> 10 & 7) {
		fill(w.word, key);
		if (bpf_map_update_elem(&h_lru, &key, &w, BPF_ANY))
			ADD(wrong, 1);
	} else {
		bpf_map_delete_elem(&h_lru, &key);
	}
	count = bpf_map_lookup_elem(&h_lru_percpu, &small);
	if (count) {
		*count += 1;
	} else {
		__u64 one = 1;

		bpf_map_update_elem(&h_lru_percpu, &small, &one, BPF_ANY);
	}
	return 0;
})

// 10.0.0.0/8 stays; what else is found has a value made from its own prefix.
PROGRAM(lpm, {
	__u64 number = step(&l->state);
	__u32 low = number % 64;
	struct prefix p = { .len = 24 + (number >> 6) % 9, .address = 10 | low << 24 };
	__u64 value = SALT;
	__u64 *found;

	switch (number >> 12 & 3) {
	case 0:
		bpf_map_delete_elem(&h_lpm, &p);
		break;
	case 1:
		bpf_map_update_elem(&h_lpm, &p, &value, BPF_ANY);
		break;
	default:
		p.len = 32;
		found = bpf_map_lookup_elem(&h_lpm, &p);
		if (!found)
			ADD(missing, 1);
		else if (*found != SALT)
			ADD(wrong, 1);
	}
	return 0;
})

#define ENDS(MAP) { \
	__u64 number = step(&l->state); \
	struct words w; \
	if (number >> 8 & 1) { \
		sign(&w, number); \
		bpf_map_push_elem(&MAP, &w, number >> 9 & 1 ? BPF_EXIST : BPF_ANY); \
	} else if (number >> 9 & 1) { \
		if (!bpf_map_pop_elem(&MAP, &w) && !is_signed(&w)) \
			ADD(torn, 1); \
	} else if (!bpf_map_peek_elem(&MAP, &w) && !is_signed(&w)) { \
		ADD(torn, 1); \
	} \
	return 0; \
}
PROGRAM(queue, ENDS(h_queue))
PROGRAM(stack, ENDS(h_stack))

// What was pushed is found, always.
PROGRAM(bloom, {
	__u64 value = step(&l->state) % 1000;

	bpf_map_push_elem(&h_bloom, &value, 0);
	if (bpf_map_peek_elem(&h_bloom, &value))
		ADD(missing, 1);
	return 0;
})

// Records of eight signed words; the last bit of the stamp says whose they are.
PROGRAM(ring, {
	__u64 number = step(&l->state);
	struct words *w = bpf_ringbuf_reserve(&h_ring, sizeof(*w), 0);

	if (!w)
		return 0;
	sign(w, number << 1 | l->victim);
	if (number >> 5 & 7) {
		bpf_ringbuf_submit(w, number >> 8 & 1 ? BPF_RB_NO_WAKEUP : 0);
		if (!l->victim)
			ADD(submitted, 1);
	} else {
		bpf_ringbuf_discard(w, 0);
	}
	return 0;
})

static _Bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return OUTER(a, struct leaf, node)->words.word[0] < OUTER(b, struct leaf, node)->words.word[0];
}

static __always_inline struct leaf *leaf_out(struct shelf *s, int first)
{
	struct bpf_rb_node *node;

	bpf_spin_lock(&s->lock);
	node = first ? bpf_rbtree_first(&s->leaves) : bpf_rbtree_root(&s->leaves);
	if (node)
		node = bpf_rbtree_remove(&s->leaves, node);
	bpf_spin_unlock(&s->lock);
	return node ? OUTER(node, struct leaf, node) : 0;
}

static __always_inline struct item *item_out(struct shelf *s, int back)
{
	struct bpf_list_node *node;

	bpf_spin_lock(&s->lock);
	node = back ? bpf_list_pop_back(&s->items) : bpf_list_pop_front(&s->items);
	bpf_spin_unlock(&s->lock);
	return node ? OUTER(node, struct item, node) : 0;
}

static __always_inline void leaf_away(struct leaf *leaf)
{
	if (!is_signed(&leaf->words))
		ADD(wrong, 1);
	bpf_obj_drop_impl(leaf, 0);
}

static __always_inline void item_away(struct item *item)
{
	if (!is_signed(&item->words))
		ADD(wrong, 1);
	bpf_obj_drop_impl(item, 0);
}

PROGRAM(objects, {
	__u64 number = step(&l->state);
	__u32 key = number & 1;
	struct shelf *s = bpf_map_lookup_elem(&h_shelves, &key);
	struct item *item;
	struct leaf *leaf;

	if (!s)
		return 0;
	switch (number >> 1 & 7) {
	case 0:
	case 1:
		item = NEW(item);
		if (!item)
			return 0;
		sign(&item->words, number);
		bpf_spin_lock(&s->lock);
		if (number >> 5 & 1)
			bpf_list_push_front_impl(&s->items, &item->node, 0, 0);
		else
			bpf_list_push_back_impl(&s->items, &item->node, 0, 0);
		bpf_spin_unlock(&s->lock);
		return 0;
	case 2:
	case 3:
		leaf = NEW(leaf);
		if (!leaf)
			return 0;
		sign(&leaf->words, number);
		bpf_spin_lock(&s->lock);
		bpf_rbtree_add_impl(&s->leaves, &leaf->node, less, 0, 0);
		bpf_spin_unlock(&s->lock);
		return 0;
	case 4:
	case 5:
		item = item_out(s, number >> 5 & 1);
		if (item)
			item_away(item);
		return 0;
	case 6:
		leaf = leaf_out(s, number >> 5 & 1);
		if (leaf)
			leaf = bpf_kptr_xchg(&s->beside, leaf);
		if (leaf)
			leaf_away(leaf);
		return 0;
	default:
		leaf = leaf_out(s, 0);
		if (leaf)
			leaf_away(leaf);
		return 0;
	}
})

struct drained {
	__u64 last;
	__u32 key, found;
};

static long each_drain(__u32 i, struct drained *d)
{
	struct shelf *s = bpf_map_lookup_elem(&h_shelves, &d->key);
	struct item *item;
	struct leaf *leaf;

	if (!s)
		return 1;
	item = item_out(s, i & 1);
	if (item) {
		item_away(item);
		d->found++;
	}
	leaf = leaf_out(s, 1);
	if (!leaf) {
		leaf = bpf_kptr_xchg(&s->beside, 0);
		d->last = 0;
	}
	if (leaf) {
		if (leaf->words.word[0] < d->last)
			ADD(wrong, 1);
		d->last = leaf->words.word[0];
		leaf_away(leaf);
		d->found++;
	}
	return 0;
}

// Takes objects off both shelves; how many there were. Leaves must come in order.
SEC("tc") int drain(struct __sk_buff *skb)
{
	struct drained d = {};

	bpf_loop(STEPS, each_drain, &d, 0);
	d.last = 0;
	d.key = 1;
	bpf_loop(STEPS, each_drain, &d, 0);
	return d.found;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
