//! The run-time library: helpers and kfuncs, one file a group, one table each.
//!
//! A helper is a safe function over [`Args`]; [`helpers!`] makes its entry point. Helpers reach the world only
//! through the run environment, never through thread-locals. [`helper`] and [`kfunc`] find an entry; what is not there
//! exists only in a kernel, and [`crate::compat`] says why.

mod arena;
mod args;
mod checksum;
mod control;
mod cpumask;
mod dynptr;
mod fib;
mod group;
mod iter;
mod legacy;
mod maps;
mod objects;
mod packed;
mod print;
mod probe;
mod ringbuf;
mod signal;
mod skb;
mod skb_room;
mod sock;
mod stack;
mod storage;
mod sync;
mod task;
mod tasks;
mod text;
mod time;
mod timer;
mod xdp;

pub(crate) use args::{Args, R0};
pub use legacy::load_packet;

use crate::env::RunEnv;
use crate::lowered::{Callee, CalleeId};
use crate::program::Program;
use skep_abi::MapType;
use skep_abi::limits::MAX_TAIL_CALL_CNT;
use skep_maps::MapHeader;

/// A helper or kfunc: `(env, r1…r5) → r0`.
///
/// # Safety
/// The arguments must be those of a call that the verifier accepted, in a run of that program.
pub type HelperFn = unsafe extern "C" fn(*mut RunEnv, u64, u64, u64, u64, u64) -> u64;

/// A row of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Number of a helper; 0 for kfuncs.
    pub(crate) id: u32,
    /// Name with `bpf_`.
    pub(crate) name: &'static str,
    /// Entry point.
    pub(crate) func: HelperFn,
    /// It runs callbacks.
    pub(crate) calls_back: bool,
}

/// Makes a table of rows from lines `id "name" function [calls back];`.
macro_rules! helpers {
    ($($id:literal $name:literal $func:path $([$calls_back:ident])?;)*) => {
        &[$($crate::helpers::Row {
            id: $id,
            name: $name,
            func: {
                unsafe extern "C" fn entry(
                    env: *mut $crate::env::RunEnv, r1: u64, r2: u64, r3: u64, r4: u64, r5: u64,
                ) -> u64 {
                    // SAFETY: engines call entry points with the arguments of verified calls.
                    let args = unsafe { $crate::helpers::Args::new(env, [r1, r2, r3, r4, r5]) };
                    $crate::helpers::R0::r0($func(&args))
                }
                entry
            },
            calls_back: helpers!(@calls_back $($calls_back)?),
        }),*]
    };
    (@calls_back) => { false };
    (@calls_back calls_back) => { true };
}
pub(crate) use helpers;

/// All groups of helpers.
const HELPERS: &[&[Row]] = &[
    checksum::HELPERS,
    control::HELPERS,
    dynptr::HELPERS,
    fib::HELPERS,
    group::HELPERS,
    maps::HELPERS,
    objects::HELPERS,
    print::HELPERS,
    probe::HELPERS,
    ringbuf::HELPERS,
    signal::HELPERS,
    skb::HELPERS,
    skb_room::HELPERS,
    sock::HELPERS,
    stack::HELPERS,
    storage::HELPERS,
    task::HELPERS,
    tasks::HELPERS,
    text::HELPERS,
    time::HELPERS,
    timer::HELPERS,
    xdp::HELPERS,
];

/// All groups of kfuncs.
const KFUNCS: &[&[Row]] = &[
    arena::KFUNCS,
    cpumask::KFUNCS,
    dynptr::KFUNCS,
    group::KFUNCS,
    iter::KFUNCS,
    objects::KFUNCS,
    probe::KFUNCS,
    sync::KFUNCS,
    tasks::KFUNCS,
    text::KFUNCS,
    timer::KFUNCS,
];

/// The code of a helper, specialised for the map type where that is known.
#[must_use]
pub fn helper(id: u32, map_type: Option<MapType>) -> Option<Callee> {
    let row = HELPERS.iter().flat_map(|g| g.iter()).find(|r| r.id == id)?;
    Some(Callee {
        id: CalleeId::Helper(id),
        func: maps::specialised(id, map_type).unwrap_or(row.func),
        calls_back: row.calls_back,
    })
}

/// The code of a kfunc.
#[must_use]
pub fn kfunc(name: &str) -> Option<Callee> {
    let row = KFUNCS
        .iter()
        .flat_map(|g| g.iter())
        .find(|r| r.name == name)?;
    Some(Callee {
        id: CalleeId::Kfunc(row.name),
        func: row.func,
        calls_back: row.calls_back,
    })
}

/// Numbers and names of all helpers that have an entry.
#[cfg(test)]
pub(crate) fn helper_names() -> impl Iterator<Item = (u32, &'static str)> {
    HELPERS
        .iter()
        .flat_map(|g| g.iter())
        .map(|r| (r.id, r.name))
}

/// Names of all kfuncs that have an entry.
pub(crate) fn kfunc_names() -> impl Iterator<Item = &'static str> {
    KFUNCS.iter().flat_map(|g| g.iter()).map(|r| r.name)
}

/// The program that a tail call goes to, counted against the limit of the run; null if there is none.
///
/// An engine that finds one calls [`Program::enter`] (`stack_top` lowered below the frames that stay), or jumps there if
/// it is of the same engine; then it returns the result from the calling function. A function that calls one with
/// [`crate::lowered::Func::has_tail_call`] makes its own program current again afterwards ([`Program::make_current`]).
///
/// # Safety
/// `map` must be a prog array's header from the running program.
pub unsafe extern "C" fn tail_call_target(
    env: *mut RunEnv,
    map: u64,
    index: u64,
) -> *const Program {
    // SAFETY: promised by the caller.
    let (env, map) = unsafe { (&mut *env, &*(map as *const MapHeader)) };
    if env.tail_calls >= MAX_TAIL_CALL_CNT {
        return std::ptr::null();
    }
    let target = map
        .tail_call_target(u64::from(index as u32))
        .cast::<Program>();
    if !target.is_null() {
        env.tail_calls += 1;
    }
    target
}
