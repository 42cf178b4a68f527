//! Memory that processes share: anonymous and unnamed files, and their mappings.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

/// Bytes of a page. Files of maps are laid out in these, whatever the machine's page size.
pub const PAGE: usize = 4096;

/// What a mapping may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Loads only.
    Read,
    /// Loads and stores.
    ReadWrite,
    /// Loads and execution.
    Execute,
}

impl Access {
    const fn prot(self) -> i32 {
        match self {
            Self::Read => libc::PROT_READ,
            Self::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
            Self::Execute => libc::PROT_READ | libc::PROT_EXEC,
        }
    }
}

fn with_len(fd: RawFd, len: u64) -> io::Result<File> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and belongs to nobody else.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(len)?;
    Ok(file)
}

/// An anonymous file of `len` zero bytes (`memfd_create(2)`), closed on exec.
///
/// # Errors
/// Those of `memfd_create` and `ftruncate`.
pub fn anonymous_file(name: &CStr, len: u64) -> io::Result<File> {
    // SAFETY: `name` is a terminated string.
    with_len(
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) },
        len,
    )
}

/// A file of `len` zero bytes without a name, in the filesystem of `dir` (`O_TMPFILE`), mode 0600.
///
/// # Errors
/// Those of `open` and `ftruncate`.
pub fn unnamed_file_in(dir: &Path, len: u64) -> io::Result<File> {
    let path = std::ffi::CString::new(dir.as_os_str().as_bytes())?;
    let flags = libc::O_TMPFILE | libc::O_RDWR | libc::O_CLOEXEC;
    // SAFETY: `path` is a terminated string.
    with_len(unsafe { libc::open(path.as_ptr(), flags, 0o600) }, len)
}

/// Bytes that can still be written to the filesystem of `dir`.
///
/// # Errors
/// Those of `statvfs`.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let path = std::ffi::CString::new(dir.as_os_str().as_bytes())?;
    let mut stats = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is a terminated string; the structure is filled if the call succeeds.
    unsafe {
        if libc::statvfs(path.as_ptr(), stats.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let stats = stats.assume_init();
        Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
    }
}

/// Gives an unnamed file a name, which must not exist yet.
///
/// # Errors
/// Those of `linkat`.
pub fn link_file(file: &File, path: &Path) -> io::Result<()> {
    let from = std::ffi::CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let to = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: both are terminated strings.
    let rc = unsafe {
        libc::linkat(
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::AT_SYMLINK_FOLLOW,
        )
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The contents of a file that nobody changes, in place.
#[derive(Debug)]
pub struct Constant(Mapping);

impl Constant {
    /// Maps a file of sysfs that shows constant data of the kernel: reading it would take one call a page.
    ///
    /// # Errors
    /// Those of `mmap`; kernels before 6.16 map no such file.
    pub fn of_sysfs(file: &File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let prot = Access::Read.prot();
        let fd = file.as_raw_fd();
        let base = map(std::ptr::null_mut(), len, prot, libc::MAP_PRIVATE, fd, 0)?;
        Ok(Self(Mapping { base, len }))
    }
}

impl AsRef<[u8]> for Constant {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the mapping is this long and lives as long as the slice; files of sysfs with a size keep it, and nobody
        // writes to the kernel's constants.
        unsafe { std::slice::from_raw_parts(self.0.base(), self.0.len()) }
    }
}

/// Writes to memory of this process that may not be there: what would be a signal is an error.
///
/// # Errors
/// Those of `process_vm_writev`.
pub fn write_own(address: usize, bytes: &[u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = &bytes[done..];
        let local = libc::iovec {
            iov_base: rest.as_ptr().cast_mut().cast(),
            iov_len: rest.len(),
        };
        let remote = libc::iovec {
            iov_base: std::ptr::without_provenance_mut(address + done),
            iov_len: rest.len(),
        };
        // SAFETY: the kernel reads `rest`, and checks the other range itself.
        let written = unsafe {
            libc::process_vm_writev(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0)
        };
        match usize::try_from(written) {
            Ok(0) => return Err(io::Error::from_raw_os_error(libc::EFAULT)),
            Ok(count) => done += count,
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
    Ok(())
}

/// Gives the memory of a range of a file back; it reads as zeros then.
///
/// # Errors
/// Those of `fallocate`: not every file system can.
pub fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let number = |n: u64| i64::try_from(n).map_err(io::Error::other);
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: numbers only.
    match unsafe { libc::fallocate(file.as_raw_fd(), mode, number(offset)?, number(len)?) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A range of address space that is unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is plain address space; those who store through it order their accesses themselves.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

fn map(
    at: *mut u8,
    len: usize,
    prot: i32,
    flags: i32,
    fd: RawFd,
    offset: u64,
) -> io::Result<NonNull<u8>> {
    let offset = i64::try_from(offset).map_err(io::Error::other)?;
    // SAFETY: without MAP_FIXED nothing that exists is replaced; with it, callers pass a range they reserved.
    let p = unsafe { libc::mmap(at.cast(), len, prot, flags, fd, offset) };
    if p == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(p.cast()).ok_or_else(|| io::Error::other("mapped at zero"))
}

impl Mapping {
    /// Maps `len` bytes of `file` from `offset`, shared.
    ///
    /// # Errors
    /// Those of `mmap`; an empty range is invalid.
    pub fn of_file(
        file: &impl AsRawFd,
        offset: u64,
        len: usize,
        access: Access,
    ) -> io::Result<Self> {
        let base = map(
            std::ptr::null_mut(),
            len,
            access.prot(),
            libc::MAP_SHARED,
            file.as_raw_fd(),
            offset,
        )?;
        Ok(Self { base, len })
    }

    /// Maps `len` bytes of what `fd` stands for, shared, for loads: at `at`, or anywhere if that is 0.
    ///
    /// # Errors
    /// Those of `mmap`; `EEXIST` if something is there already.
    pub fn of_descriptor(fd: BorrowedFd<'_>, at: usize, len: usize) -> io::Result<Self> {
        let fixed = if at == 0 {
            0
        } else {
            libc::MAP_FIXED_NOREPLACE
        };
        let at = std::ptr::without_provenance_mut(at);
        let prot = Access::Read.prot();
        let base = map(at, len, prot, libc::MAP_SHARED | fixed, fd.as_raw_fd(), 0)?;
        Ok(Self { base, len })
    }

    /// Maps what [`Self::of_descriptor`] mapped again at the same place, for stores as well.
    ///
    /// # Errors
    /// Those of `mmap`.
    pub fn make_writable(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let prot = Access::ReadWrite.prot();
        self.replace(0, self.len, prot, libc::MAP_SHARED, fd.as_raw_fd())
    }

    /// Reserves `len` bytes of address space that nothing may touch yet.
    ///
    /// # Errors
    /// Those of `mmap`.
    pub fn reserve(len: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let base = map(std::ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0)?;
        Ok(Self { base, len })
    }

    /// As [`Self::reserve`], at `address`.
    ///
    /// # Errors
    /// `EEXIST` if something is there already; those of `mmap`.
    pub fn reserve_at(address: usize, len: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE
            | libc::MAP_ANONYMOUS
            | libc::MAP_NORESERVE
            | libc::MAP_FIXED_NOREPLACE;
        let at = std::ptr::without_provenance_mut(address);
        let base = map(at, len, libc::PROT_NONE, flags, -1, 0)?;
        Ok(Self { base, len })
    }

    /// Maps `len` bytes of `file`, shared, for loads and stores, at `address`.
    ///
    /// # Errors
    /// As [`Self::reserve_at`].
    pub fn of_file_at(file: &File, address: usize, len: usize) -> io::Result<Self> {
        let at = std::ptr::without_provenance_mut(address);
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
        let prot = Access::ReadWrite.prot();
        let base = map(at, len, prot, flags, file.as_raw_fd(), 0)?;
        Ok(Self { base, len })
    }

    /// Replaces `len` bytes at `at` of this mapping by those of `file` from `offset`, shared.
    ///
    /// # Errors
    /// `EINVAL` if the range leaves the mapping; those of `mmap`.
    pub fn overlay(
        &mut self,
        at: usize,
        file: &File,
        offset: u64,
        len: usize,
        access: Access,
    ) -> io::Result<()> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let to = self.base.as_ptr().wrapping_add(at);
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        map(to, len, access.prot(), flags, file.as_raw_fd(), offset).map(drop)
    }

    fn replace(&self, at: usize, len: usize, prot: i32, flags: i32, fd: RawFd) -> io::Result<()> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let to = self.base.as_ptr().wrapping_add(at);
        map(to, len, prot, flags | libc::MAP_FIXED, fd, 0).map(drop)
    }

    /// Takes what is at `at` away: from now on accesses fault. Nobody may hold references there.
    ///
    /// # Errors
    /// `EINVAL` if the range leaves the mapping; those of `mmap`.
    pub fn hide(&self, at: usize, len: usize) -> io::Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        self.replace(at, len, libc::PROT_NONE, flags, -1)
    }

    /// Puts zeros that are no file's at `at`. Can be called from a signal handler.
    ///
    /// # Errors
    /// As [`Self::hide`].
    pub fn blank(&self, at: usize, len: usize) -> io::Result<()> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        self.replace(at, len, Access::ReadWrite.prot(), flags, -1)
    }

    /// As [`Self::overlay`] for loads and stores, where nobody holds references. Can be called from a signal handler.
    ///
    /// # Errors
    /// As [`Self::overlay`].
    pub fn show(&self, at: usize, file: &File, offset: u64, len: usize) -> io::Result<()> {
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let to = self.base.as_ptr().wrapping_add(at);
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        let prot = Access::ReadWrite.prot();
        map(to, len, prot, flags, file.as_raw_fd(), offset).map(drop)
    }

    /// First byte.
    #[must_use]
    pub fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a mapping without bytes, which cannot be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Is `address` inside?
    #[must_use]
    pub fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.base.as_ptr() as usize) < self.len
    }

    /// Has the pages of a range there before they are needed; where the system cannot, they come when touched.
    pub fn populate(&self, at: usize, len: usize) {
        if at.checked_add(len).is_some_and(|end| end <= self.len) {
            let from = self.base.as_ptr().wrapping_add(at);
            // SAFETY: the range is ours; the advice changes no contents.
            unsafe { libc::madvise(from.cast(), len, libc::MADV_POPULATE_WRITE) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `Self::of_file` or `Self::reserve` and is ours alone.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
