//! Links of the kernel.

use crate::attr::{Cmd, LinkCreate, LinkUpdate, One, RawTracepoint, Two, word};
use crate::bpf::{self, Info, address, address_mut, address_str};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// `BPF_F_REPLACE`: the old program of an update is named.
const BPF_F_REPLACE: u32 = 4;

/// The part of a link that depends on its kind.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields of the union in BPF_LINK_CREATE")]
pub enum Extra<'a> {
    None,
    PerfEvent {
        cookie: u64,
    },
    Tracing {
        btf_id: u32,
        cookie: u64,
    },
    Netfilter {
        family: u32,
        hook: u32,
        priority: i32,
        flags: u32,
    },
    /// tcx, netkit and cgroup: before or after another one.
    Relative {
        fd_or_id: u32,
        revision: u64,
    },
    Iter {
        info: &'a [u8],
    },
    KprobeMulti {
        symbols: &'a [CString],
        cookies: &'a [u64],
        flags: u32,
    },
    UprobeMulti {
        path: &'a Path,
        offsets: &'a [u64],
        counters: &'a [u64],
        cookies: &'a [u64],
        pid: u32,
        flags: u32,
    },
}

/// What kind-specific memory must live as long as the call.
#[derive(Default)]
struct Held {
    pointers: Vec<u64>,
    path: Option<CString>,
}

/// `BPF_LINK_CREATE`. `prog_or_map` is a map for structures of operations; `target` is a descriptor or an interface index.
pub fn create(
    prog_or_map: BorrowedFd<'_>,
    target: u32,
    attach_type: u32,
    flags: u32,
    extra: &Extra<'_>,
) -> io::Result<OwnedFd> {
    let mut held = Held::default();
    let words = match *extra {
        Extra::None => [0; 6],
        Extra::PerfEvent { cookie } => [cookie, 0, 0, 0, 0, 0],
        Extra::Tracing { btf_id, cookie } => [word(btf_id, 0), cookie, 0, 0, 0, 0],
        Extra::Netfilter {
            family,
            hook,
            priority,
            flags,
        } => [
            word(family, hook),
            word(priority.cast_unsigned(), flags),
            0,
            0,
            0,
            0,
        ],
        Extra::Relative { fd_or_id, revision } => [word(fd_or_id, 0), revision, 0, 0, 0, 0],
        Extra::Iter { info } => [address(info), word(info.len() as u32, 0), 0, 0, 0, 0],
        Extra::KprobeMulti {
            symbols,
            cookies,
            flags,
        } => {
            if !cookies.is_empty() && cookies.len() != symbols.len() {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            held.pointers = symbols.iter().map(|s| address_str(s)).collect();
            let count = symbols.len() as u32;
            [
                word(flags, count),
                address(&held.pointers),
                0,
                address(cookies),
                0,
                0,
            ]
        }
        Extra::UprobeMulti {
            path,
            offsets,
            counters,
            cookies,
            pid,
            flags,
        } => {
            let fits = |list: &[u64]| list.is_empty() || list.len() == offsets.len();
            if !fits(cookies) || !fits(counters) {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            let path = held.path.insert(bpf::path_text(path)?);
            let count = word(offsets.len() as u32, flags);
            [
                address_str(path),
                address(offsets),
                address(counters),
                address(cookies),
                count,
                word(pid, 0),
            ]
        }
    };
    let mut attr = LinkCreate {
        prog_fd: prog_or_map.as_raw_fd().cast_unsigned(),
        target_fd: target,
        attach_type,
        flags,
        extra: words,
    };
    // SAFETY: every address was taken from `extra` or `held`, with its own count; both outlive the call.
    unsafe { bpf::bpf_fd(Cmd::LinkCreate, &mut attr) }
}

/// `BPF_RAW_TRACEPOINT_OPEN`; without a name the program is attached to what it was loaded for.
pub fn raw_tracepoint(
    prog: BorrowedFd<'_>,
    name: Option<&str>,
    cookie: u64,
) -> io::Result<OwnedFd> {
    let name = name.map(|n| bpf::text(n.as_bytes())).transpose()?;
    let mut attr = RawTracepoint {
        name: name.as_deref().map_or(0, address_str),
        prog_fd: prog.as_raw_fd().cast_unsigned(),
        reserved: 0,
        cookie,
    };
    // SAFETY: the name is a terminated string that outlives the call.
    unsafe { bpf::bpf_fd(Cmd::RawTracepointOpen, &mut attr) }
}

/// `BPF_LINK_UPDATE`
pub fn update(
    link: BorrowedFd<'_>,
    new: BorrowedFd<'_>,
    old: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attr = LinkUpdate {
        link_fd: link.as_raw_fd().cast_unsigned(),
        new_prog_fd: new.as_raw_fd().cast_unsigned(),
        flags: if old.is_some() { BPF_F_REPLACE } else { 0 },
        old_prog_fd: old.map_or(0, |o| o.as_raw_fd().cast_unsigned()),
    };
    // SAFETY: no address.
    unsafe { bpf::bpf(Cmd::LinkUpdate, &mut attr).map(drop) }
}

/// `BPF_LINK_DETACH`
pub fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = One {
        value: link.as_raw_fd().cast_unsigned(),
    };
    // SAFETY: no address.
    unsafe { bpf::bpf(Cmd::LinkDetach, &mut attr).map(drop) }
}

/// `BPF_ITER_CREATE`: a descriptor to read the iterator's text from.
pub fn iter_create(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = Two {
        first: link.as_raw_fd().cast_unsigned(),
        second: 0,
    };
    // SAFETY: no address.
    unsafe { bpf::bpf_fd(Cmd::IterCreate, &mut attr) }
}

/// `struct bpf_link_info`; the union as words.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub struct LinkInfo {
    pub link_type: u32,
    pub id: u32,
    pub prog_id: u32,
    pub reserved: u32,
    pub words: [u64; 6],
}

// SAFETY: numbers only, without padding.
unsafe impl Info for LinkInfo {}

impl LinkInfo {
    /// The 32-bit number at byte `4 × index` of the union.
    #[must_use]
    pub fn half(&self, index: usize) -> u32 {
        let bytes = self
            .words
            .get(index / 2)
            .copied()
            .unwrap_or(0)
            .to_ne_bytes();
        let at = (index % 2) * 4;
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }
}

/// Where a link's information takes a buffer for a name: the word of its address and the half word of its length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextPlace {
    /// Index into [`LinkInfo::words`].
    pub address: usize,
    /// As in [`LinkInfo::half`].
    pub length: usize,
}

/// Bytes of the longest name that is asked for.
const TEXT_BYTES: usize = 4096;

/// `BPF_OBJ_GET_INFO_BY_FD` of a link.
pub fn info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    // SAFETY: all addresses are zero with a size of zero.
    unsafe { bpf::info(link, &mut info)? };
    Ok(info)
}

/// The name at a place of a link's information.
pub fn text(link: BorrowedFd<'_>, place: TextPlace) -> io::Result<String> {
    let mut name = vec![0u8; TEXT_BYTES];
    let mut info = LinkInfo::default();
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let length = TEXT_BYTES as u32;
    let half = info.words.get_mut(place.length / 2).ok_or_else(invalid)?;
    *half = if place.length.is_multiple_of(2) {
        word(length, 0)
    } else {
        word(0, length)
    };
    *info.words.get_mut(place.address).ok_or_else(invalid)? = address_mut(&mut name);
    // SAFETY: the only address is that of `name`, which is writable for the length beside it.
    unsafe { bpf::info(link, &mut info)? };
    Ok(bpf::field_text(&name))
}
