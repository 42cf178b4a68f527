//! A command under a seccomp filter whose notifications this process answers.
//!
//! The child shares the table of descriptors until it executes the command, so that the listener it makes is ours, too; its
//! number comes through shared memory, since under the filter the child may no longer be able to say anything else.

use crate::child::{NOT_FOUND, wait};
use crate::mem::{Access, Mapping, anonymous_file};
use crate::seccomp::set_filter;
use crate::socket::{SockFilter, classic_code};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// How often is looked whether the child has its filter.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a wait for notifications takes at most.
const WAIT_MS: i32 = 100;

/// A system call that waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notification {
    /// Who makes it.
    pub pid: u32,
    /// Architecture (`AUDIT_ARCH_…`).
    pub arch: u32,
    /// Its number.
    pub number: u32,
    /// Its arguments.
    pub args: [u64; 6],
}

/// Runs `command` (searched in `PATH`) under `filter`. Calls that the filter notifies of are shown to `notify` and go on.
///
/// Returns when nobody is under the filter any more, with the command's exit code, or 128 and the signal that ended it.
///
/// # Errors
/// Those of `clone`, `seccomp` and of waiting.
pub fn supervise(
    filter: &[SockFilter],
    command: &[impl AsRef<OsStr>],
    notify: &mut dyn FnMut(&Notification),
) -> io::Result<i32> {
    let words: Vec<CString> = command
        .iter()
        .map(|word| crate::bpf::text(word.as_ref().as_bytes()))
        .collect::<io::Result<_>>()?;
    let mut pointers: Vec<*const libc::c_char> = words.iter().map(|w| w.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let filter = classic_code(filter);
    let file = anonymous_file(c"listener", size_of::<AtomicI64>() as u64)?;
    let shared = Mapping::of_file(&file, 0, size_of::<AtomicI64>(), Access::ReadWrite)?;
    // SAFETY: the mapping is writable, large enough, zero, and used as this atomic only.
    let listener = unsafe { &*shared.base().cast::<AtomicI64>() };
    let flags = libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: as fork(2), but for the table of descriptors; the child makes system calls only.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        let made = set_filter(&filter, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
        let number = made.map_or_else(|e| -i64::from(e.raw_os_error().unwrap_or(1)), |fd| fd + 1);
        listener.store(number, Ordering::Release);
        // SAFETY: we are the child; the words are terminated strings and the list ends with a null pointer.
        unsafe {
            if number > 0 {
                libc::execvp(pointers[0], pointers.as_ptr());
            }
            libc::_exit(NOT_FOUND)
        }
    }
    let pid = pid as i32;
    let mut code = None;
    let number = loop {
        match (listener.load(Ordering::Acquire), code) {
            // It ended before it had its filter.
            (0, Some(code)) => return Ok(code),
            (0, None) => std::thread::sleep(PAUSE),
            (number, _) => break number,
        }
        code = wait(pid, libc::WNOHANG)?;
    };
    if number < 0 {
        if code.is_none() {
            wait(pid, 0)?;
        }
        return Err(io::Error::from_raw_os_error(-number as i32));
    }
    // SAFETY: the child has just made it in the table we share, and nobody else knows it.
    let listener = unsafe { OwnedFd::from_raw_fd((number - 1) as RawFd) };
    answer(&listener, pid, code, notify)
}

/// Answers until nobody is under the filter any more; `code` is the child's exit code if it has ended.
fn answer(
    listener: &OwnedFd,
    pid: i32,
    mut code: Option<i32>,
    notify: &mut dyn FnMut(&Notification),
) -> io::Result<i32> {
    loop {
        let mut poll = libc::pollfd {
            fd: listener.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry.
        let ready = unsafe { libc::poll(&raw mut poll, 1, WAIT_MS) };
        if code.is_none() {
            code = wait(pid, libc::WNOHANG)?;
        }
        if ready > 0 && poll.revents & libc::POLLIN != 0 {
            one(listener, notify)?;
        } else if ready > 0 {
            return match code {
                Some(code) => Ok(code),
                None => Ok(wait(pid, 0)?.unwrap_or(NOT_FOUND)),
            };
        }
    }
}

/// Answers one call; one whose caller is gone is none.
fn one(listener: &OwnedFd, notify: &mut dyn FnMut(&Notification)) -> io::Result<()> {
    // SAFETY: zero bytes are a value of these structures of numbers.
    let (mut call, mut response): (libc::seccomp_notif, libc::seccomp_notif_resp) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let gone = |e: io::Error| match e.raw_os_error() {
        Some(libc::ENOENT | libc::EINTR) => Ok(()),
        _ => Err(e),
    };
    let fd = listener.as_raw_fd();
    // SAFETY: the structure is writable and zero, as the call demands.
    if unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) } != 0 {
        return gone(io::Error::last_os_error());
    }
    notify(&Notification {
        pid: call.pid,
        arch: call.data.arch,
        number: call.data.nr.cast_unsigned(),
        args: call.data.args,
    });
    response.id = call.id;
    response.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    // SAFETY: the structure is whole.
    if unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) } != 0 {
        return gone(io::Error::last_os_error());
    }
    Ok(())
}
