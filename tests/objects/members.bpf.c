// SPDX-License-Identifier: MIT OR Apache-2.0
// Members of struct_ops: what each may read, write and call. Programs are named after what must come of them: ok_…, or
// bad_CODE_….
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define CORE __attribute__((preserve_access_index))

struct sock {
	unsigned int sk_rcvbuf;
} CORE;

struct tcp_sock {
	__u32 snd_cwnd;
	__u32 snd_ssthresh;
	__u32 snd_nxt;
} CORE;

struct rate_sample {
	int losses;
} CORE;

struct tcp_congestion_ops {
	char name[16];
	void (*init)(struct sock *sk);
	void (*release)(struct sock *sk);
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	void (*cong_control)(struct sock *sk, __u32 ack, int flag, const struct rate_sample *rs);
	__u32 (*undo_cwnd)(struct sock *sk);
	unsigned long (*get_info)(struct sock *sk, __u32 ext, int *attr, void *info);
};

extern void bpf_rcu_read_lock(void) __ksym;

char LICENSE[] SEC("license") = "GPL";
long seen;

SEC("struct_ops")
__u32 BPF_PROG(ok_reads_and_answers, struct sock *sk)
{
	return sk->sk_rcvbuf + ((struct tcp_sock *)sk)->snd_cwnd;
}

SEC("struct_ops")
__u32 BPF_PROG(bad_V0401_argument_beyond, struct sock *sk, __u32 ack)
{
	return ack;
}

SEC("struct_ops")
__u32 BPF_PROG(ok_undo, struct sock *sk)
{
	return ((struct tcp_sock *)sk)->snd_cwnd;
}

SEC("struct_ops")
void BPF_PROG(ok_writes_window, struct sock *sk, __u32 ack, __u32 acked)
{
	((struct tcp_sock *)sk)->snd_cwnd = acked;
	((struct tcp_sock *)sk)->snd_ssthresh = ack;
}

SEC("struct_ops")
void BPF_PROG(bad_V0207_writes_sequence, struct sock *sk, __u32 ack, __u32 acked)
{
	((struct tcp_sock *)sk)->snd_nxt = acked;
}

SEC("struct_ops")
void BPF_PROG(bad_V0207_writes_half_a_field, struct sock *sk, __u32 ack, __u32 acked)
{
	*(__u64 *)&((struct tcp_sock *)sk)->snd_cwnd = acked;
}

SEC("struct_ops")
void BPF_PROG(ok_sets_option, struct sock *sk)
{
	int value = 1;

	bpf_setsockopt(sk, 6, 1, &value, sizeof(value));
}

SEC("struct_ops")
void BPF_PROG(bad_E0102_sets_option_at_the_end, struct sock *sk)
{
	int value = 1;

	bpf_setsockopt(sk, 6, 1, &value, sizeof(value));
}

SEC("struct_ops")
void BPF_PROG(bad_E0102_redirects, struct sock *sk)
{
	bpf_redirect(1, 0);
}

SEC("struct_ops")
void BPF_PROG(bad_V0605_section_stays_open, struct sock *sk)
{
	bpf_rcu_read_lock();
}

SEC("struct_ops")
void BPF_PROG(ok_reads_sample, struct sock *sk, __u32 ack, int flag, const struct rate_sample *rs)
{
	seen = rs->losses;
}

SEC("struct_ops")
void BPF_PROG(bad_V0207_writes_sample, struct sock *sk, __u32 ack, int flag, struct rate_sample *rs)
{
	rs->losses = 0;
}

SEC("struct_ops")
unsigned long BPF_PROG(bad_E0110_member_without_programs, struct sock *sk)
{
	return 0;
}

SEC(".struct_ops")
struct tcp_congestion_ops first = {
	.name = "skep_first",
	.ssthresh = (void *)ok_reads_and_answers,
	.undo_cwnd = (void *)ok_undo,
	.cong_avoid = (void *)ok_writes_window,
	.cong_control = (void *)ok_reads_sample,
	.init = (void *)ok_sets_option,
	.release = (void *)bad_E0102_sets_option_at_the_end,
	.get_info = (void *)bad_E0110_member_without_programs,
};

SEC(".struct_ops")
struct tcp_congestion_ops second = {
	.name = "skep_second",
	.ssthresh = (void *)bad_V0401_argument_beyond,
	.undo_cwnd = (void *)ok_undo,
	.cong_avoid = (void *)bad_V0207_writes_sequence,
	.cong_control = (void *)bad_V0207_writes_sample,
	.init = (void *)bad_E0102_redirects,
	.release = (void *)bad_V0605_section_stays_open,
};

SEC(".struct_ops")
struct tcp_congestion_ops third = {
	.name = "skep_third",
	.undo_cwnd = (void *)ok_undo,
	.cong_avoid = (void *)bad_V0207_writes_half_a_field,
};
