//! Open-coded iterators: made, advanced and destroyed by kfuncs, with their state on the stack.

use crate::cause::{Cause, register};
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::jump::widen_imprecise;
use crate::reg::{Flags, Kind, Reg};
use crate::special::{Found, Place};
use crate::state::{Byte, StackSlot, State, StateId};
use crate::verifier::Verifier;

/// `off` of an iterator's slot: it may have more elements.
const ACTIVE: i32 = 1;
/// `off` of an iterator's slot: it has no more elements.
const DRAINED: i32 = 2;

/// An iterator's slot: `aux` is its type, `off` its state, `aux2` how often it was advanced in a row.
fn iterator(type_id: u32, flags: Flags) -> Reg {
    Reg {
        flags,
        off: ACTIVE,
        aux: type_id,
        ..Reg::pointer(Kind::Iter)
    }
}

pub(crate) fn is_active(slot: &StackSlot) -> bool {
    slot.bytes[0] == Byte::Iter && slot.reg.ref_id != 0 && slot.reg.off == ACTIVE
}

impl Verifier<'_> {
    /// An iterator of BTF type `type_id` is made where register `i` points.
    pub(crate) fn new_iter(
        &mut self,
        i: usize,
        type_id: u32,
        slots: usize,
        flags: Flags,
    ) -> Check<Place> {
        let used = match self.special_place(i, slots) {
            Found::Bad => true,
            Found::Untouched(_) => false,
            Found::At(at) => self
                .special_slots(at, slots)
                .iter()
                .any(|s| s.bytes.contains(&Byte::Iter)),
        };
        let room = "does not point to room for an iterator on the stack";
        if used {
            return fail(
                code::ITERATOR,
                errno::EINVAL,
                Cause::about(i, format!("r{i} {room}")),
            );
        }
        self.overwrite_slots(i, slots)?;
        let Found::At(at) = self.special_place(i, slots) else {
            return fail(
                code::ITERATOR,
                errno::EINVAL,
                Cause::about(i, format!("r{i} {room}")),
            );
        };
        let rest = iterator(type_id, flags);
        let first = Reg {
            ref_id: self.acquire(),
            ..rest
        };
        self.put_special(at, slots, Byte::Iter, first, rest);
        Ok(at)
    }

    /// Register `i` must be an initialised iterator of this type.
    pub(crate) fn used_iter(&mut self, i: usize, type_id: u32, slots: usize) -> Check<Place> {
        let bad = || {
            let cause = if self.is_frame_end(i) {
                Cause::frame_end(i, "iterator")
            } else {
                Cause::about(
                    i,
                    format!("r{i} does not point to an initialised iterator of this type"),
                )
            };
            fail(code::ITERATOR, errno::EINVAL, cause)
        };
        let Found::At(at) = self.special_place(i, slots) else {
            return bad();
        };
        let list = self.special_slots(at, slots);
        let untrusted = list.iter().any(|s| s.reg.flags.has(Flags::UNTRUSTED));
        let fits = list.iter().enumerate().all(|(k, s)| {
            s.bytes.iter().all(|&b| b == Byte::Iter)
                && s.reg.aux == type_id
                && (s.reg.ref_id != 0) == (k + 1 == slots)
        });
        if !fits {
            return bad();
        }
        if untrusted {
            let reg = register(i);
            return fail(code::RCU_STATE, 71, Cause::OutlivesSection { reg });
        }
        self.read_special(at, slots);
        Ok(at)
    }

    /// The iterator at `at` ends.
    pub(crate) fn destroy_iter(&mut self, at: Place, slots: usize) -> Check {
        let ref_id = self.cur.frames[at.frame].stack[at.slot].reg.ref_id;
        self.release(ref_id)?;
        self.remove_special(at, slots);
        Ok(())
    }

    /// The iterator at `at` is advanced: either to an element, which `r0` points to, or to its end.
    pub(crate) fn advance_iter(&mut self, at: Place) -> Check {
        let slot = &self.cur.frames[at.frame].stack[at.slot];
        if is_active(slot) {
            // The state just kept at this call is no previous one.
            let depth = self.cur.dfs_depth.saturating_sub(1);
            let before = self.previous_entry(self.insn, depth);
            let mut more: State = self.cur.clone();
            more.frame_at_mut(at.frame).stack_mut()[at.slot].reg.aux2 += 1;
            if let Some(before) = before {
                widen_imprecise(&self.kept[before].state, &mut more);
            }
            let r0 = &mut more.frame_mut().regs[0];
            r0.flags = r0.flags.without(Flags::NULLABLE);
            r0.id = 0;
            self.push_path(self.insn + 1, |state| *state = more)?;
        }
        self.cur.frame_at_mut(at.frame).stack_mut()[at.slot].reg.off = DRAINED;
        *self.reg_mut(0) = Reg::constant(0);
        Ok(())
    }

    /// Does the iterator behind `r1` perhaps have more elements?
    pub(crate) fn iter_is_active(&self) -> bool {
        match self.special_place(1, 1) {
            Found::At(at) => is_active(&self.cur.frames[at.frame].stack[at.slot]),
            _ => false,
        }
    }

    /// Has some active iterator been advanced since the kept state `id`?
    pub(crate) fn iter_depths_differ(&self, id: StateId) -> bool {
        let frames = self.kept[id].state.frames.iter().zip(&self.cur.frames);
        frames.into_iter().any(|(old, cur)| {
            old.stack.iter().enumerate().any(|(i, o)| {
                is_active(o) && cur.stack.get(i).is_none_or(|c| c.reg.aux2 != o.reg.aux2)
            })
        })
    }
}
