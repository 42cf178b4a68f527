// SPDX-License-Identifier: MIT OR Apache-2.0
// Arenas, tags of parameters, frames, exceptions, loops, slices, and programs of netfilter. Programs are named after what must
// come of them: ok_…, bad_CODE_…, or odd_CODE_… for what the kernel accepts by an error.
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define CORE __attribute__((preserve_access_index))
#define ARENA __attribute__((address_space(1)))
#define TAG(text) __attribute__((btf_decl_tag(text)))
#define GLOBAL __attribute__((noinline))
#define BARRIER(value) asm volatile("" : "+r"(value))

enum { MAP_TYPE_ARENA = 33 };

struct bpf_iter_num {
	__u64 opaque[1];
} __attribute__((aligned(8)));

struct task_struct {
	int pid;
	struct task_struct *last_wakee;
	struct task_struct *group_leader;
} CORE;

struct nf_hook_state {
	__u8 pf;
} CORE;

struct sk_buff {
	unsigned int len;
} CORE;

struct bpf_nf_ctx {
	const struct nf_hook_state *state;
	struct sk_buff *skb;
} CORE;

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;
extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *dynptr) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *p, __u32 offset, void *buffer__opt, __u32 buffer__szk) __ksym;
extern void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *p, __u32 offset, void *buffer__opt, __u32 buffer__szk) __ksym;
extern struct task_struct *bpf_task_from_pid(int pid) __ksym;
extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;
extern void bpf_throw(__u64 cookie) __ksym;
extern void ARENA *bpf_arena_alloc_pages(void *p__map, void ARENA *addr, __u32 pages, int node, __u64 flags) __ksym;
extern void bpf_arena_free_pages(void *p__map, void ARENA *ptr, __u32 pages) __ksym;

struct {
	__uint(type, MAP_TYPE_ARENA);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4);
} memory SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} numbers SEC(".maps");

char LICENSE[] SEC("license") = "GPL";
long seen;
int values[16];

/* Arenas. */

SEC("syscall")
int ok_page(void *ctx)
{
	__u64 ARENA *page = bpf_arena_alloc_pages(&memory, 0, 1, -1, 0);

	if (!page)
		return 1;
	page[3] = 4;
	seen = page[(__u32)seen];
	bpf_arena_free_pages(&memory, (void ARENA *)page, 1);
	return 0;
}

SEC("syscall")
int ok_any_map_for_pages(void *ctx)
{
	bpf_arena_alloc_pages(&numbers, 0, 1, -1, 0);
	return 0;
}

SEC("syscall")
int bad_V0501_arena_memory_for_a_helper(void *ctx)
{
	void ARENA *page = bpf_arena_alloc_pages(&memory, 0, 1, -1, 0);
	__u64 cast;

	cast = (__u64)page;
	asm volatile("r1 = %[page]; r1 = addr_space_cast(r1, 0, 1); r2 = 8; r3 = 0; call 113" ::[page] "r"(cast)
		     : "r0", "r1", "r2", "r3", "r4", "r5", "memory");
	return 0;
}

SEC("syscall")
int bad_V0512_cast_without_arena(void *ctx)
{
	asm volatile("r1 = 0; r1 = addr_space_cast(r1, 0, 1)" ::: "r1");
	return 0;
}

SEC("tc")
int bad_V0606_pages_where_one_may_not_sleep(struct __sk_buff *ctx)
{
	bpf_arena_alloc_pages(&memory, 0, 1, -1, 0);
	return 0;
}

/* Tags of the parameters of global functions. */

GLOBAL int reads_tagged(int *number TAG("arg:nonnull"))
{
	return *number;
}

GLOBAL int reads_untagged(int *number)
{
	return *number;
}

GLOBAL int takes_context(void *ctx TAG("arg:ctx"))
{
	return bpf_get_hash_recalc(ctx);
}

GLOBAL int takes_task(struct task_struct *task TAG("arg:trusted"))
{
	return task->pid;
}

GLOBAL int takes_task_or_null(struct task_struct *task TAG("arg:trusted") TAG("arg:nullable"))
{
	return task ? task->pid : 0;
}

GLOBAL int forgets_null(struct task_struct *task TAG("arg:trusted") TAG("arg:nullable"))
{
	return task->pid;
}

GLOBAL int takes_untrusted(struct task_struct *task TAG("arg:untrusted"))
{
	return task->pid;
}

GLOBAL int acquires_untrusted(struct task_struct *task TAG("arg:untrusted"))
{
	struct task_struct *own = bpf_task_acquire(task);

	if (own)
		bpf_task_release(own);
	return 0;
}

GLOBAL int takes_arena(__u64 *page TAG("arg:arena"))
{
	return page != 0;
}

GLOBAL int unknown_tag(int *number TAG("arg:whatever"))
{
	return number != 0;
}

GLOBAL int context_of_another_type(struct task_struct *ctx TAG("arg:ctx"))
{
	return ctx != 0;
}

GLOBAL int context_or_null(void *ctx TAG("arg:ctx") TAG("arg:nullable"))
{
	return ctx != 0;
}

GLOBAL int takes_words(__u64 *ctx TAG("arg:ctx"))
{
	return ctx != 0;
}

GLOBAL int memory_or_null(int *number TAG("arg:nullable"))
{
	return number != 0;
}

GLOBAL int arena_or_null(__u64 *page TAG("arg:arena") TAG("arg:nullable"))
{
	return page != 0;
}

SEC("tc")
int ok_not_null(struct __sk_buff *ctx)
{
	int number = ctx->len;

	return reads_tagged(&number);
}

SEC("tc")
int odd_V0503_null_for_tagged(struct __sk_buff *ctx)
{
	asm volatile("r1 = 0; call reads_tagged" ::: "r0", "r1", "r2", "r3", "r4", "r5");
	return 0;
}

SEC("tc")
int bad_V0203_untagged_may_be_null(struct __sk_buff *ctx)
{
	int number = ctx->len;

	return reads_untagged(&number);
}

SEC("tc")
int ok_context(struct __sk_buff *ctx)
{
	return takes_context(ctx);
}

SEC("xdp")
int bad_E0102_context_of_another_type(struct xdp_md *ctx)
{
	return takes_context(ctx);
}

SEC("tp_btf/task_newtask")
int BPF_PROG(ok_trusted, struct task_struct *task)
{
	return takes_task(task);
}

SEC("tp_btf/task_newtask")
int BPF_PROG(ok_walked_is_taken, struct task_struct *task)
{
	return takes_task(task->last_wakee);
}

SEC("tp_btf/task_newtask")
int BPF_PROG(bad_V0510_null_for_trusted, struct task_struct *task)
{
	return takes_task(0);
}

SEC("tp_btf/task_newtask")
int BPF_PROG(ok_null_for_nullable, struct task_struct *task)
{
	return takes_task_or_null(0) + takes_task_or_null(task);
}

SEC("tp_btf/task_newtask")
int BPF_PROG(bad_V0203_nullable_is_read, struct task_struct *task)
{
	return forgets_null(task);
}

SEC("tp_btf/task_newtask")
int BPF_PROG(ok_untrusted, struct task_struct *task)
{
	return takes_untrusted(task->last_wakee) + takes_untrusted((void *)task->last_wakee->last_wakee);
}

SEC("tp_btf/task_newtask")
int BPF_PROG(bad_V0805_untrusted_is_acquired, struct task_struct *task)
{
	return acquires_untrusted(task);
}

SEC("tc")
int bad_V0510_unknown_tag(struct __sk_buff *ctx)
{
	int number = ctx->len;

	return unknown_tag(&number);
}

SEC("tc")
int bad_V0510_context_points_elsewhere(struct __sk_buff *ctx)
{
	return context_of_another_type((void *)ctx);
}

SEC("tracepoint/sched/sched_switch")
int ok_context_without_type(void *ctx)
{
	return context_of_another_type(ctx);
}

SEC("tc")
int bad_V0510_context_with_another_tag(struct __sk_buff *ctx)
{
	return context_or_null(ctx);
}

SEC("raw_tp/sched_switch")
int ok_context_of_words(void *ctx)
{
	return takes_words(ctx);
}

SEC("tc")
int bad_V0510_context_is_no_words(struct __sk_buff *ctx)
{
	return takes_words((void *)ctx);
}

SEC("tc")
int bad_V0510_memory_is_nullable_anyway(struct __sk_buff *ctx)
{
	int number = ctx->len;

	return memory_or_null(&number);
}

SEC("syscall")
int bad_V0510_arena_with_another_tag(void *ctx)
{
	return arena_or_null((void *)bpf_arena_alloc_pages(&memory, 0, 1, -1, 0));
}

SEC("iter/task")
int bad_V0510_words_for_an_iterator(void *ctx)
{
	seen = takes_words(ctx);
	return 0;
}

/* Frames: some types of programs have a stack for each function, others one for all. */

GLOBAL static int large_frame(int at)
{
	char frame[400];

	BARRIER(at);
	__builtin_memset(frame, 0, sizeof(frame));
	asm volatile("" ::"r"(frame) : "memory");
	return frame[at & 255];
}

SEC("kprobe")
int ok_private_stack(void *ctx)
{
	char frame[300] = {};

	asm volatile("" ::"r"(frame) : "memory");
	return large_frame(frame[3]);
}

SEC("tc")
int bad_V0306_frames_together(struct __sk_buff *ctx)
{
	char frame[300] = {};

	asm volatile("" ::"r"(frame) : "memory");
	return large_frame(frame[3]);
}

/* Exceptions. */

GLOBAL int answers_exception(__u64 cookie)
{
	return cookie & 1;
}

GLOBAL int throws_again(__u64 cookie)
{
	bpf_throw(cookie);
	return 0;
}

GLOBAL int answers_too_much(__u64 cookie)
{
	return cookie;
}

GLOBAL int throws_below(int number)
{
	if (number > 5)
		bpf_throw(number);
	return number;
}

SEC("tc")
TAG("exception_callback:answers_exception")
int ok_exception_callback(struct __sk_buff *ctx)
{
	bpf_throw(ctx->len);
	return 0;
}

SEC("tc")
TAG("exception_callback:throws_again")
int bad_V0704_callback_throws(struct __sk_buff *ctx)
{
	bpf_throw(ctx->len);
	return 0;
}

SEC("cgroup_skb/egress")
TAG("exception_callback:answers_too_much")
int bad_V0701_callback_answers_too_much(struct __sk_buff *ctx)
{
	bpf_throw(ctx->len);
	return 0;
}

SEC("tc")
int ok_throws_below(struct __sk_buff *ctx)
{
	return throws_below(ctx->len);
}

SEC("tc")
int ok_iterator_when_it_throws_below(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;

	bpf_iter_num_new(&it, 0, 3);
	throws_below(ctx->len);
	bpf_iter_num_destroy(&it);
	return 0;
}

SEC("cgroup_skb/egress")
int bad_V0701_number_thrown_is_no_answer(struct __sk_buff *ctx)
{
	bpf_throw(7);
	return 1;
}

SEC("tc")
int ok_assertion(struct __sk_buff *ctx)
{
	__u32 at = ctx->len;

	if (at >= 16)
		bpf_throw(0);
	return values[at];
}

/* Loops with iterators come to an end when the states are alike. */

SEC("tc")
int ok_sum(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;
	int *at, sum = 0;

	bpf_iter_num_new(&it, 0, 1000000);
	while ((at = bpf_iter_num_next(&it)))
		sum += values[*at & 15];
	bpf_iter_num_destroy(&it);
	return sum;
}

SEC("tc")
int ok_loops_in_loops(struct __sk_buff *ctx)
{
	struct bpf_iter_num outer, inner;
	int *a, *b, sum = 0;

	bpf_iter_num_new(&outer, 0, 1000);
	while ((a = bpf_iter_num_next(&outer))) {
		bpf_iter_num_new(&inner, 0, *a);
		while ((b = bpf_iter_num_next(&inner)))
			sum += *b;
		bpf_iter_num_destroy(&inner);
	}
	bpf_iter_num_destroy(&outer);
	return sum;
}

SEC("tc")
int bad_V0201_grows_beyond_its_array(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;
	__u64 at = 0;

	bpf_iter_num_new(&it, 0, 16);
	while (bpf_iter_num_next(&it)) {
		values[at] = 1;
		at++;
		BARRIER(at);
	}
	bpf_iter_num_destroy(&it);
	return 0;
}

SEC("tc")
int bad_V0601_iterator_made_in_a_loop(struct __sk_buff *ctx)
{
	struct bpf_iter_num outer, inner;
	int *a;

	bpf_iter_num_new(&outer, 0, 10);
	while ((a = bpf_iter_num_next(&outer)))
		if (*a == 5)
			bpf_iter_num_new(&inner, 0, *a);
	bpf_iter_num_destroy(&outer);
	return 0;
}

/* Slices may be the buffer that was given for them. */

GLOBAL static char *slice_in_dead_frame(struct bpf_dynptr *packet)
{
	char buffer[16];

	return bpf_dynptr_slice(packet, 0, buffer, sizeof(buffer));
}

SEC("tc")
int odd_V0202_slice_in_a_dead_frame(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet;
	char *data;

	bpf_dynptr_from_skb(ctx, 0, &packet);
	data = slice_in_dead_frame(&packet);
	if (data)
		seen = data[0];
	return 0;
}

SEC("tc")
int bad_V0202_slice_after_a_write(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet;
	char *data;

	bpf_dynptr_from_skb(ctx, 0, &packet);
	data = bpf_dynptr_slice(&packet, 0, 0, 16);
	if (!data)
		return 0;
	bpf_dynptr_write(&packet, 0, &seen, 4, 0);
	seen = data[0];
	return 0;
}

SEC("tc")
int ok_slice_after_a_read(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet;
	char *data;

	bpf_dynptr_from_skb(ctx, 0, &packet);
	data = bpf_dynptr_slice(&packet, 0, 0, 16);
	if (!data)
		return 0;
	bpf_dynptr_read(&values, 4, &packet, 0, 0);
	seen = data[0];
	return 0;
}

/* Netfilter. */

SEC("netfilter")
int ok_netfilter(struct bpf_nf_ctx *ctx)
{
	return ctx->skb->len > 100 ? 1 : ctx->state->pf & 1;
}

SEC("netfilter")
int bad_V0701_netfilter_answers_2(struct bpf_nf_ctx *ctx)
{
	return 2;
}

SEC("netfilter")
int bad_V0207_netfilter_writes(struct bpf_nf_ctx *ctx)
{
	ctx->skb->len = 1;
	return 1;
}

SEC("netfilter")
int bad_V0401_netfilter_has_no_such_field(struct bpf_nf_ctx *ctx)
{
	return ((__u64 *)ctx)[2] & 1;
}

SEC("netfilter")
int ok_netfilter_slice(struct bpf_nf_ctx *ctx)
{
	struct bpf_dynptr packet;
	char buffer[4], *data;

	bpf_dynptr_from_skb((void *)ctx->skb, 0, &packet);
	data = bpf_dynptr_slice(&packet, 0, buffer, sizeof(buffer));
	return data && data[0];
}

SEC("netfilter")
int bad_E0102_netfilter_redirects(struct bpf_nf_ctx *ctx)
{
	bpf_redirect(1, 0);
	return 1;
}
