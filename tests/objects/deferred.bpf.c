// SPDX-License-Identifier: MIT OR Apache-2.0
// Timers: what the calls answer, and what their callbacks see.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define CLOCK_MONOTONIC 1
#define TIMER_ABS 1

struct slot {
	__u64 fired;
	struct bpf_timer timer;
	__u32 key_seen;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, struct slot);
} table SEC(".maps");

// What the calls answered.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 32);
	__type(key, __u32);
	__type(value, __s64);
} answers SEC(".maps");

volatile __u32 next_answer;

static void say(__s64 answer)
{
	__u32 at = next_answer++;

	bpf_map_update_elem(&answers, &at, &answer, BPF_ANY);
}

static int on_slot(void *map, __u32 *key, struct slot *slot)
{
	slot->key_seen = *key + 100;
	__sync_fetch_and_add(&slot->fired, 1);
	return 0;
}

// Starts itself again twice, then tries what is forbidden.
static int on_again(void *map, __u32 *key, struct slot *slot)
{
	slot->key_seen = *key + 200;
	if (__sync_fetch_and_add(&slot->fired, 1) < 2)
		bpf_timer_start(&slot->timer, 1000000, 0);
	else
		say(bpf_timer_cancel(&slot->timer));
	return 0;
}

static int on_table(void *map, __u32 *key, struct slot *slot)
{
	__u32 other = *key + 1;
	struct slot made = { .key_seen = *key };

	bpf_map_update_elem(&table, &other, &made, BPF_NOEXIST);
	bpf_map_delete_elem(&table, key);
	return 0;
}

SEC("syscall")
int answers_of_calls(void *ctx)
{
	__u32 zero = 0, one = 1;
	struct slot *slot = bpf_map_lookup_elem(&slots, &zero);

	if (!slot)
		return 1;
	say(bpf_timer_start(&slot->timer, 0, 0));
	say(bpf_timer_cancel(&slot->timer));
	say(bpf_timer_set_callback(&slot->timer, on_slot));
	say(bpf_timer_init(&slot->timer, &slots, 2));
	say(bpf_timer_init(&slot->timer, &slots, 17));
	say(bpf_timer_init(&slot->timer, &slots, CLOCK_MONOTONIC));
	say(bpf_timer_init(&slot->timer, &slots, CLOCK_MONOTONIC));
	say(bpf_timer_start(&slot->timer, 1000, 0));
	say(bpf_timer_set_callback(&slot->timer, on_slot));
	say(bpf_timer_start(&slot->timer, 1000, 8));
	say(bpf_timer_start(&slot->timer, 3600000000000ull, 0));
	say(bpf_timer_cancel(&slot->timer));
	say(bpf_timer_cancel(&slot->timer));
	say(bpf_timer_start(&slot->timer, 1000, 0));
	say(bpf_timer_set_callback(&slot->timer, on_slot));
	say(bpf_timer_start(&slot->timer, 1000, 0));
	slot = bpf_map_lookup_elem(&slots, &one);
	if (!slot)
		return 1;
	say(bpf_timer_init(&slot->timer, &slots, CLOCK_MONOTONIC));
	say(bpf_timer_set_callback(&slot->timer, on_again));
	// Long past by the clock.
	say(bpf_timer_start(&slot->timer, 5, TIMER_ABS));
	return 0;
}

SEC("syscall")
int in_table(void *ctx)
{
	__u32 key = 7, gone = 20;
	struct slot made = {};
	struct slot *slot;

	bpf_map_update_elem(&table, &key, &made, BPF_ANY);
	bpf_map_update_elem(&table, &gone, &made, BPF_ANY);
	slot = bpf_map_lookup_elem(&table, &gone);
	if (!slot)
		return 1;
	bpf_timer_init(&slot->timer, &table, CLOCK_MONOTONIC);
	bpf_timer_set_callback(&slot->timer, on_table);
	bpf_timer_start(&slot->timer, 20000000, 0);
	// The timer goes with its element, and the element that takes its place has none.
	bpf_map_delete_elem(&table, &gone);
	gone = 30;
	bpf_map_update_elem(&table, &gone, &made, BPF_ANY);
	slot = bpf_map_lookup_elem(&table, &gone);
	if (!slot)
		return 1;
	say(bpf_timer_cancel(&slot->timer));
	slot = bpf_map_lookup_elem(&table, &key);
	if (!slot)
		return 1;
	say(bpf_timer_init(&slot->timer, &table, CLOCK_MONOTONIC));
	say(bpf_timer_set_callback(&slot->timer, on_table));
	say(bpf_timer_start(&slot->timer, 1000, 0));
	return 0;
}

// Timers that come in a tenth of a second: of an element of the array and one of the table.
SEC("syscall")
int in_a_while(void *ctx)
{
	__u32 two = 2, key = 35;
	struct slot made = {};
	struct slot *slot = bpf_map_lookup_elem(&slots, &two);

	bpf_map_update_elem(&table, &key, &made, BPF_ANY);
	if (!slot)
		return 1;
	bpf_timer_init(&slot->timer, &slots, CLOCK_MONOTONIC);
	bpf_timer_set_callback(&slot->timer, on_slot);
	bpf_timer_start(&slot->timer, 100000000, 0);
	slot = bpf_map_lookup_elem(&table, &key);
	if (!slot)
		return 1;
	bpf_timer_init(&slot->timer, &table, CLOCK_MONOTONIC);
	bpf_timer_set_callback(&slot->timer, on_slot);
	bpf_timer_start(&slot->timer, 100000000, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
