// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* Nothing may come out of the exchange. */
#include "corpus.h"

#define KPTR __attribute__((btf_type_tag("kptr")))

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
int kptr_null(struct __sk_buff *skb)
{
	u32 zero = 0;
	struct slot *s = bpf_map_lookup_elem(&slots, &zero);
	struct item *old;

	if (!s)
		return 0;
	old = bpf_kptr_xchg(&s->item, NULL);
	if (old)
		bpf_obj_drop_impl(old, NULL);
	return 0;
}

LICENSE;
