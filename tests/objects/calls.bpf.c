// SPDX-License-Identifier: MIT OR Apache-2.0
// Kernel functions by their flags and by the suffixes of their parameters: dynptrs, iterators, sections, sleeping, memory.
// Programs are named after what must come of them: ok_…, or bad_CODE_…; those of odd_CODE_… the kernel accepts by an error.
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define CORE __attribute__((preserve_access_index))

/* As in newer headers than those of the machine that builds this. */
struct bpf_iter_num {
	__u64 opaque[1];
} __attribute__((aligned(8)));

struct bpf_iter_bits {
	__u64 opaque[2];
} __attribute__((aligned(8)));

struct bpf_iter_task {
	__u64 opaque[3];
} __attribute__((aligned(8)));

struct task_struct {
	int pid;
	struct task_struct *last_wakee;
} CORE;

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __ksym;
extern int bpf_iter_bits_new(struct bpf_iter_bits *it, const __u64 *unsafe_ptr__ign, __u32 nr_words) __ksym;
extern int *bpf_iter_bits_next(struct bpf_iter_bits *it) __ksym;
extern void bpf_iter_bits_destroy(struct bpf_iter_bits *it) __ksym;
extern int bpf_iter_task_new(struct bpf_iter_task *it, struct task_struct *task__nullable, unsigned int flags) __ksym;
extern struct task_struct *bpf_iter_task_next(struct bpf_iter_task *it) __ksym;
extern void bpf_iter_task_destroy(struct bpf_iter_task *it) __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
extern void bpf_rcu_read_unlock(void) __ksym;
extern void bpf_preempt_disable(void) __ksym;
extern void bpf_preempt_enable(void) __ksym;
extern void bpf_local_irq_save(unsigned long *flags) __ksym;
extern void bpf_local_irq_restore(unsigned long *flags) __ksym;
extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *dynptr) __ksym;
extern int bpf_dynptr_from_xdp(struct xdp_md *xdp, __u64 flags, struct bpf_dynptr *dynptr) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *p, __u32 offset, void *buffer__opt, __u32 buffer__szk) __ksym;
extern void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *p, __u32 offset, void *buffer__opt, __u32 buffer__szk) __ksym;
extern int bpf_dynptr_adjust(const struct bpf_dynptr *p, __u32 start, __u32 end) __ksym;
extern int bpf_dynptr_clone(const struct bpf_dynptr *p, struct bpf_dynptr *clone) __ksym;
extern bool bpf_dynptr_is_null(const struct bpf_dynptr *p) __ksym;
extern struct task_struct *bpf_task_from_pid(int pid) __ksym;
extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;
extern int bpf_copy_from_user_str(void *dst, __u32 dst__sz, const void *unsafe_ptr__ign, __u64 flags) __ksym;
extern void bpf_throw(__u64 cookie) __ksym;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

char LICENSE[] SEC("license") = "GPL";
long seen;
char room[64];

/* Iterators: KF_ITER_NEW, KF_ITER_NEXT, KF_ITER_DESTROY. */

SEC("tc")
int ok_numbers(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;
	int *number;

	bpf_iter_num_new(&it, 0, 10);
	while ((number = bpf_iter_num_next(&it)))
		seen += *number;
	bpf_iter_num_destroy(&it);
	return 0;
}

SEC("tc")
int bad_V0601_iterator_stays(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;

	bpf_iter_num_new(&it, 0, 10);
	return 0;
}

SEC("tc")
int bad_V0802_destroyed_twice(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;

	bpf_iter_num_new(&it, 0, 10);
	bpf_iter_num_destroy(&it);
	bpf_iter_num_destroy(&it);
	return 0;
}

SEC("tc")
int bad_V0802_made_twice(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;

	bpf_iter_num_new(&it, 0, 10);
	bpf_iter_num_new(&it, 0, 10);
	bpf_iter_num_destroy(&it);
	return 0;
}

SEC("tc")
int bad_V0802_of_another_type(struct __sk_buff *ctx)
{
	struct bpf_iter_num it[2];

	bpf_iter_num_new(&it[0], 0, 10);
	bpf_iter_bits_destroy((void *)&it[0]);
	return 0;
}

SEC("tc")
int bad_V0202_element_may_be_null(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;

	bpf_iter_num_new(&it, 0, 10);
	seen = *bpf_iter_num_next(&it);
	bpf_iter_num_destroy(&it);
	return 0;
}

SEC("tc")
int bad_V0202_element_after_its_iterator(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;
	int *number;

	bpf_iter_num_new(&it, 0, 10);
	number = bpf_iter_num_next(&it);
	bpf_iter_num_destroy(&it);
	if (number)
		seen = *number;
	return 0;
}

SEC("tc")
int odd_V0802_at_the_end_of_the_frame(struct __sk_buff *ctx)
{
	asm volatile("r1 = r10; r1 += -8; w2 = 0; w3 = 3; call bpf_iter_num_new; r1 = r10; call bpf_iter_num_destroy;" ::
			     : "r0", "r1", "r2", "r3", "r4", "r5", "memory");
	return 0;
}

SEC("tc")
int ok_bits(struct __sk_buff *ctx)
{
	struct bpf_iter_bits it;
	__u64 words = 5;
	int *bit;

	bpf_iter_bits_new(&it, &words, 1);
	while ((bit = bpf_iter_bits_next(&it)))
		seen += *bit;
	bpf_iter_bits_destroy(&it);
	return 0;
}

/* An iterator that needs an RCU section: KF_RCU_PROTECTED; a parameter `task__nullable`. */

SEC("syscall")
int ok_tasks_in_section(void *ctx)
{
	struct bpf_iter_task it;
	struct task_struct *task;

	bpf_rcu_read_lock();
	bpf_iter_task_new(&it, 0, 0);
	while ((task = bpf_iter_task_next(&it)))
		seen += task->pid;
	bpf_iter_task_destroy(&it);
	bpf_rcu_read_unlock();
	return 0;
}

SEC("syscall")
int bad_V0605_tasks_without_section(void *ctx)
{
	struct bpf_iter_task it;

	bpf_iter_task_new(&it, 0, 0);
	bpf_iter_task_destroy(&it);
	return 0;
}

SEC("syscall")
int bad_V0605_iterator_outlives_section(void *ctx)
{
	struct bpf_iter_task it;

	bpf_rcu_read_lock();
	bpf_iter_task_new(&it, 0, 0);
	bpf_rcu_read_unlock();
	bpf_rcu_read_lock();
	bpf_iter_task_next(&it);
	bpf_iter_task_destroy(&it);
	bpf_rcu_read_unlock();
	return 0;
}

/* Sections. */

SEC("tc")
int bad_V0605_section_stays_open(struct __sk_buff *ctx)
{
	bpf_rcu_read_lock();
	return 0;
}

SEC("tc")
int bad_V0605_section_never_began(struct __sk_buff *ctx)
{
	bpf_rcu_read_unlock();
	return 0;
}

SEC("tc")
int ok_preemption_off(struct __sk_buff *ctx)
{
	bpf_preempt_disable();
	bpf_preempt_disable();
	bpf_preempt_enable();
	bpf_preempt_enable();
	return 0;
}

SEC("tc")
int bad_V0605_preemption_stays_off(struct __sk_buff *ctx)
{
	bpf_preempt_disable();
	return 0;
}

SEC("syscall")
int bad_V0606_sleeps_without_preemption(void *ctx)
{
	bpf_preempt_disable();
	bpf_copy_from_user(room, sizeof(room), 0);
	bpf_preempt_enable();
	return 0;
}

SEC("tc")
int ok_interrupts_off(struct __sk_buff *ctx)
{
	unsigned long flags;

	bpf_local_irq_save(&flags);
	bpf_local_irq_restore(&flags);
	return 0;
}

SEC("tc")
int bad_V0803_flags_restored_twice(struct __sk_buff *ctx)
{
	unsigned long flags;

	bpf_local_irq_save(&flags);
	bpf_local_irq_restore(&flags);
	bpf_local_irq_restore(&flags);
	return 0;
}

SEC("tc")
int bad_V0803_flags_in_wrong_order(struct __sk_buff *ctx)
{
	unsigned long outer, inner;

	bpf_local_irq_save(&outer);
	bpf_local_irq_save(&inner);
	bpf_local_irq_restore(&outer);
	bpf_local_irq_restore(&inner);
	return 0;
}

SEC("tc")
int odd_V0803_flags_at_the_end_of_the_frame(struct __sk_buff *ctx)
{
	asm volatile("r1 = r10; r1 += -8; call bpf_local_irq_save; r1 = r10; call bpf_local_irq_restore;" ::
			     : "r0", "r1", "r2", "r3", "r4", "r5", "memory");
	return 0;
}

/* KF_SLEEPABLE; memory and its size (`__sz`), a pointer that is not looked at (`__ign`). */

SEC("syscall")
int ok_sleeps(void *ctx)
{
	seen = bpf_copy_from_user_str(room, sizeof(room), 0, 0);
	return 0;
}

SEC("syscall")
int bad_V0201_size_beyond_memory(void *ctx)
{
	seen = bpf_copy_from_user_str(room, sizeof(room) + 4096, 0, 0);
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(bad_V0606_may_not_sleep)
{
	seen = bpf_copy_from_user_str(room, sizeof(room), 0, 0);
	return 0;
}

SEC("syscall")
int bad_V0606_sleeps_in_section(void *ctx)
{
	bpf_rcu_read_lock();
	seen = bpf_copy_from_user_str(room, sizeof(room), 0, 0);
	bpf_rcu_read_unlock();
	return 0;
}

/* Dynptrs of packets: slices with an optional buffer of constant size (`__opt`, `__szk`). */

SEC("tc")
int ok_slice(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet;
	char buffer[16], *data;

	bpf_dynptr_from_skb(ctx, 0, &packet);
	data = bpf_dynptr_slice(&packet, 0, buffer, sizeof(buffer));
	if (data)
		seen = data[15];
	return 0;
}

SEC("tc")
int ok_slice_without_buffer(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet;
	char *data;

	bpf_dynptr_from_skb(ctx, 0, &packet);
	data = bpf_dynptr_slice(&packet, 0, 0, 16);
	if (data)
		seen = data[15];
	return 0;
}

SEC("tc")
int bad_V0201_beyond_slice(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet;
	char *data;

	bpf_dynptr_from_skb(ctx, 0, &packet);
	data = bpf_dynptr_slice(&packet, 0, 0, 16);
	if (data)
		seen = data[16];
	return 0;
}

SEC("tc")
int bad_V0804_size_is_unknown(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet;
	char buffer[16];

	bpf_dynptr_from_skb(ctx, 0, &packet);
	bpf_dynptr_slice(&packet, 0, buffer, ctx->len & 15);
	return 0;
}

SEC("tc")
int bad_V0203_slice_may_be_null(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet;

	bpf_dynptr_from_skb(ctx, 0, &packet);
	seen = *(char *)bpf_dynptr_slice(&packet, 0, 0, 16);
	return 0;
}

SEC("tc")
int bad_V0207_slice_is_read_only(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet;
	char *data;

	bpf_dynptr_from_skb(ctx, 0, &packet);
	data = bpf_dynptr_slice(&packet, 0, 0, 16);
	if (data)
		data[0] = 1;
	return 0;
}

SEC("tc")
int ok_slice_is_written(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet;
	char buffer[16], *data;

	bpf_dynptr_from_skb(ctx, 0, &packet);
	data = bpf_dynptr_slice_rdwr(&packet, 0, buffer, sizeof(buffer));
	if (data)
		data[0] = 1;
	return 0;
}

SEC("cgroup_skb/egress")
int bad_V0210_packet_is_read_only(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet;
	char buffer[16];

	bpf_dynptr_from_skb(ctx, 0, &packet);
	bpf_dynptr_slice_rdwr(&packet, 0, buffer, sizeof(buffer));
	return 1;
}

SEC("tc")
int bad_V0202_slice_after_the_packet_moved(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet;
	char *data;

	bpf_dynptr_from_skb(ctx, 0, &packet);
	data = bpf_dynptr_slice(&packet, 0, 0, 16);
	if (!data)
		return 0;
	bpf_skb_pull_data(ctx, 64);
	seen = data[0];
	return 0;
}

SEC("tc")
int ok_slice_after_its_dynptr(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet;
	char *data;

	bpf_dynptr_from_skb(ctx, 0, &packet);
	data = bpf_dynptr_slice(&packet, 0, 0, 16);
	if (!data)
		return 0;
	bpf_dynptr_from_skb(ctx, 0, &packet);
	seen = data[0];
	return 0;
}

SEC("tc")
int bad_V0202_data_after_its_dynptr(struct __sk_buff *ctx)
{
	struct bpf_dynptr memory;
	char *data;

	bpf_dynptr_from_mem(room, sizeof(room), 0, &memory);
	data = bpf_dynptr_data(&memory, 0, 16);
	if (!data)
		return 0;
	bpf_dynptr_from_mem(room, sizeof(room), 0, &memory);
	seen = data[0];
	return 0;
}

SEC("tc")
int bad_V0801_never_made(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet = {};

	bpf_dynptr_adjust(&packet, 0, 1);
	return 0;
}

SEC("tc")
int ok_adjusted_and_copied(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet, copy;

	bpf_dynptr_from_skb(ctx, 0, &packet);
	bpf_dynptr_adjust(&packet, 0, 1);
	bpf_dynptr_clone(&packet, &copy);
	seen = bpf_dynptr_is_null(&copy);
	return 0;
}

/* Dynptrs of ring buffers are references. */

SEC("tc")
int ok_record(struct __sk_buff *ctx)
{
	struct bpf_dynptr record;

	bpf_ringbuf_reserve_dynptr(&ring, 8, 0, &record);
	bpf_dynptr_write(&record, 0, &seen, 8, 0);
	bpf_ringbuf_submit_dynptr(&record, 0);
	return 0;
}

SEC("tc")
int bad_V0601_record_leaks(struct __sk_buff *ctx)
{
	struct bpf_dynptr record;

	bpf_ringbuf_reserve_dynptr(&ring, 8, 0, &record);
	return 0;
}

SEC("tc")
int odd_V0202_slice_of_a_submitted_record(struct __sk_buff *ctx)
{
	struct bpf_dynptr record;
	char *data;

	bpf_ringbuf_reserve_dynptr(&ring, 8, 0, &record);
	data = bpf_dynptr_slice_rdwr(&record, 0, 0, 8);
	bpf_ringbuf_submit_dynptr(&record, 0);
	if (data)
		data[0] = 1;
	return 0;
}

SEC("tc")
int bad_V0801_copy_of_a_submitted_record(struct __sk_buff *ctx)
{
	struct bpf_dynptr record, copy;

	bpf_ringbuf_reserve_dynptr(&ring, 8, 0, &record);
	bpf_dynptr_clone(&record, &copy);
	bpf_ringbuf_submit_dynptr(&record, 0);
	bpf_dynptr_write(&copy, 0, &seen, 8, 0);
	return 0;
}

SEC("tc")
int ok_memory(struct __sk_buff *ctx)
{
	struct bpf_dynptr memory;

	bpf_dynptr_from_mem(room, sizeof(room), 0, &memory);
	bpf_dynptr_read(&seen, 8, &memory, 0, 0);
	return 0;
}

SEC("tc")
int bad_V0501_stack_is_no_memory_of_dynptrs(struct __sk_buff *ctx)
{
	struct bpf_dynptr memory;
	char local[8] = {};

	bpf_dynptr_from_mem(local, sizeof(local), 0, &memory);
	return 0;
}

/* KF_ACQUIRE, KF_RELEASE, KF_RET_NULL, KF_TRUSTED_ARGS. */

SEC("syscall")
int ok_task(void *ctx)
{
	struct task_struct *task = bpf_task_from_pid(1);

	if (task)
		bpf_task_release(task);
	return 0;
}

SEC("syscall")
int bad_V0804_use_after_release(void *ctx)
{
	struct task_struct *task = bpf_task_from_pid(1);

	if (!task)
		return 0;
	bpf_task_release(task);
	bpf_task_release(task);
	return 0;
}

SEC("syscall")
int bad_V0804_number_for_a_task(void *ctx)
{
	bpf_task_release((void *)seen);
	return 0;
}

SEC("tc")
int bad_E0106_not_for_this_type(struct __sk_buff *ctx)
{
	struct bpf_dynptr packet;

	bpf_dynptr_from_xdp((void *)ctx, 0, &packet);
	return 0;
}

/* Exceptions. */

SEC("tc")
int ok_throws(struct __sk_buff *ctx)
{
	if (ctx->len > 100)
		bpf_throw(0);
	return 0;
}

SEC("tc")
int bad_V0601_throws_with_a_reference(struct __sk_buff *ctx)
{
	struct bpf_iter_num it;

	bpf_iter_num_new(&it, 0, 10);
	bpf_throw(0);
	bpf_iter_num_destroy(&it);
	return 0;
}

static int round(__u32 index, void *data)
{
	return 0;
}

SEC("tc")
int ok_rounds(struct __sk_buff *ctx)
{
	bpf_loop(ctx->len, round, 0, 0);
	return 0;
}

SEC("tc")
int bad_V0501_pointer_of_rounds(struct __sk_buff *ctx)
{
	bpf_loop((__u64)ctx, round, 0, 0);
	return 0;
}
