//! The first kernel that knows a map, program or attach type, or follows a rule of the verifier. Source: Documentation/bpf,
//! bpf(2), release notes of the kernel.

use crate::kernel::Rule;
use crate::{AttachType as A, MapType as M, ProgType as P};

/// Major and minor number of a release.
pub type Release = (u8, u8);

/// Map types by release.
#[rustfmt::skip] // one release per line
const MAPS: &[(Release, &[M])] = &[
    ((3, 19), &[M::Hash, M::Array]),
    ((4, 2),  &[M::ProgArray]),
    ((4, 3),  &[M::PerfEventArray]),
    ((4, 6),  &[M::PercpuHash, M::PercpuArray, M::StackTrace]),
    ((4, 8),  &[M::CgroupArray]),
    ((4, 10), &[M::LruHash, M::LruPercpuHash]),
    ((4, 11), &[M::LpmTrie]),
    ((4, 12), &[M::ArrayOfMaps, M::HashOfMaps]),
    ((4, 14), &[M::Devmap, M::Sockmap]),
    ((4, 15), &[M::Cpumap]),
    ((4, 18), &[M::Xskmap, M::Sockhash]),
    ((4, 19), &[M::CgroupStorage, M::ReuseportSockarray]),
    ((4, 20), &[M::PercpuCgroupStorage, M::Queue, M::Stack]),
    ((5, 2),  &[M::SkStorage]),
    ((5, 4),  &[M::DevmapHash]),
    ((5, 6),  &[M::StructOps]),
    ((5, 8),  &[M::Ringbuf]),
    ((5, 10), &[M::InodeStorage]),
    ((5, 11), &[M::TaskStorage]),
    ((5, 16), &[M::BloomFilter]),
    ((6, 1),  &[M::UserRingbuf]),
    ((6, 2),  &[M::CgrpStorage]),
    ((6, 9),  &[M::Arena]),
];

/// Program types by release.
#[rustfmt::skip] // one release per line
const PROGS: &[(Release, &[P])] = &[
    ((3, 19), &[P::SocketFilter]),
    ((4, 1),  &[P::Kprobe, P::SchedCls, P::SchedAct]),
    ((4, 7),  &[P::Tracepoint]),
    ((4, 8),  &[P::Xdp]),
    ((4, 9),  &[P::PerfEvent]),
    ((4, 10), &[P::CgroupSkb, P::CgroupSock, P::LwtIn, P::LwtOut, P::LwtXmit]),
    ((4, 13), &[P::SockOps]),
    ((4, 14), &[P::SkSkb]),
    ((4, 15), &[P::CgroupDevice]),
    ((4, 17), &[P::SkMsg, P::RawTracepoint, P::CgroupSockAddr]),
    ((4, 18), &[P::LwtSeg6local, P::LircMode2]),
    ((4, 19), &[P::SkReuseport]),
    ((4, 20), &[P::FlowDissector]),
    ((5, 2),  &[P::CgroupSysctl, P::RawTracepointWritable]),
    ((5, 3),  &[P::CgroupSockopt]),
    ((5, 5),  &[P::Tracing]),
    ((5, 6),  &[P::StructOps, P::Ext]),
    ((5, 7),  &[P::Lsm]),
    ((5, 9),  &[P::SkLookup]),
    ((5, 14), &[P::Syscall]),
    ((6, 4),  &[P::Netfilter]),
];

/// Attach types by release, of those that a loader names when it loads a program and that are younger than 5.10.
#[rustfmt::skip] // one release per line
const ATTACH: &[(Release, &[A])] = &[
    ((5, 13), &[A::SkSkbVerdict]),
    ((5, 14), &[A::SkReuseportSelectOrMigrate]),
    ((5, 18), &[A::TraceKprobeMulti]),
    ((6, 0),  &[A::LsmCgroup]),
    ((6, 4),  &[A::Netfilter]),
    ((6, 6),  &[A::TcxIngress, A::TcxEgress, A::TraceUprobeMulti]),
    ((6, 7),  &[A::CgroupUnixConnect, A::CgroupUnixSendmsg, A::CgroupUnixRecvmsg, A::CgroupUnixGetpeername,
                A::CgroupUnixGetsockname, A::NetkitPrimary, A::NetkitPeer]),
    ((6, 10), &[A::TraceKprobeSession]),
    ((6, 13), &[A::TraceUprobeSession]),
    ((7, 0),  &[A::TraceFsession]),
];

/// Rules by release, of those that kernels are not asked about. Source: the kernel's history, where they are called "bpf: Rename
/// `__kptr_ref` -> `__kptr` and `__kptr` -> `__kptr_untrusted`", "bpf: Improve verifier JEQ/JNE insn branch taken checking",
/// "bpf: support 'arg:xxx' `btf_decl_tag`-based hints for global subprog args", "bpf: Assign ID to scalars on spill",
/// "bpf, lsm: Add check for BPF LSM return value".
#[rustfmt::skip] // one release per line
const RULES: &[(Release, &[Rule])] = &[
    ((6, 4),  &[Rule::KptrTags, Rule::EqualRanges]),
    ((6, 8),  &[Rule::ArgumentTags]),
    ((6, 9),  &[Rule::SpilledCopies]),
    ((6, 12), &[Rule::LsmReturns]),
];

fn find<T: PartialEq>(table: &[(Release, &[T])], wanted: &T) -> Option<Release> {
    let row = table.iter().find(|(_, types)| types.contains(wanted));
    row.map(|(release, _)| *release)
}

/// The first kernel with maps of this type.
#[must_use]
pub fn map_type(map_type: M) -> Option<Release> {
    find(MAPS, &map_type)
}

/// The first kernel with programs of this type.
#[must_use]
pub fn prog_type(prog_type: P) -> Option<Release> {
    find(PROGS, &prog_type)
}

/// The first kernel with this attach type, if that is younger than 5.10.
#[must_use]
pub fn attach_type(attach_type: A) -> Option<Release> {
    find(ATTACH, &attach_type)
}

/// The first kernel with this rule; `None` for those that kernels are asked about.
#[must_use]
pub fn rule(rule: Rule) -> Option<Release> {
    find(RULES, &rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_in_order_and_types_have_one() {
        assert!(MAPS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(PROGS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(ATTACH.is_sorted_by(|a, b| a.0 < b.0));
        assert!(RULES.is_sorted_by(|a, b| a.0 < b.0));
        let unspec = |t: &&P| **t != P::Unspec;
        for prog in P::ALL.iter().filter(unspec) {
            assert!(prog_type(*prog).is_some(), "{prog}");
        }
        let old: usize = MAPS.iter().map(|(_, types)| types.len()).sum();
        assert_eq!(
            M::ALL.iter().filter(|m| map_type(**m).is_some()).count(),
            old
        );
    }
}
