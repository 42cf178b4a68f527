//! Filesystems that nobody has mounted: opened without a place in the tree, gone with their descriptor.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// `FSOPEN_CLOEXEC`, `FSMOUNT_CLOEXEC`
const CLOEXEC: libc::c_long = 1;
/// `FSCONFIG_CMD_CREATE`
const CREATE: libc::c_long = 6;

fn descriptor(value: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(value).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A detached mount of a filesystem; its root is `/proc/self/fd/N`.
///
/// # Errors
/// Those of `fsopen`, `fsconfig` and `fsmount`; `EPERM` without CAP_SYS_ADMIN.
pub fn detached(filesystem: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the name is a terminated string.
    let context =
        descriptor(unsafe { libc::syscall(libc::SYS_fsopen, filesystem.as_ptr(), CLOEXEC) })?;
    let none = std::ptr::null::<u8>();
    // SAFETY: this command takes no key and no value.
    let created = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            CREATE,
            none,
            none,
            0,
        )
    };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: numbers only.
    descriptor(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, 0) })
}
