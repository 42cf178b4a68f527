//! Which program types may call which helpers.
//!
//! Source: the `get_func_proto` functions of each program type (`bpf_base_func_proto`, `tracing_prog_func_proto`,
//! `sk_filter_func_proto`, …) as observed on Linux 6.18 by loading `call N; exit` for every helper, program type and attach type.
//! LSM, fentry, fexit and LIRC programs, which that kernel refuses to load, follow their documentation.

#[cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "the table names most of them")
)]
use crate::helper::id::*;
use crate::types::{AttachType, AttachType as A, ProgType, ProgType as P};

/// Helpers that a set of program and attach types may call.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// Program types.
    pub types: &'static [ProgType],
    /// Attach types; empty for all.
    pub attach: &'static [AttachType],
    /// Names of the attach target (see [`super::ProgEnv::target`]); empty for all.
    pub targets: &'static [&'static str],
    /// The helpers.
    pub ids: &'static [u32],
}

/// Builds a grant for whole program types.
const fn to(types: &'static [ProgType], ids: &'static [u32]) -> Grant {
    Grant {
        types,
        attach: &[],
        targets: &[],
        ids,
    }
}

/// Builds a grant for some attach types.
const fn at(
    types: &'static [ProgType],
    attach: &'static [AttachType],
    ids: &'static [u32],
) -> Grant {
    Grant {
        types,
        attach,
        targets: &[],
        ids,
    }
}

/// Builds a grant for some attach targets.
const fn on(
    types: &'static [ProgType],
    attach: &'static [AttachType],
    targets: &'static [&'static str],
    ids: &'static [u32],
) -> Grant {
    Grant {
        types,
        attach,
        targets,
        ids,
    }
}

/// Every program type but LIRC may call these (`bpf_base_func_proto`).
#[rustfmt::skip]
pub const BASE: &[u32] = &[
    MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, MAP_DELETE_ELEM, KTIME_GET_NS, TRACE_PRINTK, GET_PRANDOM_U32, GET_SMP_PROCESSOR_ID, TAIL_CALL,
    GET_CURRENT_PID_TGID, GET_CURRENT_UID_GID, GET_CURRENT_COMM, GET_CGROUP_CLASSID, PERF_EVENT_READ, GET_CURRENT_TASK,
    CURRENT_TASK_UNDER_CGROUP, GET_NUMA_NODE_ID, PERF_EVENT_READ_VALUE, GET_CURRENT_CGROUP_ID, MAP_PUSH_ELEM, MAP_POP_ELEM,
    MAP_PEEK_ELEM, SPIN_LOCK, SPIN_UNLOCK, STRTOL, STRTOUL, SEND_SIGNAL, PROBE_READ_USER, PROBE_READ_KERNEL, PROBE_READ_USER_STR,
    PROBE_READ_KERNEL_STR, SEND_SIGNAL_THREAD, JIFFIES64, GET_NS_CURRENT_PID_TGID, GET_CURRENT_ANCESTOR_CGROUP_ID, KTIME_GET_BOOT_NS,
    RINGBUF_OUTPUT, RINGBUF_RESERVE, RINGBUF_SUBMIT, RINGBUF_DISCARD, RINGBUF_QUERY, GET_TASK_STACK, COPY_FROM_USER, SNPRINTF_BTF,
    PER_CPU_PTR, THIS_CPU_PTR, TASK_STORAGE_GET, TASK_STORAGE_DELETE, GET_CURRENT_TASK_BTF, FOR_EACH_MAP_ELEM, SNPRINTF, TIMER_INIT,
    TIMER_SET_CALLBACK, TIMER_START, TIMER_CANCEL, TASK_PT_REGS, GET_BRANCH_SNAPSHOT, TRACE_VPRINTK, FIND_VMA, LOOP, STRNCMP,
    COPY_FROM_USER_TASK, KPTR_XCHG, MAP_LOOKUP_PERCPU_ELEM, DYNPTR_FROM_MEM, RINGBUF_RESERVE_DYNPTR, RINGBUF_SUBMIT_DYNPTR,
    RINGBUF_DISCARD_DYNPTR, DYNPTR_READ, DYNPTR_WRITE, DYNPTR_DATA, KTIME_GET_TAI_NS, USER_RINGBUF_DRAIN, CGRP_STORAGE_GET,
    CGRP_STORAGE_DELETE,
];

/// [`BASE`] as bits, for lookups in a verifier's inner loop.
const BASE_BITS: [u64; 4] = {
    let mut bits = [0; 4];
    let mut at = 0;
    while at < BASE.len() {
        bits[(BASE[at] / 64) as usize] |= 1 << (BASE[at] % 64);
        at += 1;
    }
    bits
};

/// True if [`BASE`] has helper `id`.
pub(super) fn in_base(id: u32) -> bool {
    usize::try_from(id / 64)
        .ok()
        .and_then(|word| BASE_BITS.get(word))
        .is_some_and(|bits| bits >> (id % 64) & 1 != 0)
}

/// Program types whose context is a packet or a socket (`bpf_sk_base_func_proto`).
#[rustfmt::skip]
const SOCKET_TYPES: &[ProgType] = &[
    P::SocketFilter, P::SchedCls, P::SchedAct, P::Xdp, P::CgroupSkb, P::LwtIn, P::LwtOut, P::LwtXmit, P::LwtSeg6local, P::SockOps,
    P::SkSkb, P::SkMsg, P::CgroupSockAddr, P::FlowDissector, P::SkLookup,
];
/// Tracing of any kind.
#[rustfmt::skip]
const TRACING_TYPES: &[ProgType] = &[
    P::Kprobe, P::Tracepoint, P::PerfEvent, P::RawTracepoint, P::RawTracepointWritable, P::Tracing, P::Syscall, P::Lsm,
];
/// Tracing with BTF (`tracing_prog_func_proto`).
const BTF_TYPES: &[ProgType] = &[P::Tracing, P::Syscall, P::Lsm];
/// Traffic control.
const TC: &[ProgType] = &[P::SchedCls, P::SchedAct];
/// Routes.
const LWT: &[ProgType] = &[P::LwtIn, P::LwtOut, P::LwtXmit, P::LwtSeg6local];
/// Attachments through a trampoline.
const TRAMPOLINE: &[AttachType] = &[A::TraceFentry, A::TraceFexit, A::ModifyReturn];
/// Hooks of cgroups whose result programs can set (`bpf_get_retval`).
#[rustfmt::skip]
const RETVAL_HOOKS: &[AttachType] = &[
    A::CgroupInet4Bind, A::CgroupInet6Bind, A::CgroupInet4Connect, A::CgroupInet6Connect, A::CgroupUdp4Sendmsg, A::CgroupUdp6Sendmsg,
    A::CgroupUnixConnect, A::CgroupUnixSendmsg, A::CgroupDevice, A::CgroupSysctl, A::CgroupGetsockopt, A::CgroupSetsockopt,
    A::LsmCgroup,
];
/// Casts of sockets (`bpf_sk_base_func_proto`).
#[rustfmt::skip]
pub(super) const SOCKET_CASTS: &[u32] = &[
    SKC_TO_TCP6_SOCK, SKC_TO_TCP_SOCK, SKC_TO_TCP_TIMEWAIT_SOCK, SKC_TO_TCP_REQUEST_SOCK, SKC_TO_UDP6_SOCK, SKC_TO_UNIX_SOCK,
    SKC_TO_MPTCP_SOCK,
];
/// Looking sockets up.
const SOCKET_LOOKUP: &[u32] = &[SK_LOOKUP_TCP, SK_LOOKUP_UDP, SKC_LOOKUP_TCP, SK_RELEASE];
/// SYN cookies.
#[rustfmt::skip]
const SYNCOOKIES: &[u32] = &[
    TCP_CHECK_SYNCOOKIE, TCP_GEN_SYNCOOKIE, TCP_RAW_GEN_SYNCOOKIE_IPV4, TCP_RAW_GEN_SYNCOOKIE_IPV6, TCP_RAW_CHECK_SYNCOOKIE_IPV4,
    TCP_RAW_CHECK_SYNCOOKIE_IPV6,
];
/// Functions and hooks where `bpf_d_path` is safe (`btf_allowlist_d_path`).
#[rustfmt::skip]
const D_PATH_TARGETS: &[&str] = &[
    "security_file_permission", "security_inode_getattr", "security_file_open", "security_path_truncate", "vfs_truncate",
    "vfs_fallocate", "dentry_open", "vfs_getattr", "filp_close",
];

/// Who may call what, besides [`BASE`]; a helper is available if any line grants it.
#[rustfmt::skip]
pub const GRANTS: &[Grant] = &[
    // sockets and packets
    to(SOCKET_TYPES, SOCKET_CASTS),
    to(SOCKET_TYPES, &[KTIME_GET_COARSE_NS]),
    to(&[P::CgroupSock, P::SkReuseport, P::CgroupSysctl, P::StructOps], &[KTIME_GET_COARSE_NS]),
    to(&[P::SocketFilter, P::SchedCls, P::SchedAct, P::Xdp, P::CgroupSkb, P::CgroupSock, P::LwtIn, P::LwtOut, P::LwtXmit, P::LwtSeg6local,
         P::SockOps, P::SkSkb, P::CgroupDevice, P::SkMsg, P::CgroupSockAddr, P::CgroupSysctl, P::CgroupSockopt, P::SkLookup],
       &[PERF_EVENT_OUTPUT]),
    to(&[P::SocketFilter, P::SchedCls, P::SchedAct, P::CgroupSkb],
       &[SKB_LOAD_BYTES, SKB_LOAD_BYTES_RELATIVE, GET_SOCKET_COOKIE, GET_SOCKET_UID, GET_NETNS_COOKIE]),
    to(TC, &[SKB_STORE_BYTES, L3_CSUM_REPLACE, L4_CSUM_REPLACE, CLONE_REDIRECT, SKB_VLAN_PUSH, SKB_VLAN_POP, SKB_GET_TUNNEL_KEY,
             SKB_SET_TUNNEL_KEY, REDIRECT, GET_ROUTE_REALM, CSUM_DIFF, SKB_GET_TUNNEL_OPT, SKB_SET_TUNNEL_OPT, SKB_CHANGE_PROTO,
             SKB_CHANGE_TYPE, SKB_UNDER_CGROUP, GET_HASH_RECALC, SKB_CHANGE_TAIL, SKB_PULL_DATA, CSUM_UPDATE, SET_HASH_INVALID,
             SKB_CHANGE_HEAD, SET_HASH, SKB_ADJUST_ROOM, SKB_GET_XFRM_STATE, FIB_LOOKUP, SKB_CGROUP_ID, SKB_ANCESTOR_CGROUP_ID,
             SK_FULLSOCK, TCP_SOCK, SKB_ECN_SET_CE, GET_LISTENER_SOCK, SK_STORAGE_GET, SK_STORAGE_DELETE, SK_ASSIGN, CSUM_LEVEL,
             SKB_CGROUP_CLASSID, REDIRECT_NEIGH, REDIRECT_PEER, CHECK_MTU, SKB_SET_TSTAMP]),
    to(TC, SOCKET_LOOKUP),
    to(TC, SYNCOOKIES),
    to(&[P::Xdp], &[REDIRECT, CSUM_DIFF, XDP_ADJUST_HEAD, REDIRECT_MAP, XDP_ADJUST_META, XDP_ADJUST_TAIL, FIB_LOOKUP, CHECK_MTU,
                    XDP_GET_BUFF_LEN, XDP_LOAD_BYTES, XDP_STORE_BYTES]),
    to(&[P::Xdp], SOCKET_LOOKUP),
    to(&[P::Xdp], SYNCOOKIES),
    to(&[P::CgroupSkb], &[SKB_CGROUP_ID, GET_LOCAL_STORAGE, SKB_ANCESTOR_CGROUP_ID, SK_FULLSOCK, TCP_SOCK, SKB_ECN_SET_CE,
                          GET_LISTENER_SOCK, SK_STORAGE_GET, SK_STORAGE_DELETE, SK_CGROUP_ID, SK_ANCESTOR_CGROUP_ID]),
    to(&[P::CgroupSkb], SOCKET_LOOKUP),
    to(LWT, &[GET_ROUTE_REALM, SKB_LOAD_BYTES, CSUM_DIFF, SKB_UNDER_CGROUP, GET_HASH_RECALC, SKB_PULL_DATA]),
    to(&[P::LwtIn, P::LwtXmit], &[LWT_PUSH_ENCAP]),
    to(&[P::LwtXmit], &[SKB_STORE_BYTES, L3_CSUM_REPLACE, L4_CSUM_REPLACE, CLONE_REDIRECT, SKB_GET_TUNNEL_KEY, SKB_SET_TUNNEL_KEY,
                        REDIRECT, SKB_GET_TUNNEL_OPT, SKB_SET_TUNNEL_OPT, SKB_CHANGE_TAIL, CSUM_UPDATE, SET_HASH_INVALID,
                        SKB_CHANGE_HEAD, CSUM_LEVEL]),
    to(&[P::LwtSeg6local], &[LWT_SEG6_STORE_BYTES, LWT_SEG6_ADJUST_SRH, LWT_SEG6_ACTION]),
    to(&[P::SkSkb], &[SKB_STORE_BYTES, SKB_LOAD_BYTES, SKB_CHANGE_TAIL, SKB_PULL_DATA, SKB_CHANGE_HEAD, GET_SOCKET_COOKIE,
                      GET_SOCKET_UID, SKB_ADJUST_ROOM, SK_REDIRECT_MAP, SK_REDIRECT_HASH]),
    to(&[P::SkSkb], SOCKET_LOOKUP),
    to(&[P::SkMsg], &[MSG_REDIRECT_MAP, MSG_APPLY_BYTES, MSG_CORK_BYTES, MSG_PULL_DATA, MSG_REDIRECT_HASH, MSG_PUSH_DATA,
                      MSG_POP_DATA, SK_STORAGE_GET, SK_STORAGE_DELETE, GET_NETNS_COOKIE]),
    to(&[P::SkReuseport], &[SKB_LOAD_BYTES, GET_SOCKET_COOKIE, SKB_LOAD_BYTES_RELATIVE, SK_SELECT_REUSEPORT]),
    to(&[P::FlowDissector], &[SKB_LOAD_BYTES]),
    to(&[P::SkLookup], &[SK_ASSIGN, SK_RELEASE]),
    to(&[P::SockOps], &[GET_SOCKET_COOKIE, SETSOCKOPT, SOCK_MAP_UPDATE, GETSOCKOPT, SOCK_OPS_CB_FLAGS_SET, SOCK_HASH_UPDATE,
                        GET_LOCAL_STORAGE, TCP_SOCK, SK_STORAGE_GET, SK_STORAGE_DELETE, GET_NETNS_COOKIE, LOAD_HDR_OPT, STORE_HDR_OPT,
                        RESERVE_HDR_OPT]),
    // cgroups
    to(&[P::CgroupSock], &[GET_SOCKET_COOKIE, GET_LOCAL_STORAGE, SK_STORAGE_GET, GET_NETNS_COOKIE, GET_RETVAL, SET_RETVAL]),
    to(&[P::CgroupDevice, P::CgroupSysctl, P::CgroupSockopt, P::CgroupSockAddr], &[GET_LOCAL_STORAGE]),
    to(&[P::CgroupSockAddr], &[GET_SOCKET_COOKIE, SETSOCKOPT, GETSOCKOPT, SK_STORAGE_GET, SK_STORAGE_DELETE, GET_NETNS_COOKIE]),
    to(&[P::CgroupSockAddr], SOCKET_LOOKUP),
    at(&[P::CgroupSockAddr], &[A::CgroupInet4Connect, A::CgroupInet6Connect], &[BIND]),
    to(&[P::CgroupSysctl], &[SYSCTL_GET_NAME, SYSCTL_GET_CURRENT_VALUE, SYSCTL_GET_NEW_VALUE, SYSCTL_SET_NEW_VALUE]),
    to(&[P::CgroupSockopt], &[TCP_SOCK, SK_STORAGE_GET, SK_STORAGE_DELETE, GET_NETNS_COOKIE]),
    at(&[P::CgroupSockopt], &[A::CgroupSetsockopt], &[SETSOCKOPT, GETSOCKOPT]),
    at(&[P::CgroupDevice, P::CgroupSockAddr, P::CgroupSysctl, P::CgroupSockopt, P::Lsm], RETVAL_HOOKS,
       &[GET_RETVAL, SET_RETVAL]),
    // tracing
    to(TRACING_TYPES, &[PROBE_READ, PROBE_READ_STR, PERF_EVENT_OUTPUT, GET_STACKID, GET_STACK, GET_FUNC_IP]),
    to(&[P::Kprobe, P::Tracepoint, P::PerfEvent, P::RawTracepoint, P::RawTracepointWritable], &[GET_ATTACH_COOKIE]),
    to(&[P::PerfEvent], &[PERF_PROG_READ_VALUE, READ_BRANCH_RECORDS]),
    to(BTF_TYPES, SOCKET_CASTS),
    to(BTF_TYPES, &[GET_SOCKET_COOKIE, SK_STORAGE_GET, SK_STORAGE_DELETE, SKB_OUTPUT, XDP_OUTPUT, D_PATH, SOCK_FROM_FILE, XDP_GET_BUFF_LEN]),
    at(&[P::Tracing], &[A::TraceRawTp], &[GET_ATTACH_COOKIE]),
    at(&[P::Tracing], TRAMPOLINE, &[GET_ATTACH_COOKIE, GET_FUNC_ARG, GET_FUNC_ARG_CNT, GET_FUNC_RET]),
    at(&[P::Tracing], &[A::TraceIter], &[SEQ_PRINTF, SEQ_WRITE, SEQ_PRINTF_BTF]),
    on(&[P::Tracing], &[A::TraceIter], &["bpf_iter_tcp", "bpf_iter_unix"], &[SETSOCKOPT, GETSOCKOPT]),
    to(&[P::Lsm], &[INODE_STORAGE_GET, INODE_STORAGE_DELETE, BPRM_OPTS_SET, IMA_INODE_HASH, IMA_FILE_HASH, GET_ATTACH_COOKIE,
                    GET_FUNC_ARG, GET_FUNC_ARG_CNT, GET_FUNC_RET]),
    at(&[P::Lsm], &[A::LsmCgroup], &[GET_LOCAL_STORAGE]),
    on(&[P::Lsm], &[A::LsmCgroup], &["bpf_lsm_inet_conn_established", "bpf_lsm_inet_csk_clone", "bpf_lsm_sock_graft",
                                     "bpf_lsm_socket_post_create", "bpf_lsm_socket_socketpair"],
       &[SETSOCKOPT, GETSOCKOPT]),
    to(&[P::Syscall], &[SYS_BPF, BTF_FIND_BY_NAME_KIND, SYS_CLOSE, KALLSYMS_LOOKUP_NAME]),
    // operations of the kernel
    to(&[P::StructOps], &[SK_STORAGE_GET, SK_STORAGE_DELETE, TCP_SEND_ACK]),
    on(&[P::StructOps], &[], &["tcp_congestion_ops"], &[SETSOCKOPT, GETSOCKOPT]),
];

/// What a LIRC program may call; it has no part in [`BASE`].
#[rustfmt::skip]
pub const LIRC: &[u32] = &[
    MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, MAP_DELETE_ELEM, KTIME_GET_NS, TRACE_PRINTK, GET_PRANDOM_U32, TAIL_CALL, RC_REPEAT, RC_KEYDOWN,
    MAP_PUSH_ELEM, MAP_POP_ELEM, MAP_PEEK_ELEM, RC_POINTER_REL, KTIME_GET_BOOT_NS,
];

/// Where a granted helper is refused all the same (`allowed` of its prototype).
#[must_use]
pub(super) fn refused(
    prog_type: ProgType,
    attach: Option<AttachType>,
    target: &str,
    id: u32,
) -> bool {
    match (id, prog_type, attach) {
        (SK_STORAGE_GET | SK_STORAGE_DELETE, P::Syscall, _) => true,
        (SK_STORAGE_GET | SK_STORAGE_DELETE, P::Tracing, Some(A::TraceFentry | A::TraceFexit)) => {
            target.starts_with("bpf_sk_storage")
        }
        (SK_STORAGE_GET | SK_STORAGE_DELETE, P::Tracing, attach) => {
            !matches!(attach, Some(A::TraceRawTp | A::TraceIter))
        }
        // It runs when the socket is gone.
        (SETSOCKOPT | GETSOCKOPT, P::StructOps, _) => target.ends_with(".release"),
        (D_PATH, P::Tracing, Some(A::TraceIter)) | (D_PATH, P::Lsm, _) => false,
        (D_PATH, _, _) => !D_PATH_TARGETS.contains(&target),
        _ => false,
    }
}
