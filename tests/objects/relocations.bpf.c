// SPDX-License-Identifier: MIT OR Apache-2.0
// Every kind of CO-RE relocation, against types of the kernel and types that only tests make.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head {
	struct list_head *next, *prev;
};

struct task_struct {
	int pid;
	unsigned int flags;
	char comm[16];
	struct list_head tasks;
	struct task_struct *real_parent;
	unsigned int in_execve : 1;
	int never_there;
};

/* A flavour that no kernel has. */
struct task_struct___other {
	struct list_head tasks;
	long comm;
};

struct sk_buff {
	unsigned int len;
	union {
		struct {
			struct sk_buff *next;
		};
	};
	unsigned char pkt_type : 3;
	unsigned short protocol;
};

struct net_device {
	unsigned int ifindex;
};

/* What the tests put into their own kernels. */
struct made {
	int number;
	union {
		int inner;
		struct {
			long deep;
		};
	};
	int tail[];
};

struct unmade {
	int number;
};

#pragma clang attribute pop

/* Types that are asked for as a whole. */
struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct sock_filter {
	__u16 code;
	__u8 jt;
};

struct sock_filter___longer {
	__u16 code;
	__u64 more;
};

typedef int (*made_function)(struct made *, const char *);
typedef unsigned int gfp_t;

enum bpf_map_type___here {
	BPF_MAP_TYPE_HASH___here = 77,
	BPF_MAP_TYPE_NEVER___here = 78,
};

enum made_enum {
	MADE_ONE = 1,
	MADE_TWO = 2,
};

SEC("raw_tp/sys_enter")
long fields(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct task_struct___other *other = (void *)task;
	long sum = BPF_CORE_READ(task, pid) + BPF_CORE_READ(task, real_parent, real_parent, flags);

	sum += bpf_core_field_exists(task->never_there) + bpf_core_field_exists(task->comm[3]);
	sum += bpf_core_field_size(task->comm) + bpf_core_field_offset(task->tasks.prev);
	sum += bpf_core_field_exists(other->comm) + bpf_core_field_size(other->tasks);
	sum += BPF_CORE_READ_BITFIELD_PROBED(task, in_execve);
	return sum;
}

SEC("raw_tp/sys_enter")
long packets(void *ctx)
{
	struct sk_buff *skb = (void *)bpf_get_current_task();
	struct net_device *device = (void *)skb;
	long sum = BPF_CORE_READ(skb, next, len) + BPF_CORE_READ(skb, protocol);

	sum += BPF_CORE_READ_BITFIELD_PROBED(skb, pkt_type);
	return sum + BPF_CORE_READ(device, ifindex);
}

SEC("raw_tp/sys_enter")
long whole_types(void *ctx)
{
	long sum = bpf_core_type_exists(struct path) + bpf_core_type_size(struct task_struct);

	sum += bpf_core_type_exists(gfp_t) + bpf_core_type_size(gfp_t);
	sum += bpf_core_type_matches(struct path) + bpf_core_type_matches(gfp_t);
	sum += bpf_core_type_matches(struct sock_filter) + bpf_core_type_matches(struct sock_filter___longer);
	sum += bpf_core_type_exists(made_function) + bpf_core_type_matches(made_function);
	sum += bpf_core_type_exists(struct unmade) + bpf_core_type_size(struct unmade);
	sum += bpf_core_type_matches(enum made_enum) + bpf_core_type_exists(enum bpf_map_type___here);
	return sum;
}

SEC("raw_tp/sys_enter")
long ids(void *ctx)
{
	return bpf_core_type_id_local(struct made) + bpf_core_type_id_kernel(struct task_struct);
}

SEC("raw_tp/sys_enter")
long enum_values(void *ctx)
{
	long sum = bpf_core_enum_value_exists(enum bpf_map_type___here, BPF_MAP_TYPE_HASH___here);

	sum += bpf_core_enum_value_exists(enum bpf_map_type___here, BPF_MAP_TYPE_NEVER___here);
	sum += bpf_core_enum_value(enum bpf_map_type___here, BPF_MAP_TYPE_HASH___here);
	return sum + bpf_core_enum_value_exists(enum made_enum, MADE_TWO);
}

/* Real kernels have no such type. */
SEC("?raw_tp/sys_enter")
long made_fields(void *ctx)
{
	struct made *made = (void *)bpf_get_current_task();
	long sum = BPF_CORE_READ(made, number) + BPF_CORE_READ(made, inner) + BPF_CORE_READ(made, deep);

	return sum + BPF_CORE_READ(made, tail[0]) + BPF_CORE_READ(made, tail[3]);
}

SEC("raw_tp/sys_enter")
long poisoned(void *ctx)
{
	struct unmade *unmade = (void *)bpf_get_current_task();

	return bpf_core_field_exists(unmade->number) ? BPF_CORE_READ(unmade, number) : 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
