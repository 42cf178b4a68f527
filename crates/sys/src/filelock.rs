//! Locks of files that go with whoever holds them, also if it dies.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Who else may hold a lock at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// Others that share it.
    Shared,
    /// Nobody.
    Exclusive,
}

/// A lock of a file, given back on drop, or when the last process that inherited it ends.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes a lock of `file`, which locks of others in this process, too, can be in the way of.
    ///
    /// # Errors
    /// `EAGAIN` if somebody holds it otherwise; those of `open`.
    pub fn take(file: &File, sharing: Sharing) -> io::Result<Self> {
        // Locks belong to what was opened: this one to a descriptor of its own.
        let own = File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        // SAFETY: all-zero is a valid value: the whole file.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = match sharing {
            Sharing::Shared => libc::F_RDLCK as i16,
            Sharing::Exclusive => libc::F_WRLCK as i16,
        };
        // SAFETY: the lock is described by a structure that lives as long as the call.
        match unsafe { libc::fcntl(own.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
            0 => Ok(Self { _file: own }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_locks_exclude_exclusive_ones() {
        let file = crate::mem::anonymous_file(c"locked", 1).unwrap();
        let first = FileLock::take(&file, Sharing::Shared).unwrap();
        let second = FileLock::take(&file, Sharing::Shared).unwrap();
        assert!(FileLock::take(&file, Sharing::Exclusive).is_err());
        drop((first, second));
        let alone = FileLock::take(&file, Sharing::Exclusive).unwrap();
        assert!(FileLock::take(&file, Sharing::Shared).is_err());
        drop(alone);
        FileLock::take(&file, Sharing::Shared).unwrap();
    }
}
