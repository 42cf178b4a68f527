//! A child process that waits, after it exists and before it becomes its program.

use std::ffi::{CString, OsStr};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

/// Exit code of a child that could not become its program, as shells give it.
pub(crate) const NOT_FOUND: i32 = 127;

/// Exit code of a copy of this process that panicked, as programs of Rust give it.
const PANICKED: i32 = 101;

/// A child.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
    /// Closing it lets the child go on.
    gate: Option<std::io::PipeWriter>,
    exited: bool,
}

impl Child {
    /// Starts a child that will run `command` (searched in `PATH`) once [`Self::release`] is called. With `cgroup_procs`,
    /// an open `cgroup.procs`, it first enters that control group.
    ///
    /// # Errors
    /// Those of `fork` and `pidfd_open`; the child's own troubles show in its exit code.
    pub fn hold(command: &[impl AsRef<OsStr>], cgroup_procs: Option<RawFd>) -> io::Result<Self> {
        let words: Vec<CString> = command
            .iter()
            .map(|word| crate::bpf::text(word.as_ref().as_bytes()))
            .collect::<io::Result<_>>()?;
        let mut pointers: Vec<*const libc::c_char> = words.iter().map(|w| w.as_ptr()).collect();
        pointers.push(std::ptr::null());
        let (reader, writer) = io::pipe()?;
        // SAFETY: the child calls only async-signal-safe functions before it becomes another program.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        if pid == 0 {
            drop(writer);
            // SAFETY: we are the child; the words are terminated strings and the list ends with a null pointer.
            unsafe { become_program(reader.as_raw_fd(), cgroup_procs, &pointers) }
        }
        Ok(Self {
            pid,
            pidfd: open(pid)?,
            gate: Some(writer),
            exited: false,
        })
    }

    /// Starts a child that is a copy of this process, runs `body` and ends with the exit code that it returns.
    ///
    /// # Safety
    /// This process must have no other thread: what another one has locked would stay locked in the child.
    ///
    /// # Errors
    /// Those of `fork` and `pidfd_open`.
    pub unsafe fn copy(body: impl FnOnce() -> i32) -> io::Result<Self> {
        // SAFETY: the caller promises that there is no other thread.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        if pid == 0 {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: ends the child without what the parent would do at its end.
            unsafe { libc::_exit(code.unwrap_or(PANICKED)) }
        }
        Ok(Self {
            pid,
            pidfd: open(pid)?,
            gate: None,
            exited: false,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.cast_unsigned()
    }

    /// Polls readable once it has exited.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }

    /// Lets it become its program.
    ///
    /// # Errors
    /// If the child is gone.
    pub fn release(&mut self) -> io::Result<()> {
        match self.gate.take() {
            Some(mut gate) => gate.write_all(b"g"),
            None => Ok(()),
        }
    }

    /// Waits until it has exited; returns its exit code, or 128 and the signal that ended it.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub fn wait(&mut self) -> io::Result<i32> {
        let code = wait(self.pid, 0)?;
        self.exited = true;
        Ok(code.unwrap_or(NOT_FOUND))
    }
}

/// A descriptor of a child.
fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: numbers only.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let pidfd = RawFd::try_from(pidfd).unwrap_or(-1);
    if pidfd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// The exit code of a child, or 128 and the signal that ended it; `None` if it goes on, with `WNOHANG`.
pub(crate) fn wait(pid: i32, flags: i32) -> io::Result<Option<i32>> {
    let mut status = 0;
    loop {
        // SAFETY: the status is writable.
        match unsafe { libc::waitpid(pid, &raw mut status, flags) } {
            0 => return Ok(None),
            found if found > 0 => break,
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(Some(if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    }))
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.exited {
            return;
        }
        // SAFETY: the pid is that of our child, which nobody has waited for.
        unsafe { libc::kill(self.pid, libc::SIGTERM) };
        // A child that was never released ends when its gate closes.
        self.gate = None;
        let _ = self.wait();
    }
}

/// The child's side: waits for the gate and becomes the program.
///
/// # Safety
/// Only in a fresh child; `words` are terminated strings and end with a null pointer.
unsafe fn become_program(
    gate: RawFd,
    cgroup_procs: Option<RawFd>,
    words: &[*const libc::c_char],
) -> ! {
    // SAFETY: async-signal-safe calls on descriptors that were inherited; the caller answers for `words`.
    unsafe {
        if let Some(procs) = cgroup_procs {
            libc::write(procs, c"0".as_ptr().cast(), 1);
        }
        crate::signal::unblock();
        let mut byte = 0u8;
        if libc::read(gate, (&raw mut byte).cast(), 1) == 1 {
            libc::execvp(words[0], words.as_ptr());
        }
        libc::_exit(NOT_FOUND)
    }
}

#[cfg(test)]
mod tests {
    use super::Child;

    #[test]
    fn a_child_waits_and_tells_how_it_ended() {
        let mut child = Child::hold(&["sh", "-c", "exit 7"], None).unwrap();
        assert!(child.pid() > 0);
        child.release().unwrap();
        assert_eq!(child.wait().unwrap(), 7);
        let mut missing = Child::hold(&["no-such-program-anywhere"], None).unwrap();
        missing.release().unwrap();
        assert_eq!(missing.wait().unwrap(), 127);
        drop(Child::hold(&["sh"], None).unwrap()); // never released
    }
}
