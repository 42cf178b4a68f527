//! Security hooks (`BPF_PROG_TYPE_LSM`): which can be attached to, which may sleep, what their arguments are worth.
//!
//! Source: the sets of kernel/bpf/bpf_lsm.c as the running Linux 6.18 holds them. Names are without `bpf_lsm_`.

/// Hooks that refuse programs (`bpf_lsm_disabled_hooks`).
#[rustfmt::skip]
pub const DISABLED: &[&str] = &[
    "audit_rule_match", "getprocattr", "getselfattr", "inode_copy_up_xattr", "inode_getsecurity", "inode_listsecurity",
    "inode_need_killpriv", "ismaclabel", "key_getsecurity", "setprocattr", "vm_enough_memory", "xfrm_decode_session",
];

/// Hooks whose programs may sleep (`sleepable_lsm_hooks`).
#[rustfmt::skip]
pub const SLEEPABLE: &[&str] = &[
    "bpf", "bpf_map", "bpf_map_create", "bpf_map_free", "bpf_prog", "bpf_prog_free", "bpf_prog_load", "bpf_token_capable",
    "bpf_token_cmd", "bpf_token_create", "bpf_token_free", "bprm_check_security", "bprm_committed_creds", "bprm_committing_creds",
    "bprm_creds_for_exec", "bprm_creds_from_file", "capget", "capset", "cred_prepare", "file_ioctl", "file_lock", "file_open",
    "file_post_open", "file_receive", "inode_create", "inode_free_security", "inode_getattr", "inode_getxattr", "inode_mknod",
    "inode_need_killpriv", "inode_post_removexattr", "inode_post_setxattr", "inode_readlink", "inode_removexattr", "inode_rename",
    "inode_rmdir", "inode_setattr", "inode_setxattr", "inode_symlink", "inode_unlink", "kernel_module_request",
    "kernel_read_file", "kernfs_init_security", "mmap_file", "netlink_send", "path_chmod", "path_chown", "path_link",
    "path_mkdir", "path_notify", "path_rename", "path_rmdir", "path_symlink", "path_truncate", "path_unlink", "release_secctx",
    "sb_alloc_security", "sb_eat_lsm_opts", "sb_kern_mount", "sb_mount", "sb_remount", "sb_set_mnt_opts", "sb_show_options",
    "sb_statfs", "sb_umount", "settime", "socket_accept", "socket_bind", "socket_connect", "socket_create", "socket_getpeername",
    "socket_getpeersec_dgram", "socket_getsockname", "socket_getsockopt", "socket_listen", "socket_post_create", "socket_recvmsg",
    "socket_sendmsg", "socket_shutdown", "socket_socketpair", "syslog", "task_alloc", "task_prctl", "task_setscheduler",
    "userns_create",
];

/// Hooks whose arguments are not trusted: the objects are just being made or freed (`untrusted_lsm_hooks`).
#[rustfmt::skip]
pub const UNTRUSTED: &[&str] = &[
    "bpf_map_free", "bpf_prog_free", "file_alloc_security", "file_free_security", "sk_alloc_security", "sk_free_security",
    "task_free",
];

/// Hooks that answer yes or no (`bool_lsm_hooks`); the others answer 0 or a negative errno, or nothing.
#[rustfmt::skip]
pub const BOOL: &[&str] = &[
    "audit_rule_known", "inode_xattr_skipcap", "xfrm_state_pol_flow_match",
];

/// Hooks of `BPF_LSM_CGROUP` where sockets are locked (`bpf_lsm_locked_sockopt_hooks`).
#[rustfmt::skip]
pub const SOCKOPT_LOCKED: &[&str] = &[
    "inet_conn_established", "inet_csk_clone", "sock_graft",
];

/// Hooks of `BPF_LSM_CGROUP` where sockets are not locked (`bpf_lsm_unlocked_sockopt_hooks`).
#[rustfmt::skip]
pub const SOCKOPT_UNLOCKED: &[&str] = &[
    "socket_post_create", "socket_socketpair",
];

/// The hook's name without the prefix that its BTF function has, if `target` is one.
#[must_use]
pub fn hook(target: &str) -> Option<&str> {
    target.strip_prefix("bpf_lsm_")
}

/// Functions that never return: no fexit or fmod_ret there (`noreturn_deny`).
#[rustfmt::skip]
pub const NORETURN: &[&str] = &[
    "__ia32_sys_exit", "__ia32_sys_exit_group", "__x64_sys_exit", "__x64_sys_exit_group", "do_exit", "do_group_exit", "kthread_complete_and_exit", "make_task_dead",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_ordered() {
        for list in [
            DISABLED,
            SLEEPABLE,
            UNTRUSTED,
            BOOL,
            SOCKOPT_LOCKED,
            SOCKOPT_UNLOCKED,
        ] {
            assert!(list.is_sorted_by(|a, b| a < b));
        }
        assert_eq!(hook("bpf_lsm_file_open"), Some("file_open"));
        assert_eq!(hook("vfs_read"), None);
    }
}
