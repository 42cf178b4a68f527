// SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause)
/* The object is dropped on both paths. */
#include "corpus.h"

extern void *bpf_obj_new_impl(u64 type_id, void *meta) __ksym;
extern void bpf_obj_drop_impl(void *obj, void *meta) __ksym;

struct item {
	u64 a, b;
};

SEC("tc")
int obj_leak(struct __sk_buff *skb)
{
	struct item *i = bpf_obj_new_impl(__builtin_btf_type_id(*(struct item *)0, 0), NULL);

	if (!i)
		return 0;
	i->a = skb->len;
	if (i->a > 1000) {
		bpf_obj_drop_impl(i, NULL);
		return 1;
	}
	bpf_obj_drop_impl(i, NULL);
	return 2;
}

LICENSE;
