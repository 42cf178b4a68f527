//! Where a value came from: the failing path, walked backwards.

use super::record::PathStep;
use crate::program::Program;
use crate::reg::{Kind, Reg};
use crate::state::Frame;
use skep_isa::{AluOp, Call, Insn, Src};

/// A place that holds a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// A register of frame `depth`.
    Reg { depth: usize, reg: usize },
    /// A stack slot of frame `depth`.
    Slot { depth: usize, slot: usize },
}

/// What happened to a value, seen from its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// It was made here: loaded, returned by a call, given as constant.
    Made,
    /// It was computed from itself and, for the operand of `step`, register `operand`.
    Computed { operand: Option<usize> },
    /// Nothing wrote it, but a branch told more about it.
    Learned,
    /// Nothing wrote it, but it stopped being a pointer here.
    Lost,
    /// A call passed it to the function that goes on with it.
    Passed,
    /// It was there when a function began that is not called by the program: a callback, a global function, the program.
    Given,
}

/// An event in the life of a value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Event {
    /// Index of the step in the path.
    pub step: usize,
    /// What happened.
    pub what: What,
    /// The value before the step (for [`What::Made`] what was there).
    pub before: Reg,
    /// The value after it.
    pub after: Reg,
}

/// The failing path.
pub(super) struct Path<'a> {
    pub program: &'a Program,
    pub steps: &'a [PathStep],
}

impl Path<'_> {
    /// The instruction of step `i`.
    pub(super) fn insn(&self, i: usize) -> Option<&Insn> {
        self.program
            .insns
            .get(self.steps.get(i)?.insn)?
            .as_ref()
            .ok()
    }

    /// The instruction at slot `at`.
    pub(super) fn insn_at(&self, at: usize) -> Option<&Insn> {
        self.program.insns.get(at)?.as_ref().ok()
    }

    /// Register `reg` of the innermost frame before step `i`.
    pub(super) fn reg(&self, i: usize, reg: usize) -> Option<Reg> {
        self.steps.get(i)?.frames.last().map(|f| f.regs[reg])
    }

    /// The life of register `reg` as it is before step `end`, the latest event first.
    pub(super) fn life(&self, end: usize, reg: usize) -> Vec<Event> {
        let Some(depth) = self.steps.get(end).map(|s| s.frames.len() - 1) else {
            return Vec::new();
        };
        let mut place = Place::Reg { depth, reg };
        let mut events = Vec::new();
        for i in (0..end).rev() {
            let (Some(before), Some(after)) = (self.value(i, place), self.value(i + 1, place))
            else {
                // The frame that holds it was entered here.
                match self.across_call(i, place) {
                    Some(outer) => {
                        events.push(self.event(i, What::Passed, outer, place));
                        place = outer;
                        continue;
                    }
                    None => {
                        let given = matches!(place, Place::Reg { .. })
                            && matches!(self.insn(i), Some(Insn::Call(_)));
                        events.extend(given.then(|| Event {
                            step: i,
                            what: What::Given,
                            before: Reg::NOT_INIT,
                            after: self.value(i + 1, place).unwrap_or(Reg::NOT_INIT),
                        }));
                        return events;
                    }
                }
            };
            match self.effect(i, place) {
                Effect::Made => {
                    events.push(Event {
                        step: i,
                        what: What::Made,
                        before,
                        after,
                    });
                    return events;
                }
                Effect::Computed { operand } => {
                    let what = What::Computed { operand };
                    events.push(Event {
                        step: i,
                        what,
                        before,
                        after,
                    });
                }
                Effect::From(other) => place = other,
                Effect::None => {
                    if let Some(what) = silent_change(&before, &after) {
                        events.push(Event {
                            step: i,
                            what,
                            before,
                            after,
                        });
                    }
                }
            }
        }
        if let Some(value) = self.value(0, place).filter(|v| v.kind != Kind::NotInit) {
            events.push(Event {
                step: 0,
                what: What::Given,
                before: value,
                after: value,
            });
        }
        events
    }

    fn event(&self, step: usize, what: What, before: Place, after: Place) -> Event {
        Event {
            step,
            what,
            before: self.value(step, before).unwrap_or(Reg::NOT_INIT),
            after: self.value(step + 1, after).unwrap_or(Reg::NOT_INIT),
        }
    }

    fn value(&self, i: usize, place: Place) -> Option<Reg> {
        let frames = &self.steps.get(i)?.frames;
        match place {
            Place::Reg { depth, reg } => frames.get(depth).map(|f| f.regs[reg]),
            Place::Slot { depth, slot } => {
                let slot = frames.get(depth)?.stack.get(slot);
                Some(
                    slot.filter(|s| s.is_spill())
                        .map_or(Reg::NOT_INIT, |s| s.reg),
                )
            }
        }
    }

    /// The argument in the caller that became `place` when step `i` called.
    fn across_call(&self, i: usize, place: Place) -> Option<Place> {
        let Place::Reg {
            depth,
            reg: reg @ 1..=5,
        } = place
        else {
            return None;
        };
        let outer = depth.checked_sub(1)?;
        matches!(self.insn(i), Some(Insn::Call(Call::Subprog(_))))
            .then_some(Place::Reg { depth: outer, reg })
    }

    /// What step `i` does to `place`.
    fn effect(&self, i: usize, place: Place) -> Effect {
        let (here, next) = (
            self.steps[i].frames.len() - 1,
            self.steps[i + 1].frames.len() - 1,
        );
        let Some(insn) = self.insn(i) else {
            return Effect::None;
        };
        match place {
            Place::Reg { depth, reg } if next < here => {
                // A function returned: its r0 is the caller's.
                if depth == next && reg == 0 {
                    Effect::From(Place::Reg {
                        depth: here,
                        reg: 0,
                    })
                } else {
                    Effect::None
                }
            }
            Place::Reg { depth, reg } if depth == here => {
                self.register_effect(insn, &self.steps[i].frames[here], here, reg)
            }
            Place::Slot { depth, slot } => {
                self.slot_effect(insn, &self.steps[i].frames, here, (depth, slot))
            }
            Place::Reg { .. } => Effect::None,
        }
    }

    fn register_effect(&self, insn: &Insn, frame: &Frame, depth: usize, reg: usize) -> Effect {
        let from = |r: usize| Effect::From(Place::Reg { depth, reg: r });
        match *insn {
            Insn::Mov {
                dst,
                src: Src::Reg(src),
                ..
            } if dst.index() == reg => from(src.index()),
            Insn::Movsx { dst, src, .. } if dst.index() == reg && dst == src => {
                Effect::Computed { operand: None }
            }
            Insn::Movsx { dst, src, .. } | Insn::AddrSpaceCast { dst, src, .. }
                if dst.index() == reg =>
            {
                from(src.index())
            }
            Insn::Mov { dst, .. } | Insn::LoadImm64 { dst, .. } if dst.index() == reg => {
                Effect::Made
            }
            Insn::Alu { op, dst, src, .. } if dst.index() == reg => {
                let operand = if let Src::Reg(src) = src {
                    Some(src.index())
                } else {
                    None
                };
                // `dst += pointer` gives the pointer moved by what was in `dst`.
                match operand {
                    Some(other)
                        if op == AluOp::Add
                            && frame.regs[other].is_pointer()
                            && !frame.regs[reg].is_pointer() =>
                    {
                        Effect::Computed { operand: Some(reg) }
                    }
                    _ => Effect::Computed { operand },
                }
            }
            Insn::Neg { dst, .. } | Insn::End { dst, .. } if dst.index() == reg => {
                Effect::Computed { operand: None }
            }
            Insn::Load {
                dst, src, offset, ..
            } if dst.index() == reg => {
                stack_place(&frame.regs[src.index()], offset).map_or(Effect::Made, Effect::From)
            }
            Insn::LoadAcquire { dst, .. } if dst.index() == reg => Effect::Made,
            Insn::Atomic { op, src, .. } if op.fetches() && src.index() == reg => Effect::Made,
            Insn::LoadAbs { .. } | Insn::LoadInd { .. } if reg == 0 => Effect::Made,
            Insn::Call(_) if reg == 0 => Effect::Made,
            Insn::Call(_) if (1..=5).contains(&reg) => Effect::Made,
            _ => Effect::None,
        }
    }

    fn slot_effect(
        &self,
        insn: &Insn,
        frames: &[std::rc::Rc<Frame>],
        here: usize,
        (depth, slot): (usize, usize),
    ) -> Effect {
        let Insn::Store {
            dst, src, offset, ..
        } = *insn
        else {
            return Effect::None;
        };
        if stack_place(&frames[here].regs[dst.index()], offset) != Some(Place::Slot { depth, slot })
        {
            return Effect::None;
        }
        match src {
            Src::Reg(src) => Effect::From(Place::Reg {
                depth: here,
                reg: src.index(),
            }),
            Src::Imm(_) => Effect::Made,
        }
    }
}

/// What a step does to a place.
enum Effect {
    None,
    Made,
    Computed { operand: Option<usize> },
    From(Place),
}

fn stack_place(base: &Reg, offset: i16) -> Option<Place> {
    if base.kind != Kind::Stack {
        return None;
    }
    let at = base.fixed_offset()? + i64::from(offset);
    let slot = usize::try_from((-at - 1) / 8).ok().filter(|_| at < 0)?;
    Some(Place::Slot {
        depth: base.aux as usize,
        slot,
    })
}

/// What changed about a value that was not written.
fn silent_change(before: &Reg, after: &Reg) -> Option<What> {
    if before.is_pointer() && !after.is_pointer() {
        return Some(What::Lost);
    }
    let learned = before.kind != after.kind
        || before.flags != after.flags
        || before.var != after.var
        || (before.is_packet() && before.aux != after.aux);
    learned.then_some(What::Learned)
}
