//! The atomics that hash maps, tries and ring buffers are made of: the standard library's, or loom's when every interleaving of
//! their algorithms is tried (feature `loom`, see `model.rs`).

use std::time::Duration;

#[cfg(feature = "loom")]
pub(crate) use crate::stepped::{AtomicU8, AtomicU32, AtomicU64};
#[cfg(feature = "loom")]
pub(crate) use loom::sync::atomic::fence;
#[cfg(not(feature = "loom"))]
pub(crate) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, fence};

/// One turn of a waiting loop.
pub(crate) fn pause() {
    #[cfg(feature = "loom")]
    loom::thread::yield_now();
    #[cfg(not(feature = "loom"))]
    std::hint::spin_loop();
}

/// Does the thread with this token still run? In a model all do but the one that [`died`].
pub(crate) fn is_alive(token: u32) -> bool {
    #[cfg(feature = "loom")]
    return DEAD.get() != token;
    #[cfg(not(feature = "loom"))]
    skep_sys::task::is_alive(token)
}

#[cfg(feature = "loom")]
thread_local! {
    /// The token of the thread of this model that died; its threads are one of the machine.
    static DEAD: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// The thread with this token died; 0: none did.
#[cfg(all(test, feature = "loom"))]
pub(crate) fn died(token: u32) {
    DEAD.set(token);
}

/// Loom's atomics do not begin as zero bytes: makes `count` of them, or of what holds them, in the memory of a new map.
#[cfg(feature = "loom")]
pub(crate) fn make<T: Default>(at: *const T, count: usize) {
    for i in 0..count {
        // SAFETY: the caller passes its part of a new map's memory, which nobody else has yet.
        unsafe { at.cast_mut().add(i).write(T::default()) };
    }
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
