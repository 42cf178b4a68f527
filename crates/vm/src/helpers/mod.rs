//! The run-time library: helpers and kfuncs.

use crate::env::RunEnv;
use crate::lowered::Callee;
use crate::program::Program;
use skep_abi::MapType;
use skep_abi::limits::MAX_TAIL_CALL_CNT;
use skep_maps::MapHeader;

/// A helper or kfunc: `(env, r1…r5) → r0`.
///
/// # Safety
/// The arguments must be those of a call that the verifier accepted, in a run of that program.
pub type HelperFn = unsafe extern "C" fn(*mut RunEnv, u64, u64, u64, u64, u64) -> u64;

/// The code of a helper, specialised for the map type where that is known.
#[must_use]
pub fn helper(_id: u32, _map_type: Option<MapType>) -> Option<Callee> {
    None
}

/// The code of a kfunc.
#[must_use]
pub fn kfunc(_name: &str) -> Option<Callee> {
    None
}

/// Legacy packet load: the value of `bytes` big-endian bytes at `offset` (a sign-extended `i32`) of the packet of `ctx`,
/// or -1 if they are not all in the packet.
///
/// # Safety
/// `ctx` must be the context of the run, a [`crate::ctx::SkbCtx`].
pub unsafe extern "C" fn load_packet(_env: *mut RunEnv, ctx: u64, offset: u64, bytes: u64) -> i64 {
    let ctx = ctx as *const crate::ctx::SkbCtx;
    // SAFETY: promised by the caller.
    let (data, end) = unsafe { ((*ctx).data.cast_const(), (*ctx).data_end.cast_const()) };
    let len = (end as usize).saturating_sub(data as usize) as u64;
    let inside = offset.checked_add(bytes).is_some_and(|last| last <= len);
    if !inside || bytes > 4 {
        return -1;
    }
    let mut value = 0;
    for i in 0..bytes {
        // SAFETY: `offset + bytes` lies within the linear packet data.
        value = value << 8 | i64::from(unsafe { *data.add((offset + i) as usize) });
    }
    value
}

/// The program that a tail call goes to, counted against the limit of the run; null if there is none.
///
/// An engine that finds one calls [`Program::enter`] (`stack_top` lowered below the
/// frames that stay), or jumps there if it is of the same engine; then it returns the result from the calling function. A
/// function that calls one with [`crate::lowered::Func::has_tail_call`] sets `env.program` (and `env.call_back`) back
/// afterwards.
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
