//! Times the kernel gives, as times people use.

use skep_sys::clock;

/// Seconds since 1970 of a moment `since_boot_ns` nanoseconds after boot.
#[must_use]
pub fn epoch_seconds(since_boot_ns: u64) -> u64 {
    let boot_ns = clock::real_time_ns().saturating_sub(clock::since_boot_ns());
    (boot_ns + since_boot_ns) / 1_000_000_000
}
