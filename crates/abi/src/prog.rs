//! Facts of each program type: capabilities, packets, return values, attach types, maps.
//!
//! As observed on Linux 6.18 (`bpf_prog_load`, `bpf_prog_load_check_attach`, `check_return_code`, `may_access_direct_pkt_data`,
//! `check_map_prog_compatibility`, `__bpf_prog_map_compatible`); rows of LSM, fentry, fexit, freplace and LIRC programs, which
//! that kernel refuses to load, follow their documentation.

use crate::helper::ProgEnv;
use crate::kernel::{Rule, has_rule};
use crate::lsm;
use crate::types::{AttachType, AttachType as A, MapType, MapType as M, ProgType, ProgType as P};

/// Direct access to packet data through context pointers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packet {
    /// The context has no packet pointers.
    None,
    /// Loads, and helpers that read.
    Read,
    /// Loads, stores, and helpers that write.
    Write,
}

/// A capability beside CAP_BPF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capability {
    /// CAP_BPF is enough.
    Bpf,
    /// CAP_NET_ADMIN too.
    NetAdmin,
    /// CAP_PERFMON too.
    Perfmon,
    /// CAP_NET_ADMIN and CAP_PERFMON too.
    Both,
}

/// Facts of a program type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgFacts {
    /// The program type.
    pub prog_type: ProgType,
    /// What a loader needs besides CAP_BPF.
    pub capability: Capability,
    /// Access to packet data.
    pub packet: Packet,
    /// `BPF_LD | BPF_ABS` and `BPF_IND` are allowed (`may_access_skb`).
    pub ld_abs: bool,
    /// Tracing of the old kind, which may not hold locks and timers (`is_tracing_prog_type`).
    pub tracing: bool,
}

/// Builds one line of [`PROG_FACTS`].
const fn row(
    prog_type: ProgType,
    capability: Capability,
    packet: Packet,
    ld_abs: bool,
    tracing: bool,
) -> ProgFacts {
    ProgFacts {
        prog_type,
        capability,
        packet,
        ld_abs,
        tracing,
    }
}

/// Facts of all program types, ordered by number: `PROG_FACTS[type]`.
#[rustfmt::skip] // one program type per line
pub const PROG_FACTS: &[ProgFacts] = &[
    //  program type               besides CAP_BPF        packet          LD_ABS tracing
    row(P::Unspec,                Capability::Bpf,      Packet::None,  false, false),
    row(P::SocketFilter,          Capability::Bpf,      Packet::None,  true,  false),
    row(P::Kprobe,                Capability::Perfmon,  Packet::None,  false, true),
    row(P::SchedCls,              Capability::NetAdmin, Packet::Write, true,  false),
    row(P::SchedAct,              Capability::NetAdmin, Packet::Write, true,  false),
    row(P::Tracepoint,            Capability::Perfmon,  Packet::None,  false, true),
    row(P::Xdp,                   Capability::NetAdmin, Packet::Write, false, false),
    row(P::PerfEvent,             Capability::Perfmon,  Packet::None,  false, true),
    row(P::CgroupSkb,             Capability::Bpf,      Packet::Read,  false, false),
    row(P::CgroupSock,            Capability::NetAdmin, Packet::None,  false, false),
    row(P::LwtIn,                 Capability::NetAdmin, Packet::Read,  false, false),
    row(P::LwtOut,                Capability::NetAdmin, Packet::Read,  false, false),
    row(P::LwtXmit,               Capability::NetAdmin, Packet::Write, false, false),
    row(P::SockOps,               Capability::NetAdmin, Packet::Read,  false, false),
    row(P::SkSkb,                 Capability::NetAdmin, Packet::Write, false, false),
    row(P::CgroupDevice,          Capability::NetAdmin, Packet::None,  false, false),
    row(P::SkMsg,                 Capability::NetAdmin, Packet::Write, false, false),
    row(P::RawTracepoint,         Capability::Perfmon,  Packet::None,  false, true),
    row(P::CgroupSockAddr,        Capability::NetAdmin, Packet::None,  false, false),
    row(P::LwtSeg6local,          Capability::NetAdmin, Packet::Read,  false, false),
    row(P::LircMode2,             Capability::NetAdmin, Packet::None,  false, false),
    row(P::SkReuseport,           Capability::Bpf,      Packet::Read,  false, false),
    row(P::FlowDissector,         Capability::NetAdmin, Packet::Read,  false, false),
    row(P::CgroupSysctl,          Capability::NetAdmin, Packet::None,  false, false),
    row(P::RawTracepointWritable, Capability::Perfmon,  Packet::None,  false, true),
    row(P::CgroupSockopt,         Capability::NetAdmin, Packet::Write, false, false),
    row(P::Tracing,               Capability::Perfmon,  Packet::None,  false, false),
    row(P::StructOps,             Capability::Perfmon,  Packet::None,  false, false),
    row(P::Ext,                   Capability::Both,     Packet::None,  false, false),
    row(P::Lsm,                   Capability::Perfmon,  Packet::None,  false, false),
    row(P::SkLookup,              Capability::Bpf,      Packet::None,  false, false),
    row(P::Syscall,               Capability::Bpf,      Packet::None,  false, false),
    row(P::Netfilter,             Capability::NetAdmin, Packet::None,  false, false),
];

/// Program types that the reference kernel was built without: a load ends in `EINVAL` without a log.
pub const UNCONFIGURED: &[ProgType] = &[P::LircMode2];

/// The facts of a program type.
#[must_use]
pub fn facts(prog_type: ProgType) -> &'static ProgFacts {
    // `PROG_FACTS` has a row for every type, which a test checks; the first row stands in for the impossible.
    usize::try_from(prog_type.id())
        .ok()
        .and_then(|at| PROG_FACTS.get(at))
        .unwrap_or(&PROG_FACTS[0])
}

/// The values a program may return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetRange {
    /// Least value.
    pub min: i32,
    /// Greatest value.
    pub max: i32,
    /// Only the lower half of `r0` counts (LSM).
    pub lower_half: bool,
}

/// A range of the whole `r0`.
const fn range(min: i32, max: i32) -> Option<RetRange> {
    Some(RetRange {
        min,
        max,
        lower_half: false,
    })
}

/// What the function that a BTF program attaches to returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TargetReturns {
    /// Nothing.
    Void,
    /// A number, or nothing is known of it.
    Value,
}

/// Largest errno (`MAX_ERRNO`).
pub const MAX_ERRNO: i32 = 4095;

/// The values a program may return at its exit; `None` for any. Source: `check_return_code`.
#[must_use]
pub fn ret_range(env: &ProgEnv<'_>, target: TargetReturns) -> Option<RetRange> {
    match env.prog_type {
        P::CgroupSockAddr => match env.attach {
            Some(A::CgroupInet4Bind | A::CgroupInet6Bind) => range(0, 3),
            Some(attach) if ALWAYS_ALLOWED.contains(&attach) => range(1, 1),
            _ => range(0, 1),
        },
        P::CgroupSkb if env.attach == Some(A::CgroupInetEgress) => range(0, 3),
        P::CgroupSkb
        | P::CgroupSock
        | P::CgroupDevice
        | P::CgroupSysctl
        | P::CgroupSockopt
        | P::SockOps
        | P::SkLookup
        | P::Netfilter => range(0, 1),
        P::Kprobe => match env.attach {
            Some(A::TraceKprobeSession | A::TraceUprobeSession) => range(0, 1),
            _ => None,
        },
        P::Tracing => match env.attach {
            Some(A::TraceFentry | A::TraceFexit) => range(0, 0),
            Some(A::TraceIter) => range(0, 1),
            _ => None,
        },
        P::Lsm => lsm_range(env, target),
        _ => None,
    }
}

/// Hooks of addresses that only report: a program cannot refuse there.
const ALWAYS_ALLOWED: &[AttachType] = &[
    A::CgroupUdp4Recvmsg,
    A::CgroupUdp6Recvmsg,
    A::CgroupUnixRecvmsg,
    A::CgroupInet4Getpeername,
    A::CgroupInet6Getpeername,
    A::CgroupUnixGetpeername,
    A::CgroupInet4Getsockname,
    A::CgroupInet6Getsockname,
    A::CgroupUnixGetsockname,
];

/// The values an LSM program may return. Source: `bpf_lsm_get_retval_range`.
fn lsm_range(env: &ProgEnv<'_>, target: TargetReturns) -> Option<RetRange> {
    match (env.attach, target) {
        (Some(A::LsmCgroup), TargetReturns::Void) => range(1, 1),
        (Some(A::LsmCgroup), TargetReturns::Value) => range(0, 1),
        (_, TargetReturns::Void) => None,
        _ if !has_rule(env.kernel, Rule::LsmReturns) => None,
        (_, TargetReturns::Value) => {
            let (min, max) = if lsm::hook(env.target).is_some_and(|hook| lsm::BOOL.contains(&hook))
            {
                (0, 1)
            } else {
                (-MAX_ERRNO, 0)
            };
            Some(RetRange {
                min,
                max,
                lower_half: true,
            })
        }
    }
}

/// The values a callback of helper `id` may return. Source: `callback_ret_range` of the `set_…_callback_state` functions.
#[must_use]
pub const fn callback_range(id: u32) -> RetRange {
    let max = if id == crate::helper::id::TIMER_SET_CALLBACK {
        0
    } else {
        1
    };
    RetRange {
        min: 0,
        max,
        lower_half: false,
    }
}

/// How a program may be loaded as to sleeping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sleep {
    /// `BPF_F_SLEEPABLE` is refused.
    Never,
    /// Either way.
    May,
    /// `BPF_F_SLEEPABLE` is required.
    Must,
    /// It depends on the function attached to (`fmod_ret`, LSM: a list of the kernel; fentry, fexit: error-injectable or
    /// sleepable functions).
    Target,
}

/// If a program may be loaded as sleepable. Source: `can_be_sleepable`.
#[must_use]
pub const fn sleep(prog_type: ProgType, attach: Option<AttachType>) -> Sleep {
    match (prog_type, attach) {
        (P::Kprobe | P::StructOps, _) | (P::Tracing, Some(A::TraceIter)) => Sleep::May,
        (P::Tracing, Some(A::TraceFentry | A::TraceFexit | A::ModifyReturn)) | (P::Lsm, _) => {
            Sleep::Target
        }
        (P::Syscall, _) => Sleep::Must,
        _ => Sleep::Never,
    }
}

/// Attach types that a load must name; other program types take any number. Source: `bpf_prog_load_check_attach`.
#[rustfmt::skip] // one program type per line
const ATTACH_TYPES: &[(ProgType, &[AttachType])] = &[
    (P::CgroupSkb, &[A::CgroupInetIngress, A::CgroupInetEgress]),
    (P::CgroupSock, &[A::CgroupInetSockCreate, A::CgroupInet4PostBind, A::CgroupInet6PostBind, A::CgroupInetSockRelease]),
    (P::CgroupSockAddr, &[
        A::CgroupInet4Bind, A::CgroupInet6Bind, A::CgroupInet4Connect, A::CgroupInet6Connect, A::CgroupUdp4Sendmsg, A::CgroupUdp6Sendmsg,
        A::CgroupUdp4Recvmsg, A::CgroupUdp6Recvmsg, A::CgroupInet4Getpeername, A::CgroupInet6Getpeername, A::CgroupInet4Getsockname,
        A::CgroupInet6Getsockname, A::CgroupUnixConnect, A::CgroupUnixSendmsg, A::CgroupUnixRecvmsg, A::CgroupUnixGetpeername,
        A::CgroupUnixGetsockname,
    ]),
    (P::SkReuseport, &[A::SkReuseportSelect, A::SkReuseportSelectOrMigrate]),
    (P::CgroupSockopt, &[A::CgroupGetsockopt, A::CgroupSetsockopt]),
    (P::SkLookup, &[A::SkLookup]),
    (P::Netfilter, &[A::Netfilter]),
];

/// The attach type a load with `expected_attach_type` = `attach` means, or `None` if it is refused with `EINVAL`.
///
/// A few program types have a default for 0; those that take any number keep it unread, so that a number no kernel knows is
/// `Some(0)`.
#[must_use]
pub fn load_attach(prog_type: ProgType, attach: u32) -> Option<u32> {
    match (prog_type, attach) {
        (P::CgroupSock, 0) => return Some(A::CgroupInetSockCreate.id()),
        (P::SkReuseport, 0) => return Some(A::SkReuseportSelect.id()),
        (P::Syscall | P::Ext, number) => return (number == 0).then_some(0),
        _ => {}
    }
    match ATTACH_TYPES.iter().find(|(row, _)| *row == prog_type) {
        Some((_, allowed)) => allowed
            .iter()
            .any(|known| known.id() == attach)
            .then_some(attach),
        None => Some(AttachType::from_id(attach).map_or(0, AttachType::id)),
    }
}

/// Special fields of map values that matter to [`map_allowed`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MapRecord {
    /// A `bpf_spin_lock` or `bpf_res_spin_lock`.
    pub spin_lock: bool,
    /// A `bpf_timer`.
    pub timer: bool,
    /// A `bpf_wq`.
    pub work_queue: bool,
    /// A `bpf_list_head` or `bpf_rb_root`.
    pub graph_root: bool,
}

/// Why a program may not name a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapDenied {
    /// `tracing progs cannot use bpf_{list_head,rb_root} yet`
    TracingGraphRoot,
    /// `socket filter progs cannot use bpf_spin_lock yet`
    SocketFilterSpinLock,
    /// `tracing progs cannot use bpf_spin_lock yet`
    TracingSpinLock,
    /// `tracing progs cannot use bpf_timer yet`
    TracingTimer,
    /// `tracing progs cannot use bpf_wq yet`
    TracingWorkQueue,
    /// `bpf_struct_ops map cannot be used in prog`
    StructOps,
    /// `Sleepable programs can only use array, hash, ringbuf and local storage maps`
    Sleepable,
    /// `CAP_PERFMON required to use arena`
    Arena,
}

/// Map types that sleepable programs may use.
#[rustfmt::skip]
pub const SLEEPABLE_MAPS: &[MapType] = &[
    M::Hash, M::Array, M::PercpuHash, M::PercpuArray, M::LruHash, M::LruPercpuHash, M::ArrayOfMaps, M::HashOfMaps, M::Queue, M::Stack,
    M::SkStorage, M::Ringbuf, M::InodeStorage, M::TaskStorage, M::UserRingbuf, M::CgrpStorage, M::Arena,
];

/// If a program may name a map. Source: `check_map_prog_compatibility`, in its order.
///
/// # Errors
/// [`MapDenied`] with the kernel's reason.
pub fn map_allowed(
    env: &ProgEnv<'_>,
    map_type: MapType,
    record: MapRecord,
) -> Result<(), MapDenied> {
    let tracing = facts(env.prog_type).tracing;
    if record.graph_root && tracing {
        return Err(MapDenied::TracingGraphRoot);
    }
    if record.spin_lock && env.prog_type == P::SocketFilter {
        return Err(MapDenied::SocketFilterSpinLock);
    }
    if record.spin_lock && tracing {
        return Err(MapDenied::TracingSpinLock);
    }
    if record.timer && tracing {
        return Err(MapDenied::TracingTimer);
    }
    if record.work_queue && tracing {
        return Err(MapDenied::TracingWorkQueue);
    }
    if map_type == M::StructOps {
        return Err(MapDenied::StructOps);
    }
    if env.sleepable && !SLEEPABLE_MAPS.contains(&map_type) {
        return Err(MapDenied::Sleepable);
    }
    if map_type == M::Arena && !env.perfmon {
        return Err(MapDenied::Arena);
    }
    Ok(())
}

/// Map types whose programs must all be alike, whatever they do with the map: the first program that names the map decides
/// (`map_type_contains_progs`). All compare program type, fragments and the prototype of a BTF target; a prog array also
/// compares the attach type.
pub const OWNED_MAPS: &[MapType] = &[M::ProgArray, M::Devmap, M::Cpumap];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ordered_and_complete() {
        assert_eq!(PROG_FACTS.len(), ProgType::ALL.len());
        for (at, row) in PROG_FACTS.iter().enumerate() {
            assert_eq!(usize::try_from(row.prog_type.id()).unwrap(), at);
        }
    }

    /// A program of this type and attach type.
    fn env(prog_type: ProgType, attach: Option<AttachType>) -> ProgEnv<'static> {
        ProgEnv {
            prog_type,
            attach,
            sleepable: false,
            perfmon: true,
            target: "",
            kernel: None,
        }
    }

    #[test]
    fn return_ranges() {
        let get = |prog_type, attach| {
            ret_range(&env(prog_type, attach), TargetReturns::Value).map(|r| (r.min, r.max))
        };
        assert_eq!(get(P::Xdp, None), None);
        assert_eq!(get(P::CgroupSkb, Some(A::CgroupInetEgress)), Some((0, 3)));
        assert_eq!(get(P::CgroupSkb, Some(A::CgroupInetIngress)), Some((0, 1)));
        assert_eq!(
            get(P::CgroupSockAddr, Some(A::CgroupUdp4Recvmsg)),
            Some((1, 1))
        );
        assert_eq!(get(P::Lsm, Some(A::LsmMac)), Some((-4095, 0)));
        assert_eq!(get(P::Tracing, Some(A::TraceRawTp)), None);
    }

    #[test]
    fn attach_types_at_load() {
        assert_eq!(load_attach(P::CgroupSock, 0), Some(2));
        assert_eq!(load_attach(P::CgroupSock, 8), None);
        assert_eq!(load_attach(P::Syscall, 1), None);
        assert_eq!(load_attach(P::Xdp, 33), Some(33));
        assert_eq!(load_attach(P::Xdp, 4000), Some(0));
    }

    #[test]
    fn maps_and_programs() {
        let lock = MapRecord {
            spin_lock: true,
            ..MapRecord::default()
        };
        assert_eq!(
            map_allowed(&env(P::Kprobe, None), M::Array, lock),
            Err(MapDenied::TracingSpinLock)
        );
        assert_eq!(map_allowed(&env(P::Xdp, None), M::Array, lock), Ok(()));
        let sleepable = ProgEnv {
            sleepable: true,
            ..env(P::Syscall, None)
        };
        assert_eq!(
            map_allowed(&sleepable, M::ProgArray, MapRecord::default()),
            Err(MapDenied::Sleepable)
        );
    }
}
