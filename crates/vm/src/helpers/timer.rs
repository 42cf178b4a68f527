//! Timers and work queues: the checks of their arguments. What they do is the universe's business
//! ([`Host`](crate::world::Host)).

use super::{Args, Row, helpers};
use crate::world::{Clock, Deferred, Start};
use skep_abi::Errno;

pub(super) const HELPERS: &[Row] = helpers! {
    169 "bpf_timer_init" timer_init;
    170 "bpf_timer_set_callback" timer_set_callback;
    171 "bpf_timer_start" timer_start;
    172 "bpf_timer_cancel" timer_cancel;
};

pub(super) const KFUNCS: &[Row] = helpers! {
    0 "bpf_wq_init" wq_init;
    0 "bpf_wq_set_callback_impl" wq_set_callback;
    0 "bpf_wq_start" wq_start;
};

/// `BPF_F_TIMER_ABS`, `BPF_F_TIMER_CPU_PIN`
const ABSOLUTE: u64 = 1;
const PINNED: u64 = 2;

/// timer, map, clock
fn timer_init(a: &Args) -> Result<(), Errno> {
    let clock = Clock::from_id(a.get(3)).ok_or(Errno::EINVAL)?;
    let host = &a.world().host;
    host.deferred_init(Deferred::Timer(clock), a.map(2), a.get(1))
}

/// timer, callback
fn timer_set_callback(a: &Args) -> Result<(), Errno> {
    let host = &a.world().host;
    host.deferred_set_callback(a.get(1), a.program(), a.get(2))
}

/// timer, nanoseconds, flags
fn timer_start(a: &Args) -> Result<(), Errno> {
    let flags = a.get(3);
    if flags & !(ABSOLUTE | PINNED) != 0 {
        return Err(Errno::EINVAL);
    }
    let start = if flags & ABSOLUTE == 0 {
        Start::After(a.get(2))
    } else {
        Start::At(a.get(2))
    };
    a.world().host.deferred_start(a.get(1), start)
}

/// timer: 1 if it was active
fn timer_cancel(a: &Args) -> Result<u64, Errno> {
    let active = a.world().host.timer_cancel(a.get(1), a.runner());
    active.map(u64::from)
}

/// work queue, map, flags
fn wq_init(a: &Args) -> Result<(), Errno> {
    if a.get32(3) != 0 {
        return Err(Errno::EINVAL);
    }
    let host = &a.world().host;
    host.deferred_init(Deferred::Work, a.map(2), a.get(1))
}

/// work queue, callback, flags
fn wq_set_callback(a: &Args) -> Result<(), Errno> {
    if a.get32(3) != 0 {
        return Err(Errno::EINVAL);
    }
    let host = &a.world().host;
    host.deferred_set_callback(a.get(1), a.program(), a.get(2))
}

/// work queue, flags
fn wq_start(a: &Args) -> Result<(), Errno> {
    if a.get32(2) != 0 {
        return Err(Errno::EINVAL);
    }
    a.world().host.deferred_start(a.get(1), Start::After(0))
}
