//! Section names: what they say of a program. Source: Documentation/bpf/libbpf/program_types.rst.
//!
//! Forms: `xdp` (nothing may follow), `kprobe+` (nothing, or `/` and a target). A leading `?` means "not loaded unless asked for".

use crate::types::{AttachType, ProgType};

/// What a section name promises beyond its types.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SectionOptions {
    /// The program may sleep (`BPF_F_SLEEPABLE`).
    pub sleepable: bool,
    /// XDP that accepts packets in fragments (`BPF_F_XDP_HAS_FRAGS`).
    pub xdp_frags: bool,
    /// The target is a function or type of the kernel's BTF, resolved before loading.
    pub attach_btf: bool,
    /// The load may leave the attach type out for kernels that do not know it.
    pub attach_type_optional: bool,
}

/// What may follow the name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// Nothing.
    None,
    /// Nothing, or `/` and a target.
    Optional,
}

/// A row of [`SECTIONS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SectionDef {
    /// The name, without target.
    pub name: &'static str,
    /// What may follow it.
    pub target: Target,
    /// Program type.
    pub prog_type: ProgType,
    /// Expected attach type.
    pub attach: Option<AttachType>,
    /// What else it says.
    pub options: SectionOptions,
}

const NONE: SectionOptions = SectionOptions {
    sleepable: false,
    xdp_frags: false,
    attach_btf: false,
    attach_type_optional: false,
};
const SLEEP: SectionOptions = SectionOptions {
    sleepable: true,
    ..NONE
};
const FRAGS: SectionOptions = SectionOptions {
    xdp_frags: true,
    ..NONE
};
const BTF: SectionOptions = SectionOptions {
    attach_btf: true,
    ..NONE
};
const BTF_SLEEP: SectionOptions = SectionOptions {
    sleepable: true,
    ..BTF
};
const OPT: SectionOptions = SectionOptions {
    attach_type_optional: true,
    ..NONE
};

use AttachType as A;
use ProgType as P;

/// `xdp` alone.
const fn exact(
    name: &'static str,
    prog_type: P,
    attach: Option<A>,
    options: SectionOptions,
) -> SectionDef {
    SectionDef {
        name,
        target: Target::None,
        prog_type,
        attach,
        options,
    }
}

/// `kprobe`, `kprobe/TARGET`.
const fn open(
    name: &'static str,
    prog_type: P,
    attach: Option<A>,
    options: SectionOptions,
) -> SectionDef {
    SectionDef {
        name,
        target: Target::Optional,
        prog_type,
        attach,
        options,
    }
}

/// Every section name of a program, as libbpf 1.7 knows them.
#[rustfmt::skip] // one name per line
pub const SECTIONS: &[SectionDef] = &[
    exact("socket",                  P::SocketFilter,   None,                                 NONE),
    exact("sk_reuseport/migrate",    P::SkReuseport,    Some(A::SkReuseportSelectOrMigrate),  NONE),
    exact("sk_reuseport",            P::SkReuseport,    Some(A::SkReuseportSelect),           NONE),
    open("kprobe",                   P::Kprobe,         None,                                 NONE),
    open("uprobe",                   P::Kprobe,         None,                                 NONE),
    open("uprobe.s",                 P::Kprobe,         None,                                 SLEEP),
    open("kretprobe",                P::Kprobe,         None,                                 NONE),
    open("uretprobe",                P::Kprobe,         None,                                 NONE),
    open("uretprobe.s",              P::Kprobe,         None,                                 SLEEP),
    open("kprobe.multi",             P::Kprobe,         Some(A::TraceKprobeMulti),            NONE),
    open("kretprobe.multi",          P::Kprobe,         Some(A::TraceKprobeMulti),            NONE),
    open("kprobe.session",           P::Kprobe,         Some(A::TraceKprobeSession),          NONE),
    open("uprobe.multi",             P::Kprobe,         Some(A::TraceUprobeMulti),            NONE),
    open("uretprobe.multi",          P::Kprobe,         Some(A::TraceUprobeMulti),            NONE),
    open("uprobe.session",           P::Kprobe,         Some(A::TraceUprobeSession),          NONE),
    open("uprobe.multi.s",           P::Kprobe,         Some(A::TraceUprobeMulti),            SLEEP),
    open("uretprobe.multi.s",        P::Kprobe,         Some(A::TraceUprobeMulti),            SLEEP),
    open("uprobe.session.s",         P::Kprobe,         Some(A::TraceUprobeSession),          SLEEP),
    open("ksyscall",                 P::Kprobe,         None,                                 NONE),
    open("kretsyscall",              P::Kprobe,         None,                                 NONE),
    open("usdt",                     P::Kprobe,         None,                                 NONE),
    open("usdt.s",                   P::Kprobe,         None,                                 SLEEP),
    exact("tc/ingress",              P::SchedCls,       Some(A::TcxIngress),                  NONE),
    exact("tc/egress",               P::SchedCls,       Some(A::TcxEgress),                   NONE),
    exact("tcx/ingress",             P::SchedCls,       Some(A::TcxIngress),                  NONE),
    exact("tcx/egress",              P::SchedCls,       Some(A::TcxEgress),                   NONE),
    exact("tc",                      P::SchedCls,       None,                                 NONE),
    exact("classifier",              P::SchedCls,       None,                                 NONE),
    exact("action",                  P::SchedAct,       None,                                 NONE),
    exact("netkit/primary",          P::SchedCls,       Some(A::NetkitPrimary),               NONE),
    exact("netkit/peer",             P::SchedCls,       Some(A::NetkitPeer),                  NONE),
    open("tracepoint",               P::Tracepoint,     None,                                 NONE),
    open("tp",                       P::Tracepoint,     None,                                 NONE),
    open("raw_tracepoint",           P::RawTracepoint,  None,                                 NONE),
    open("raw_tp",                   P::RawTracepoint,  None,                                 NONE),
    open("raw_tracepoint.w",         P::RawTracepointWritable, None,                          NONE),
    open("raw_tp.w",                 P::RawTracepointWritable, None,                          NONE),
    open("tp_btf",                   P::Tracing,        Some(A::TraceRawTp),                  BTF),
    open("fentry",                   P::Tracing,        Some(A::TraceFentry),                 BTF),
    open("fmod_ret",                 P::Tracing,        Some(A::ModifyReturn),                BTF),
    open("fexit",                    P::Tracing,        Some(A::TraceFexit),                  BTF),
    open("fentry.s",                 P::Tracing,        Some(A::TraceFentry),                 BTF_SLEEP),
    open("fmod_ret.s",               P::Tracing,        Some(A::ModifyReturn),                BTF_SLEEP),
    open("fexit.s",                  P::Tracing,        Some(A::TraceFexit),                  BTF_SLEEP),
    open("fsession",                 P::Tracing,        Some(A::TraceFsession),               BTF),
    open("fsession.s",               P::Tracing,        Some(A::TraceFsession),               BTF_SLEEP),
    open("freplace",                 P::Ext,            None,                                 BTF),
    open("lsm",                      P::Lsm,            Some(A::LsmMac),                      BTF),
    open("lsm.s",                    P::Lsm,            Some(A::LsmMac),                      BTF_SLEEP),
    open("lsm_cgroup",               P::Lsm,            Some(A::LsmCgroup),                   BTF),
    open("iter",                     P::Tracing,        Some(A::TraceIter),                   BTF),
    open("iter.s",                   P::Tracing,        Some(A::TraceIter),                   BTF_SLEEP),
    exact("syscall",                 P::Syscall,        None,                                 SLEEP),
    exact("xdp.frags/devmap",        P::Xdp,            Some(A::XdpDevmap),                   FRAGS),
    exact("xdp/devmap",              P::Xdp,            Some(A::XdpDevmap),                   NONE),
    exact("xdp.frags/cpumap",        P::Xdp,            Some(A::XdpCpumap),                   FRAGS),
    exact("xdp/cpumap",              P::Xdp,            Some(A::XdpCpumap),                   NONE),
    exact("xdp.frags",               P::Xdp,            Some(A::Xdp),                         FRAGS),
    exact("xdp",                     P::Xdp,            Some(A::Xdp),                         OPT),
    exact("perf_event",              P::PerfEvent,      None,                                 NONE),
    exact("lwt_in",                  P::LwtIn,          None,                                 NONE),
    exact("lwt_out",                 P::LwtOut,         None,                                 NONE),
    exact("lwt_xmit",                P::LwtXmit,        None,                                 NONE),
    exact("lwt_seg6local",           P::LwtSeg6local,   None,                                 NONE),
    exact("sockops",                 P::SockOps,        Some(A::CgroupSockOps),               OPT),
    exact("sk_skb/stream_parser",    P::SkSkb,          Some(A::SkSkbStreamParser),           OPT),
    exact("sk_skb/stream_verdict",   P::SkSkb,          Some(A::SkSkbStreamVerdict),          OPT),
    exact("sk_skb/verdict",          P::SkSkb,          Some(A::SkSkbVerdict),                OPT),
    exact("sk_skb",                  P::SkSkb,          None,                                 NONE),
    exact("sk_msg",                  P::SkMsg,          Some(A::SkMsgVerdict),                OPT),
    exact("lirc_mode2",              P::LircMode2,      Some(A::LircMode2),                   OPT),
    exact("flow_dissector",          P::FlowDissector,  Some(A::FlowDissector),               OPT),
    exact("cgroup_skb/ingress",      P::CgroupSkb,      Some(A::CgroupInetIngress),           OPT),
    exact("cgroup_skb/egress",       P::CgroupSkb,      Some(A::CgroupInetEgress),            OPT),
    exact("cgroup/skb",              P::CgroupSkb,      None,                                 NONE),
    exact("cgroup/sock_create",      P::CgroupSock,     Some(A::CgroupInetSockCreate),        NONE),
    exact("cgroup/sock_release",     P::CgroupSock,     Some(A::CgroupInetSockRelease),       NONE),
    exact("cgroup/sock",             P::CgroupSock,     Some(A::CgroupInetSockCreate),        OPT),
    exact("cgroup/post_bind4",       P::CgroupSock,     Some(A::CgroupInet4PostBind),         NONE),
    exact("cgroup/post_bind6",       P::CgroupSock,     Some(A::CgroupInet6PostBind),         NONE),
    exact("cgroup/bind4",            P::CgroupSockAddr, Some(A::CgroupInet4Bind),             NONE),
    exact("cgroup/bind6",            P::CgroupSockAddr, Some(A::CgroupInet6Bind),             NONE),
    exact("cgroup/connect4",         P::CgroupSockAddr, Some(A::CgroupInet4Connect),          NONE),
    exact("cgroup/connect6",         P::CgroupSockAddr, Some(A::CgroupInet6Connect),          NONE),
    exact("cgroup/connect_unix",     P::CgroupSockAddr, Some(A::CgroupUnixConnect),           NONE),
    exact("cgroup/sendmsg4",         P::CgroupSockAddr, Some(A::CgroupUdp4Sendmsg),           NONE),
    exact("cgroup/sendmsg6",         P::CgroupSockAddr, Some(A::CgroupUdp6Sendmsg),           NONE),
    exact("cgroup/sendmsg_unix",     P::CgroupSockAddr, Some(A::CgroupUnixSendmsg),           NONE),
    exact("cgroup/recvmsg4",         P::CgroupSockAddr, Some(A::CgroupUdp4Recvmsg),           NONE),
    exact("cgroup/recvmsg6",         P::CgroupSockAddr, Some(A::CgroupUdp6Recvmsg),           NONE),
    exact("cgroup/recvmsg_unix",     P::CgroupSockAddr, Some(A::CgroupUnixRecvmsg),           NONE),
    exact("cgroup/getpeername4",     P::CgroupSockAddr, Some(A::CgroupInet4Getpeername),      NONE),
    exact("cgroup/getpeername6",     P::CgroupSockAddr, Some(A::CgroupInet6Getpeername),      NONE),
    exact("cgroup/getpeername_unix", P::CgroupSockAddr, Some(A::CgroupUnixGetpeername),       NONE),
    exact("cgroup/getsockname4",     P::CgroupSockAddr, Some(A::CgroupInet4Getsockname),      NONE),
    exact("cgroup/getsockname6",     P::CgroupSockAddr, Some(A::CgroupInet6Getsockname),      NONE),
    exact("cgroup/getsockname_unix", P::CgroupSockAddr, Some(A::CgroupUnixGetsockname),       NONE),
    exact("cgroup/sysctl",           P::CgroupSysctl,   Some(A::CgroupSysctl),                NONE),
    exact("cgroup/getsockopt",       P::CgroupSockopt,  Some(A::CgroupGetsockopt),            NONE),
    exact("cgroup/setsockopt",       P::CgroupSockopt,  Some(A::CgroupSetsockopt),            NONE),
    exact("cgroup/dev",              P::CgroupDevice,   Some(A::CgroupDevice),                OPT),
    open("struct_ops",               P::StructOps,      None,                                 NONE),
    open("struct_ops.s",             P::StructOps,      None,                                 SLEEP),
    exact("sk_lookup",               P::SkLookup,       Some(A::SkLookup),                    NONE),
    exact("netfilter",               P::Netfilter,      Some(A::Netfilter),                   NONE),
];

/// A section name, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SectionName<'a> {
    /// The row it matches, if any.
    pub def: Option<&'static SectionDef>,
    /// What follows the row's name and `/`.
    pub target: &'a str,
    /// It does not begin with `?`.
    pub autoload: bool,
}

/// Takes a section name apart.
#[must_use]
pub fn parse(section: &str) -> SectionName<'_> {
    let (name, autoload) = match section.strip_prefix('?') {
        Some(rest) => (rest, false),
        None => (section, true),
    };
    let found = SECTIONS.iter().find_map(|def| {
        let rest = name.strip_prefix(def.name)?;
        match (def.target, rest.strip_prefix('/')) {
            _ if rest.is_empty() => Some((def, "")),
            (Target::Optional, Some(target)) => Some((def, target)),
            _ => None,
        }
    });
    SectionName {
        def: found.map(|(def, _)| def),
        target: found.map_or("", |(_, target)| target),
        autoload,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section name, type and attach type, what follows the slash, loaded by default.
    type Case = (&'static str, Option<(P, Option<A>)>, &'static str, bool);

    #[test]
    fn names_come_apart() {
        #[rustfmt::skip]
        const CASES: &[Case] = &[
            ("xdp",                        Some((P::Xdp, Some(A::Xdp))),                "",               true),
            ("?xdp.frags/cpumap",          Some((P::Xdp, Some(A::XdpCpumap))),          "",               false),
            ("xdp/anything",               None,                                        "",               true),
            ("kprobe/vfs_read",            Some((P::Kprobe, None)),                     "vfs_read",       true),
            ("kprobe.multi/vfs_*",         Some((P::Kprobe, Some(A::TraceKprobeMulti))), "vfs_*",         true),
            ("kprobes",                    None,                                        "",               true),
            ("tp/syscalls/sys_enter_open", Some((P::Tracepoint, None)),                 "syscalls/sys_enter_open", true),
            ("fentry.s/f",                 Some((P::Tracing, Some(A::TraceFentry))),    "f",              true),
            ("cgroup/skb",                 Some((P::CgroupSkb, None)),                  "",               true),
            ("uprobe//bin/sh:main",        Some((P::Kprobe, None)),                     "/bin/sh:main",   true),
            (".text",                      None,                                        "",               true),
        ];
        for &(section, types, target, autoload) in CASES {
            let name = parse(section);
            assert_eq!(
                name.def.map(|d| (d.prog_type, d.attach)),
                types,
                "{section}"
            );
            assert_eq!(
                (name.target, name.autoload),
                (target, autoload),
                "{section}"
            );
        }
    }

    #[test]
    fn rows_are_unique_and_found_by_their_own_name() {
        for def in SECTIONS {
            assert_eq!(parse(def.name).def, Some(def), "{}", def.name);
        }
    }
}
