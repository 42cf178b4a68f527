//! Clocks.

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure is writable; these clocks always exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Nanoseconds since boot, time asleep included; load times of programs are in it.
#[must_use]
pub fn since_boot_ns() -> u64 {
    read(libc::CLOCK_BOOTTIME)
}

/// Nanoseconds that the calling thread ran.
#[must_use]
pub fn thread_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Nanoseconds since 1970.
#[must_use]
pub fn real_time_ns() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// Nanoseconds since boot, time asleep not included.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// As [`monotonic_ns`], as of the last tick of the timer.
#[must_use]
pub fn monotonic_coarse_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

/// Nanoseconds since 1970 without leap seconds.
#[must_use]
pub fn tai_ns() -> u64 {
    read(libc::CLOCK_TAI)
}
