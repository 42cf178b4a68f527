//! The run environment: everything a running program and its helpers can reach.
//!
//! Helpers get it as their first argument and never use thread-locals, so that the same code can later run inside other
//! processes. It is made once per worker and reused: starting a run writes a handful of words.

use crate::program::Program;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of the area that holds the stack frames of one worker.
///
/// Eight frames of 512 bytes, times the depth that tail calls from subprogs can pile up: the verifier bounds the caller's
/// frames by 256 bytes each where a tail call is reachable, and there are at most 33.
pub const STACK_AREA_BYTES: usize = 16 * 1024;

/// A map as programs and helpers hold it: the value of a map register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct MapHandle(pub *const c_void);

/// Runs a callback of the current program: `(env, handle from FuncAddr, r1…r5) → r0`.
pub type CallBackFn = unsafe extern "C" fn(*mut RunEnv, u64, u64, u64, u64, u64, u64) -> u64;

/// The run environment. The layout is fixed: compiled code reads fields by offset.
#[repr(C)]
#[derive(Debug)]
pub struct RunEnv {
    /// The program that runs. Engines set it at entry, and again when a tail call returns to an older program's frame.
    pub program: *const Program,
    /// How the current program's engine runs a callback.
    pub call_back: Option<CallBackFn>,
    /// Where the next frame ends: frames grow down from here. An engine that keeps frames here lowers it around calls into
    /// helpers that call back and into other programs.
    pub stack_top: *mut u8,
    /// Lowest address of the stack area.
    pub stack_limit: *mut u8,
    /// Tail calls made in this run.
    pub tail_calls: u32,
    /// The per-CPU slot this run has leased.
    pub cpu: u32,
    /// Set while a thrown value unwinds.
    pub thrown: u32,
    /// Depth of nested callbacks.
    pub depth: u32,
    /// The thrown value.
    pub thrown_value: u64,
    /// Not zero when the run has to stop: engines poll it at back edges and then return.
    pub stop: *const AtomicU32,
    /// Lower bound of the user view of the program's arena; accesses add the arena's base instead.
    pub arena_user_base: u64,
    /// Host address of offset 0 of the program's arena.
    pub arena_base: u64,
    /// The rest, which only helpers need.
    pub world: *mut crate::world::World,
}

impl RunEnv {
    /// True once somebody asked the run to stop.
    #[must_use]
    pub fn stopped(&self) -> bool {
        // SAFETY: `stop` points to a flag that outlives the worker (see `Worker::new`).
        unsafe { (*self.stop).load(Ordering::Relaxed) != 0 }
    }
}
