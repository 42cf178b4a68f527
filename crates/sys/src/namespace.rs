//! Namespaces of the calling thread.

use std::io;

/// Moves the calling thread into a network namespace of its own, with only a loopback device, which is down.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN.
pub fn enter_new_network() -> io::Result<()> {
    // SAFETY: a number only.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
