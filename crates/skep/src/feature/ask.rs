//! Asks the running kernel what a profile holds: each answer is one load of a few instructions. Nothing is attached.

use super::{Answer, map_type};
use crate::kernel::Kernel;
use skep_abi::helper::ProgEnv;
use skep_abi::kernel::{Kernel as Facts, Rule, Subject as Row};
use skep_abi::prog_flags::BPF_F_SLEEPABLE;
use skep_abi::{AttachType, MapType, ProgType, kfunc, struct_ops};
use skep_bpf::{Backend, Errno, Error, Handle, MapCreate, ProgLoad};
use skep_btf::{Btf, Builder, Kind, Order, Type};
use skep_isa::Slot;

/// Highest helper number that is tried, and one: a few more than there are.
pub const HELPERS_END: u32 = 220;

/// What kernels mark kfuncs with in their BTF, since Linux 6.9.
const KFUNC_TAG: &str = "bpf_kfunc";

/// A kind of program that can be asked about.
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

/// The two instructions that make `r0` and an initialised stack slot `*(u64 *)(r10 - 8)`.
const STACK_SLOT: Slot = Slot::new(0x7a, 10, 0, -8, 0);

/// What it means that a kernel has a rule.
#[derive(Clone, Copy, Debug)]
enum Says {
    /// The program loads.
    Loads,
    /// It loads, or is refused only for want of what is named.
    LoadsBut(&'static str),
    /// It is refused with these words, where other kernels load it.
    Refuses(&'static str),
}

/// A program that only kernels with a rule load, or only they refuse.
struct Trial {
    rule: Rule,
    prog_type: ProgType,
    insns: &'static [Slot],
    says: Says,
}

const fn trial(rule: Rule, insns: &'static [Slot], says: Says) -> Trial {
    Trial {
        rule,
        prog_type: ProgType::SocketFilter,
        insns,
        says,
    }
}

/// A program for each rule, but for those of [`other_rules`].
#[rustfmt::skip] // one rule per line
const TRIALS: &[Trial] = &[
    trial(Rule::SignedDivision, &[set(4), Slot::new(0x3f, 0, 0, 1, 0), EXIT], Says::Loads),
    trial(Rule::MoveSigned, &[set(4), Slot::new(0xbf, 0, 0, 8, 0), EXIT], Says::Loads),
    trial(Rule::LoadSigned, &[STACK_SLOT, Slot::new(0x81, 0, 10, -8, 0), EXIT], Says::Loads),
    trial(Rule::ByteSwap, &[set(4), Slot::new(0xd7, 0, 0, 0, 32), EXIT], Says::Loads),
    trial(Rule::LongJump, &[set(4), Slot::new(0x06, 0, 0, 0, 0), EXIT], Says::Loads),
    trial(Rule::MayGoto, &[set(4), Slot::new(0xe5, 0, 0, 1, 0), set(5), EXIT], Says::Loads),
    trial(Rule::LoadAcquire, &[STACK_SLOT, Slot::new(0xdb, 0, 10, -8, 0x100), EXIT], Says::Loads),
    trial(Rule::ArenaCast, &[set(4), Slot::new(0xbf, 0, 0, 1, 1), EXIT], Says::LoadsBut("arena")),
    trial(Rule::UninitStack, &[Slot::new(0x79, 0, 10, -8, 0), set(0), EXIT], Says::Loads),
    // the first element of an array, without a check that it is there
    trial(Rule::KnownKeys, &[
        STACK_SLOT, copy(2, 10), add(2, -8), map(1, ARRAY), REST, call(1), Slot::new(0x61, 0, 0, 0, 0), EXIT,
    ], Says::Loads),
    // one byte of the stack, at an offset of at most 8 that is not 8
    trial(Rule::UnequalEnds, &[
        STACK_SLOT, Slot::new(0x61, 6, 1, 0, 0), set(0), Slot::new(0x25, 6, 0, 5, 8), Slot::new(0x15, 6, 0, 4, 8),
        copy(1, 10), add(1, -8), Slot::new(0x0f, 1, 6, 0, 0), Slot::new(0x71, 0, 1, 0, 0), EXIT,
    ], Says::Loads),
    // one byte of the stack, at an offset that is not above another one that is below 8
    trial(Rule::RegisterComparison, &[
        STACK_SLOT, Slot::new(0x61, 6, 1, 0, 0), Slot::new(0x61, 7, 1, 4, 0), set(0), Slot::new(0x25, 7, 0, 5, 7),
        Slot::new(0x2d, 6, 7, 4, 0), copy(1, 10), add(1, -8), Slot::new(0x0f, 1, 6, 0, 0), Slot::new(0x71, 0, 1, 0, 0), EXIT,
    ], Says::Loads),
    // two elements of an array at an unknown key: one is there, the other equals it
    trial(Rule::EqualPointers, &[
        Slot::new(0x61, 7, 1, 0, 0), Slot::new(0x63, 10, 7, -8, 0),
        copy(2, 10), add(2, -8), map(1, ARRAY), REST, call(1), copy(6, 0),
        copy(2, 10), add(2, -8), map(1, ARRAY), REST, call(1),
        Slot::new(0x15, 0, 0, 2, 0), Slot::new(0x5d, 6, 0, 1, 0), Slot::new(0x61, 1, 6, 0, 0), set(0), EXIT,
    ], Says::Loads),
    // a key in a record of a ring buffer
    trial(Rule::MapMemory, &[
        map(1, RINGBUF), REST, set_to(2, 8), set_to(3, 0), call(131), Slot::new(0x15, 0, 0, 8, 0), copy(6, 0),
        copy(2, 6), map(1, ARRAY), REST, call(1), copy(1, 6), set_to(2, 0), call(133), set(0), EXIT,
    ], Says::Loads),
    // a function between taking and giving back a lock
    Trial { rule: Rule::CallsUnderLock, prog_type: ProgType::SchedCls, insns: &[
        STACK_SLOT, copy(2, 10), add(2, -8), map(1, LOCK), REST, call(1), Slot::new(0x15, 0, 0, 6, 0), copy(6, 0),
        copy(1, 6), call(93), call_function(4), copy(1, 6), call(94), set(0), EXIT, set(0), EXIT,
    ], says: Says::Loads },
    // six frames of 80 bytes: 480 together, 576 if each is 96
    trial(Rule::FrameRounding, &[
        frame(-80), call_function(1), EXIT, frame(-80), call_function(1), EXIT, frame(-80), call_function(1), EXIT,
        frame(-80), call_function(1), EXIT, frame(-80), call_function(1), EXIT, frame(-80), set(0), EXIT,
    ], Says::Loads),
    // five frames of 144 bytes
    Trial { rule: Rule::PrivateStack, prog_type: ProgType::Tracepoint, insns: &[
        frame(-144), call_function(1), EXIT, frame(-144), call_function(1), EXIT, frame(-144), call_function(1), EXIT,
        frame(-144), call_function(1), EXIT, frame(-144), set(0), EXIT,
    ], says: Says::Loads },
    // what bpf_dynptr_data gave is read when the dynptr is no more
    trial(Rule::DynptrEnds, &[
        Slot::new(0x61, 7, 1, 0, 0), Slot::new(0x63, 10, 7, -8, 0), copy(2, 10), add(2, -8), map(1, ARRAY), REST, call(1),
        Slot::new(0x15, 0, 0, 14, 0), copy(1, 0), set_to(2, 4), set_to(3, 0), copy(4, 10), add(4, -24), call(197),
        copy(1, 10), add(1, -24), set_to(2, 0), set_to(3, 4), call(203), Slot::new(0x15, 0, 0, 2, 0),
        frame(-24), Slot::new(0x71, 1, 0, 0, 0), set(0), EXIT,
    ], Says::Refuses("invalid mem access")),
];

/// Maps that trials use, as the number in the wide instruction that names them.
const ARRAY: i32 = 0;
const RINGBUF: i32 = 1;
const LOCK: i32 = 2;

const LDDW: u8 = 0x18;
const PSEUDO_MAP_FD: u8 = 1;
/// The second slot of a wide instruction.
const REST: Slot = Slot::new(0, 0, 0, 0, 0);

/// The first slot of the instruction that loads a map's address.
const fn map(register: u8, which: i32) -> Slot {
    Slot::new(LDDW, register, PSEUDO_MAP_FD, 0, which)
}

/// `register = imm`
const fn set_to(register: u8, imm: i32) -> Slot {
    Slot::new(0xb7, register, 0, 0, imm)
}

/// `to = from`
const fn copy(to: u8, from: u8) -> Slot {
    Slot::new(0xbf, to, from, 0, 0)
}

/// `register += imm`
const fn add(register: u8, imm: i32) -> Slot {
    Slot::new(0x07, register, 0, 0, imm)
}

/// `*(u64 *)(r10 + offset) = 0`
const fn frame(offset: i16) -> Slot {
    Slot::new(0x7a, 10, 0, offset, 0)
}

/// Calls the function that begins `distance` slots behind the next instruction.
const fn call_function(distance: i32) -> Slot {
    Slot::new(0x85, 0, 1, 0, distance)
}

/// BTF of `struct { struct bpf_spin_lock lock; }`: the blob, and the ids of a key and of it.
fn values() -> (Vec<u8>, u32, u32) {
    let mut b = Builder::new(Order::HOST);
    let int = b.add_int("int", 4, 1);
    let lock = b.add_struct("bpf_spin_lock", 4, &[("val", int, 0)]);
    let locked = b.add_struct("locked", 4, &[("lock", lock, 0)]);
    (b.finish(), int, locked)
}

fn rules(kernel: &Kernel, btf: &Btf) -> Vec<(Rule, bool)> {
    let (blob, key, locked) = values();
    let types = kernel.btf_load(&blob);
    let lock = types.as_ref().ok().map(|types| MapCreate {
        btf: Some(*types),
        btf_key_type_id: key,
        btf_value_type_id: locked,
        ..MapCreate::new(MapType::Array, 4, 4, 1)
    });
    let specs = [
        Some(MapCreate::new(MapType::Array, 4, 4, 1)),
        Some(MapCreate::new(MapType::Ringbuf, 0, 0, 4096)),
        lock,
    ];
    let maps = specs.map(|spec| spec.and_then(|s| kernel.map_create(&s).ok()));
    let mut answers: Vec<(Rule, bool)> = TRIALS
        .iter()
        .filter_map(|t| Some((t.rule, t.ask(kernel, &maps)?)))
        .collect();
    answers.extend(gpl_structures(kernel, btf).map(|yes| (Rule::GplStructures, yes)));
    if let Ok(types) = types {
        kernel.close(types);
    }
    maps.into_iter().flatten().for_each(|m| kernel.close(m));
    answers
}

impl Trial {
    /// Whether the kernel has the rule; `None` if it refuses the program for something else.
    fn ask(&self, kernel: &Kernel, maps: &[Option<Handle>]) -> Option<bool> {
        let mut insns = self.insns.to_vec();
        for slot in insns.iter_mut().filter(|s| s.code == LDDW) {
            slot.imm = usize::try_from(slot.imm)
                .ok()
                .and_then(|i| *maps.get(i)?)?
                .0;
        }
        let subject = Subject {
            prog_type: self.prog_type,
            attach: None,
            prog_flags: 0,
            target: (0, String::new()),
        };
        let loaded = subject.load(kernel, &insns);
        match (self.says, loaded) {
            (Says::Loads | Says::LoadsBut(_), Ok(())) => Some(true),
            (Says::Loads, Err(_)) => Some(false),
            (Says::LoadsBut(words), Err(e)) => Some(e.log.contains(words)),
            (Says::Refuses(_), Ok(())) => Some(false),
            (Says::Refuses(words), Err(e)) => e.log.contains(words).then_some(true),
        }
    }
}

/// A typed tracepoint that reads a field of its argument, without the GPL.
fn gpl_structures(kernel: &Kernel, btf: &Btf) -> Option<bool> {
    let id = btf.find_by_name_kind("btf_trace_sys_enter", Kind::Typedef)?;
    let read = |to: u8, from: u8| Slot::new(0x79, to, from, 0, 0);
    let spec = ProgLoad {
        expected_attach_type: Some(AttachType::TraceRawTp),
        license: "none".to_owned(),
        attach_btf_id: id,
        log_level: 1,
        ..ProgLoad::plain(
            ProgType::Tracing,
            vec![read(1, 1), read(1, 1), set(0), EXIT],
        )
    };
    match kernel.prog_load(&spec) {
        Ok(handle) => {
            kernel.close(handle);
            Some(false)
        }
        Err(e) => e.log.contains("non-GPL").then_some(true),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use skep_abi::since;

    #[test]
    fn every_rule_is_asked_about() {
        let mut asked: Vec<Rule> = TRIALS.iter().map(|t| t.rule).collect();
        asked.push(Rule::GplStructures);
        let dated = Rule::ALL.iter().filter(|r| since::rule(**r).is_some());
        asked.extend(dated);
        assert_eq!(asked, Rule::ALL);
    }

    /// Our own verifier follows the rules of the reference kernel.
    #[test]
    fn the_reference_kernel_has_all_rules() {
        for t in TRIALS {
            if t.insns.iter().any(|s| s.code == LDDW) || !matches!(t.says, Says::Loads) {
                continue; // maps and arenas are not at hand here
            }
            let request = skep_verifier::Request::plain("rule", t.prog_type, t.insns);
            let answer = skep_verifier::verify(&request);
            assert!(answer.is_ok(), "{}: {:?}", t.rule.name(), answer.err());
            let facts = Facts {
                rules: vec![(t.rule, false)],
                subjects: vec![(
                    t.prog_type,
                    Row {
                        loads: true,
                        ..Row::default()
                    },
                )],
                ..Facts::default()
            };
            let without = skep_verifier::Request {
                kernel: Some(&facts),
                ..request
            };
            let refused = skep_verifier::verify(&without).is_err();
            let is_old = t.rule == Rule::LongJump; // every kernel that has a profile has them
            assert!(refused || is_old, "{}", t.rule.name());
        }
    }
}
