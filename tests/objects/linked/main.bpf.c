// SPDX-License-Identifier: MIT OR Apache-2.0
// One half of an object that is linked from two: what it declares, part.bpf.c defines, and the other way round.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct point {
	int x, y;
	struct point *next;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct point);
	__uint(max_entries, 8);
} points SEC(".maps");

/* Defined in the other half. */
extern struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 4);
} counts SEC(".maps");
extern int scale(int value);
extern int chosen(void);
extern int shared_number;
extern const volatile int limit;

/* Both halves have one of this name. */
static volatile int hidden = 3;
static const char text[] = "first half";
int own_number = 5;

__weak int chosen(void)
{
	return 1000; /* gives way to the other half's */
}

__weak int alone(void)
{
	return hidden;
}

static __noinline int twice(int value)
{
	return 2 * value + hidden;
}

int first_letter(int at)
{
	return at >= 0 && at < (int)sizeof(text) ? text[at] : 0;
}

SEC("tc")
int whole(struct __sk_buff *skb)
{
	__u32 key = 1;
	__u64 *count = bpf_map_lookup_elem(&counts, &key);
	struct point p = { .x = own_number, .y = shared_number };

	if (!count)
		return -1;
	*count += 7;
	bpf_map_update_elem(&points, &key, &p, 0);
	shared_number += 1;
	/* 5*10 + 4 + (2*5+3) + 100 + 9 + 7 + 3 + 'i' = 291 in the first run */
	return scale(own_number) + chosen() + twice(own_number) + shared_number - 1 + limit + *count + alone() +
	       first_letter(1);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
