//! Filesystems: opened without a place in the tree, gone with their descriptor, until one is attached.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The magic number of bpf filesystems.
pub const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// `FSOPEN_CLOEXEC`, `FSMOUNT_CLOEXEC`
const CLOEXEC: libc::c_long = 1;
/// `FSCONFIG_SET_STRING`
const SET_STRING: libc::c_long = 1;
/// `FSCONFIG_CMD_CREATE`
const CREATE: libc::c_long = 6;
/// `MOVE_MOUNT_F_EMPTY_PATH`
const FROM_DESCRIPTOR: libc::c_long = 4;

fn descriptor(value: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(value).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A filesystem that is being made (`fsopen(2)`). It belongs to the user namespace of who opened it, whoever goes on with it.
#[derive(Debug)]
pub struct Context(OwnedFd);

impl From<OwnedFd> for Context {
    /// Of a descriptor that another process opened.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Context {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Context {
    /// Begins a filesystem.
    ///
    /// # Errors
    /// Those of `fsopen`; `EPERM` without CAP_SYS_ADMIN in a user namespace.
    pub fn open(filesystem: &CStr) -> io::Result<Self> {
        // SAFETY: the name is a terminated string.
        descriptor(unsafe { libc::syscall(libc::SYS_fsopen, filesystem.as_ptr(), CLOEXEC) })
            .map(Self)
    }

    fn config(&self, command: libc::c_long, texts: Option<(&CStr, &CStr)>) -> io::Result<()> {
        let none = std::ptr::null();
        let (key, value) = texts.map_or((none, none), |(k, v)| (k.as_ptr(), v.as_ptr()));
        // SAFETY: key and value are terminated strings, or null for the command that takes none.
        let done = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                key,
                value,
                0,
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Sets an option.
    ///
    /// # Errors
    /// Those of `fsconfig`: `EINVAL` for an option that does not exist, `EPERM` for one that is not the caller's to set.
    pub fn set(&self, key: &CStr, value: &CStr) -> io::Result<()> {
        self.config(SET_STRING, Some((key, value)))
    }

    /// Makes the filesystem.
    ///
    /// # Errors
    /// Those of `fsconfig`.
    pub fn create(&self) -> io::Result<()> {
        self.config(CREATE, None)
    }

    /// A detached mount; its root is `/proc/self/fd/N`.
    ///
    /// # Errors
    /// Those of `fsmount`.
    pub fn mount(&self) -> io::Result<OwnedFd> {
        // SAFETY: numbers only.
        descriptor(unsafe { libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), CLOEXEC, 0) })
    }
}

/// A detached mount of a filesystem; its root is `/proc/self/fd/N`.
///
/// # Errors
/// Those of `fsopen`, `fsconfig` and `fsmount`; `EPERM` without CAP_SYS_ADMIN.
pub fn detached(filesystem: &CStr) -> io::Result<OwnedFd> {
    let context = Context::open(filesystem)?;
    context.create()?;
    context.mount()
}

/// Gives a detached mount a place in the tree, where it stays.
///
/// # Errors
/// Those of `move_mount`; `EPERM` without CAP_SYS_ADMIN.
pub fn attach(mount: &OwnedFd, place: &Path) -> io::Result<()> {
    let place = CString::new(place.as_os_str().as_bytes())?;
    // SAFETY: both paths are terminated strings.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            place.as_ptr(),
            FROM_DESCRIPTOR,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The magic number of the filesystem that a path is in.
///
/// # Errors
/// Those of `statfs`.
pub fn magic(path: &Path) -> io::Result<i64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is a terminated string.
    statfs(|stats| unsafe { libc::statfs(path.as_ptr(), stats) })
}

/// The magic number of the filesystem that an open file is in.
pub(crate) fn magic_of(fd: RawFd) -> io::Result<i64> {
    // SAFETY: a number, and room for the answer.
    statfs(|stats| unsafe { libc::fstatfs(fd, stats) })
}

/// The type that `ask` fills in.
fn statfs(ask: impl FnOnce(*mut libc::statfs) -> libc::c_int) -> io::Result<i64> {
    let mut stats = std::mem::MaybeUninit::zeroed();
    if ask(stats.as_mut_ptr()) != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: numbers only, for which zeros will do.
    Ok(unsafe { stats.assume_init() }.f_type)
}
