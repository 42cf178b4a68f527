//! Checked runs: the strongest test of the verifier.
//!
//! A program lowered with [`Fold::Nothing`](crate::lower::Fold) runs in the interpreter, and before each instruction two things
//! are asserted: registers and stack lie in a state that the verifier recorded there, and the access about to happen lies in
//! the region of its fact.

use crate::ctx::{self, SkbCtx, XdpCtx};
use crate::interp::{Flow, FrameView, Hook, Step};
use crate::lowered::{Mem, Op, Space};
use crate::program::Program;
use skep_abi::ProgType;
use skep_abi::limits::MAX_BPF_STACK;
use skep_verifier::{ConcreteFrame, Region, Trace};

/// Instructions of one run that are checked. A longer run ends here: programs may loop for minutes.
const STEPS_MAX: u64 = 500_000;

/// A [`Hook`] that compares a run with the proof.
#[derive(Debug)]
pub struct Checked<'a> {
    trace: &'a Trace,
    ctx: *const u8,
    steps: u64,
    /// The first thing that did not fit: slot and what.
    failure: Option<(u32, String)>,
}

impl<'a> Checked<'a> {
    /// Checks a run with context `ctx` against the states of `trace`, which must come from the walk that made the program's
    /// proof.
    #[must_use]
    pub fn new(trace: &'a Trace, ctx: *const u8) -> Self {
        Self {
            trace,
            ctx,
            steps: 0,
            failure: None,
        }
    }

    /// Instructions checked.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Slot and explanation of the first contradiction.
    #[must_use]
    pub fn failure(&self) -> Option<&(u32, String)> {
        self.failure.as_ref()
    }

    /// First and last address (exclusive) of a region; `None` if it is not known here.
    fn bounds(&self, region: Region, step: &Step<'_>) -> Option<(u64, u64)> {
        match region {
            Region::Stack { up } => {
                let at = step.frames.len().checked_sub(1 + usize::from(up))?;
                let top = step.frames[at].pointer;
                Some((top - u64::from(MAX_BPF_STACK), top))
            }
            Region::Packet => self.packet(step.program),
            // Where memory is the context, there is no other.
            Region::Memory => {
                let bytes = step.program.lowered().verified.memory()?;
                Some((self.ctx as u64, self.ctx as u64 + u64::from(bytes)))
            }
            _ => None,
        }
    }

    /// The packet and its metadata.
    fn packet(&self, program: &Program) -> Option<(u64, u64)> {
        let prog_type = program.lowered().verified.prog_type();
        if prog_type == ProgType::Xdp {
            // SAFETY: the run's context is of the program's type, and alive during the run.
            let ctx = unsafe { &*self.ctx.cast::<XdpCtx>() };
            Some((ctx.data_meta as u64, ctx.data_end as u64))
        } else if ctx::has_skb(prog_type) {
            // SAFETY: as above.
            let ctx = unsafe { &*self.ctx.cast::<SkbCtx>() };
            Some((ctx.data_meta as u64, ctx.data_end as u64))
        } else {
            None
        }
    }

    /// The access of the op about to run lies in its region.
    fn check_access(&self, step: &Step<'_>) -> Result<(), String> {
        let lowered = step.program.lowered();
        if step.op < lowered.funcs[lowered.func_of(step.op)].body {
            return Ok(());
        }
        let Some(access) = lowered.fact(step.op).access else {
            return Ok(());
        };
        let Some((mem, bytes)) = operand(&lowered.ops[step.op as usize]) else {
            return Ok(());
        };
        if mem.space != Space::Plain {
            return Ok(());
        }
        let offset = i64::from(mem.offset).cast_unsigned();
        let first = step.regs[mem.base.index()].wrapping_add(offset);
        let last = first.wrapping_add(u64::from(bytes));
        if let Region::MapValue { map } = access.region {
            let slots = step.program.maps();
            let inside = |address: u64| {
                slots
                    .get(map as usize)
                    .is_some_and(|m| m.map().contains(address as usize))
            };
            // Values of inner maps lie in maps of their own.
            let is_outer = lowered.verified.maps()[map as usize].inner.is_some();
            if !(is_outer || inside(first) && inside(last - 1)) {
                return Err(format!("{first:#x} is not in map {map}"));
            }
            return Ok(());
        }
        match self.bounds(access.region, step) {
            Some((from, to)) if first < from || last > to => Err(format!(
                "{bytes} bytes at {first:#x} are not in {:?}, {from:#x} to {to:#x}",
                access.region
            )),
            _ => Ok(()),
        }
    }

    /// Registers and stack lie in a recorded state.
    fn check_state(&self, step: &Step<'_>) -> Result<(), String> {
        let lowered = step.program.lowered();
        let count = step.frames.len();
        let concrete: Vec<ConcreteFrame<'_>> = (0..count)
            .map(|i| {
                let view = &step.frames[i];
                let mut regs = [0; 11];
                if i + 1 == count {
                    regs.copy_from_slice(step.regs);
                } else {
                    regs[6..10].copy_from_slice(&view.saved);
                    regs[10] = view.pointer;
                }
                let caller = i.checked_sub(1).map(|c| step.frames[c].call);
                ConcreteFrame {
                    regs,
                    stack: stack(step.program, view),
                    callsite: caller.map_or(0, |op| lowered.slots[op as usize]),
                }
            })
            .collect();
        let slot = lowered.slots[step.op as usize] as usize;
        // Global functions are verified on their own: there the walk knows no caller.
        self.trace.check(slot, &concrete).or_else(|why| {
            let alone = (1..count).any(|i| self.trace.check(slot, &concrete[i..]).is_ok());
            if alone { Ok(()) } else { Err(why) }
        })
    }
}

/// The bytes of a function's frame.
fn stack<'a>(program: &Program, view: &FrameView) -> &'a [u8] {
    let bytes = program.lowered().funcs[view.func as usize].stack_bytes as usize;
    // SAFETY: the interpreter keeps the frame of an active function in the worker's stack area.
    unsafe { std::slice::from_raw_parts((view.pointer as *const u8).sub(bytes), bytes) }
}

/// Memory operand and size of an access.
fn operand(op: &Op) -> Option<(Mem, u32)> {
    match *op {
        Op::Load { size, mem, .. }
        | Op::Store { size, mem, .. }
        | Op::Atomic { size, mem, .. }
        | Op::LoadAcquire { size, mem, .. }
        | Op::StoreRelease { size, mem, .. } => Some((mem, size.bytes())),
        _ => None,
    }
}

impl Hook for Checked<'_> {
    const ACTIVE: bool = true;

    fn step(&mut self, step: &Step<'_>) -> Flow {
        if self.steps == STEPS_MAX {
            return Flow::Stop;
        }
        self.steps += 1;
        let slots = &step.program.lowered().slots;
        let slot = slots[step.op as usize];
        let begins_slot = step.op == 0 || slots[step.op as usize - 1] != slot;
        let state = if begins_slot {
            self.check_state(step)
        } else {
            Ok(())
        };
        match state.and_then(|()| self.check_access(step)) {
            Ok(()) => Flow::Go,
            Err(what) => {
                self.failure.get_or_insert((slot, what));
                Flow::Stop
            }
        }
    }
}
