//! Who a descriptor stands for as an owner of local storage.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// `CGROUP2_SUPER_MAGIC`
const CGROUP_V2: i64 = 0x6367_7270;
/// That, and `CGROUP_SUPER_MAGIC`.
const CGROUP_FILESYSTEMS: &[i64] = &[CGROUP_V2, 0x0027_e0eb];

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// How the path of a descriptor ends that was removed.
const DELETED: &[u8] = b" (deleted)";

/// The thread of a pidfd: its [token](crate::task::token).
///
/// # Errors
/// `EBADF` if `fd` is no pidfd, `ENOENT` if its task is gone.
pub fn task(fd: RawFd) -> io::Result<u32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"));
    let text = text.map_err(|_| errno(libc::EBADF))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    let pid = pid.ok_or_else(|| errno(libc::EBADF))?.trim();
    let thread = pid.parse().map_err(|_| errno(libc::ENOENT))?;
    Ok(crate::task::token_of(thread))
}

/// The cookie of a socket.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn socket(fd: RawFd) -> io::Result<u64> {
    crate::socket::get(fd, libc::SO_COOKIE).map(u64::from_ne_bytes)
}

/// Device and inode of a file.
///
/// # Errors
/// `EBADF`
pub fn inode(fd: RawFd) -> io::Result<(u64, u64)> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the structure is filled if the call succeeds.
    unsafe {
        if libc::fstat(fd, stat.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let stat = stat.assume_init();
        Ok((stat.st_dev, stat.st_ino))
    }
}

/// The number of a control group whose directory is open.
///
/// # Errors
/// `EBADF`, also if the descriptor is of something else; `ENOENT` if the group was removed.
pub fn cgroup(fd: RawFd) -> io::Result<u64> {
    group(fd, CGROUP_FILESYSTEMS)
}

/// As [`cgroup`], of the v2 hierarchy only.
///
/// # Errors
/// As there, `EBADF` for groups of other hierarchies.
pub fn v2_cgroup(fd: RawFd) -> io::Result<u64> {
    group(fd, &[CGROUP_V2])
}

fn group(fd: RawFd, filesystems: &[i64]) -> io::Result<u64> {
    let magic = crate::mount::magic_of(fd)?;
    let link = format!("/proc/self/fd/{fd}");
    let is_directory = std::fs::metadata(&link).is_ok_and(|m| m.is_dir());
    if !is_directory || !filesystems.contains(&magic) {
        return Err(errno(libc::EBADF));
    }
    let path = std::fs::read_link(&link)?;
    if path.as_os_str().as_encoded_bytes().ends_with(DELETED) && !path.exists() {
        return Err(errno(libc::ENOENT));
    }
    inode(fd).map(|(_, number)| number)
}

/// A descriptor of a thread.
///
/// # Errors
/// Those of `pidfd_open(2)`.
pub fn open_thread(thread: u32) -> io::Result<OwnedFd> {
    /// `PIDFD_THREAD`
    const THREAD: libc::c_int = libc::O_EXCL;
    // SAFETY: numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, thread, THREAD) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
