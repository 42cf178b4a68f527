//! Functions of the kernel that tracing programs cannot attach to, or not in every way.
//!
//! Source: the sets `btf_id_deny` (kernel/bpf/verifier.c) and `bpf_test_modify_return_ids` (net/bpf/test_run.c), `fmodret`
//! registrations of net/socket.c, as the running Linux 6.18 holds them. The reference kernel has no error injection, which
//! would allow more.

/// Functions that no tracing program can attach to.
#[rustfmt::skip]
pub const DENIED: &[&str] = &[
    "__rcu_read_lock", "__rcu_read_unlock", "migrate_disable", "migrate_enable", "preempt_count_add", "preempt_count_sub",
    "rcu_read_unlock_strict",
];

/// Functions whose return value `fmod_ret` programs may change, besides security hooks; and whether programs at them may sleep.
pub const FMOD_RET: &[(&str, bool)] = &[
    ("bpf_fentry_test1", true),
    ("bpf_modify_return_test", false),
    ("bpf_modify_return_test2", false),
    ("bpf_modify_return_test_tp", false),
    ("update_socket_protocol", false),
];
