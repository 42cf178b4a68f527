//! What all objects of the kernel share: pins, ids; and BTF objects.

use crate::attr::{BtfLoad, Cmd, Id, Obj, One, TaskFdQuery, Two};
use crate::bpf::{self, Info, address, address_mut, address_str};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// `BPF_OBJ_PIN`
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = bpf::path_text(path)?;
    let mut attr = Obj {
        pathname: address_str(&path),
        bpf_fd: object.as_raw_fd().cast_unsigned(),
        ..Obj::default()
    };
    // SAFETY: the path is a terminated string that outlives the call.
    unsafe { bpf::bpf(Cmd::ObjPin, &mut attr).map(drop) }
}

/// `BPF_OBJ_GET`
pub fn get(path: &Path) -> io::Result<OwnedFd> {
    let path = bpf::path_text(path)?;
    let mut attr = Obj {
        pathname: address_str(&path),
        ..Obj::default()
    };
    // SAFETY: the path is a terminated string that outlives the call.
    unsafe { bpf::bpf_fd(Cmd::ObjGet, &mut attr) }
}

/// Kinds of object with ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the kinds of bpf(2)")]
pub enum Kind {
    Map,
    Prog,
    Link,
    Btf,
}

/// `BPF_*_GET_NEXT_ID`; `None` after the last one.
pub fn next_id(kind: Kind, after: u32) -> io::Result<Option<u32>> {
    let cmd = match kind {
        Kind::Map => Cmd::MapGetNextId,
        Kind::Prog => Cmd::ProgGetNextId,
        Kind::Link => Cmd::LinkGetNextId,
        Kind::Btf => Cmd::BtfGetNextId,
    };
    let mut attr = Id {
        id: after,
        ..Id::default()
    };
    // SAFETY: no address.
    match unsafe { bpf::bpf(cmd, &mut attr) } {
        Ok(_) => Ok(Some(attr.next_id)),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// `BPF_*_GET_FD_BY_ID`
pub fn by_id(kind: Kind, id: u32) -> io::Result<OwnedFd> {
    let cmd = match kind {
        Kind::Map => Cmd::MapGetFdById,
        Kind::Prog => Cmd::ProgGetFdById,
        Kind::Link => Cmd::LinkGetFdById,
        Kind::Btf => Cmd::BtfGetFdById,
    };
    let mut attr = Id {
        id,
        ..Id::default()
    };
    // SAFETY: no address.
    unsafe { bpf::bpf_fd(cmd, &mut attr) }
}

/// `BPF_ENABLE_STATS` for run times, until the descriptor is closed.
pub fn enable_run_time_stats() -> io::Result<OwnedFd> {
    let mut attr = One { value: 0 };
    // SAFETY: no address.
    unsafe { bpf::bpf_fd(Cmd::EnableStats, &mut attr) }
}

/// `BPF_TOKEN_CREATE`: what the owner of a bpf filesystem delegated to its user namespace.
pub fn token_create(bpffs: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = Two {
        first: 0,
        second: bpffs.as_raw_fd().cast_unsigned(),
    };
    // SAFETY: no address.
    unsafe { bpf::bpf_fd(Cmd::TokenCreate, &mut attr) }
}

/// What an open perf event or raw tracepoint of a process runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskProgram {
    /// Id of the program.
    pub prog_id: u32,
    /// `enum bpf_task_fd_type`
    pub kind: u32,
    /// Tracepoint, function or file.
    pub name: String,
    /// Byte of the function or file.
    pub offset: u64,
    /// Address, of probes without a name.
    pub address: u64,
}

/// `BPF_TASK_FD_QUERY`; `None` if no program runs there.
pub fn task_query(pid: u32, fd: u32) -> io::Result<Option<TaskProgram>> {
    let mut name = vec![0u8; 256];
    let mut attr = TaskFdQuery {
        pid,
        fd,
        buf_len: name.len() as u32,
        buf: address_mut(&mut name),
        ..TaskFdQuery::default()
    };
    // SAFETY: `buf` is writable for `buf_len` bytes.
    match unsafe { bpf::bpf(Cmd::TaskFdQuery, &mut attr) } {
        Ok(_) => Ok(Some(TaskProgram {
            prog_id: attr.prog_id,
            kind: attr.fd_type,
            name: bpf::field_text(&name),
            offset: attr.probe_offset,
            address: attr.probe_addr,
        })),
        Err(e)
            if matches!(
                e.raw_os_error(),
                Some(ENOTSUPP | libc::ENOENT | libc::EBADF | libc::EOPNOTSUPP)
            ) =>
        {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// What the kernel answers for other descriptors; an errno that the C library does not know.
const ENOTSUPP: i32 = 524;

/// Bytes of the log of a refused BTF.
const BTF_LOG_BYTES: usize = 1 << 16;

/// `BPF_BTF_LOAD`; the kernel's log is with the error.
pub fn btf_load(
    data: &[u8],
    token: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, (io::Error, String)> {
    let mut attr = BtfLoad {
        btf: address(data),
        btf_size: data.len() as u32,
        btf_flags: token.map_or(0, |_| crate::attr::BPF_F_TOKEN_FD),
        btf_token_fd: token.map_or(0, |t| t.as_raw_fd()),
        ..BtfLoad::default()
    };
    // SAFETY: `data` is readable for its size.
    let first = match unsafe { bpf::bpf_fd(Cmd::BtfLoad, &mut attr) } {
        Ok(fd) => return Ok(fd),
        Err(error) => error,
    };
    let mut log = vec![0u8; BTF_LOG_BYTES];
    attr.btf_log_buf = address_mut(&mut log);
    attr.btf_log_size = log.len() as u32;
    attr.btf_log_level = 1;
    // SAFETY: as above; the log is writable for its size.
    match unsafe { bpf::bpf_fd(Cmd::BtfLoad, &mut attr) } {
        Ok(fd) => Ok(fd),
        Err(_) => Err((first, bpf::field_text(&log))),
    }
}

/// `struct bpf_btf_info`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct RawBtfInfo {
    btf: u64,
    btf_size: u32,
    id: u32,
    name: u64,
    name_len: u32,
    kernel_btf: u32,
}

// SAFETY: numbers only, without padding.
unsafe impl Info for RawBtfInfo {}

/// What the kernel tells of a BTF object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BtfInfo {
    /// Its id.
    pub id: u32,
    /// `vmlinux`, a module, or empty.
    pub name: String,
    /// It describes the kernel or a module.
    pub kernel_btf: bool,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// `BPF_OBJ_GET_INFO_BY_FD` of a BTF object.
pub fn btf_info(btf: BorrowedFd<'_>) -> io::Result<BtfInfo> {
    let mut raw = RawBtfInfo::default();
    // SAFETY: all addresses are zero with a size of zero.
    unsafe { bpf::info(btf, &mut raw)? };
    let mut data = vec![0u8; raw.btf_size as usize];
    let mut name = [0u8; 64];
    raw = RawBtfInfo {
        btf: address_mut(&mut data),
        btf_size: raw.btf_size,
        name: address_mut(&mut name),
        name_len: name.len() as u32,
        ..RawBtfInfo::default()
    };
    // SAFETY: both buffers are writable for the sizes beside them.
    unsafe { bpf::info(btf, &mut raw)? };
    data.truncate(raw.btf_size as usize);
    Ok(BtfInfo {
        id: raw.id,
        name: bpf::field_text(&name),
        kernel_btf: raw.kernel_btf != 0,
        data,
    })
}
