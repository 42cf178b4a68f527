//! The atomics that hash maps and ring buffers are made of: the standard library's, or loom's when every interleaving of
//! their algorithms is tried (feature `loom`, see `model.rs`).

use std::time::Duration;

#[cfg(feature = "loom")]
pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, fence};
#[cfg(not(feature = "loom"))]
pub(crate) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, fence};

/// One turn of a waiting loop.
pub(crate) fn pause() {
    #[cfg(feature = "loom")]
    loom::thread::yield_now();
    #[cfg(not(feature = "loom"))]
    std::hint::spin_loop();
}

/// Does the thread with this token still run? In a model all do.
pub(crate) fn is_alive(token: u32) -> bool {
    cfg!(feature = "loom") || skep_sys::task::is_alive(token)
}

/// Wakes all that sleep on `word`; in a model nobody does.
pub(crate) fn wake_all(word: &AtomicU32) {
    #[cfg(not(feature = "loom"))]
    skep_sys::futex::wake_all(word);
    #[cfg(feature = "loom")]
    let _nobody = word;
}

/// Sleeps on `word` while it is `seen`, at most `timeout`.
pub(crate) fn sleep_on(word: &AtomicU32, seen: u32, timeout: Duration) {
    #[cfg(not(feature = "loom"))]
    skep_sys::futex::wait(word, seen, timeout);
    #[cfg(feature = "loom")]
    let _nobody = (word, seen, timeout);
}
