//! Numbers that nobody can foresee.

/// A number from the kernel's generator (getrandom(2)).
#[must_use]
pub fn u64() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer is as long as it says. Requests of at most 256 bytes are never cut short.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert_eq!(
        got, 8,
        "getrandom(2) answers small requests once the machine is up"
    );
    u64::from_ne_bytes(bytes)
}
