// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The pointer in the map is exchanged. */
#include "corpus.h"

#define KPTR __attribute__((btf_type_tag("kptr")))

extern void *bpf_obj_new_impl(u64 type_id, void *meta) __ksym;
extern void bpf_obj_drop_impl(void *obj, void *meta) __ksym;

struct item {
	u64 serial;
	u64 value;
};

struct slot {
	u64 swaps;
	struct item KPTR *item;
};

struct item whole_type; /* a declaration alone would not do as target of a kptr */

MAP(ARRAY, u32, struct slot, 2, slots);

SEC("tc")
int kptr_store(struct __sk_buff *skb)
{
	u32 zero = 0;
	struct slot *s = bpf_map_lookup_elem(&slots, &zero);

	struct item *i;

	if (!s)
		return 0;
	i = bpf_obj_new_impl(__builtin_btf_type_id(*(struct item *)0, 0), NULL);
	if (!i)
		return 0;
	i->value = skb->len;
	i = bpf_kptr_xchg(&s->item, i);
	if (i)
		bpf_obj_drop_impl(i, NULL);
	return 0;
}

LICENSE;
