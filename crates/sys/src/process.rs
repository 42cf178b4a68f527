//! Processes: capabilities, memory of others.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// `CAP_NET_ADMIN`
pub const CAP_NET_ADMIN: u32 = 12;
/// `CAP_SYS_ADMIN`
pub const CAP_SYS_ADMIN: u32 = 21;
/// `CAP_PERFMON`
pub const CAP_PERFMON: u32 = 38;
/// `CAP_BPF`
pub const CAP_BPF: u32 = 39;

/// A set of capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// True if capability number `cap` is in the set.
    #[must_use]
    pub const fn has(self, cap: u32) -> bool {
        self.0 >> cap & 1 != 0
    }
}

/// The effective capabilities of this process.
pub fn effective_capabilities() -> io::Result<Capabilities> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .map(Capabilities)
        .ok_or_else(|| io::Error::other("/proc/self/status has no CapEff"))
}

/// `_LINUX_CAPABILITY_VERSION_3` (capabilities(7))
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Takes capabilities from the calling thread, for good; other threads keep theirs.
///
/// # Errors
/// Those of `capget` and `capset`.
pub fn drop_capabilities(caps: &[u32]) -> io::Result<()> {
    let header = [CAPABILITY_VERSION, 0];
    // Effective, permitted and inheritable: capabilities 0 to 31, then 32 to 63.
    let mut sets = [[0u32; 3]; 2];
    let call = |number, sets: *mut [[u32; 3]; 2]| {
        // SAFETY: a header of the version that has two triples of sets; the kernel reads or writes only those.
        match unsafe { libc::syscall(number, header.as_ptr(), sets) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    call(libc::SYS_capget, &raw mut sets)?;
    for cap in caps {
        for set in &mut sets[(cap / 32) as usize] {
            *set &= !(1 << (cap % 32));
        }
    }
    call(libc::SYS_capset, &raw mut sets)
}

/// Reads memory of process `pid` at `address` into `buffer`; returns how many bytes came.
pub fn read_memory(pid: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let remote = libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut(address as usize),
        iov_len: buffer.len(),
    };
    // SAFETY: the local buffer is writable for its length; the remote address is only read, by the kernel, which checks it.
    let count = unsafe { libc::process_vm_readv(pid.cast_signed(), &local, 1, &remote, 1, 0) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// A descriptor of another process, as one of our own (`pidfd_getfd(2)`).
///
/// # Errors
/// `EPERM` without the right to trace it, `EBADF` if it has no such descriptor.
pub fn take_descriptor(pid: u32, number: RawFd) -> io::Result<OwnedFd> {
    let own = |value: libc::c_long| {
        let fd = RawFd::try_from(value).unwrap_or(-1);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    // SAFETY: numbers only.
    let process = own(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: numbers only.
    own(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0) })
}

/// The effective user id.
#[must_use]
pub fn user_id() -> u32 {
    // SAFETY: takes nothing, always succeeds.
    unsafe { libc::geteuid() }
}
