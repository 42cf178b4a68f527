//! The interpreter: the readable reference semantics of [`Lowered`].
//!
//! [`inst`] pre-decodes ops to 16 bytes each, [`ops`] has one function a kind of instruction, [`run`] dispatches. A
//! [`Hook`] sees the machine before each instruction; [`NoHook`] compiles to nothing.
//!
//! Frames live in the worker's stack area, growing down from [`RunEnv::stack_top`], which always is the lower end of the
//! newest frame, so that callbacks and tail calls start below it.

mod inst;
mod ops;
mod run;
mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use ops::Regs;

use crate::env::RunEnv;
use crate::lowered::{Lowered, OpIdx};
use crate::program::{MapSlot, Program};
use inst::Inst;

/// A program pre-decoded for the interpreter.
#[derive(Debug)]
pub struct Image {
    insts: Box<[Inst]>,
}

impl Image {
    /// Pre-decodes a program whose maps are linked.
    #[must_use]
    pub fn new(lowered: &Lowered, maps: &[MapSlot]) -> Self {
        Self {
            insts: inst::encode(lowered, maps),
        }
    }
}

/// What a [`Hook`] sees: the machine before an instruction.
#[derive(Debug)]
pub struct Step<'a> {
    /// The op about to run.
    pub op: OpIdx,
    /// The registers.
    pub regs: &'a Regs,
    /// The active functions, the oldest first. The last one runs; the others have called the one after them.
    pub frames: &'a [FrameView],
    /// The program.
    pub program: &'a Program,
}

/// An active function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameView {
    /// Index of the function.
    pub func: u32,
    /// The frame lies below this address.
    pub pointer: u64,
    /// Of callers: the op of the call.
    pub call: OpIdx,
    /// Of callers: `r6`–`r9`, as the call saved them.
    pub saved: [u64; 4],
}

/// What to do after a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Run the instruction.
    Go,
    /// End the run with `r0 = 0`.
    Stop,
}

/// Sees each instruction before it runs.
pub trait Hook {
    /// False if [`Hook::step`] does nothing: then no call is compiled.
    const ACTIVE: bool;
    /// Called before each instruction.
    fn step(&mut self, step: &Step<'_>) -> Flow;
}

/// No hook.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHook;

impl Hook for NoHook {
    const ACTIVE: bool = false;
    fn step(&mut self, _: &Step<'_>) -> Flow {
        Flow::Go
    }
}

/// Entry of interpreted programs.
///
/// # Safety
/// `env` must be a worker's environment whose `program` has an [`Image`]; `ctx` must be the context that its type demands.
pub(crate) unsafe extern "C" fn entry(env: *mut RunEnv, ctx: *mut u8) -> u64 {
    // SAFETY: promised by the caller.
    unsafe { run::run(env, 0, [ctx as u64, 0, 0, 0, 0], &mut NoHook) }
}

/// Runs a callback of an interpreted program; the handle is its function index.
///
/// # Safety
/// As for [`entry`]; `func` must come from an [`crate::lowered::Op::FuncAddr`] of the current program.
pub(crate) unsafe extern "C" fn call_back(
    env: *mut RunEnv,
    func: u64,
    r1: u64,
    r2: u64,
    r3: u64,
    r4: u64,
    r5: u64,
) -> u64 {
    // SAFETY: promised by the caller.
    unsafe { run::run(env, func as u32, [r1, r2, r3, r4, r5], &mut NoHook) }
}

/// Runs an interpreted program with a hook; callbacks run without it.
///
/// # Safety
/// As for `crate::program::Worker::run`.
pub(crate) unsafe fn run_hooked<H: Hook>(env: *mut RunEnv, ctx: *mut u8, hook: &mut H) -> u64 {
    // SAFETY: promised by the caller.
    unsafe { run::run(env, 0, [ctx as u64, 0, 0, 0, 0], hook) }
}
