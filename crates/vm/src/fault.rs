//! Reads of addresses that may be bad.

/// Reads `bytes` (at most 8) at `at`, zero-extended; zero if the address is bad.
#[must_use]
pub fn read_u64(at: u64, bytes: usize) -> u64 {
    let mut value = [0; 8];
    if read(at, &mut value[..bytes]) {
        u64::from_le_bytes(value)
    } else {
        0
    }
}

/// Fills `buffer` from `at`; false if any byte of it cannot be read.
#[must_use]
pub fn read(at: u64, buffer: &mut [u8]) -> bool {
    read_of(std::process::id(), at, buffer)
}

/// As [`read`], of another process, or of the one of a thread.
#[must_use]
pub fn read_of(thread: u32, at: u64, buffer: &mut [u8]) -> bool {
    skep_sys::process::read_memory(thread, at, buffer).is_ok_and(|n| n == buffer.len())
}

/// Stops speculation past this point.
pub fn speculation_barrier() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `lfence` is part of SSE2, which every x86-64 processor has.
    unsafe {
        std::arch::x86_64::_mm_lfence();
    }
}
