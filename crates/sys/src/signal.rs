//! Signals: sent to oneself, and as something to read.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The signals that end a command: `SIGINT`, `SIGTERM`, `SIGHUP`.
const ENDING: &[i32] = &[libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

fn ending_set() -> libc::sigset_t {
    // SAFETY: a plain structure, which sigemptyset then initialises; the numbers are signals.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in ENDING {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

fn mask(how: i32) -> io::Result<()> {
    let set = ending_set();
    // SAFETY: the set is initialised; the old one is not wanted.
    match unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Lets the ending signals through again; async-signal-safe.
pub(crate) fn unblock() {
    // Nobody is there to be told in a child; signals then stay blocked.
    let _ = mask(libc::SIG_UNBLOCK);
}

/// Whom a signal is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receiver {
    /// Any thread of this process.
    Process,
    /// The calling thread.
    Thread,
}

/// Sends the calling thread or its process a signal that says it comes from the kernel. Number 0 only asks.
///
/// # Errors
/// `EINVAL` if there is no such signal, `EAGAIN` if too many wait.
pub fn send_as_kernel(to: Receiver, number: u32) -> io::Result<()> {
    /// `SI_KERNEL`
    const FROM_KERNEL: i32 = 0x80;
    // SAFETY: a plain structure, for which zeros are valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    info.si_signo = number.cast_signed();
    info.si_code = FROM_KERNEL;
    let (process, thread) = crate::ids::process_and_thread();
    // SAFETY: the structure is read during the call. The kernel lets a thread send what it likes to itself only, so that it is
    // named in both; the first call then reaches the process.
    let failed = unsafe {
        match to {
            Receiver::Process => {
                libc::syscall(libc::SYS_rt_sigqueueinfo, thread, number, &raw const info)
            }
            Receiver::Thread => {
                let call = libc::SYS_rt_tgsigqueueinfo;
                libc::syscall(call, process, thread, number, &raw const info)
            }
        }
    };
    match failed {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Turns ending signals of this thread, and of threads it starts later, into events of a descriptor.
#[derive(Debug)]
pub struct Interrupts {
    fd: OwnedFd,
}

impl Interrupts {
    /// Blocks the signals and opens the descriptor.
    ///
    /// # Errors
    /// Those of `signalfd`.
    pub fn open() -> io::Result<Self> {
        mask(libc::SIG_BLOCK)?;
        let set = ending_set();
        // SAFETY: the set is initialised.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// Polls readable once a signal came.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        unblock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI32, Ordering};

    /// What the handler was told: code and sender.
    static CODE: AtomicI32 = AtomicI32::new(0);
    static SENDER: AtomicI32 = AtomicI32::new(-1);

    extern "C" fn handler(_: i32, info: *const libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel passes a filled structure.
        let (code, sender) = unsafe { ((*info).si_code, (*info).si_pid()) };
        SENDER.store(sender, Ordering::SeqCst);
        CODE.store(code, Ordering::SeqCst);
    }

    #[test]
    fn signals_reach_the_process_as_from_the_kernel() {
        // SAFETY: the structure is filled before the call; the handler only stores numbers. Nothing else here uses the signal.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            let signal = libc::SIGURG;
            assert_eq!(
                libc::sigaction(signal, &raw const action, std::ptr::null_mut()),
                0
            );
        }
        for to in [Receiver::Process, Receiver::Thread] {
            CODE.store(0, Ordering::SeqCst);
            send_as_kernel(to, libc::SIGURG.cast_unsigned()).unwrap();
            for _ in 0..1000 {
                if CODE.load(Ordering::SeqCst) != 0 {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let told = (CODE.load(Ordering::SeqCst), SENDER.load(Ordering::SeqCst));
            assert_eq!(told, (libc::SI_KERNEL, 0), "{to:?}");
        }
        send_as_kernel(Receiver::Process, 0).unwrap();
        let refused = send_as_kernel(Receiver::Process, 65).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    }
}
