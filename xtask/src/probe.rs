//! `cargo xtask probe`: the tables of `abi` against the running kernel, cell by cell (root; nothing is attached).
//!
//! Each cell is one load of two or three instructions. Helpers: `call N`. Context: one load or store of `r1` at each offset.
//! Kfuncs: one call. Return values: a random `r0`. What this kernel does not load at all is skipped and counted.

use crate::TaskError;
use skep::Kernel;
use skep::target::running_btf;
use skep_abi::ctx::{self, Access};
use skep_abi::helper::{self, ProgEnv, Unavailable};
use skep_abi::prog::{self, TargetReturns};
use skep_abi::{AttachType, ProgType, kfunc};
use skep_bpf::{Backend, Errno, Error, ProgLoad};
use skep_btf::{Btf, Kind};
use skep_isa::Slot;

/// Offsets of the context that are tried.
const OFFSETS: core::ops::Range<i16> = -24..408;
/// Differences that are printed.
const PRINTED_MAX: usize = 40;
/// `BPF_F_SLEEPABLE`
const SLEEPABLE: u32 = 1 << 4;
/// Highest helper number that is tried: two more than there are.
const HELPERS_END: u32 = 213;

/// Loads a program as this kind.
struct Subject {
    /// Program type.
    prog_type: ProgType,
    /// Expected attach type.
    attach: Option<AttachType>,
    /// `BPF_F_SLEEPABLE` or 0.
    prog_flags: u32,
    /// BTF id of the target, and its name.
    target: (u32, String),
}

impl Subject {
    /// How `abi` sees it.
    fn env(&self) -> ProgEnv<'_> {
        ProgEnv {
            prog_type: self.prog_type,
            attach: self.attach,
            sleepable: self.prog_flags != 0,
            perfmon: true,
            target: &self.target.1,
        }
    }

    /// Loads `insns`; what the verifier said if it refused.
    fn load(&self, kernel: &Kernel, insns: &[Slot]) -> Result<(), Error> {
        let spec = ProgLoad {
            prog_type: self.prog_type,
            expected_attach_type: self.attach,
            insns: insns.to_vec(),
            license: "GPL".to_owned(),
            name: "probe".to_owned(),
            prog_flags: self.prog_flags,
            prog_ifindex: 0,
            btf: None,
            func_info: Vec::new(),
            func_info_rec_size: 0,
            line_info: Vec::new(),
            line_info_rec_size: 0,
            attach_btf_id: self.target.0,
            attach_prog: None,
            attach_btf: None,
            fd_array: Vec::new(),
            log_level: 1,
        };
        kernel.prog_load(&spec).map(|handle| kernel.close(handle))
    }
}

/// Attach types that change something for a program type; the others are probed with none.
const ATTACH: &[(ProgType, &[AttachType])] = {
    use AttachType as A;
    &[
        (
            ProgType::Kprobe,
            &[
                A::TraceKprobeMulti,
                A::TraceKprobeSession,
                A::TraceUprobeMulti,
                A::TraceUprobeSession,
            ],
        ),
        (ProgType::Xdp, &[A::Xdp, A::XdpDevmap, A::XdpCpumap]),
        (ProgType::SchedCls, &[A::TcxIngress]),
        (
            ProgType::CgroupSkb,
            &[A::CgroupInetIngress, A::CgroupInetEgress],
        ),
        (
            ProgType::CgroupSock,
            &[
                A::CgroupInetSockCreate,
                A::CgroupInet4PostBind,
                A::CgroupInet6PostBind,
                A::CgroupInetSockRelease,
            ],
        ),
        (ProgType::CgroupDevice, &[A::CgroupDevice]),
        (ProgType::CgroupSysctl, &[A::CgroupSysctl]),
        (
            ProgType::CgroupSockopt,
            &[A::CgroupGetsockopt, A::CgroupSetsockopt],
        ),
        (
            ProgType::SkReuseport,
            &[A::SkReuseportSelect, A::SkReuseportSelectOrMigrate],
        ),
        (ProgType::SkLookup, &[A::SkLookup]),
        (ProgType::Netfilter, &[A::Netfilter]),
        (
            ProgType::CgroupSockAddr,
            &[
                A::CgroupInet4Bind,
                A::CgroupInet6Bind,
                A::CgroupInet4Connect,
                A::CgroupInet6Connect,
                A::CgroupUdp4Sendmsg,
                A::CgroupUdp6Sendmsg,
                A::CgroupUdp4Recvmsg,
                A::CgroupUdp6Recvmsg,
                A::CgroupInet4Getpeername,
                A::CgroupInet6Getsockname,
                A::CgroupUnixConnect,
                A::CgroupUnixRecvmsg,
            ],
        ),
    ]
};

/// BTF targets that are tried: program type, attach type, kind and name of the target.
const TARGETS: &[(ProgType, Option<AttachType>, Kind, &str)] = &[
    (
        ProgType::Tracing,
        Some(AttachType::TraceRawTp),
        Kind::Typedef,
        "btf_trace_sys_enter",
    ),
    (
        ProgType::Tracing,
        Some(AttachType::TraceIter),
        Kind::Func,
        "bpf_iter_task",
    ),
    (
        ProgType::Tracing,
        Some(AttachType::TraceIter),
        Kind::Func,
        "bpf_iter_tcp",
    ),
    // a member of the structure by its index, 0: ssthresh
    (
        ProgType::StructOps,
        None,
        Kind::Struct,
        "tcp_congestion_ops",
    ),
];

/// Everything that is tried.
fn subjects(btf: &Btf) -> Vec<Subject> {
    let mut all = Vec::new();
    for prog_type in ProgType::ALL
        .iter()
        .copied()
        .filter(|t| *t != ProgType::Unspec)
    {
        let prog_flags = if prog_type == ProgType::Syscall {
            SLEEPABLE
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
    for (prog_type, attach, kind, name) in TARGETS {
        if let Some(id) = btf.find_by_name_kind(name, *kind) {
            let member = if *kind == Kind::Struct {
                ".ssthresh"
            } else {
                ""
            };
            let target = (id, format!("{name}{member}"));
            all.push(Subject {
                prog_type: *prog_type,
                attach: *attach,
                prog_flags: 0,
                target,
            });
        }
    }
    all
}

/// `r0 = imm`
fn set(imm: i32) -> Slot {
    Slot::new(0xb7, 0, 0, 0, imm)
}

/// `exit`
const EXIT: Slot = Slot::new(0x95, 0, 0, 0, 0);

/// `call helper`
fn call(id: u32) -> Slot {
    Slot::new(0x85, 0, 0, 0, id.cast_signed())
}

/// Cells compared so far.
#[derive(Default)]
struct Tally {
    /// Cells.
    cells: usize,
    /// Cells where table and kernel differ.
    differences: usize,
}

impl Tally {
    /// Counts one cell; `what` is said if the two differ.
    fn compare(&mut self, table: &str, kernel: &str, what: impl FnOnce() -> String) {
        self.cells += 1;
        if table != kernel {
            self.differences += 1;
            if self.differences <= PRINTED_MAX {
                println!("{}: table {table}, kernel {kernel}", what());
            }
        }
    }
}

/// The word for an answer.
fn word(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "refused" }
}

/// Says which subject a difference is about.
fn place(subject: &Subject) -> String {
    let attach = subject.attach.map_or("-", AttachType::name);
    format!("{} {attach} {}", subject.prog_type, subject.target.1)
}

/// Availability of every helper.
fn helpers(kernel: &Kernel, subject: &Subject, tally: &mut Tally) {
    for id in 0..HELPERS_END {
        let log = subject
            .load(kernel, &[call(id), EXIT])
            .err()
            .map_or_else(String::new, |e| e.log);
        let said = if log.contains("invalid func") {
            "unknown"
        } else if log.contains("program of this type cannot use helper") {
            "type"
        } else if log.contains("not allowed in probe") {
            "target"
        } else {
            "available"
        };
        let ours = match helper::lookup(&subject.env(), id) {
            Ok(_) => "available",
            Err(Unavailable::Unknown) => "unknown",
            Err(Unavailable::Target) => "target",
            Err(Unavailable::ProgType | Unavailable::Perfmon | Unavailable::Configuration) => {
                "type"
            }
        };
        tally.compare(ours, said, || {
            format!("{} helper {}", place(subject), helper::kernel_name(id))
        });
    }
}

/// Reads and writes of every offset of the context.
fn context(kernel: &Kernel, subject: &Subject, tally: &mut Tally) {
    if matches!(ctx::layout(&subject.env()), ctx::Layout::Btf) {
        return;
    }
    for offset in OFFSETS {
        for (size, code) in [(1u32, 0x10u8), (2, 0x08), (4, 0x00), (8, 0x18)] {
            let read = [Slot::new(0x61 | code, 0, 1, offset, 0), set(0), EXIT];
            let write = [set(0), Slot::new(0x63 | code, 1, 0, offset, 0), EXIT];
            for (kind, insns) in [(Access::Read, read), (Access::Write, write)] {
                let result = subject.load(kernel, &insns);
                let allowed = result
                    .err()
                    .is_none_or(|e| !e.log.contains("invalid bpf_context access"));
                let ours = ctx::access(&subject.env(), i32::from(offset), size, kind).is_ok();
                tally.compare(word(ours), word(allowed), || {
                    format!("{} {kind:?} {size} bytes at {offset}", place(subject))
                });
            }
        }
    }
}

/// Availability of every kfunc.
fn kfuncs(kernel: &Kernel, btf: &Btf, subject: &Subject, tally: &mut Tally) {
    for row in kfunc::KFUNCS {
        let Some(id) = btf.find_by_name_kind(row.name, Kind::Func) else {
            continue;
        };
        let insn = Slot::new(0x85, 0, 2, 0, id.cast_signed());
        let result = subject.load(kernel, &[insn, set(0), EXIT]);
        let allowed = result
            .err()
            .is_none_or(|e| !e.log.contains("is not allowed"));
        tally.compare(word(row.available(&subject.env())), word(allowed), || {
            format!("{} kfunc {}", place(subject), row.name)
        });
    }
}

/// The range of return values.
fn returns(kernel: &Kernel, subject: &Subject, tally: &mut Tally) {
    let result = subject.load(kernel, &[call(helper::id::GET_PRANDOM_U32), EXIT]);
    let log = result.err().map_or_else(String::new, |e| e.log);
    let said = log
        .split("should have been in ")
        .nth(1)
        .and_then(|text| text.split(']').next());
    let ours = prog::ret_range(&subject.env(), TargetReturns::Value)
        .map(|r| format!("[{}, {}", r.min, r.max));
    tally.compare(
        ours.as_deref().unwrap_or("any"),
        said.unwrap_or("any"),
        || format!("{} return value", place(subject)),
    );
}

/// Runs the task.
pub(crate) fn run(_arguments: &[String]) -> Result<(), TaskError> {
    let kernel = Kernel::new();
    let btf = running_btf().map_err(|e| e.to_string())?;
    let (mut tally, mut skipped) = (Tally::default(), Vec::new());
    for subject in subjects(&btf) {
        let loads = |value| match subject.load(&kernel, &[set(value), EXIT]) {
            Ok(()) => true,
            Err(error) => {
                !error.log.is_empty()
                    && !error.log.contains("must provide btf_id")
                    && error.errno != Errno::ENOTSUPP
            }
        };
        if !(loads(0) || loads(1)) {
            skipped.push(place(&subject));
            continue;
        }
        helpers(&kernel, &subject, &mut tally);
        context(&kernel, &subject, &mut tally);
        kfuncs(&kernel, &btf, &subject, &mut tally);
        returns(&kernel, &subject, &mut tally);
    }
    println!("not loaded by this kernel: {}", skipped.join(", "));
    println!(
        "{}",
        serde_json::json!({"probe": "abi", "cells": tally.cells, "differences": tally.differences})
    );
    if tally.differences == 0 {
        Ok(())
    } else {
        Err(format!("{} differences", tally.differences))
    }
}
