//! The lock word in values (`bpf_spin_lock`), held by threads of any process.
//!
//! A taken lock holds the owner's token. Whoever waits long asks whether the owner still runs, and takes a dead one's lock
//! over: the value it protected is then as the dead left it, which is all a lock word inside a value can promise.

use crate::sync;
use std::sync::atomic::{AtomicU32, Ordering};

/// Turns of a waiting loop between questions about the owner and yields.
pub(crate) const SPINS_BEFORE_ASKING: u32 = if cfg!(feature = "loom") { 1 } else { 1 << 10 };

/// Waits a little; every [`SPINS_BEFORE_ASKING`] turns yields and returns true: it is time to ask about the owner.
pub(crate) fn wait(turn: &mut u32) -> bool {
    sync::pause();
    *turn += 1;
    let ask = turn.is_multiple_of(SPINS_BEFORE_ASKING);
    if ask {
        skep_sys::task::yield_now();
    }
    ask
}

/// How a lock was got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Got {
    /// It was free.
    Free,
    /// Its owner died holding it.
    Inherited {
        /// The owner's token.
        from: u32,
    },
}

/// Takes a lock whose word `swap` compares and exchanges.
fn take_with(mut swap: impl FnMut(u32) -> Result<u32, u32>) -> Got {
    let mut turn = 0;
    loop {
        match swap(0) {
            Ok(_) => return Got::Free,
            Err(owner) => {
                if wait(&mut turn) && owner != 0 && !sync::is_alive(owner) && swap(owner).is_ok() {
                    return Got::Inherited { from: owner };
                }
            }
        }
    }
}

/// Takes the lock at `word`.
///
/// # Safety
/// `word` must be aligned and valid as long as the lock is held.
pub unsafe fn spin_lock(word: *mut u32, token: u32) -> Got {
    // SAFETY: the caller's promise; all accesses of lock words are atomic.
    let word = unsafe { AtomicU32::from_ptr(word) };
    take_with(|owner| word.compare_exchange(owner, token, Ordering::Acquire, Ordering::Relaxed))
}

/// Takes a lock.
pub(crate) fn take(word: &sync::AtomicU32, token: u32) -> Got {
    take_with(|owner| word.compare_exchange(owner, token, Ordering::Acquire, Ordering::Relaxed))
}

/// Gives a lock back.
pub(crate) fn give(word: &sync::AtomicU32) {
    word.store(0, Ordering::Release);
}

/// Gives the lock at `word` back.
///
/// # Safety
/// The caller holds it.
pub unsafe fn spin_unlock(word: *mut u32) {
    // SAFETY: the caller's promise.
    unsafe { AtomicU32::from_ptr(word) }.store(0, Ordering::Release);
}
