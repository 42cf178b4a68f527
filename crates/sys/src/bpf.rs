//! `bpf(2)` itself.

use crate::attr::{Attr, Cmd};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Makes the call.
///
/// # Safety
/// Every address in `attr` that the command reads or writes is valid for as many bytes as the command uses there (for
/// map elements: the key and value size of the map, times the possible CPUs for per-CPU values).
pub unsafe fn bpf<A: Attr>(cmd: Cmd, attr: &mut A) -> io::Result<i32> {
    // SAFETY: `attr` is live and as large as the size says; the caller answers for the addresses in it.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            cmd as libc::c_long,
            std::ptr::from_mut(attr),
            size_of::<A>() as libc::c_long,
        )
    };
    if ret < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(ret).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))
}

/// Makes a call that returns a new descriptor.
///
/// # Safety
/// As for [`bpf`]; the command is one that returns a descriptor.
pub unsafe fn bpf_fd<A: Attr>(cmd: Cmd, attr: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(cmd, attr)? };
    // SAFETY: the kernel has just made the descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The address of a slice, as the union takes it; 0 for an empty one.
#[must_use]
pub fn address<T>(slice: &[T]) -> u64 {
    if slice.is_empty() {
        0
    } else {
        slice.as_ptr() as u64
    }
}

/// The address of a mutable slice; 0 for an empty one.
pub fn address_mut<T>(slice: &mut [T]) -> u64 {
    if slice.is_empty() {
        0
    } else {
        slice.as_mut_ptr() as u64
    }
}

/// The address of a string.
#[must_use]
pub fn address_str(text: &CStr) -> u64 {
    text.as_ptr() as u64
}

/// Cuts a name to what the kernel stores: 15 bytes and a zero.
#[must_use]
pub fn object_name(name: &str) -> [u8; 16] {
    let mut field = [0; 16];
    for (to, from) in field.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    field
}

/// A second descriptor of the same object.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is touched; a wrong number gives EBADF.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// `BPF_OBJ_GET_INFO_BY_FD` into `info`; returns how many bytes of the structure the kernel knows.
///
/// # Safety
/// Addresses inside `info` that the command writes through are valid for the counts beside them.
pub unsafe fn info<T: Info>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<usize> {
    let mut attr = crate::attr::Info {
        bpf_fd: fd.as_raw_fd().cast_unsigned(),
        info_len: size_of::<T>() as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    // SAFETY: `info` is writable for `info_len` bytes; the caller answers for addresses in it.
    unsafe { bpf(Cmd::ObjGetInfoByFd, &mut attr)? };
    Ok(attr.info_len as usize)
}

/// A structure of `BPF_OBJ_GET_INFO_BY_FD`.
///
/// # Safety
/// `repr(C)`, no padding, every bit pattern valid.
pub unsafe trait Info: Default {}

/// The text of a zero-terminated field.
#[must_use]
pub fn field_text(field: &[u8]) -> String {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// A path as the kernel takes it.
pub fn path_text(path: &Path) -> io::Result<CString> {
    text(path.as_os_str().as_bytes())
}

/// A string as the kernel takes it.
pub fn text(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
