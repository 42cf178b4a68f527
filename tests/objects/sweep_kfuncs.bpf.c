// SPDX-License-Identifier: MIT OR Apache-2.0
// Kernel functions on arguments that the test gives; see sweep.bpf.c.
#include "sweep.h"
#include "graph.h"
#include <stdbool.h>

/* Headers of distributions are older than these. */
struct bpf_refcount {
	__u32 opaque;
} __attribute__((aligned(4)));
struct bpf_wq {
	__u64 opaque[2];
} __attribute__((aligned(8)));
struct bpf_iter_num {
	__u64 opaque;
} __attribute__((aligned(8)));
struct bpf_iter_bits {
	__u64 opaque[2];
} __attribute__((aligned(8)));

extern void *bpf_percpu_obj_new_impl(__u64 type, void *meta) __ksym;
extern void bpf_percpu_obj_drop_impl(void *object, void *meta) __ksym;
extern void *bpf_refcount_acquire_impl(void *object, void *meta) __ksym;
extern struct bpf_list_node *bpf_list_front(struct bpf_list_head *head) __ksym;
extern struct bpf_list_node *bpf_list_back(struct bpf_list_head *head) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern void bpf_preempt_disable(void) __ksym;
extern void bpf_preempt_enable(void) __ksym;
extern void bpf_local_irq_save(unsigned long *flags) __ksym;
extern void bpf_local_irq_restore(unsigned long *flags) __ksym;
extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym;
extern void *bpf_rdonly_cast(const void *object, __u32 type) __ksym;
extern void bpf_throw(__u64 cookie) __ksym;
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;
extern int bpf_iter_bits_new(struct bpf_iter_bits *it, const __u64 *words, __u32 count) __ksym;
extern int *bpf_iter_bits_next(struct bpf_iter_bits *it) __ksym;
extern void bpf_iter_bits_destroy(struct bpf_iter_bits *it) __ksym;
extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *dynptr) __ksym;
extern int bpf_dynptr_from_xdp(struct xdp_md *xdp, __u64 flags, struct bpf_dynptr *dynptr) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *dynptr, __u32 offset, void *buffer, __u32 bytes) __ksym;
extern void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *dynptr, __u32 offset, void *buffer,
				   __u32 bytes) __ksym;
extern int bpf_dynptr_adjust(const struct bpf_dynptr *dynptr, __u32 start, __u32 end) __ksym;
extern bool bpf_dynptr_is_null(const struct bpf_dynptr *dynptr) __ksym;
extern bool bpf_dynptr_is_rdonly(const struct bpf_dynptr *dynptr) __ksym;
extern __u32 bpf_dynptr_size(const struct bpf_dynptr *dynptr) __ksym;
extern int bpf_dynptr_clone(const struct bpf_dynptr *dynptr, struct bpf_dynptr *clone) __ksym;
extern int bpf_dynptr_copy(struct bpf_dynptr *to, __u32 at, struct bpf_dynptr *from, __u32 from_at,
			   __u32 bytes) __ksym;
extern int bpf_dynptr_memset(struct bpf_dynptr *dynptr, __u32 at, __u32 bytes, __u8 value) __ksym;
extern int bpf_copy_from_user_str(void *to, __u32 bytes, const void *from, __u64 flags) __ksym;
extern int bpf_wq_init(struct bpf_wq *wq, void *map, unsigned int flags) __ksym;
extern int bpf_wq_start(struct bpf_wq *wq, unsigned int flags) __ksym;
extern int bpf_wq_set_callback_impl(struct bpf_wq *wq, int(callback)(void *map, int *key, void *value),
				    unsigned int flags, void *aux) __ksym;
extern int bpf_strcmp(const char *a, const char *b) __ksym;
extern int bpf_strcasecmp(const char *a, const char *b) __ksym;
extern int bpf_strnchr(const char *s, __u64 bytes, char c) __ksym;
extern int bpf_strchr(const char *s, char c) __ksym;
extern int bpf_strchrnul(const char *s, char c) __ksym;
extern int bpf_strrchr(const char *s, int c) __ksym;
extern int bpf_strnlen(const char *s, __u64 bytes) __ksym;
extern int bpf_strlen(const char *s) __ksym;
extern int bpf_strspn(const char *s, const char *accept) __ksym;
extern int bpf_strcspn(const char *s, const char *reject) __ksym;
extern int bpf_strstr(const char *a, const char *b) __ksym;
extern int bpf_strnstr(const char *a, const char *b, __u64 bytes) __ksym;

/* Three texts of few letters, so that they are often in each other. */
#define TEXT_BYTES 12
struct texts {
	char text[3][TEXT_BYTES];
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct texts);
} texts SEC(".maps");

static __always_inline struct texts *filled(void)
{
	__u32 key = 0;
	struct texts *found = bpf_map_lookup_elem(&texts, &key);

	if (!found)
		return 0;
	for (int n = 0; n < 3; n++) {
		/* A few bits a letter: most texts end early. */
		__u64 bits = GIVEN(n, ~0ull), len = bits >> 60;

		for (int i = 0; i < TEXT_BYTES - 1; i++) {
			char letter = "aAbB"[bits >> (2 * i) & 3];

			found->text[n][i] = n == 0 || i < (len & 3) ? letter : 0;
		}
		found->text[n][TEXT_BYTES - 1] = 0;
	}
	return found;
}

#define BAD ((const char *)NOWHERE)

SEC("tc")
int strings(struct __sk_buff *skb)
{
	struct texts *t = filled();
	char c;

	if (!t)
		return 1;
	c = "aAbBx"[GIVEN(3, 7) % 5];
	SAY(0, bpf_strcmp(t->text[0], t->text[1]));
	SAY(1, bpf_strcasecmp(t->text[1], t->text[2]));
	SAY(2, bpf_strnchr(t->text[0], GIVEN(4, 15), c));
	SAY(3, bpf_strchr(t->text[0], c));
	SAY(4, bpf_strchrnul(t->text[1], c));
	SAY(5, bpf_strrchr(t->text[0], c));
	SAY(6, bpf_strnlen(t->text[1], GIVEN(5, 7)));
	SAY(7, bpf_strlen(t->text[2]));
	SAY(8, bpf_strspn(t->text[0], t->text[1]));
	SAY(9, bpf_strcspn(t->text[0], t->text[2]));
	SAY(10, bpf_strstr(t->text[0], t->text[1]));
	SAY(11, bpf_strnstr(t->text[0], t->text[1], GIVEN(6, 15)));
	SAY(12, bpf_strchr(t->text[1], 0));
	SAY(13, bpf_strrchr(t->text[1], 0));
	SAY(14, bpf_strcmp(t->text[2], t->text[2]));
	return 0;
}

SEC("tc")
int strings_that_are_none(struct __sk_buff *skb)
{
	struct texts *t = filled();
	const char *nothing = bpf_rdonly_cast(BAD, 0);

	if (!t)
		return 1;
	SAY(0, bpf_strcmp(t->text[0], nothing));
	SAY(1, bpf_strcasecmp(nothing, t->text[0]));
	SAY(2, bpf_strnchr(nothing, GIVEN(4, 15), 'a'));
	SAY(3, bpf_strlen(nothing));
	SAY(4, bpf_strnlen(nothing, GIVEN(5, 1)));
	SAY(5, bpf_strspn(t->text[0], nothing));
	SAY(6, bpf_strcspn(nothing, t->text[2]));
	SAY(7, bpf_strstr(nothing, t->text[1]));
	SAY(8, bpf_strnstr(t->text[0], nothing, GIVEN(6, 15)));
	SAY(9, bpf_strrchr(nothing, 'a'));
	SAY(10, bpf_strchrnul(nothing, 'a'));
	return 0;
}

SEC("syscall")
int strings_of_users(void *ctx)
{
	char buffer[16] = "0123456789abcde";

	SAY(0, bpf_copy_from_user_str(buffer, GIVEN(0, 15), (void *)AT, GIVEN(1, 3)));
	SAY(1, sum_of(buffer, 16));
	SAY(2, bpf_copy_from_user_str(buffer, GIVEN(2, 15), (void *)TEXT, GIVEN(3, 1)));
	SAY(3, sum_of(buffer, 16));
	return 0;
}

/* Pieces of packets. */
static __always_inline void pieces(struct bpf_dynptr *dynptr)
{
	struct bpf_dynptr clone, memory;
	char buffer[16] = "0123456789abcde", more[16] = "fedcba987654321";
	__u64 *piece;

	SAY(1, bpf_dynptr_size(dynptr));
	SAY(2, bpf_dynptr_is_null(dynptr) + 2 * bpf_dynptr_is_rdonly(dynptr));
	piece = bpf_dynptr_slice(dynptr, GIVEN(0, 127), buffer, 8);
	SAY(3, piece ? *piece : -1);
	SAY(4, sum_of(buffer, 16));
	SAY(5, bpf_dynptr_read(buffer, 1 + GIVEN(1, 14), dynptr, GIVEN(2, 2047), 0));
	SAY(6, sum_of(buffer, 16));
	SAY(7, bpf_dynptr_clone(dynptr, &clone));
	SAY(8, bpf_dynptr_adjust(&clone, GIVEN(3, 127), GIVEN(3, 127) + GIVEN(4, 127)));
	SAY(9, bpf_dynptr_size(&clone));
	SAY(10, bpf_dynptr_adjust(&clone, GIVEN(5, 63), GIVEN(6, 127)));
	SAY(11, bpf_dynptr_size(&clone));
	SAY(12, bpf_dynptr_write(&clone, GIVEN(7, 31), buffer, 1 + GIVEN(0, 7), GIVEN(1, 1)));
	SAY(13, bpf_dynptr_memset(&clone, GIVEN(2, 31), GIVEN(3, 31), GIVEN(4, 255)));
	SAY(14, bpf_dynptr_from_mem(io.in, 64, 0, &memory));
	SAY(15, bpf_dynptr_copy(&memory, GIVEN(5, 63), &clone, GIVEN(6, 31), GIVEN(7, 31)));
	SAY(16, sum_of(io.in, 64));
	SAY(17, bpf_dynptr_copy(&clone, GIVEN(0, 31), &memory, GIVEN(1, 63), GIVEN(2, 15)));
	piece = bpf_dynptr_slice_rdwr(&memory, GIVEN(0, 63), more, 8);
	SAY(18, piece ? *piece : -1);
	if (piece)
		*piece = 7;
	SAY(19, sum_of(io.in, 64));
}

SEC("tc")
int pieces_of_packets(struct __sk_buff *skb)
{
	struct bpf_dynptr dynptr;

	SAY(0, bpf_dynptr_from_skb(skb, GIVEN(7, 31) == 31, &dynptr));
	pieces(&dynptr);
	return 0;
}

SEC("xdp")
int pieces_of_frames(struct xdp_md *xdp)
{
	struct bpf_dynptr dynptr;

	SAY(0, bpf_dynptr_from_xdp(xdp, GIVEN(7, 31) == 31, &dynptr));
	pieces(&dynptr);
	return XDP_PASS;
}

SEC("socket")
int pieces_a_socket_sees(struct __sk_buff *skb)
{
	struct bpf_dynptr dynptr;
	char buffer[8] = "0123456";
	__u64 *piece;

	SAY(0, bpf_dynptr_from_skb(skb, 0, &dynptr));
	SAY(1, bpf_dynptr_size(&dynptr));
	SAY(2, bpf_dynptr_is_rdonly(&dynptr));
	piece = bpf_dynptr_slice(&dynptr, GIVEN(0, 127), buffer, 8);
	SAY(3, piece ? *piece : -1);
	SAY(4, bpf_dynptr_write(&dynptr, 0, buffer, 8, 0));
	return 0;
}

SEC("tc")
int numbers(struct __sk_buff *skb)
{
	struct bpf_iter_num it;
	int start = io.in[0], *number, count = 0;
	__u64 sum = 0;

	SAY(0, bpf_iter_num_new(&it, GIVEN(1, 1) ? start : 5, GIVEN(1, 1) ? start + (int)GIVEN(2, 15) : io.in[3]));
	while ((number = bpf_iter_num_next(&it))) {
		sum = sum * 31 + *number;
		if (count++ >= 20)
			break;
	}
	bpf_iter_num_destroy(&it);
	SAY(1, sum);
	return 0;
}

SEC("tc")
int bits(struct __sk_buff *skb)
{
	struct bpf_iter_bits it;
	__u64 words[4] = { io.in[0], 0, io.in[1] & io.in[2], io.in[3] }, sum = 0;
	int *bit;

	SAY(0, bpf_iter_bits_new(&it, words, GIVEN(4, 7) < 5 ? GIVEN(4, 7) & 3 : 0));
	while ((bit = bpf_iter_bits_next(&it)))
		sum = sum * 31 + *bit;
	bpf_iter_bits_destroy(&it);
	SAY(1, sum);
	return 0;
}

SEC("tc")
int bits_of_too_many_words(struct __sk_buff *skb)
{
	static const __u64 words[600] = { [3] = 7, [510] = 1, [511] = 3, [512] = 1 };
	struct bpf_iter_bits it;
	__u64 sum = 0;
	int *bit;

	SAY(0, bpf_iter_bits_new(&it, words, GIVEN(0, 1) ? 511 + GIVEN(1, 1) : 512));
	while ((bit = bpf_iter_bits_next(&it)))
		sum = sum * 31 + *bit;
	bpf_iter_bits_destroy(&it);
	SAY(1, sum);
	return 0;
}

/* Objects in a list and in a tree. */
struct item {
	struct bpf_list_node in_list;
	struct bpf_rb_node in_tree;
	struct bpf_refcount refs;
	__u64 word;
};
struct holder {
	struct bpf_spin_lock lock;
	struct bpf_list_head list __contains(item, in_list);
	struct bpf_rb_root tree __contains(item, in_tree);
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct holder);
} holders SEC(".maps");

static bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return OUTER(a, struct item, in_tree)->word < OUTER(b, struct item, in_tree)->word;
}

/* Puts an item into both, one end or the other of the list. */
static __noinline int put(__u64 word, __u64 front)
{
	__u32 key = 0;
	struct holder *holder = bpf_map_lookup_elem(&holders, &key);
	struct item *item, *same;
	int said;

	if (!holder)
		return 1;
	item = NEW(item);
	if (!item)
		return 2;
	item->word = word;
	same = bpf_refcount_acquire_impl(item, 0);
	if (!same) {
		bpf_obj_drop_impl(item, 0);
		return 3;
	}
	bpf_spin_lock(&holder->lock);
	if (front)
		said = bpf_list_push_front_impl(&holder->list, &item->in_list, 0, 0);
	else
		said = bpf_list_push_back_impl(&holder->list, &item->in_list, 0, 0);
	said += bpf_rbtree_add_impl(&holder->tree, &same->in_tree, less, 0,
				     __builtin_offsetof(struct item, in_tree));
	bpf_spin_unlock(&holder->lock);
	return said;
}

/* Takes one from the list, the front or the back. */
static __noinline __u64 take(__u64 front)
{
	__u32 key = 0;
	struct holder *holder = bpf_map_lookup_elem(&holders, &key);
	struct bpf_list_node *node;
	struct item *item;
	__u64 word;

	if (!holder)
		return -1;
	bpf_spin_lock(&holder->lock);
	node = front ? bpf_list_pop_front(&holder->list) : bpf_list_pop_back(&holder->list);
	bpf_spin_unlock(&holder->lock);
	if (!node)
		return -2;
	item = OUTER(node, struct item, in_list);
	word = item->word;
	bpf_obj_drop_impl(item, 0);
	return word;
}

/* Takes the least from the tree, or the one at its root, whichever that is. */
static __noinline __u64 pick(__u64 root)
{
	__u32 key = 0;
	struct holder *holder = bpf_map_lookup_elem(&holders, &key);
	struct bpf_rb_node *node, *left, *right;
	struct item *item;
	__u64 least = 0, most = -1;

	if (!holder)
		return -1;
	bpf_spin_lock(&holder->lock);
	node = root ? bpf_rbtree_root(&holder->tree) : bpf_rbtree_first(&holder->tree);
	if (!node) {
		bpf_spin_unlock(&holder->lock);
		return -2;
	}
	left = bpf_rbtree_left(&holder->tree, node);
	if (left)
		least = OUTER(left, struct item, in_tree)->word;
	right = bpf_rbtree_right(&holder->tree, node);
	if (right)
		most = OUTER(right, struct item, in_tree)->word;
	node = bpf_rbtree_remove(&holder->tree, node);
	bpf_spin_unlock(&holder->lock);
	if (!node)
		return -3;
	item = OUTER(node, struct item, in_tree);
	if ((left && least > item->word) || (right && most < item->word))
		io.out[100]++;
	least = item->word;
	bpf_obj_drop_impl(item, 0);
	return root ? 1 : least;
}

/* The words at both ends of the list. */
static __noinline __u64 ends(void)
{
	__u32 key = 0;
	struct holder *holder = bpf_map_lookup_elem(&holders, &key);
	struct bpf_list_node *node;
	__u64 word = 0;

	if (!holder)
		return -1;
	bpf_spin_lock(&holder->lock);
	node = bpf_list_front(&holder->list);
	if (node)
		word = OUTER(node, struct item, in_list)->word;
	node = bpf_list_back(&holder->list);
	if (node)
		word = word * 31 + OUTER(node, struct item, in_list)->word;
	bpf_spin_unlock(&holder->lock);
	return word;
}

SEC("tc")
int lists_and_trees(struct __sk_buff *skb)
{
	/* Words that are all different: the order of equal ones is another matter. */
	for (int i = 0; i < 5; i++)
		SAY(i, put(io.in[i & 7], GIVEN(5, 31) >> i & 1));
	SAY(5, ends());
	SAY(6, take(GIVEN(6, 1)));
	SAY(7, pick(0));
	SAY(8, take(GIVEN(6, 4)));
	SAY(9, pick(0));
	SAY(10, ends());
	for (int i = 0; i < 5; i++)
		SAY(11 + i, take(GIVEN(7, 31) >> i & 1));
	for (int i = 0; i < 5; i++)
		SAY(16 + i, pick(GIVEN(7, 32)));
	return 0;
}

struct copy {
	__u64 word;
};

SEC("tc")
int objects(struct __sk_buff *skb)
{
	struct item *item = NEW(item), *same;
	void *copies;

	SAY(0, item != 0);
	if (!item)
		return 1;
	item->word = io.in[0];
	same = bpf_refcount_acquire_impl(item, 0);
	bpf_obj_drop_impl(item, 0);
	if (!same)
		return 2;
	SAY(2, same->word);
	bpf_obj_drop_impl(same, 0);
	copies = bpf_percpu_obj_new_impl(bpf_core_type_id_local(struct copy), 0);
	SAY(3, copies != 0);
	if (copies)
		bpf_percpu_obj_drop_impl(copies, 0);
	return 0;
}

struct sk_buff {
	unsigned int len;
	unsigned int data_len;
	__u32 priority;
} __attribute__((preserve_access_index));

SEC("tc")
int sections(struct __sk_buff *skb)
{
	unsigned long flags, inner;

	bpf_rcu_read_lock();
	SAY(0, bpf_cast_to_kern_ctx(skb) != 0);
	bpf_rcu_read_unlock();
	bpf_preempt_disable();
	bpf_preempt_disable();
	SAY(1, io.in[0]);
	bpf_preempt_enable();
	bpf_preempt_enable();
	bpf_local_irq_save(&flags);
	bpf_local_irq_save(&inner);
	SAY(2, io.in[1]);
	bpf_local_irq_restore(&inner);
	bpf_local_irq_restore(&flags);
	return 0;
}

SEC("tc")
int thrown(struct __sk_buff *skb)
{
	SAY(0, 1);
	if (GIVEN(0, 1))
		bpf_throw(GIVEN(1, 0xffff));
	SAY(1, 2);
	return 5;
}

/* What runs later: the test waits for it elsewhere. */
struct later {
	struct bpf_wq work;
	__u64 done;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, int);
	__type(value, struct later);
} laters SEC(".maps");

static int do_it(void *map, int *key, void *value)
{
	__sync_fetch_and_add(&((struct later *)value)->done, 1);
	return 0;
}

SEC("tc")
int work_for_later(struct __sk_buff *skb)
{
	int key = 0;
	struct later *later = bpf_map_lookup_elem(&laters, &key);

	if (!later)
		return 1;
	SAY(0, bpf_wq_start(&later->work, 0) == 0);
	SAY(1, bpf_wq_init(&later->work, &laters, GIVEN(0, 1)));
	SAY(2, bpf_wq_set_callback_impl(&later->work, do_it, GIVEN(1, 1), 0));
	SAY(3, bpf_wq_start(&later->work, GIVEN(2, 1)));
	return 0;
}

/* Sets of processors. */
struct cpumask {
	unsigned long bits[1];
} __attribute__((preserve_access_index));
struct bpf_cpumask {
	struct cpumask cpumask;
} __attribute__((preserve_access_index));
extern struct bpf_cpumask *bpf_cpumask_create(void) __ksym;
extern struct bpf_cpumask *bpf_cpumask_acquire(struct bpf_cpumask *mask) __ksym;
extern void bpf_cpumask_release(struct bpf_cpumask *mask) __ksym;
extern __u32 bpf_cpumask_first(const struct cpumask *mask) __ksym;
extern __u32 bpf_cpumask_first_zero(const struct cpumask *mask) __ksym;
extern __u32 bpf_cpumask_first_and(const struct cpumask *a, const struct cpumask *b) __ksym;
extern void bpf_cpumask_set_cpu(__u32 cpu, struct bpf_cpumask *mask) __ksym;
extern void bpf_cpumask_clear_cpu(__u32 cpu, struct bpf_cpumask *mask) __ksym;
extern bool bpf_cpumask_test_cpu(__u32 cpu, const struct cpumask *mask) __ksym;
extern bool bpf_cpumask_test_and_set_cpu(__u32 cpu, struct bpf_cpumask *mask) __ksym;
extern bool bpf_cpumask_test_and_clear_cpu(__u32 cpu, struct bpf_cpumask *mask) __ksym;
extern void bpf_cpumask_setall(struct bpf_cpumask *mask) __ksym;
extern void bpf_cpumask_clear(struct bpf_cpumask *mask) __ksym;
extern bool bpf_cpumask_and(struct bpf_cpumask *to, const struct cpumask *a, const struct cpumask *b) __ksym;
extern void bpf_cpumask_or(struct bpf_cpumask *to, const struct cpumask *a, const struct cpumask *b) __ksym;
extern void bpf_cpumask_xor(struct bpf_cpumask *to, const struct cpumask *a, const struct cpumask *b) __ksym;
extern bool bpf_cpumask_equal(const struct cpumask *a, const struct cpumask *b) __ksym;
extern bool bpf_cpumask_intersects(const struct cpumask *a, const struct cpumask *b) __ksym;
extern bool bpf_cpumask_subset(const struct cpumask *a, const struct cpumask *b) __ksym;
extern bool bpf_cpumask_empty(const struct cpumask *mask) __ksym;
extern bool bpf_cpumask_full(const struct cpumask *mask) __ksym;
extern void bpf_cpumask_copy(struct bpf_cpumask *to, const struct cpumask *from) __ksym;
extern __u32 bpf_cpumask_any_distribute(const struct cpumask *mask) __ksym;
extern __u32 bpf_cpumask_any_and_distribute(const struct cpumask *a, const struct cpumask *b) __ksym;
extern __u32 bpf_cpumask_weight(const struct cpumask *mask) __ksym;

#define PLAIN(mask) ((const struct cpumask *)(mask))

static __always_inline void compared(struct bpf_cpumask *a, struct bpf_cpumask *b, int at)
{
	SAY(at, bpf_cpumask_first(PLAIN(a)));
	SAY(at + 1, bpf_cpumask_first_zero(PLAIN(a)));
	SAY(at + 2, bpf_cpumask_first_and(PLAIN(a), PLAIN(b)));
	SAY(at + 3, bpf_cpumask_equal(PLAIN(a), PLAIN(b)) + 2 * bpf_cpumask_intersects(PLAIN(a), PLAIN(b)) +
			    4 * bpf_cpumask_subset(PLAIN(a), PLAIN(b)));
	SAY(at + 4, bpf_cpumask_empty(PLAIN(a)) + 2 * bpf_cpumask_full(PLAIN(a)));
	SAY(at + 5, bpf_cpumask_weight(PLAIN(a)));
}

SEC("syscall")
int processors(void *ctx)
{
	struct bpf_cpumask *a = bpf_cpumask_create(), *b = bpf_cpumask_create(), *same;
	__u32 any;

	SAY(0, a != 0 && b != 0);
	if (!a || !b)
		goto out;
	for (__u32 i = 0; i < 3; i++) {
		if (GIVEN(0, 7) >> i & 1)
			bpf_cpumask_set_cpu(i, a);
		if (GIVEN(1, 7) >> i & 1)
			bpf_cpumask_set_cpu(i == 2 ? 99999 : i, b);
	}
	compared(a, b, 1);
	SAY(7, bpf_cpumask_test_cpu(GIVEN(2, 1), PLAIN(a)) + 2 * bpf_cpumask_test_cpu(99999, PLAIN(a)));
	SAY(8, bpf_cpumask_test_and_set_cpu(GIVEN(3, 1), a) + 2 * bpf_cpumask_test_and_set_cpu(99999, a));
	SAY(9, bpf_cpumask_test_and_clear_cpu(GIVEN(4, 1), b) + 2 * bpf_cpumask_test_and_clear_cpu(99999, b));
	bpf_cpumask_clear_cpu(GIVEN(5, 1), a);
	compared(a, b, 10);
	/* Any one of them, if there is one. */
	any = bpf_cpumask_any_distribute(PLAIN(a));
	SAY(16, bpf_cpumask_test_cpu(any, PLAIN(a)) == !bpf_cpumask_empty(PLAIN(a)));
	any = bpf_cpumask_any_and_distribute(PLAIN(a), PLAIN(b));
	SAY(17, bpf_cpumask_test_cpu(any, PLAIN(b)) == bpf_cpumask_intersects(PLAIN(a), PLAIN(b)));
	SAY(18, bpf_cpumask_and(a, PLAIN(a), PLAIN(b)));
	compared(a, b, 19);
	bpf_cpumask_xor(b, PLAIN(a), PLAIN(b));
	compared(b, a, 25);
	bpf_cpumask_or(a, PLAIN(a), PLAIN(b));
	compared(a, b, 31);
	bpf_cpumask_setall(b);
	compared(b, a, 37);
	same = bpf_cpumask_acquire(a);
	bpf_cpumask_copy(b, PLAIN(same));
	compared(b, same, 43);
	bpf_cpumask_clear(same);
	bpf_cpumask_release(same);
	compared(a, b, 49);
out:
	if (a)
		bpf_cpumask_release(a);
	if (b)
		bpf_cpumask_release(b);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
