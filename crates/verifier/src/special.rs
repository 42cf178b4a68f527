//! Objects of the kernel that live in stack slots: dynptrs, iterators, irq flags.

use crate::fail::Check;
use crate::memory::MemAccess;
use crate::reg::{Kind, Reg};
use crate::stack::place;
use crate::state::{Byte, SLOT, StackSlot};
use crate::verifier::Verifier;
use skep_abi::ctx::Access;
use skep_isa::{Extend, Size};

/// Where an object lies: frame, and the slot with its lowest address; its other slots have lower numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// Frame.
    pub frame: usize,
    /// Slot with the lowest address.
    pub slot: usize,
}

/// What a register says of the place of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// No place for such an object.
    Bad,
    /// Below everything the frame has touched.
    Untouched(Place),
    /// In the touched part.
    At(Place),
}

impl Verifier<'_> {
    /// Where register `i` points, for an object of `slots` slots.
    pub(crate) fn special_place(&self, i: usize, slots: usize) -> Found {
        let reg = self.reg(i);
        let offset = reg.fixed_offset().filter(|_| reg.kind == Kind::Stack);
        let Some(offset) = offset.filter(|o| *o < 0 && o % SLOT as i64 == 0) else {
            return Found::Bad;
        };
        let at = Place {
            frame: reg.aux as usize,
            slot: place(offset).0,
        };
        if at.slot + 1 < slots {
            Found::Bad
        } else if at.slot < self.cur.frames[at.frame].stack.len() {
            Found::At(at)
        } else {
            Found::Untouched(at)
        }
    }

    /// Register `i` points at the end of a frame, where the kernel wrongly finds what lies in its first slot (docs/kernels.md).
    pub(crate) fn is_frame_end(&self, i: usize) -> bool {
        let reg = self.reg(i);
        reg.kind == Kind::Stack && reg.fixed_offset() == Some(0)
    }

    /// The slots of an object, lowest address first.
    pub(crate) fn special_slots(&self, at: Place, slots: usize) -> &[StackSlot] {
        &self.cur.frames[at.frame].stack[at.slot + 1 - slots..=at.slot]
    }

    /// Room for an object of `slots` slots is overwritten.
    pub(crate) fn overwrite_slots(&mut self, i: usize, slots: usize) -> Check {
        for k in 0..slots {
            self.check_access(&MemAccess {
                base: i,
                offset: (k * SLOT) as i16,
                size: Size::DW,
                kind: Access::Write,
                value: None,
                extend: Extend::Zero,
                aligned: false,
                imm: None,
            })?;
        }
        Ok(())
    }

    /// Puts an object into its slots; the one with the lowest address holds `first`, the others `rest`.
    pub(crate) fn put_special(
        &mut self,
        at: Place,
        slots: usize,
        byte: Byte,
        first: Reg,
        rest: Reg,
    ) {
        let stack = self.cur.frame_at_mut(at.frame).stack_mut();
        for (k, slot) in stack[at.slot + 1 - slots..=at.slot].iter_mut().enumerate() {
            *slot = StackSlot {
                bytes: [byte; SLOT],
                reg: if k + 1 == slots { first } else { rest },
            };
        }
    }

    /// Takes an object out of its slots.
    pub(crate) fn remove_special(&mut self, at: Place, slots: usize) {
        let stack = self.cur.frame_at_mut(at.frame).stack_mut();
        stack[at.slot + 1 - slots..=at.slot].fill(StackSlot::EMPTY);
    }

    /// All slots of an object are read.
    pub(crate) fn read_special(&mut self, at: Place, slots: usize) {
        for slot in at.slot + 1 - slots..=at.slot {
            self.live_read(at.frame, slot);
        }
    }
}
