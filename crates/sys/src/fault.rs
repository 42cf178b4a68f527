//! Faults of code that expects them: the handler of SIGSEGV and SIGBUS.

use std::cell::UnsafeCell;
use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where to go on after a fault of the instruction at `pc`; `None` if nobody expected it. `address` is what it wanted to
/// access, 0 if that is there but bad. Runs in a signal handler.
pub type Resolve = fn(pc: usize, address: usize) -> Option<usize>;

/// The signals of bad addresses.
const SIGNALS: [i32; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// The resolver, as an address.
static RESOLVE: AtomicUsize = AtomicUsize::new(0);
static INSTALL: Once = Once::new();
static PREVIOUS: Previous = Previous(UnsafeCell::new([None; 2]));

/// The handlers that were there before.
struct Previous(UnsafeCell<[Option<libc::sigaction>; 2]>);

// SAFETY: written once, before the handler that reads it is installed.
unsafe impl Sync for Previous {}

/// Makes faults at addresses that `resolve` knows go on elsewhere; all others go to the handler that was there before.
///
/// # Errors
/// Those of `sigaction`.
pub fn handle_faults(resolve: Resolve) -> io::Result<()> {
    RESOLVE.store(resolve as usize, Ordering::Release);
    let mut result = Ok(());
    INSTALL.call_once(|| result = install());
    result
}

fn install() -> io::Result<()> {
    for (i, signal) in SIGNALS.into_iter().enumerate() {
        // SAFETY: all-zero is a valid `sigaction`; the pointers are valid; the previous handler is stored before ours can run.
        unsafe {
            let mut old: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &raw mut old) != 0 {
                return Err(io::Error::last_os_error());
            }
            (*PREVIOUS.0.get())[i] = Some(old);
            let mut new: libc::sigaction = std::mem::zeroed();
            new.sa_sigaction = on_fault as *const () as usize;
            new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            if libc::sigaction(signal, &raw const new, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let resolve = RESOLVE.load(Ordering::Acquire);
    if let Some(pc) = program_counter(context)
        && resolve != 0
    {
        // SAFETY: the address was a `Resolve`; `pc` points into the context that the kernel restores, `info` is the kernel's.
        unsafe {
            let resolve = std::mem::transmute::<usize, Resolve>(resolve);
            let address = if signal == libc::SIGSEGV {
                (*info).si_addr() as usize
            } else {
                0
            };
            let at = usize::try_from(*pc).ok();
            if let Some(to) = at.and_then(|pc| resolve(pc, address)) {
                *pc = to as i64;
                return;
            }
        }
    }
    pass_on(signal, info, context);
}

/// The interrupted instruction's address in a signal context.
fn program_counter(context: *mut libc::c_void) -> Option<*mut i64> {
    #[cfg(target_arch = "x86_64")]
    {
        let context = context.cast::<libc::ucontext_t>();
        // SAFETY: with SA_SIGINFO the kernel passes a `ucontext_t`.
        Some(unsafe { &raw mut (*context).uc_mcontext.gregs[libc::REG_RIP as usize] })
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = context;
        None
    }
}

/// Lets the previous handler have the signal.
fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let at = usize::from(signal != SIGNALS[0]);
    // SAFETY: stored before this handler was installed, and not changed since.
    let previous = unsafe { (*PREVIOUS.0.get())[at] };
    let Some(old) = previous else { return };
    match old.sa_sigaction {
        // The faulting instruction runs again and takes the default action.
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: restores what was there before.
            unsafe { libc::sigaction(signal, &raw const old, std::ptr::null_mut()) };
        }
        handler if old.sa_flags & libc::SA_SIGINFO != 0 => {
            type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: a handler with SA_SIGINFO has this signature.
            unsafe { std::mem::transmute::<usize, Handler>(handler)(signal, info, context) };
        }
        handler => {
            // SAFETY: a handler without SA_SIGINFO has this signature.
            unsafe { std::mem::transmute::<usize, extern "C" fn(i32)>(handler)(signal) };
        }
    }
}
