//! Links: which union member each target fills, and what the kernel tells about a link.

use super::Kernel;
use super::convert::failed;
use skep_abi::AttachType;
use skep_bpf::{Errno, Error, LinkCreate, LinkInfo, LinkTarget, Result};
use skep_sys::bpf_link::{self, Extra};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

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
        let prog = self.entry(link.prog, &what)?;
        let prog = prog.as_fd();
        let attach = link.attach_type.id();
        let done = match &link.target {
            LinkTarget::Ifindex(index) => {
                bpf_link::create(prog, *index, attach, link.flags, &Extra::None)
            }
            LinkTarget::Fd { fd, cookie } => {
                let extra = match link.attach_type {
                    AttachType::PerfEvent => Extra::PerfEvent { cookie: *cookie },
                    _ => Extra::None,
                };
                bpf_link::create(prog, fd.cast_unsigned(), attach, link.flags, &extra)
            }
            LinkTarget::RawTracepoint { name, cookie } => {
                bpf_link::raw_tracepoint(prog, Some(name), *cookie)
            }
            LinkTarget::Loaded { cookie } => {
                if *cookie == 0 {
                    bpf_link::raw_tracepoint(prog, None, 0)
                } else {
                    let extra = Extra::Tracing {
                        btf_id: 0,
                        cookie: *cookie,
                    };
                    bpf_link::create(prog, 0, attach, link.flags, &extra)
                }
            }
            LinkTarget::UprobeMulti {
                path,
                offsets,
                cookies,
                pid,
                ret,
            } => {
                let flags = if *ret { MULTI_RETURN } else { 0 };
                let extra = Extra::UprobeMulti {
                    path,
                    offsets,
                    cookies,
                    pid: *pid,
                    flags,
                };
                bpf_link::create(prog, 0, attach, link.flags, &extra)
            }
            LinkTarget::KprobeMulti {
                symbols,
                cookies,
                ret,
            } => {
                let symbols: std::result::Result<Vec<_>, _> = symbols
                    .iter()
                    .map(|s| skep_sys::bpf::text(s.as_bytes()))
                    .collect();
                let symbols = symbols.map_err(|e| failed(&what, &e))?;
                let flags = if *ret { MULTI_RETURN } else { 0 };
                let extra = Extra::KprobeMulti {
                    symbols: &symbols,
                    cookies,
                    flags,
                };
                bpf_link::create(prog, 0, attach, link.flags, &extra)
            }
            LinkTarget::Iter { info } => {
                bpf_link::create(prog, 0, attach, link.flags, &Extra::Iter { info })
            }
            LinkTarget::Netfilter {
                family,
                hook,
                priority,
            } => {
                let extra = Extra::Netfilter {
                    family: *family,
                    hook: *hook,
                    priority: *priority,
                    flags: 0,
                };
                bpf_link::create(prog, 0, attach, link.flags, &extra)
            }
            LinkTarget::StructOps(map) => {
                let map = self.entry(*map, &what)?;
                let number = map.as_fd().as_raw_fd().cast_unsigned();
                bpf_link::create_raw(number, 0, attach, link.flags, &Extra::None)
            }
        };
        done.map_err(|e| explain(failed(&what, &e), link))
    }
}

/// Adds what is known about an errno for this target.
fn explain(mut error: Error, link: &LinkCreate) -> Error {
    error.detail = match (&link.target, error.errno) {
        (LinkTarget::RawTracepoint { name, .. }, Errno::ENOENT) => {
            format!("the kernel has no tracepoint \"{name}\"")
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

/// A link's information.
pub(super) fn info(info: &bpf_link::LinkInfo, target: String) -> LinkInfo {
    let link_type = LINK_TYPES
        .get(info.link_type as usize)
        .copied()
        .unwrap_or("unknown");
    let (mut attach_type, mut ifindex) = (None, 0);
    match link_type {
        "tracing" | "struct_ops" => attach_type = AttachType::from_id(info.half(0)),
        "xdp" => ifindex = info.half(0),
        "tcx" | "netkit" => {
            ifindex = info.half(0);
            attach_type = AttachType::from_id(info.half(1));
        }

        "netns" => attach_type = AttachType::from_id(info.half(1)),
        "cgroup" => attach_type = AttachType::from_id(info.half(2)),
        _ => {}
    }
    LinkInfo {
        id: info.id,
        prog_id: info.prog_id,
        link_type,
        attach_type,
        ifindex,
        target,
    }
}
