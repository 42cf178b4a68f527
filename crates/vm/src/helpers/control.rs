//! Control: loops, locks.

use super::{Args, Row, helpers};
use skep_abi::Errno;
use skep_abi::limits::BPF_MAX_LOOPS;

pub(super) const HELPERS: &[Row] = helpers! {
    93 "bpf_spin_lock" spin_lock;
    94 "bpf_spin_unlock" spin_unlock;
    181 "bpf_loop" bpf_loop [calls_back];
};

fn spin_lock(a: &Args) {
    a.section(true);
    // SAFETY: the verifier proved an aligned lock in memory that outlives the section.
    let got = unsafe { skep_maps::spin_lock(a.ptr(1).cast(), a.runner().token) };
    if let Some(heap) = a.heap() {
        heap.after(got, a.runner().token);
    }
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
        // The kernel puts the loop in the call's place if it knows that there are no flags, and there the error has 32 bits.
        return Ok(u64::from(Errno::E2BIG.neg() as u32));
    }
    for i in 0..u64::from(count) {
        if a.call(2, [i, a.get(3), 0, 0, 0]) != 0 || a.interrupted() {
            return Ok(i + 1);
        }
    }
    Ok(u64::from(count))
}
