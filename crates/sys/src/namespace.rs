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

/// Moves the calling thread into a mount namespace of its own, whose mounts nobody else sees.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN.
pub fn enter_new_mounts() -> io::Result<()> {
    let none = std::ptr::null();
    // SAFETY: numbers, and strings that end.
    let done = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(
                none,
                c"/".as_ptr(),
                none,
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) == 0
    };
    if done {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
