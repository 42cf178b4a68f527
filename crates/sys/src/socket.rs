//! Programs on sockets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

fn set(socket: BorrowedFd<'_>, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the value is live and as long as said.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Filters what the socket receives (`SO_ATTACH_BPF`).
///
/// # Errors
/// Those of `setsockopt`.
pub fn attach_filter(socket: BorrowedFd<'_>, prog: i32) -> io::Result<()> {
    set(socket, libc::SO_ATTACH_BPF, prog)
}

/// Takes the filter off.
///
/// # Errors
/// Those of `setsockopt`.
pub fn detach_filter(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SO_DETACH_FILTER, 0)
}

/// Chooses among the sockets of a reuseport group (`SO_ATTACH_REUSEPORT_EBPF`).
///
/// # Errors
/// Those of `setsockopt`.
pub fn attach_reuseport(socket: BorrowedFd<'_>, prog: i32) -> io::Result<()> {
    set(socket, libc::SO_ATTACH_REUSEPORT_EBPF, prog)
}

/// Takes the chooser off.
///
/// # Errors
/// Those of `setsockopt`.
pub fn detach_reuseport(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SO_DETACH_REUSEPORT_BPF, 0)
}

/// Lets several sockets share an address (`SO_REUSEPORT`).
///
/// # Errors
/// Those of `setsockopt`.
pub fn share_port(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SO_REUSEPORT, 1)
}
