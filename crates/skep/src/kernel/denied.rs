//! Why the kernel refused and said no more: of EPERM missing capabilities, forbidden trampolines or lockdown, of EINVAL that it is
//! too old.

use crate::target::version_code;
use skep_abi::map_flags::BPF_F_LINK;
use skep_abi::prog::{Capability, facts};
use skep_abi::since::{self, Release};
use skep_abi::{AttachType, MapType, ProgType};
use skep_bpf::MapCreate;
use skep_sys::process::{CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_ADMIN, Capabilities};

/// Where the kernel says what it is locked down to, as `none [integrity] confidentiality`.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// The first kernel with links of structures of operations (`.struct_ops.link`).
const STRUCT_OPS_LINKS: Release = (6, 4);

/// Program types that need a trampoline on a kernel function.
const TRAMPOLINE_TYPES: &[ProgType] = &[ProgType::Tracing, ProgType::Lsm, ProgType::Ext];

/// The level between brackets; `None` where the kernel is not locked down, or does not say.
pub(super) fn lockdown() -> Option<String> {
    let text = std::fs::read_to_string(LOCKDOWN).ok()?;
    let (_, level) = text.split_once('[')?;
    let (level, _) = level.split_once(']')?;
    (level != "none").then(|| level.to_owned())
}

/// The capabilities that loading programs of a type takes, by number and name.
fn wanted(prog_type: ProgType) -> Vec<(u32, &'static str)> {
    const BPF: (u32, &str) = (CAP_BPF, "CAP_BPF");
    const NET: (u32, &str) = (CAP_NET_ADMIN, "CAP_NET_ADMIN");
    const PERF: (u32, &str) = (CAP_PERFMON, "CAP_PERFMON");
    match facts(prog_type).capability {
        Capability::Bpf => vec![BPF],
        Capability::NetAdmin => vec![BPF, NET],
        Capability::Perfmon => vec![BPF, PERF],
        Capability::Both => vec![BPF, NET, PERF],
    }
}

/// Why loading a program of this type was refused to a process with these capabilities.
pub(super) fn load(prog_type: ProgType, caps: Capabilities, lockdown: Option<&str>) -> String {
    let all = wanted(prog_type);
    let missing = all.iter().filter(|(cap, _)| !caps.has(*cap));
    let missing: Vec<&str> = missing.map(|(_, name)| *name).collect();
    if !missing.is_empty() && !caps.has(CAP_SYS_ADMIN) {
        let all: Vec<&str> = all.iter().map(|(_, name)| *name).collect();
        return format!(
            "programs of type {prog_type} need {}; this process lacks {}",
            all.join(" and "),
            missing.join(" and ")
        );
    }
    let locked = lockdown.map(|level| format!(" (it is locked down: {level})"));
    let locked = locked.unwrap_or_default();
    if TRAMPOLINE_TYPES.contains(&prog_type) {
        return format!(
            "this kernel forbids trampolines, which programs of this type need{locked}"
        );
    }
    format!(
        "the kernel refuses this program to a privileged process: lockdown, a policy, or a user namespace without BPF token{locked}"
    )
}

/// Is this process in a user namespace other than the first?
pub(super) fn in_user_namespace() -> bool {
    const ALL: [&str; 3] = ["0", "0", "4294967295"];
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.is_empty() && !map.split_whitespace().eq(ALL)
}

/// Why making a map was refused to a process with these capabilities.
pub(super) fn create(map_type: MapType, caps: Capabilities, in_user_namespace: bool) -> String {
    if in_user_namespace {
        return format!(
            "in a user namespace a map of type {map_type} takes a BPF token of the namespace's owner"
        );
    }
    if !caps.has(CAP_BPF) && !caps.has(CAP_SYS_ADMIN) {
        return format!("a map of type {map_type} needs CAP_BPF; this process lacks it");
    }
    String::new()
}

/// That a type is younger than the kernel with this `LINUX_VERSION_CODE`; nothing if it is not.
fn too_old(what: &dyn std::fmt::Display, since: Option<Release>, running: u32) -> Option<String> {
    let (major, minor) = since?;
    let first = version_code(major.into(), minor.into(), 0);
    let (own_major, own_minor) = (running >> 16, running >> 8 & 0xff);
    (running < first)
        .then(|| format!("{what} needs Linux {major}.{minor}; this is {own_major}.{own_minor}"))
}

/// Why a map was refused as invalid: what this kernel is too old for.
pub(super) fn map(spec: &MapCreate, running: u32) -> Option<String> {
    let what = format!("a map of type {}", spec.map_type);
    let links = (spec.map_type == MapType::StructOps && spec.map_flags & BPF_F_LINK != 0)
        .then_some(STRUCT_OPS_LINKS);
    too_old(&what, since::map_type(spec.map_type), running)
        .or_else(|| too_old(&"a structure of operations with a link", links, running))
}

/// Why a program was refused as invalid before it was verified: what this kernel is too old for.
pub(super) fn prog(
    prog_type: ProgType,
    attach: Option<AttachType>,
    running: u32,
) -> Option<String> {
    let what = format!("a program of type {prog_type}");
    let hook = || {
        let attach = attach?;
        let what = format!("a program for {attach}");
        too_old(&what, since::attach_type(attach), running)
    };
    too_old(&what, since::prog_type(prog_type), running).or_else(hook)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_younger_than_the_kernel_are_named() {
        const LINUX_6_1: u32 = version_code(6, 1, 192);
        let arena = MapCreate::new(MapType::Arena, 0, 0, 1);
        let says = "a map of type arena needs Linux 6.9; this is 6.1";
        assert_eq!(map(&arena, LINUX_6_1).as_deref(), Some(says));
        assert_eq!(
            map(&MapCreate::new(MapType::Hash, 4, 4, 1), LINUX_6_1),
            None
        );
        let mut linked = MapCreate::new(MapType::StructOps, 4, 8, 1);
        assert_eq!(map(&linked, LINUX_6_1), None);
        linked.map_flags = BPF_F_LINK;
        assert!(map(&linked, LINUX_6_1).is_some_and(|t| t.contains("6.4")));
        assert!(prog(ProgType::Netfilter, None, LINUX_6_1).is_some());
        assert_eq!(prog(ProgType::Xdp, None, LINUX_6_1), None);
        let unix = prog(
            ProgType::CgroupSockAddr,
            Some(AttachType::CgroupUnixConnect),
            LINUX_6_1,
        );
        assert!(unix.is_some_and(|t| t.contains("6.7")));
        let old = Some(AttachType::CgroupInet4Connect);
        assert_eq!(prog(ProgType::CgroupSockAddr, old, LINUX_6_1), None);
    }

    #[test]
    fn refused_maps_name_token_or_capability() {
        let all = Capabilities(u64::MAX);
        assert!(create(MapType::Hash, all, true).contains("BPF token"));
        assert!(create(MapType::Hash, Capabilities(0), false).contains("CAP_BPF"));
        assert_eq!(create(MapType::Hash, all, false), "");
    }

    #[test]
    fn refusals_name_what_is_missing() {
        const NET_ONLY: Capabilities = Capabilities(1 << CAP_NET_ADMIN);
        const ADMIN: Capabilities = Capabilities(1 << CAP_SYS_ADMIN);
        // Type, capabilities, lockdown, what the text says.
        let cases = [
            (
                ProgType::Xdp,
                Capabilities(0),
                None,
                "lacks CAP_BPF and CAP_NET_ADMIN",
            ),
            (ProgType::Xdp, NET_ONLY, None, "lacks CAP_BPF"),
            (
                ProgType::Kprobe,
                NET_ONLY,
                None,
                "lacks CAP_BPF and CAP_PERFMON",
            ),
            (
                ProgType::Tracing,
                ADMIN,
                Some("integrity"),
                "forbids trampolines, which programs of this type need (it is locked down: integrity)",
            ),
            (ProgType::Kprobe, ADMIN, None, "without BPF token"),
        ];
        for (prog_type, caps, lockdown, says) in cases {
            let text = load(prog_type, caps, lockdown);
            assert!(text.ends_with(says), "{prog_type}: {text}");
        }
    }
}
