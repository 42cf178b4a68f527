// SPDX-License-Identifier: MIT OR Apache-2.0
// The other half of the object that main.bpf.c begins.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct point {
	int x, y;
	struct point *next;
} corner = { 1, 2 };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 4);
} counts SEC(".maps");

extern int own_number;

static volatile int hidden = 10;
static const char text[] = "other half";
int shared_number = 100;
const volatile int limit = 9;

static __noinline int factor(int value)
{
	return value * hidden;
}

int scale(int value)
{
	return factor(value);
}

int chosen(void)
{
	return 4;
}

SEC("tc")
int part(struct __sk_buff *skb)
{
	int at = hidden - 10;

	if (at < 0 || at >= (int)sizeof(text))
		return -1;
	return corner.x + corner.y + own_number + text[at] - 'o'; /* 8 */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
