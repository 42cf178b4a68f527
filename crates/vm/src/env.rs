//! The run environment: everything a running program and its helpers can reach.
//!
//! Helpers get it as their first argument and never use thread-locals, so that the same code can later run inside other
//! processes. It is made once per worker and reused: starting a run writes a handful of words.

use crate::program::Program;
use skep_maps::Runner;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of the area that holds the stack frames of one worker.
///
/// Eight frames of 512 bytes, times the depth that tail calls from subprogs can pile up: the verifier bounds the caller's
/// frames by 256 bytes each where a tail call is reachable, and there are at most 33.
pub const STACK_AREA_BYTES: usize = 16 * 1024;

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
    /// Set while a thrown value unwinds.
    pub thrown: u32,
    /// Who runs: the leased per-CPU slot, and the thread as owner of locks.
    pub runner: Runner,
    /// Process and thread that run, as `bpf_get_current_pid_tgid` tells them.
    pub pid_tgid: u64,
    /// Depth of nested callbacks.
    pub depth: u32,
    /// Locks, preemption and interrupt sections that are open; nobody may stop a run inside one.
    pub sections: u32,
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
    /// Calls a callback of the current program.
    ///
    /// # Safety
    /// `env` must be the environment of the run, `func` a value of [`crate::lowered::Op::FuncAddr`] that the program passed.
    pub unsafe fn call(env: *mut Self, func: u64, args: [u64; 5]) -> u64 {
        let [r1, r2, r3, r4, r5] = args;
        // SAFETY: promised by the caller.
        unsafe {
            let Some(call_back) = (*env).call_back else {
                return 0;
            };
            (*env).depth += 1;
            let value = call_back(env, func, r1, r2, r3, r4, r5);
            (*env).depth -= 1;
            value
        }
    }

    /// True once somebody asked the run to stop.
    #[must_use]
    pub fn stopped(&self) -> bool {
        // SAFETY: `stop` points to a flag that outlives the worker (see `Worker::new`).
        unsafe { (*self.stop).load(Ordering::Relaxed) != 0 }
    }
}
