//! Asks the running kernel what a profile holds: each answer is one load of a few instructions. Nothing is attached.

use super::rules::rules;
use super::{Answer, map_type};
use crate::kernel::Kernel;
use skep_abi::helper::ProgEnv;
use skep_abi::kernel::{Kernel as Facts, Subject as Row};
use skep_abi::prog_flags::BPF_F_SLEEPABLE;
use skep_abi::{AttachType, MapType, ProgType, kfunc, struct_ops};
use skep_bpf::{Backend, Errno, Error, ProgLoad};
use skep_btf::{Btf, Kind, Type};
use skep_isa::Slot;

/// Highest helper number that is tried, and one: a few more than there are.
pub const HELPERS_END: u32 = 220;

/// What kernels mark kfuncs with in their BTF, since Linux 6.9.
const KFUNC_TAG: &str = "bpf_kfunc";

/// A kind of program that can be asked about.
///
/// ```no_run
/// use skep::feature::ask::subjects;
///
/// let kernel = skep::Kernel::new();
/// for subject in subjects(&skep::target::running_btf()?) {
///     println!("{:?}: {}", subject.prog_type, subject.loads(&kernel));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Subject {
    /// Program type.
    pub prog_type: ProgType,
    /// Expected attach type.
    pub attach: Option<AttachType>,
    /// `BPF_F_SLEEPABLE` or 0.
    pub prog_flags: u32,
    /// BTF id of the target, and its name.
    pub target: (u32, String),
}

impl Subject {
    /// How `abi` sees it.
    #[must_use]
    pub fn env(&self) -> ProgEnv<'_> {
        ProgEnv {
            prog_type: self.prog_type,
            attach: self.attach,
            sleepable: self.prog_flags & BPF_F_SLEEPABLE != 0,
            perfmon: true,
            target: &self.target.1,
            kernel: None,
        }
    }

    /// Loads `insns`.
    ///
    /// # Errors
    /// What the verifier said if it refused.
    pub fn load(&self, kernel: &Kernel, insns: &[Slot]) -> Result<(), Error> {
        let spec = ProgLoad {
            expected_attach_type: self.attach,
            name: "probe".to_owned(),
            prog_flags: self.prog_flags,
            attach_btf_id: self.target.0,
            log_level: 1,
            ..ProgLoad::plain(self.prog_type, insns.to_vec())
        };
        kernel.prog_load(&spec).map(|handle| kernel.close(handle))
    }

    /// True if the kernel loads such programs at all.
    #[must_use]
    pub fn loads(&self, kernel: &Kernel) -> bool {
        let loads = |value| match self.load(kernel, &[set(value), EXIT]) {
            Ok(()) => true,
            Err(error) => {
                !error.log.is_empty()
                    && !error.log.contains("must provide btf_id")
                    && error.errno != Errno::ENOTSUPP
            }
        };
        loads(0) || loads(1)
    }
}

/// Attach types that change something for a program type; the others are asked about with none.
#[rustfmt::skip] // one program type per line
const ATTACH: &[(ProgType, &[AttachType])] = {
    use AttachType as A;
    &[
        (ProgType::Kprobe, &[A::TraceKprobeMulti, A::TraceKprobeSession, A::TraceUprobeMulti, A::TraceUprobeSession]),
        (ProgType::Xdp, &[A::Xdp, A::XdpDevmap, A::XdpCpumap]),
        (ProgType::SchedCls, &[A::TcxIngress]),
        (ProgType::CgroupSkb, &[A::CgroupInetIngress, A::CgroupInetEgress]),
        (ProgType::CgroupSock, &[A::CgroupInetSockCreate, A::CgroupInet4PostBind, A::CgroupInet6PostBind, A::CgroupInetSockRelease]),
        (ProgType::CgroupDevice, &[A::CgroupDevice]),
        (ProgType::CgroupSysctl, &[A::CgroupSysctl]),
        (ProgType::CgroupSockopt, &[A::CgroupGetsockopt, A::CgroupSetsockopt]),
        (ProgType::SkReuseport, &[A::SkReuseportSelect, A::SkReuseportSelectOrMigrate]),
        (ProgType::SkLookup, &[A::SkLookup]),
        (ProgType::Netfilter, &[A::Netfilter]),
        (ProgType::CgroupSockAddr, &[
            A::CgroupInet4Bind, A::CgroupInet6Bind, A::CgroupInet4Connect, A::CgroupInet6Connect, A::CgroupUdp4Sendmsg,
            A::CgroupUdp6Sendmsg, A::CgroupUdp4Recvmsg, A::CgroupUdp6Recvmsg, A::CgroupInet4Getpeername, A::CgroupInet6Getpeername,
            A::CgroupInet4Getsockname, A::CgroupInet6Getsockname, A::CgroupUnixConnect, A::CgroupUnixSendmsg,
            A::CgroupUnixRecvmsg, A::CgroupUnixGetpeername, A::CgroupUnixGetsockname,
        ]),
    ]
};

/// BTF targets: program type, attach type, sleepable, kind and name of the target.
type Target = (ProgType, Option<AttachType>, bool, Kind, &'static str);

/// Targets that are tried on every kernel.
#[rustfmt::skip] // one target per line
const TARGETS: &[Target] = {
    use AttachType as A;
    &[
        (ProgType::Tracing, Some(A::TraceRawTp), false, Kind::Typedef, "btf_trace_sys_enter"),
        (ProgType::Tracing, Some(A::TraceIter), false, Kind::Func, "bpf_iter_task"),
        (ProgType::Tracing, Some(A::TraceIter), false, Kind::Func, "bpf_iter_tcp"),
        // a member of the structure by its index, 0: ssthresh
        (ProgType::StructOps, None, false, Kind::Struct, "tcp_congestion_ops"),
    ]
};

/// Targets that need a trampoline.
#[rustfmt::skip] // one target per line
const TRAMPOLINES: &[Target] = {
    use AttachType as A;
    &[
        (ProgType::Tracing, Some(A::TraceFentry), false, Kind::Func, "vfs_read"),
        (ProgType::Tracing, Some(A::TraceFentry), true, Kind::Func, "__x64_sys_nanosleep"),
        (ProgType::Tracing, Some(A::TraceFexit), false, Kind::Func, "vfs_read"),
        (ProgType::Tracing, Some(A::TraceFexit), true, Kind::Func, "__x64_sys_nanosleep"),
        // not in all kernels; the last one stands for functions that are not named here
        (ProgType::Tracing, Some(A::ModifyReturn), false, Kind::Func, "bpf_modify_return_test"),
        (ProgType::Tracing, Some(A::ModifyReturn), false, Kind::Func, "security_file_open"),
        (ProgType::Lsm, Some(A::LsmMac), false, Kind::Func, "bpf_lsm_file_open"),
        (ProgType::Lsm, Some(A::LsmMac), true, Kind::Func, "bpf_lsm_file_open"),
        (ProgType::Lsm, Some(A::LsmCgroup), false, Kind::Func, "bpf_lsm_socket_bind"),
    ]
};

/// Program types that are asked about without attach type and target: those that have no BTF target.
fn plain_types() -> impl Iterator<Item = ProgType> {
    let with_target = [
        ProgType::Unspec,
        ProgType::Tracing,
        ProgType::Lsm,
        ProgType::StructOps,
        ProgType::Ext,
    ];
    ProgType::ALL
        .iter()
        .copied()
        .filter(move |t| !with_target.contains(t))
}

/// Kinds of programs without trampolines.
#[must_use]
pub fn subjects(btf: &Btf) -> Vec<Subject> {
    let mut all = Vec::new();
    for prog_type in plain_types() {
        let prog_flags = if prog_type == ProgType::Syscall {
            BPF_F_SLEEPABLE
        } else {
            0
        };
        let attach = ATTACH.iter().find(|(t, _)| *t == prog_type);
        let attach = attach
            .into_iter()
            .flat_map(|(_, list)| list.iter().copied().map(Some));
        for attach in core::iter::once(None).chain(attach) {
            all.push(Subject {
                prog_type,
                attach,
                prog_flags,
                target: (0, String::new()),
            });
        }
    }
    all.extend(TARGETS.iter().filter_map(|t| with_target(btf, t)));
    all
}

fn with_target(btf: &Btf, target: &Target) -> Option<Subject> {
    let (prog_type, attach, sleepable, kind, name) = *target;
    let id = btf.find_by_name_kind(name, kind)?;
    let member = if kind == Kind::Struct {
        ".ssthresh"
    } else {
        ""
    };
    Some(Subject {
        prog_type,
        attach,
        prog_flags: if sleepable { BPF_F_SLEEPABLE } else { 0 },
        target: (id, format!("{name}{member}")),
    })
}

/// `r0 = imm`
#[must_use]
pub const fn set(imm: i32) -> Slot {
    Slot::new(0xb7, 0, 0, 0, imm)
}

/// `exit`
pub const EXIT: Slot = Slot::new(0x95, 0, 0, 0, 0);

/// `call helper`
#[must_use]
pub const fn call(id: u32) -> Slot {
    Slot::new(0x85, 0, 0, 0, id.cast_signed())
}

/// `call kfunc`
#[must_use]
pub const fn call_kfunc(id: u32) -> Slot {
    Slot::new(0x85, 0, 2, 0, id.cast_signed())
}

/// Ways in which kernels say that a program has no such helper.
const NO_HELPER: &[&str] = &["invalid func", "unknown func", "cannot use helper"];

/// Which fields the first operation of TCP congestion control may write; its argument is the socket.
fn writes(kernel: &Kernel, btf: &Btf) -> Vec<(String, bool)> {
    const SOCKET: &str = "tcp_sock";
    let target = TARGETS.iter().find(|t| t.0 == ProgType::StructOps);
    let subject = target.and_then(|t| with_target(btf, t));
    let (Some(subject), Some(socket)) = (subject, btf.find(SOCKET, Kind::Struct)) else {
        return Vec::new();
    };
    let ask = |field: &str| {
        let (offset, bytes) = place_of(socket, field)?;
        let store = match bytes {
            1 => 0x73,
            4 => 0x63,
            _ => 0x7b,
        };
        let argument = Slot::new(0x79, 1, 1, 0, 0);
        let insns = [
            argument,
            set(0),
            Slot::new(store, 1, 0, i16::try_from(offset).ok()?, 0),
            EXIT,
        ];
        let loaded = subject.load(kernel, &insns);
        Some((format!("{SOCKET}.{field}"), loaded.is_ok()))
    };
    struct_ops::writable(ProgType::StructOps, SOCKET)
        .filter_map(ask)
        .collect()
}

/// Offset and size of a field.
fn place_of(structure: Type<'_>, path: &str) -> Option<(u32, u32)> {
    let (mut at, mut offset, mut bytes) = (structure, 0, 0);
    for name in path.split('.') {
        let member = at.members().find(|m| m.name == name)?;
        offset += member.bit_offset / 8;
        at = at.btf().resolve(member.type_id)?;
        bytes = at.btf().size_of(at.id()).ok()?;
    }
    Some((offset, bytes))
}

/// Names and ids of the kernel's kfuncs: those it marks, and those of our table.
fn kfuncs(btf: &Btf) -> Vec<(String, u32)> {
    let mut all: Vec<(String, u32)> = btf
        .types()
        .filter(|t| t.kind() == Kind::Func)
        .filter(|t| {
            kfunc::by_name(t.name()).is_some()
                || btf.decl_tags(t.id()).any(|(_, tag)| tag == KFUNC_TAG)
        })
        .map(|t| (t.name().to_owned(), t.id()))
        .collect();
    all.sort();
    all.dedup_by(|a, b| a.0 == b.0);
    all
}

fn ask(kernel: &Kernel, subject: &Subject, kfuncs: &[(String, u32)]) -> Row {
    let refused = |insns: &[Slot], words: &[&str]| {
        let log = subject.load(kernel, insns).err().map(|e| e.log);
        log.is_some_and(|log| words.iter().any(|w| log.contains(w)))
    };
    let loads = subject.loads(kernel);
    let mut row = Row {
        attach: subject.attach,
        sleepable: subject.prog_flags != 0,
        target: subject.target.1.clone(),
        loads,
        ..Row::default()
    };
    if loads {
        let granted = (1..HELPERS_END).filter(|id| !refused(&[call(*id), EXIT], NO_HELPER));
        row.helpers = granted.collect();
        let may = |id| !refused(&[call_kfunc(id), set(0), EXIT], &["is not allowed"]);
        let names = kfuncs.iter().filter(|(_, id)| may(*id));
        row.kfuncs = names.map(|(name, _)| name.clone()).collect();
    }
    row
}

/// Asks the running kernel everything; takes seconds. `release` and `version` are left to the caller.
#[must_use]
pub fn ask_all(btf: &Btf) -> Facts {
    let kernel = Kernel::new();
    let kfuncs = kfuncs(btf);
    let trampolines = TRAMPOLINES.iter().filter_map(|t| with_target(btf, t));
    let subjects = subjects(btf).into_iter().chain(trampolines);
    let types = MapType::ALL.iter().filter(|t| **t != MapType::Unspec);
    Facts {
        maps: types
            .filter_map(|t| match map_type(&kernel, *t) {
                Answer::Yes => Some((*t, true)),
                Answer::No => Some((*t, false)),
                Answer::Unknown => None,
            })
            .collect(),
        rules: rules(&kernel, btf),
        writes: writes(&kernel, btf),
        subjects: subjects
            .map(|s| (s.prog_type, ask(&kernel, &s, &kfuncs)))
            .collect(),
        ..Facts::default()
    }
}
