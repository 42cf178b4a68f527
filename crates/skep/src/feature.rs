//! What this kernel can do, found out by asking it: a short probe, and the long one of [`ask`].
//!
//! ```
//! use skep::feature::{Answer, probe};
//! use skep_abi::ProgType;
//!
//! let features = probe();
//! let (_, answer) = features.prog_types.iter().find(|(t, _)| *t == ProgType::Xdp).ok_or("a type")?;
//! match answer {
//!     Answer::Yes => println!("{} loads XDP programs", features.release),
//!     Answer::No => println!("{} does not", features.release),
//!     Answer::Unknown => println!("only root can tell"),
//! }
//! # Ok::<(), &str>(())
//! ```

pub mod ask;
mod rules;

use crate::kernel::Kernel;
use skep_abi::prog_flags::BPF_F_SLEEPABLE;
use skep_abi::{AttachType, MapType, ProgType, map_flags};
use skep_bpf::{Backend, Errno, Error, MapCreate, ProgLoad};
use skep_btf::{Btf, Kind};
use skep_isa::Slot;
use std::path::Path;

/// An answer about one feature.
///
/// ```
/// use skep::feature::{Answer, probe};
///
/// let features = probe();
/// let ring = features.map_types.iter().find(|(t, _)| *t == skep_abi::MapType::Ringbuf);
/// match ring.map(|(_, answer)| answer) {
///     Some(Answer::Yes) => println!("ring buffers"),
///     Some(Answer::No) => println!("perf buffers only"),
///     _ => println!("this user may not ask"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is there.
    Yes,
    /// It is not.
    No,
    /// It cannot be told (usually for want of privileges).
    Unknown,
}

/// What the probe found.
///
/// ```
/// let features = skep::feature::probe();
/// println!("Linux {}, privileged: {}", features.release, features.privileged);
/// for (hook, answer) in &features.hooks {
///     println!("{hook}: {answer:?}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Features {
    /// Release of the kernel.
    pub release: String,
    /// Effective capabilities that matter are all there.
    pub privileged: bool,
    /// `kernel.unprivileged_bpf_disabled`
    pub unprivileged_bpf_disabled: Option<u32>,
    /// `net.core.bpf_jit_enable`
    pub jit_enable: Option<u32>,
    /// Program types.
    pub prog_types: Vec<(ProgType, Answer)>,
    /// Map types.
    pub map_types: Vec<(MapType, Answer)>,
    /// Other facts, by name.
    pub hooks: Vec<(&'static str, Answer)>,
}

/// Types that can only be loaded with more than two instructions and an attach type.
const ATTACH_TYPES: &[(ProgType, AttachType)] = &[
    (ProgType::CgroupSockAddr, AttachType::CgroupInet4Connect),
    (ProgType::CgroupSockopt, AttachType::CgroupGetsockopt),
    (ProgType::SkLookup, AttachType::SkLookup),
    (ProgType::Netfilter, AttachType::Netfilter),
    (ProgType::Tracing, AttachType::TraceFentry),
    (ProgType::Lsm, AttachType::LsmMac),
    (ProgType::SkReuseport, AttachType::SkReuseportSelect),
];

/// Functions that every kernel has, to try a trampoline on.
const TRAMPOLINE_TARGETS: &[&str] = &["bpf_fentry_test1", "do_unlinkat", "vfs_read"];

fn number(path: &str) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `r0 = 0; exit`
fn smallest_program() -> Vec<Slot> {
    vec![Slot::new(0xb7, 0, 0, 0, 0), Slot::new(0x95, 0, 0, 0, 0)]
}

fn load(kernel: &Kernel, prog_type: ProgType, btf_id: u32) -> Result<(), Error> {
    let attach = ATTACH_TYPES
        .iter()
        .find(|(t, _)| *t == prog_type)
        .map(|(_, a)| *a);
    let spec = ProgLoad {
        expected_attach_type: attach,
        name: "probe".to_owned(),
        prog_flags: if prog_type == ProgType::Syscall {
            BPF_F_SLEEPABLE
        } else {
            0
        },
        attach_btf_id: btf_id,
        log_level: 1,
        ..ProgLoad::plain(prog_type, smallest_program())
    };
    kernel.prog_load(&spec).map(|handle| kernel.close(handle))
}

/// Types that attach to BTF are known if the kernel complains about the target rather than about the type.
fn prog_type(kernel: &Kernel, prog_type: ProgType) -> Answer {
    match (prog_type, load(kernel, prog_type, 1)) {
        (_, Ok(())) => Answer::Yes,
        (ProgType::Tracing | ProgType::Lsm | ProgType::Ext, Err(e)) if !e.log.trim().is_empty() => {
            Answer::Yes
        }
        // Without a target the type itself is what is left to complain about.
        (ProgType::StructOps, Err(e)) => {
            if e.errno == Errno::ENOTSUPP {
                Answer::Yes
            } else {
                Answer::No
            }
        }
        (_, Err(e)) if e.errno == Errno::EPERM => Answer::Unknown,
        // An attach target of 1 is refused for types that take none.
        (_, Err(_)) => match load(kernel, prog_type, 0) {
            Ok(()) => Answer::Yes,
            Err(e) if e.errno == Errno::EPERM => Answer::Unknown,
            Err(_) => Answer::No,
        },
    }
}

/// Key size, value size, entries and flags with which a map type can be created.
fn map_shape(map_type: MapType) -> MapCreate {
    let (key, value, entries, flags) = match map_type {
        MapType::LpmTrie => (8, 4, 1, map_flags::BPF_F_NO_PREALLOC),
        MapType::StackTrace => (4, 8, 1, 0),
        MapType::Queue | MapType::Stack | MapType::BloomFilter => (0, 4, 1, 0),
        MapType::Ringbuf | MapType::UserRingbuf => (0, 0, 4096, 0),
        MapType::CgroupStorage | MapType::PercpuCgroupStorage => (16, 4, 0, 0),
        MapType::Arena => (0, 0, 1, map_flags::BPF_F_MMAPABLE),
        _ => (4, 4, 1, 0),
    };
    MapCreate {
        map_flags: flags,
        // Without any they are refused as maps of unknown types are; this one is no structure of operations.
        btf_vmlinux_value_type_id: u32::from(map_type == MapType::StructOps),
        ..MapCreate::new(map_type, key, value, entries)
    }
}

/// Map types whose creation takes BTF or another map; a refusal of the smallest one still says that they are known.
fn needs_more(map_type: MapType) -> bool {
    matches!(
        map_type,
        MapType::SkStorage
            | MapType::InodeStorage
            | MapType::TaskStorage
            | MapType::CgrpStorage
            | MapType::StructOps
            | MapType::ArrayOfMaps
            | MapType::HashOfMaps
    )
}

fn map_type(kernel: &Kernel, map_type: MapType) -> Answer {
    let mut spec = map_shape(map_type);
    let inner = matches!(map_type, MapType::ArrayOfMaps | MapType::HashOfMaps)
        .then(|| {
            kernel
                .map_create(&MapCreate::new(MapType::Array, 4, 4, 1))
                .ok()
        })
        .flatten();
    spec.inner_map = inner;
    let answer = match kernel.map_create(&spec) {
        Ok(handle) => {
            kernel.close(handle);
            Answer::Yes
        }
        Err(e) if e.errno == Errno::EPERM => Answer::Unknown,
        Err(e) if needs_more(map_type) && e.errno != Errno::EINVAL => Answer::Yes,
        Err(_) if needs_more(map_type) && map_type != MapType::StructOps => {
            storage(kernel, map_type)
        }
        Err(_) => Answer::No,
    };
    if let Some(inner) = inner {
        kernel.close(inner);
    }
    answer
}

/// A storage map with the BTF it needs: `int` for key and value.
fn storage(kernel: &Kernel, map_type: MapType) -> Answer {
    let Ok(btf) = kernel.btf_load(&int_btf()) else {
        return Answer::Unknown;
    };
    let spec = MapCreate {
        map_flags: map_flags::BPF_F_NO_PREALLOC,
        btf: Some(btf),
        btf_key_type_id: 1,
        btf_value_type_id: 1,
        ..MapCreate::new(map_type, 4, 4, 0)
    };
    let created = kernel.map_create(&spec);
    kernel.close(btf);
    match created {
        Ok(handle) => {
            kernel.close(handle);
            Answer::Yes
        }
        Err(e) if e.errno == Errno::EPERM => Answer::Unknown,
        Err(_) => Answer::No,
    }
}

/// BTF with one type, a signed `int`.
fn int_btf() -> Vec<u8> {
    const STRINGS: &[u8] = b"\0int\0";
    let header: [u32; 6] = [0x0001_eb9f, 24, 0, 16, 16, STRINGS.len() as u32];
    let int: [u32; 4] = [1, 1 << 24, 4, (1 << 24) | 32];
    let words = header.iter().chain(&int).flat_map(|w| w.to_ne_bytes());
    words.chain(STRINGS.iter().copied()).collect()
}

/// Tries a trampoline: it is refused with EPERM where the kernel forbids them.
fn trampolines(kernel: &Kernel) -> Answer {
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        return Answer::Unknown;
    };
    let Ok(btf) = Btf::parse(bytes) else {
        return Answer::Unknown;
    };
    for target in TRAMPOLINE_TARGETS {
        if let Some(id) = btf.find_by_name_kind(target, Kind::Func) {
            return match load(kernel, ProgType::Tracing, id) {
                Ok(()) => Answer::Yes,
                Err(_) => Answer::No,
            };
        }
    }
    Answer::Unknown
}

fn exists(path: &str) -> Answer {
    if Path::new(path).exists() {
        Answer::Yes
    } else {
        Answer::No
    }
}

/// Asks the kernel; takes some tens of milliseconds at most.
#[must_use]
pub fn probe() -> Features {
    let kernel = Kernel::new();
    let caps = skep_sys::process::effective_capabilities();
    let privileged = caps.is_ok_and(|c| c.has(skep_sys::process::CAP_SYS_ADMIN));
    let types = ProgType::ALL.iter().filter(|t| **t != ProgType::Unspec);
    let maps = MapType::ALL.iter().filter(|t| **t != MapType::Unspec);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let tracefs = if crate::kernel::tracefs::Tracefs::open().is_ok() {
        Answer::Yes
    } else {
        Answer::No
    };
    Features {
        release: release.trim().to_owned(),
        privileged,
        unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        jit_enable: number("/proc/sys/net/core/bpf_jit_enable"),
        prog_types: types.map(|t| (*t, prog_type(&kernel, *t))).collect(),
        map_types: maps.map(|t| (*t, map_type(&kernel, *t))).collect(),
        hooks: vec![
            ("btf", exists("/sys/kernel/btf/vmlinux")),
            ("tracefs", tracefs),
            ("kprobe", exists("/sys/bus/event_source/devices/kprobe")),
            ("uprobe", exists("/sys/bus/event_source/devices/uprobe")),
            (
                "trampolines",
                if privileged {
                    trampolines(&kernel)
                } else {
                    Answer::Unknown
                },
            ),
        ],
    }
}
