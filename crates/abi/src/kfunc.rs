//! Kernel functions that programs may call: flags, and the program types that have them.
//!
//! Arguments are those of the function's BTF prototype; the suffixes of its parameter names (`__sz`, `__ign`, …) say the rest.

mod table;

use crate::helper::ProgEnv;
use crate::kernel::Known;
use crate::types::{AttachType as A, ProgType as P};
pub use table::KFUNCS;

/// Rules of a kfunc (`KF_*`, include/linux/btf.h), with the kernel's numbers.
pub mod flag {
    /// Returns a reference that must be released.
    pub const ACQUIRE: u32 = 1 << 0;
    /// Releases the reference of its first argument.
    pub const RELEASE: u32 = 1 << 1;
    /// May return NULL.
    pub const RET_NULL: u32 = 1 << 2;
    /// Pointers must be trusted or referenced, and not NULL.
    pub const TRUSTED_ARGS: u32 = 1 << 4;
    /// Only in sleepable code.
    pub const SLEEPABLE: u32 = 1 << 5;
    /// Needs CAP_SYS_BOOT.
    pub const DESTRUCTIVE: u32 = 1 << 6;
    /// Pointers must be trusted or protected by RCU.
    pub const RCU: u32 = 1 << 7;
    /// Constructor of an iterator.
    pub const ITER_NEW: u32 = 1 << 8;
    /// Next element of an iterator.
    pub const ITER_NEXT: u32 = 1 << 9;
    /// Destructor of an iterator.
    pub const ITER_DESTROY: u32 = 1 << 10;
    /// The iterator lives inside an RCU read section.
    pub const RCU_PROTECTED: u32 = 1 << 11;
    /// Keeps `r1`–`r5` where it is inlined (`bpf_fastcall`).
    pub const FASTCALL: u32 = 1 << 12;
    /// Returns an arena pointer.
    pub const ARENA_RET: u32 = 1 << 13;
    /// The first argument is an arena pointer.
    pub const ARENA_ARG1: u32 = 1 << 14;
    /// The second argument is an arena pointer.
    pub const ARENA_ARG2: u32 = 1 << 15;
}

/// Groups of program types that share kfuncs (`enum btf_kfunc_hook`), and filters among them.
pub mod hook {
    /// Every program type.
    pub const ALL: u16 = 1 << 0;
    /// `BPF_PROG_TYPE_SCHED_CLS`
    pub const TC: u16 = 1 << 1;
    /// `BPF_PROG_TYPE_SCHED_ACT`
    pub const ACT: u16 = 1 << 2;
    /// `BPF_PROG_TYPE_XDP`
    pub const XDP: u16 = 1 << 3;
    /// Tracing with BTF, tracepoints, perf events, LSM.
    pub const TRACING: u16 = 1 << 4;
    /// Programs of cgroups.
    pub const CGROUP: u16 = 1 << 5;
    /// `BPF_PROG_TYPE_STRUCT_OPS`
    pub const STRUCT_OPS: u16 = 1 << 6;
    /// `BPF_PROG_TYPE_SYSCALL`
    pub const SYSCALL: u16 = 1 << 7;
    /// Other programs with a packet: socket filters, routes, stream parsers, netfilter.
    pub const SKB: u16 = 1 << 8;
    /// `BPF_PROG_TYPE_KPROBE`
    pub const KPROBE: u16 = 1 << 9;
    /// Kprobe and uprobe sessions only.
    pub const SESSION: u16 = 1 << 10;
    /// Iterators only.
    pub const ITER: u16 = 1 << 11;
    /// LSM programs only.
    pub const LSM: u16 = 1 << 12;
    /// No program of the reference kernel, which was built without it; others may have it.
    pub const UNCONFIGURED: u16 = 1 << 13;
    /// Objects, lists, trees, tasks, cgroups, keys.
    pub const GENERIC: u16 = TC | XDP | TRACING | CGROUP | STRUCT_OPS | SYSCALL;
}

/// A kfunc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kfunc {
    /// Its name in the kernel's BTF.
    pub name: &'static str,
    /// Its rules ([`flag`]).
    pub flags: u32,
    /// Who has it ([`hook`]).
    pub hooks: u16,
}

impl Kfunc {
    /// True if all of `flags` are set.
    #[must_use]
    pub const fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    /// True if the program may call it; else the kernel says `calling kernel function NAME is not allowed`.
    ///
    /// The XDP metadata kfuncs also need a program bound to a device, which no test of the reference kernel has.
    #[must_use]
    pub fn available(&self, env: &ProgEnv<'_>) -> bool {
        match env.kernel {
            Some(kernel) => kernel.kfunc(env, self.name) == Known::Yes,
            None => self.hooks & (hooks(env) | hook::ALL) != 0,
        }
    }
}

/// Builds one line of [`KFUNCS`].
const fn row(name: &'static str, flags: &'static [u32], hooks: u16) -> Kfunc {
    let mut all = 0;
    let mut at = 0;
    while at < flags.len() {
        all |= flags[at];
        at += 1;
    }
    Kfunc {
        name,
        flags: all,
        hooks,
    }
}

/// The groups a program belongs to. Source: `bpf_prog_type_to_kfunc_hook`.
#[must_use]
pub const fn hooks(env: &ProgEnv<'_>) -> u16 {
    match (env.prog_type, env.attach) {
        (P::SchedCls, _) => hook::TC,
        (P::SchedAct, _) => hook::ACT,
        (P::Xdp, _) => hook::XDP,
        (P::Tracing, Some(A::TraceIter)) => hook::TRACING | hook::ITER,
        (P::Tracing | P::Tracepoint | P::PerfEvent, _) => hook::TRACING,
        (P::Lsm, _) => hook::TRACING | hook::LSM,
        (
            P::CgroupSkb
            | P::CgroupSock
            | P::CgroupDevice
            | P::CgroupSockAddr
            | P::CgroupSysctl
            | P::CgroupSockopt
            | P::SockOps,
            _,
        ) => hook::CGROUP,
        (P::StructOps, _) => hook::STRUCT_OPS,
        (P::Syscall, _) => hook::SYSCALL,
        (
            P::SocketFilter
            | P::LwtIn
            | P::LwtOut
            | P::LwtXmit
            | P::LwtSeg6local
            | P::SkSkb
            | P::Netfilter,
            _,
        ) => hook::SKB,
        (P::Kprobe, Some(A::TraceKprobeSession | A::TraceUprobeSession)) => {
            hook::KPROBE | hook::SESSION
        }
        (P::Kprobe, _) => hook::KPROBE,
        _ => 0,
    }
}

/// The kfunc with this name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Kfunc> {
    let at = KFUNCS.binary_search_by(|row| row.name.cmp(name)).ok()?;
    KFUNCS.get(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ordered() {
        assert!(KFUNCS.is_sorted_by(|a, b| a.name < b.name));
        for row in KFUNCS {
            assert_ne!(row.hooks, 0, "{}", row.name);
            assert!(
                !row.has(flag::ACQUIRE | flag::RELEASE) || row.name == "bpf_ct_insert_entry",
                "{}",
                row.name
            );
        }
    }

    #[test]
    fn iterators_come_in_threes() {
        let with = |flags| KFUNCS.iter().filter(|row| row.has(flags)).count();
        assert_eq!(with(flag::ITER_NEW), with(flag::ITER_NEXT | flag::RET_NULL));
        assert_eq!(with(flag::ITER_NEW), with(flag::ITER_DESTROY));
    }

    #[test]
    fn availability() {
        let env = |prog_type, attach| ProgEnv {
            prog_type,
            attach,
            sleepable: false,
            perfmon: true,
            target: "",
            kernel: None,
        };
        let may = |name, env: ProgEnv<'_>| by_name(name).unwrap().available(&env);
        assert!(may("bpf_iter_num_new", env(P::SkMsg, None)));
        assert!(may("bpf_obj_new_impl", env(P::SchedCls, None)));
        assert!(!may("bpf_obj_new_impl", env(P::SocketFilter, None)));
        assert!(!may("bpf_task_acquire", env(P::Kprobe, None)));
        assert!(may("bpf_sock_destroy", env(P::Tracing, Some(A::TraceIter))));
        assert!(!may(
            "bpf_sock_destroy",
            env(P::Tracing, Some(A::TraceRawTp))
        ));
        assert!(may("bpf_put_file", env(P::Lsm, None)));
    }
}
