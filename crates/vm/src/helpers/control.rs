//! Control: loops, locks, kptrs.

use super::{Args, Row, helpers};
use skep_abi::Errno;
use skep_abi::limits::BPF_MAX_LOOPS;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const HELPERS: &[Row] = helpers! {
    93 "bpf_spin_lock" spin_lock;
    94 "bpf_spin_unlock" spin_unlock;
    181 "bpf_loop" bpf_loop [calls_back];
    194 "bpf_kptr_xchg" kptr_xchg;
};

fn spin_lock(a: &Args) {
    a.section(true);
    // SAFETY: the verifier proved an aligned lock in memory that outlives the section.
    unsafe { skep_maps::spin_lock(a.ptr(1).cast(), a.runner().token) };
}

fn spin_unlock(a: &Args) {
    // SAFETY: the verifier proved that the program holds the lock.
    unsafe { skep_maps::spin_unlock(a.ptr(1).cast()) }
    a.section(false);
}

/// Iterations, callback, its context, flags
fn bpf_loop(a: &Args) -> Result<u64, Errno> {
    let count = a.get32(1);
    if a.get(4) != 0 {
        return Err(Errno::EINVAL);
    }
    if count > BPF_MAX_LOOPS {
        return Err(Errno::E2BIG);
    }
    for i in 0..u64::from(count) {
        if a.call(2, [i, a.get(3), 0, 0, 0]) != 0 || a.interrupted() {
            return Ok(i + 1);
        }
    }
    Ok(u64::from(count))
}

/// Map value slot, pointer: swaps them
fn kptr_xchg(a: &Args) -> u64 {
    // SAFETY: the verifier proved an aligned slot for a kptr.
    let slot = unsafe { AtomicU64::from_ptr(a.ptr(1).cast()) };
    slot.swap(a.get(2), Ordering::AcqRel)
}
