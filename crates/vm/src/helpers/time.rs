//! Clocks.

use super::{Args, Row, helpers};
use skep_sys::clock;

pub(super) const HELPERS: &[Row] = helpers! {
    5 "bpf_ktime_get_ns" ktime_get_ns;
    118 "bpf_jiffies64" jiffies64;
    125 "bpf_ktime_get_boot_ns" ktime_get_boot_ns;
    160 "bpf_ktime_get_coarse_ns" ktime_get_coarse_ns;
    208 "bpf_ktime_get_tai_ns" ktime_get_tai_ns;
};

/// Jiffies a second (`CONFIG_HZ`) of the kernel that programs are compiled for.
const HZ: u64 = 250;
/// `INITIAL_JIFFIES`: the counter starts five minutes before it wraps at 32 bits.
const INITIAL_JIFFIES: u64 = (1 << 32) - 300 * HZ;

fn ktime_get_ns(_: &Args) -> u64 {
    clock::monotonic_ns()
}

fn ktime_get_boot_ns(_: &Args) -> u64 {
    clock::since_boot_ns()
}

fn ktime_get_coarse_ns(_: &Args) -> u64 {
    clock::monotonic_coarse_ns()
}

fn ktime_get_tai_ns(_: &Args) -> u64 {
    clock::tai_ns()
}

fn jiffies64(_: &Args) -> u64 {
    INITIAL_JIFFIES + clock::monotonic_ns() / (1_000_000_000 / HZ)
}
