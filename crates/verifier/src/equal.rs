//! When is a state covered by one that was explored before?
//!
//! Everything the old state's exploration relied on must hold in the new one. Ids are names: they need not be equal, but must
//! map one to one.

use crate::program::Program;
use crate::reg::{ADD_CONST, Kind, Reg};
use crate::state::{Byte, Frame, RefKind, SLOT, StackSlot, State};

/// How close two states must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exact {
    /// Scalars that were not precise may differ.
    No,
    /// Everything must be the same.
    Yes,
    /// Every scalar must lie within the old one, precise or not (for loops that are still being explored).
    Within,
}

/// One-to-one map of ids, old to new.
#[derive(Debug, Default)]
pub(crate) struct IdMap {
    pairs: Vec<(u32, u32)>,
    temporary: u32,
}

/// Ids from here on stand for "no id" in comparisons of scalars.
const TEMPORARY_IDS: u32 = 1 << 29;

impl IdMap {
    fn clear(&mut self) {
        self.pairs.clear();
        self.temporary = TEMPORARY_IDS;
    }

    fn check(&mut self, old: u32, cur: u32) -> bool {
        if (old == 0) != (cur == 0) {
            return false;
        }
        if old == 0 {
            return true;
        }
        for &(o, c) in &self.pairs {
            if o == old || c == cur {
                return o == old && c == cur;
            }
        }
        self.pairs.push((old, cur));
        true
    }

    /// As [`Self::check`], but a scalar without id is one that shares its id with nobody.
    fn check_scalar(&mut self, old: u32, cur: u32) -> bool {
        let old = if old == 0 { self.fresh() } else { old };
        let cur = if cur == 0 { self.fresh() } else { cur };
        self.check(old, cur)
    }

    fn fresh(&mut self) -> u32 {
        self.temporary += 1;
        self.temporary
    }
}

/// Compares states under the rules of one verification.
#[derive(Debug)]
pub(crate) struct Compare<'a> {
    /// For liveness of registers.
    pub program: &'a Program,
    /// Scratch.
    pub ids: &'a mut IdMap,
    /// Uninitialised stack may be read (privileged loaders).
    pub allow_uninit_stack: bool,
    /// Scalars must match exactly (pointer arithmetic under speculation rules is present).
    pub strict_scalars: bool,
    /// Every scalar counts as precise.
    pub all_precise: bool,
}

impl Compare<'_> {
    /// Is `cur` covered by `old`?
    pub(crate) fn states(&mut self, old: &State, cur: &State, exact: Exact) -> bool {
        if old.frames.len() != cur.frames.len()
            || (old.speculative && !cur.speculative)
            || old.sleepable != cur.sleepable
        {
            return false;
        }
        self.ids.clear();
        if !self.references(old, cur) {
            return false;
        }
        for i in 0..old.frames.len() {
            let insn = if i + 1 == old.frames.len() {
                old.insn
            } else {
                old.frames[i + 1].callsite
            };
            let (fo, fc) = (&old.frames[i], &cur.frames[i]);
            if fo.callsite != fc.callsite || !self.frames(fo, fc, insn as usize, exact) {
                return false;
            }
        }
        true
    }

    fn references(&mut self, old: &State, cur: &State) -> bool {
        if old.refs.len() != cur.refs.len()
            || old.locks != cur.locks
            || old.preempt_off != cur.preempt_off
            || old.rcu_locks != cur.rcu_locks
            || !self.ids.check(old.irq_id, cur.irq_id)
            || !self.ids.check(old.lock_id, cur.lock_id)
            || old.lock_object != cur.lock_object
        {
            return false;
        }
        old.refs.iter().zip(&cur.refs).all(|(o, c)| {
            o.kind == c.kind
                && self.ids.check(o.id, c.id)
                && (matches!(o.kind, RefKind::Pointer | RefKind::Irq) || o.object == c.object)
        })
    }

    fn frames(&mut self, old: &Frame, cur: &Frame, insn: usize, exact: Exact) -> bool {
        if old.callback_depth > cur.callback_depth {
            return false;
        }
        // A recorded state has to admit dead registers as well.
        let live = if self.all_precise {
            u16::MAX
        } else {
            self.program.marks[insn].live_regs
        };
        for i in 0..10 {
            if live & (1 << i) != 0 && !self.reg(&old.regs[i], &cur.regs[i], exact) {
                return false;
            }
        }
        self.stack(&old.stack, &cur.stack, exact)
    }

    fn reg(&mut self, old: &Reg, cur: &Reg, exact: Exact) -> bool {
        if exact == Exact::Yes {
            return self.same(old, cur);
        }
        if old.kind == Kind::NotInit {
            return true;
        }
        if old.kind != cur.kind || old.flags != cur.flags {
            return false;
        }
        match old.kind {
            Kind::Scalar => self.scalar(old, cur, exact),
            Kind::MapKey | Kind::MapValue | Kind::Mem | Kind::TpBuffer => {
                old.off == cur.off
                    && old.aux == cur.aux
                    && old.aux2 == cur.aux2
                    && within(old, cur)
                    && self.ids.check(old.id, cur.id)
                    && self.ids.check(old.ref_id, cur.ref_id)
            }
            Kind::Pkt | Kind::PktMeta => {
                packet_range_covers(old, cur)
                    && old.off == cur.off
                    && self.ids.check(old.id, cur.id)
                    && within(old, cur)
            }
            Kind::Arena => true,
            _ => self.same(old, cur),
        }
    }

    fn scalar(&mut self, old: &Reg, cur: &Reg, exact: Exact) -> bool {
        if self.strict_scalars {
            return old.off == cur.off
                && old.var == cur.var
                && self.ids.check_scalar(old.id, cur.id);
        }
        if !old.precise && !self.all_precise && exact == Exact::No {
            return true;
        }
        if !within(old, cur) {
            return false;
        }
        // What was explored relied on no link of this number: one more only narrows what may be.
        old.id == 0
            || (old.id & ADD_CONST == cur.id & ADD_CONST
                && (old.id & ADD_CONST == 0 || old.off == cur.off)
                && self.ids.check_scalar(old.id, cur.id))
    }

    fn same(&mut self, old: &Reg, cur: &Reg) -> bool {
        old.kind == cur.kind
            && old.flags == cur.flags
            && old.off == cur.off
            && old.aux == cur.aux
            && old.aux2 == cur.aux2
            && old.var == cur.var
            && self.ids.check(old.id, cur.id)
            && self.ids.check(old.ref_id, cur.ref_id)
    }

    fn stack(&mut self, old: &[StackSlot], cur: &[StackSlot], exact: Exact) -> bool {
        for (i, o) in old.iter().enumerate() {
            let c = cur.get(i).unwrap_or(&StackSlot::EMPTY);
            let missing = i >= cur.len();
            if exact == Exact::Yes && (missing || o.bytes != c.bytes) {
                return false;
            }
            if !self.slot(o, c, missing, exact) {
                return false;
            }
        }
        true
    }

    fn slot(&mut self, old: &StackSlot, cur: &StackSlot, missing: bool, exact: Exact) -> bool {
        let ignored = |b: Byte| b == Byte::Invalid || (self.allow_uninit_stack && b == Byte::Misc);
        if old.bytes.iter().all(|&b| ignored(b)) {
            return true;
        }
        if missing {
            return false;
        }
        // A spilled scalar and eight bytes of data are both eight bytes of number.
        if let (Some(o), Some(c)) = (self.as_scalar(old), self.as_scalar(cur)) {
            return self.reg(&o, &c, exact);
        }
        for i in 0..SLOT {
            let (o, c) = (old.bytes[i], cur.bytes[i]);
            if !(ignored(o) || o == c || (o == Byte::Misc && c == Byte::Zero)) {
                return false;
            }
        }
        match old.bytes[SLOT - 1] {
            Byte::Spill | Byte::Dynptr | Byte::Iter | Byte::IrqFlag => {
                self.special(old, cur, exact)
            }
            _ => true,
        }
    }

    fn special(&mut self, old: &StackSlot, cur: &StackSlot, exact: Exact) -> bool {
        let (o, c) = (&old.reg, &cur.reg);
        match old.bytes[SLOT - 1] {
            Byte::Spill => self.reg(o, c, exact),
            // Iterators: the same type and state; the depth may differ.
            Byte::Iter => {
                o.aux == c.aux
                    && o.flags == c.flags
                    && o.off == c.off
                    && self.ids.check(o.ref_id, c.ref_id)
            }
            _ => {
                o.kind == c.kind
                    && o.aux == c.aux
                    && o.aux2 == c.aux2
                    && o.flags == c.flags
                    && self.ids.check(o.id, c.id)
                    && self.ids.check(o.ref_id, c.ref_id)
            }
        }
    }

    /// The number in a slot, if it is a whole spilled scalar or all data.
    fn as_scalar(&self, slot: &StackSlot) -> Option<Reg> {
        if slot.is_spilled_scalar() && slot.is_full_spill() {
            return Some(slot.reg);
        }
        let is_data = |b: Byte| b == Byte::Misc || (self.allow_uninit_stack && b == Byte::Invalid);
        slot.bytes
            .iter()
            .all(|&b| is_data(b))
            .then_some(Reg::UNKNOWN)
    }
}

fn within(old: &Reg, cur: &Reg) -> bool {
    old.var.range_includes(&cur.var) && old.var.bits.includes(cur.var.bits)
}

/// A packet pointer may have a greater proven range, unless the range is one of the marks for "at or past the end".
fn packet_range_covers(old: &Reg, cur: &Reg) -> bool {
    let (o, c) = (old.aux.cast_signed(), cur.aux.cast_signed());
    if o < 0 || c < 0 { o == c } else { o <= c }
}
