//! Links: which union member each target fills, and what the kernel tells about a link.

use super::Kernel;
use super::convert::failed;
use skep_abi::AttachType;
use skep_bpf::{Errno, Error, LinkCreate, LinkDetail, LinkInfo, LinkTarget, Result};
use skep_sys::bpf_link::{self, Extra, TextPlace};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// `BPF_F_KPROBE_MULTI_RETURN` and `BPF_F_UPROBE_MULTI_RETURN`
const MULTI_RETURN: u32 = 1;

/// Names of `enum bpf_link_type`, by number, as bpftool prints them.
const LINK_TYPES: &[&str] = &[
    "unspec",
    "raw_tracepoint",
    "tracing",
    "cgroup",
    "iter",
    "netns",
    "xdp",
    "perf_event",
    "kprobe_multi",
    "struct_ops",
    "netfilter",
    "tcx",
    "uprobe_multi",
    "netkit",
    "sockmap",
];

impl Kernel {
    /// Creates a link of any target.
    pub(super) fn create_link(&self, link: &LinkCreate) -> Result<OwnedFd> {
        let what = format!("BPF_LINK_CREATE for {}", link.attach_type);
        let attached = self.entry(link.prog, &what)?;
        let prog = attached.as_fd();
        let done = match &link.target {
            LinkTarget::RawTracepoint { name, cookie } => {
                bpf_link::raw_tracepoint(prog, Some(name), *cookie)
            }
            LinkTarget::Loaded { cookie: 0 } => bpf_link::raw_tracepoint(prog, None, 0),
            target => {
                let names = names(target).map_err(|e| failed(&what, &e))?;
                let other = match target {
                    LinkTarget::Function { prog, .. } => Some(*prog),
                    _ => None,
                };
                let other = self.optional(other, &what)?;
                let number = match target {
                    LinkTarget::Ifindex(number) => *number,
                    LinkTarget::Ordered { target, .. } => *target,
                    LinkTarget::Fd { fd, .. } => fd.cast_unsigned(),
                    _ => other.number(),
                };
                let extra = extra(link, &names);
                bpf_link::create(prog, number, link.attach_type.id(), link.flags, &extra)
            }
        };
        done.map_err(|e| explain(failed(&what, &e), link))
    }
}

/// Names of kernel functions as the kernel reads them.
fn names(target: &LinkTarget) -> std::io::Result<Vec<CString>> {
    let LinkTarget::KprobeMulti { symbols, .. } = target else {
        return Ok(Vec::new());
    };
    let texts = symbols.iter().map(|s| skep_sys::bpf::text(s.as_bytes()));
    texts.collect()
}

/// `BPF_F_KPROBE_MULTI_RETURN` or `BPF_F_UPROBE_MULTI_RETURN`, if the probes are at returns.
fn multi_flags(ret: bool) -> u32 {
    if ret { MULTI_RETURN } else { 0 }
}

/// The union member that a target fills.
fn extra<'a>(link: &'a LinkCreate, names: &'a [CString]) -> Extra<'a> {
    match &link.target {
        &LinkTarget::Ordered {
            relative, revision, ..
        } => Extra::Relative {
            fd_or_id: relative,
            revision,
        },
        &LinkTarget::Function { btf_id, cookie, .. } => Extra::Tracing { btf_id, cookie },
        &LinkTarget::Loaded { cookie } => Extra::Tracing { btf_id: 0, cookie },
        &LinkTarget::Fd { cookie, .. } if link.attach_type == AttachType::PerfEvent => {
            Extra::PerfEvent { cookie }
        }
        LinkTarget::UprobeMulti {
            path,
            offsets,
            counters,
            cookies,
            pid,
            ret,
        } => Extra::UprobeMulti {
            path,
            offsets,
            counters,
            cookies,
            pid: *pid,
            flags: multi_flags(*ret),
        },
        LinkTarget::KprobeMulti { cookies, ret, .. } => Extra::KprobeMulti {
            symbols: names,
            cookies,
            flags: multi_flags(*ret),
        },
        LinkTarget::Iter { info } => Extra::Iter { info },
        &LinkTarget::Netfilter {
            family,
            hook,
            priority,
            flags,
        } => Extra::Netfilter {
            family,
            hook,
            priority,
            flags,
        },
        LinkTarget::Ifindex(_)
        | LinkTarget::Fd { .. }
        | LinkTarget::RawTracepoint { .. }
        | LinkTarget::StructOps(_) => Extra::None,
    }
}

/// Adds what is known about an errno for this target.
fn explain(mut error: Error, link: &LinkCreate) -> Error {
    error.detail = match (&link.target, error.errno) {
        (LinkTarget::Function { .. }, Errno::EINVAL) => {
            "the other program has no such function, or one with other arguments".to_owned()
        }
        (LinkTarget::RawTracepoint { name, .. }, Errno::ENOENT) => {
            format!("the kernel has no tracepoint \"{name}\"")
        }
        (LinkTarget::Loaded { .. }, Errno::EPERM) => {
            "this kernel forbids trampolines, which programs of this type need".to_owned()
        }
        (LinkTarget::Ordered { .. }, Errno::EINVAL) => {
            "the kernel does not have this device's hook, or no order of programs there (tcx: Linux 6.6, netkit: 6.7, cgroup: 6.17)".to_owned()
        }
        (LinkTarget::Ordered { .. }, Errno::ENOENT) => {
            "the program or link that it should stand beside is not there".to_owned()
        }
        (LinkTarget::StructOps(_), Errno::EINVAL) => {
            "links of structures of operations need Linux 6.4, and a map with BPF_F_LINK".to_owned()
        }
        (LinkTarget::KprobeMulti { .. }, Errno::EINVAL)
            if link.attach_type == AttachType::TraceKprobeSession =>
        {
            "kprobe sessions need Linux 6.10".to_owned()
        }
        (LinkTarget::UprobeMulti { .. }, Errno::EINVAL)
            if link.attach_type == AttachType::TraceUprobeSession =>
        {
            "uprobe sessions need Linux 6.13".to_owned()
        }
        (LinkTarget::Ifindex(index), Errno::EBUSY | Errno::EEXIST) => {
            format!("interface {index} already has a program there")
        }
        (LinkTarget::UprobeMulti { .. }, Errno::EINVAL) => {
            "links to several user-space functions need Linux 6.6".to_owned()
        }
        (LinkTarget::Netfilter { .. }, Errno::EINVAL) => {
            "netfilter links need Linux 6.4".to_owned()
        }
        (LinkTarget::KprobeMulti { .. }, Errno::EOPNOTSUPP) => {
            "this kernel was built without FPROBE".to_owned()
        }
        _ => return error,
    };
    error
}

/// What a field of the union in `struct bpf_link_info` is.
#[derive(Clone, Copy)]
enum Field {
    /// 32 bits at this half word.
    Number(usize),
    /// The same, signed.
    Signed(usize),
    /// 64 bits at this word.
    Wide(usize),
    /// A bit of the half word: it is set.
    Flag(usize, u32),
    /// A name behind an address.
    Text(TextPlace),
    /// 32 bits that are left out if they are 0.
    Optional(usize),
}

use Field::{Flag, Number, Optional, Signed, Text, Wide};

const fn text(address: usize, length: usize) -> Field {
    Text(TextPlace { address, length })
}

/// A name and the fields that have it.
type Fields = &'static [(&'static str, Field)];

/// Link types with their fields, under bpftool's names. Source: include/uapi/linux/bpf.h, `struct bpf_link_info`.
const DETAILS: &[(&str, Fields)] = &[
    (
        "raw_tracepoint",
        &[("tp_name", text(0, 2)), ("cookie", Wide(2))],
    ),
    (
        "tracing",
        &[
            ("target_obj_id", Optional(1)),
            ("target_btf_id", Optional(2)),
            ("cookie", Wide(2)),
        ],
    ),
    ("cgroup", &[("cgroup_id", Wide(0))]),
    (
        "iter",
        &[("target_name", text(0, 2)), ("map_id", Optional(3))],
    ),
    ("netns", &[("netns_ino", Number(0))]),
    (
        "netfilter",
        &[
            ("pf", Number(0)),
            ("hook", Number(1)),
            ("prio", Signed(2)),
            ("flags", Number(3)),
        ],
    ),
    ("struct_ops", &[("map_id", Number(0))]),
    ("sockmap", &[("map_id", Number(0))]),
    (
        "kprobe_multi",
        &[
            ("retprobe", Flag(3, MULTI_RETURN)),
            ("func_cnt", Number(2)),
            ("missed", Wide(2)),
        ],
    ),
    (
        "uprobe_multi",
        &[
            ("retprobe", Flag(10, MULTI_RETURN)),
            ("path", text(0, 8)),
            ("func_cnt", Number(9)),
            ("pid", Number(11)),
        ],
    ),
];

/// The same for events, by `enum bpf_perf_event_type`.
const EVENT_DETAILS: &[Fields] = &[
    &[],
    &[
        ("retprobe", Flag(0, u32::MAX)),
        ("file", text(1, 4)),
        ("offset", Number(5)),
        ("cookie", Wide(3)),
    ],
    &[
        ("retprobe", Flag(0, u32::MAX)),
        ("file", text(1, 4)),
        ("offset", Number(5)),
        ("cookie", Wide(3)),
    ],
    &[
        ("retprobe", Flag(0, u32::MAX)),
        ("addr", Wide(3)),
        ("func", text(1, 4)),
        ("offset", Number(5)),
        ("missed", Wide(4)),
        ("cookie", Wide(5)),
    ],
    &[
        ("retprobe", Flag(0, u32::MAX)),
        ("addr", Wide(3)),
        ("func", text(1, 4)),
        ("offset", Number(5)),
        ("missed", Wide(4)),
        ("cookie", Wide(5)),
    ],
    &[("tracepoint", text(1, 4)), ("cookie", Wide(3))],
    &[
        ("event_type", Number(4)),
        ("event_config", Wide(1)),
        ("cookie", Wide(3)),
    ],
];

/// Events that are the returns of functions.
const RETURN_EVENTS: &[u32] = &[2, 4];

/// A link's information.
pub(super) fn info(link: BorrowedFd<'_>) -> std::io::Result<LinkInfo> {
    let raw = bpf_link::info(link)?;
    let link_type = LINK_TYPES
        .get(raw.link_type as usize)
        .copied()
        .unwrap_or("unknown");
    let (mut attach_type, mut ifindex) = (None, 0);
    match link_type {
        "tracing" => attach_type = AttachType::from_id(raw.half(0)),
        "xdp" => ifindex = raw.half(0),
        "tcx" | "netkit" => {
            ifindex = raw.half(0);
            attach_type = AttachType::from_id(raw.half(1));
        }
        "netns" | "sockmap" => attach_type = AttachType::from_id(raw.half(1)),
        "cgroup" => attach_type = AttachType::from_id(raw.half(2)),
        _ => {}
    }
    let fields = match link_type {
        "perf_event" => EVENT_DETAILS.get(raw.half(0) as usize).copied(),
        _ => DETAILS
            .iter()
            .find(|(name, _)| *name == link_type)
            .map(|(_, f)| *f),
    };
    let mut details = Vec::new();
    for (name, field) in fields.unwrap_or_default() {
        details.extend(detail(link, &raw, *field)?.map(|value| (*name, value)));
    }
    Ok(LinkInfo {
        id: raw.id,
        prog_id: raw.prog_id,
        link_type,
        attach_type,
        ifindex,
        details,
    })
}

fn detail(
    link: BorrowedFd<'_>,
    raw: &bpf_link::LinkInfo,
    field: Field,
) -> std::io::Result<Option<LinkDetail>> {
    Ok(match field {
        Number(half) => Some(LinkDetail::Number(raw.half(half).into())),
        Signed(half) => Some(LinkDetail::Signed(raw.half(half).cast_signed().into())),
        Wide(word) => raw.words.get(word).map(|w| LinkDetail::Number(*w)),
        Flag(half, u32::MAX) => Some(LinkDetail::Flag(RETURN_EVENTS.contains(&raw.half(half)))),
        Flag(half, bit) => Some(LinkDetail::Flag(raw.half(half) & bit != 0)),
        Text(place) => Some(LinkDetail::Text(bpf_link::text(link, place)?)),
        Optional(half) => match raw.half(half) {
            0 => None,
            number => Some(LinkDetail::Number(number.into())),
        },
    })
}
