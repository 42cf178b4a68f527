//! Asks the running kernel what a profile holds: each answer is one load of a few instructions. Nothing is attached.

use super::{Answer, map_type};
use crate::kernel::Kernel;
use skep_abi::helper::ProgEnv;
use skep_abi::kernel::{Kernel as Facts, Rule, Subject as Row};
use skep_abi::prog_flags::BPF_F_SLEEPABLE;
use skep_abi::{AttachType, MapType, ProgType, kfunc};
use skep_bpf::{Backend, Errno, Error, MapCreate, ProgLoad};
use skep_btf::{Btf, Kind};
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

/// A program for each rule; the kernel has the rule if it loads, or complains only about what is named.
#[rustfmt::skip] // one rule per line
const RULES: &[(Rule, &[Slot], &str)] = &[
    (Rule::SignedDivision, &[set(4), Slot::new(0x3f, 0, 0, 1, 0), EXIT], ""),
    (Rule::MoveSigned, &[set(4), Slot::new(0xbf, 0, 0, 8, 0), EXIT], ""),
    (Rule::LoadSigned, &[STACK_SLOT, Slot::new(0x81, 0, 10, -8, 0), EXIT], ""),
    (Rule::ByteSwap, &[set(4), Slot::new(0xd7, 0, 0, 0, 32), EXIT], ""),
    (Rule::LongJump, &[set(4), Slot::new(0x06, 0, 0, 0, 0), EXIT], ""),
    (Rule::MayGoto, &[set(4), Slot::new(0xe5, 0, 0, 1, 0), set(5), EXIT], ""),
    (Rule::LoadAcquire, &[STACK_SLOT, Slot::new(0xdb, 0, 10, -8, 0x100), EXIT], ""),
    (Rule::ArenaCast, &[set(4), Slot::new(0xbf, 0, 0, 1, 1), EXIT], "arena"),
    (Rule::UninitStack, &[Slot::new(0x79, 0, 10, -8, 0), set(0), EXIT], ""),
    // the first element of an array, without a check that it is there
    (Rule::KnownKeys, &[
        STACK_SLOT, Slot::new(0xbf, 2, 10, 0, 0), Slot::new(0x07, 2, 0, 0, -8), THE_MAP, Slot::new(0, 0, 0, 0, 0), call(1),
        Slot::new(0x61, 0, 0, 0, 0), EXIT,
    ], ""),
    // one byte of the stack, at an offset of at most 8 that is not 8
    (Rule::UnequalEnds, &[
        STACK_SLOT, Slot::new(0x61, 6, 1, 0, 0), set(0), Slot::new(0x25, 6, 0, 5, 8), Slot::new(0x15, 6, 0, 4, 8),
        Slot::new(0xbf, 1, 10, 0, 0), Slot::new(0x07, 1, 0, 0, -8), Slot::new(0x0f, 1, 6, 0, 0), Slot::new(0x71, 0, 1, 0, 0), EXIT,
    ], ""),
    // one byte of the stack, at an offset that is not above another one that is below 8
    (Rule::RegisterComparison, &[
        STACK_SLOT, Slot::new(0x61, 6, 1, 0, 0), Slot::new(0x61, 7, 1, 4, 0), set(0), Slot::new(0x25, 7, 0, 5, 7),
        Slot::new(0x2d, 6, 7, 4, 0), Slot::new(0xbf, 1, 10, 0, 0), Slot::new(0x07, 1, 0, 0, -8), Slot::new(0x0f, 1, 6, 0, 0),
        Slot::new(0x71, 0, 1, 0, 0), EXIT,
    ], ""),
];

/// Stands for the address of the map that rules are tried with, in the first slot of a wide instruction.
const THE_MAP: Slot = Slot::new(LDDW, 1, PSEUDO_MAP_FD, 0, 0);
const LDDW: u8 = 0x18;
const PSEUDO_MAP_FD: u8 = 1;

fn rules(kernel: &Kernel) -> Vec<(Rule, bool)> {
    let filter = Subject {
        prog_type: ProgType::SocketFilter,
        attach: None,
        prog_flags: 0,
        target: (0, String::new()),
    };
    let map = kernel.map_create(&MapCreate::new(MapType::Array, 4, 4, 1));
    let has = |insns: &[Slot], complaint: &str| {
        let mut insns = insns.to_vec();
        for slot in insns.iter_mut().filter(|s| **s == THE_MAP) {
            slot.imm = map.as_ref().map_or(-1, |m| m.0);
        }
        match filter.load(kernel, &insns) {
            Ok(()) => true,
            Err(e) => !complaint.is_empty() && e.log.contains(complaint),
        }
    };
    let answers = RULES
        .iter()
        .map(|(rule, insns, complaint)| (*rule, has(insns, complaint)))
        .collect();
    if let Ok(map) = map {
        kernel.close(map);
    }
    answers
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
        rules: rules(&kernel),
        subjects: subjects
            .map(|s| (s.prog_type, ask(&kernel, &s, &kfuncs)))
            .collect(),
        ..Facts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_asked_about() {
        let asked: Vec<Rule> = RULES.iter().map(|r| r.0).collect();
        assert_eq!(asked, Rule::ALL);
    }

    /// Our own verifier follows the rules of the reference kernel.
    #[test]
    fn the_reference_kernel_has_all_rules() {
        for (rule, insns, complaint) in RULES {
            if insns.contains(&THE_MAP) || !complaint.is_empty() {
                continue; // maps and arenas are not at hand here
            }
            let request = skep_verifier::Request::plain("rule", ProgType::SocketFilter, insns);
            let answer = skep_verifier::verify(&request);
            assert!(answer.is_ok(), "{}: {:?}", rule.name(), answer.err());
            let facts = Facts {
                rules: vec![(*rule, false)],
                ..Facts::default()
            };
            let without = skep_verifier::Request {
                kernel: Some(&facts),
                ..request
            };
            let refused = skep_verifier::verify(&without).is_err();
            let is_old = *rule == Rule::LongJump; // every kernel that has a profile has them
            assert!(refused || is_old, "{}", rule.name());
        }
    }
}
