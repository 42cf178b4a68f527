//! Loads from and stores to the stack: spills, fills, and plain data.

use crate::cause::{Cause, register};
use crate::check_alu::repair;
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::memory::MemAccess;
use crate::reg::{Kind, Reg};
use crate::state::{Byte, SLOT, StackSlot};
use crate::verified::Region;
use crate::verifier::Verifier;
use skep_abi::ctx::Access;
use skep_abi::limits::{BPF_MAX_VAR_OFF, MAX_BPF_STACK};
use skep_isa::Extend;

/// Slot and byte within it of stack offset `off` (below 0).
pub(crate) fn place(off: i64) -> (usize, usize) {
    let at = (-off - 1) as usize;
    (at / SLOT, at % SLOT)
}

impl Verifier<'_> {
    pub(crate) fn access_stack(&mut self, a: &MemAccess, reg: &Reg) -> Check {
        let off = i64::from(a.offset);
        self.check_stack_bounds(a.base, off, i64::from(a.size.bytes()), a.kind)?;
        let frame = reg.aux as usize;
        let up = (self.cur.depth() - frame) as u8;
        let fixed = reg.fixed_offset().map(|f| f + off);
        self.rec.access(self.insn, Region::Stack { up }, fixed);
        match (a.kind == Access::Write, fixed) {
            (false, Some(at)) => {
                self.read_stack(frame, at, a.size.bytes(), a.value)?;
                self.extend_loaded(a);
                Ok(())
            }
            (false, None) => self.read_stack_variable(a, frame),
            (true, Some(at)) => self.write_stack(frame, at, a),
            (true, None) => self.write_stack_variable(frame, a),
        }
    }

    fn extend_loaded(&mut self, a: &MemAccess) {
        if let Some(value) = a.value {
            let r = self.reg_mut(value);
            if r.is_scalar() && a.size.bytes() < 8 {
                match a.extend {
                    Extend::Zero => r.var.truncate(a.size.bytes()),
                    Extend::Sign => {
                        // Then it is another number than the one in the slot, although Linux 6.18 keeps the link.
                        if r.var.umax >= 1 << (a.size.bits() - 1) {
                            r.unlink();
                        }
                        r.var.sign_extend(a.size.bytes());
                    }
                }
                repair(r);
            }
        }
    }

    /// `size` bytes at `off` from register `i` must lie in its frame; the frame grows to hold them.
    pub(crate) fn check_stack_bounds(
        &mut self,
        i: usize,
        off: i64,
        size: i64,
        kind: Access,
    ) -> Check {
        let reg = *self.reg(i);
        let base = i64::from(reg.off) + off;
        let (min, max) = match reg.var.as_const() {
            Some(v) => (
                v.cast_signed().wrapping_add(base),
                v.cast_signed().wrapping_add(base).saturating_add(size),
            ),
            None if reg.var.smax >= BPF_MAX_VAR_OFF || reg.var.smin <= -BPF_MAX_VAR_OFF => {
                return fail(
                    code::STACK_VARIABLE,
                    errno::EACCES,
                    Cause::about(
                        i,
                        format!("the offset of r{i} into the stack is not bounded"),
                    ),
                );
            }
            None => (reg.var.smin + base, reg.var.smax + base + size),
        };
        let frame = &self.cur.frames[reg.aux as usize];
        let lowest = if kind == Access::Write || self.privileges.uninit_stack {
            -i64::from(MAX_BPF_STACK)
        } else {
            -((frame.stack.len() * SLOT) as i64)
        };
        if min < lowest || min > -1 || max > 0 || size < 0 {
            let cause = Cause::StackRange {
                reg: register(i),
                from: min,
                to: max,
                lowest,
            };
            return fail(code::STACK_BOUNDS, errno::EACCES, cause);
        }
        self.grow_frame(reg.aux as usize, min);
        Ok(())
    }

    /// The frame's stack reaches down to `off`.
    pub(crate) fn grow_frame(&mut self, frame: usize, off: i64) {
        let slots = ((-off) as usize).div_ceil(SLOT);
        if self.cur.frames[frame].stack.len() < slots {
            self.cur.frame_at_mut(frame).grow_stack(slots);
        }
        let func = &mut self.p.funcs[self.cur.frames[frame].subprog as usize];
        func.stack_bytes = func.stack_bytes.max((slots * SLOT) as u32);
    }

    /// A path may read the slot before it has written all of it.
    pub(crate) fn note_unwritten(&mut self, frame: usize, slot: usize) {
        let func = self.cur.frames[frame].subprog as usize;
        self.p.funcs[func].unwritten |= 1 << slot;
    }

    /// The slot is read: it matters to what follows.
    pub(crate) fn live_read(&mut self, frame: usize, slot: usize) {
        if let Some(&instance) = self.instances.last() {
            self.live.read(instance, frame, self.insn, 1 << slot);
        }
    }

    /// A load at fixed offset `at`; without `value` only asks whether the bytes may be used as a number.
    pub(crate) fn read_stack(
        &mut self,
        frame: usize,
        at: i64,
        size: u32,
        value: Option<usize>,
    ) -> Check {
        let (slot, first) = place(at);
        let s = self.cur.frames[frame].stack[slot];
        self.live_read(frame, slot);
        if s.is_spill() {
            return self.read_spill(frame, at, size, value, &s);
        }
        self.check_bytes_readable(frame, slot, first, size)?;
        if let Some(value) = value {
            let zero = bytes_of(&s, first, size).all(|b| b == Byte::Zero);
            *self.reg_mut(value) = if zero { Reg::constant(0) } else { Reg::UNKNOWN };
        }
        Ok(())
    }

    fn check_bytes_readable(
        &mut self,
        frame: usize,
        slot: usize,
        first: usize,
        size: u32,
    ) -> Check {
        let s = self.cur.frames[frame].stack[slot];
        for b in bytes_of(&s, first, size) {
            let readable = match b {
                Byte::Misc | Byte::Zero | Byte::Spill => true,
                Byte::Invalid => {
                    self.note_unwritten(frame, slot);
                    self.privileges.uninit_stack
                }
                Byte::Dynptr | Byte::Iter | Byte::IrqFlag => false,
            };
            if !readable {
                let (code, what) = if b == Byte::Invalid {
                    (code::STACK_UNINIT, "was not written on this path")
                } else {
                    (code::STACK_SPECIAL, "holds a special object")
                };
                return fail(
                    code,
                    errno::EACCES,
                    format!("a stack byte of this load of {size} bytes {what}"),
                );
            }
        }
        Ok(())
    }

    fn read_spill(
        &mut self,
        frame: usize,
        at: i64,
        size: u32,
        value: Option<usize>,
        s: &StackSlot,
    ) -> Check {
        let spill_size = s
            .bytes
            .iter()
            .rev()
            .take_while(|&&b| b == Byte::Spill)
            .count() as u32;
        let (slot, first) = place(at);
        if size == 8 && spill_size == 8 {
            return self.fill(frame, slot, value, at);
        }
        if !s.reg.is_scalar() {
            let message = format!(
                "a load of {size} bytes takes part of {}, spilled at {at}",
                s.reg.describe()
            );
            return fail(code::PARTIAL_POINTER, errno::EACCES, message);
        }
        let Some(value) = value else { return Ok(()) };
        if size <= spill_size && at % SLOT as i64 == 0 {
            let mut reg = s.reg;
            if size == 4
                && spill_size == 4
                && reg.var.umax <= u64::from(u32::MAX)
                && self.link_spilled(&mut reg)
            {
                self.cur.frame_at_mut(frame).stack_mut()[slot].reg = reg;
            }
            if width_of(&reg) > size * 8 {
                reg.unlink();
            }
            *self.reg_mut(value) = reg;
            self.push_stack_step(frame, slot);
            return Ok(());
        }
        self.check_bytes_readable(frame, slot, first, size)?;
        let all = |byte: Byte| bytes_of(s, first, size).all(|b| b == byte);
        if all(Byte::Spill) && s.reg.is_zero() {
            *self.reg_mut(value) = Reg::constant(0);
            self.push_stack_step(frame, slot);
        } else {
            *self.reg_mut(value) = if all(Byte::Zero) {
                Reg::constant(0)
            } else {
                Reg::UNKNOWN
            };
        }
        Ok(())
    }

    fn fill(&mut self, frame: usize, slot: usize, value: Option<usize>, at: i64) -> Check {
        let mut reg = self.cur.frames[frame].stack[slot].reg;
        let Some(value) = value else {
            if !self.privileges.leak_pointers && reg.is_pointer() {
                return fail(
                    code::POINTER_LEAK,
                    errno::EACCES,
                    format!("the pointer spilled at {at} is used as a number"),
                );
            }
            self.push_stack_step(frame, slot);
            return Ok(());
        };
        if self.link_spilled(&mut reg) {
            self.cur.frame_at_mut(frame).stack_mut()[slot].reg = reg;
        }
        *self.reg_mut(value) = reg;
        self.push_stack_step(frame, slot);
        Ok(())
    }

    fn read_stack_variable(&mut self, a: &MemAccess, frame: usize) -> Check {
        self.check_stack_initialised(
            a.base,
            i64::from(a.offset),
            i64::from(a.size.bytes()),
            false,
            None,
        )?;
        let reg = *self.reg(a.base);
        let base = i64::from(reg.off) + i64::from(a.offset);
        let (min, max) = (
            reg.var.smin + base,
            reg.var.smax + base + i64::from(a.size.bytes()),
        );
        let stack = &self.cur.frames[frame].stack;
        let zero = (min..max).all(|i| {
            let (slot, byte) = place(i);
            stack[slot].bytes[byte] == Byte::Zero
        });
        if let Some(value) = a.value {
            *self.reg_mut(value) = if zero { Reg::constant(0) } else { Reg::UNKNOWN };
            self.extend_loaded(a);
        }
        Ok(())
    }

    /// A store at fixed offset `at`.
    fn write_stack(&mut self, frame: usize, at: i64, a: &MemAccess) -> Check {
        let (slot, first) = place(at);
        let size = a.size.bytes() as usize;
        let old = self.cur.frames[frame].stack[slot];
        if !self.privileges.leak_pointers && old.is_spill() && !old.reg.is_scalar() && size != SLOT
        {
            let message = format!(
                "a store of {size} bytes would overwrite part of {} spilled at {at}",
                old.reg.describe()
            );
            return fail(code::STACK_CORRUPTS_SPILL, errno::EACCES, message);
        }
        self.note_store_speculation(&old, first, a);
        self.drop_special_object(frame, slot)?;
        let value = a.value.map(|v| *self.reg(v));
        let aligned = at % SLOT as i64 == 0;
        if size == SLOT {
            self.live.write(frame, 1 << slot);
        }
        match value {
            Some(mut reg) if reg.is_scalar() && aligned => {
                let fits = width_of(&reg) <= a.size.bits();
                if fits
                    && self.link_spilled(&mut reg)
                    && let Some(v) = a.value
                {
                    *self.reg_mut(v) = reg;
                }
                if !fits {
                    reg.id = 0;
                }
                self.save(frame, slot, reg, size);
                self.push_stack_step(frame, slot);
            }
            None if aligned && a.imm.is_some() => {
                let imm = i64::from(a.imm.unwrap_or(0)).cast_unsigned();
                self.save(frame, slot, Reg::constant(imm), size);
                self.push_stack_step(frame, slot);
            }
            Some(reg) if reg.is_pointer() => {
                if size != SLOT {
                    let message = format!(
                        "{} is stored with {size} bytes, eight are needed",
                        reg.describe()
                    );
                    return fail(code::STACK_SPILL_SIZE, errno::EACCES, message);
                }
                if frame != self.cur.depth() && reg.kind == Kind::Stack {
                    let message = "a stack pointer must not be stored in the frame of a caller";
                    return fail(code::STACK_BOUNDS, errno::EINVAL, message);
                }
                self.save(frame, slot, reg, size);
                self.push_stack_step(frame, slot);
            }
            _ => self.write_data(frame, slot, first, a)?,
        }
        Ok(())
    }

    /// Data that is no spill: bytes become zero or arbitrary.
    fn write_data(&mut self, frame: usize, slot: usize, first: usize, a: &MemAccess) -> Check {
        let zero = self.stores_zero(a);
        if let (true, Some(value)) = (zero, a.value) {
            self.mark_precise(value)?;
        }
        let s = &mut self.cur.frame_at_mut(frame).stack_mut()[slot];
        if s.is_spill() || s.is_special() {
            for b in &mut s.bytes {
                if *b != Byte::Invalid {
                    *b = Byte::Misc;
                }
            }
        }
        s.reg = Reg::NOT_INIT;
        for i in 0..a.size.bytes() as usize {
            s.bytes[(first + SLOT - i) % SLOT] = if zero { Byte::Zero } else { Byte::Misc };
        }
        Ok(())
    }

    fn stores_zero(&self, a: &MemAccess) -> bool {
        match (a.value, a.imm) {
            (Some(value), _) => self.reg(value).is_zero(),
            (None, imm) => imm == Some(0),
        }
    }

    /// Puts `reg` into a slot; a smaller spill leaves the upper bytes as data.
    fn save(&mut self, frame: usize, slot: usize, reg: Reg, size: usize) {
        let s = &mut self.cur.frame_at_mut(frame).stack_mut()[slot];
        s.reg = reg;
        for b in &mut s.bytes[SLOT - size..] {
            *b = Byte::Spill;
        }
        for b in &mut s.bytes[..SLOT - size] {
            if *b != Byte::Zero && *b != Byte::Invalid {
                *b = Byte::Misc;
            }
        }
    }

    /// Under speculation rules a store that replaces a pointer, or stores one, needs a barrier.
    fn note_store_speculation(&mut self, old: &StackSlot, first: usize, a: &MemAccess) {
        if self.privileges.speculation {
            return;
        }
        let stores_value = a.value.is_some_and(|v| self.reg(v).is_pointer());
        let replaces =
            bytes_of(old, first, a.size.bytes()).any(|b| b != Byte::Misc && b != Byte::Zero);
        if stores_value || replaces {
            self.rec.set_store_barrier(self.insn);
        }
    }

    /// A store at a variable offset may hit any byte of the range.
    fn write_stack_variable(&mut self, frame: usize, a: &MemAccess) -> Check {
        let reg = *self.reg(a.base);
        let base = i64::from(reg.off) + i64::from(a.offset);
        let (min, max) = (
            reg.var.smin + base,
            reg.var.smax + base + i64::from(a.size.bytes()),
        );
        let zero = self.stores_zero(a);
        for slot in place(max - 1).0..=place(min).0 {
            self.drop_special_object(frame, slot)?;
        }
        let mut relied_on_zero = false;
        for i in min..max {
            let (slot, byte) = place(i);
            let s = self.cur.frames[frame].stack[slot];
            let b = s.bytes[byte];
            if !self.privileges.leak_pointers && b != Byte::Misc && b != Byte::Zero {
                let message = format!(
                    "a store at a variable offset may hit byte {i}, which holds a spilled register or nothing"
                );
                return fail(code::STACK_VARIABLE, errno::EINVAL, message);
            }
            if b == Byte::Invalid {
                // One byte of the range is written; all count as written from here on.
                self.note_unwritten(frame, slot);
            }
            if zero && b == Byte::Spill && s.reg.is_zero() {
                relied_on_zero = true;
                continue;
            }
            let keeps_zero = zero && b == Byte::Zero;
            relied_on_zero |= keeps_zero;
            let s = &mut self.cur.frame_at_mut(frame).stack_mut()[slot];
            s.reg = Reg::NOT_INIT;
            for b in s.bytes.iter_mut().filter(|b| **b == Byte::Spill) {
                *b = Byte::Misc;
            }
            s.bytes[byte] = if keeps_zero { Byte::Zero } else { Byte::Misc };
        }
        if let (true, Some(value)) = (relied_on_zero, a.value) {
            self.mark_precise(value)?;
        }
        Ok(())
    }

    /// `size` bytes at `off` from register `i` must be readable as data, or, with `writer`, writable by a helper.
    ///
    /// With `raw` the helper fills the bytes, so that they need not be initialised; the range is returned through it.
    pub(crate) fn check_stack_initialised(
        &mut self,
        i: usize,
        off: i64,
        size: i64,
        writes: bool,
        raw: Option<&mut Option<(usize, i64)>>,
    ) -> Check {
        let kind = if writes { Access::Write } else { Access::Read };
        self.check_stack_bounds(i, off, size, kind)?;
        let reg = *self.reg(i);
        let frame = reg.aux as usize;
        let base = i64::from(reg.off) + off;
        let mut raw = raw;
        let (min, max) = match reg.var.as_const() {
            Some(v) => (v.cast_signed() + base, v.cast_signed() + base),
            None => {
                if !self.privileges.speculation {
                    let message = Cause::about(
                        i,
                        format!(
                            "r{i} points to the stack at a variable offset, which needs CAP_PERFMON"
                        ),
                    );
                    return fail(code::STACK_VARIABLE, errno::EACCES, message);
                }
                raw = None;
                (reg.var.smin + base, reg.var.smax + base)
            }
        };
        if let Some(raw) = raw {
            for at in min..max + size {
                let (slot, byte) = place(at);
                match self.cur.frames[frame]
                    .stack
                    .get(slot)
                    .map(|s| s.bytes[byte])
                {
                    Some(Byte::Dynptr) => {
                        return fail(
                            code::STACK_SPECIAL,
                            errno::EACCES,
                            format!("the helper could overwrite the dynptr at {at}"),
                        );
                    }
                    // It need not fill all: strings end early.
                    Some(Byte::Invalid) => self.note_unwritten(frame, slot),
                    _ => {}
                }
            }
            *raw = Some((frame, min));
            return Ok(());
        }
        for at in min..max + size {
            self.check_byte_for_helper(i, frame, at, writes)?;
        }
        Ok(())
    }

    fn check_byte_for_helper(&mut self, i: usize, frame: usize, at: i64, writes: bool) -> Check {
        let (slot, byte) = place(at);
        let s = self.cur.frames[frame].stack[slot];
        // A narrow spill of a scalar stands for its whole slot here, as the kernel has it.
        let is_number = s.is_spilled_scalar();
        if s.bytes[byte] == Byte::Invalid {
            self.note_unwritten(frame, slot);
        }
        let clobbered = match s.bytes[byte] {
            Byte::Misc => None,
            Byte::Invalid if !self.privileges.uninit_stack && !is_number => {
                let message = Cause::about(
                    i,
                    format!("r{i} passes stack byte {at}, which was not written on this path"),
                );
                return fail(code::STACK_UNINIT, errno::EACCES, message);
            }
            Byte::Invalid if !self.privileges.uninit_stack => Some(true),
            Byte::Zero | Byte::Invalid => Some(false),
            _ if s.is_spill() && (s.reg.is_scalar() || self.privileges.leak_pointers) => Some(true),
            Byte::Spill => {
                let message = Cause::about(
                    i,
                    format!("r{i} passes stack byte {at}, part of {}", s.reg.describe()),
                );
                return fail(code::POINTER_LEAK, errno::EACCES, message);
            }
            _ => {
                let message = Cause::about(
                    i,
                    format!("r{i} passes stack byte {at}, which belongs to a special object"),
                );
                return fail(code::STACK_SPECIAL, errno::EACCES, message);
            }
        };
        if let (true, Some(whole)) = (writes, clobbered) {
            let s = &mut self.cur.frame_at_mut(frame).stack_mut()[slot];
            if whole {
                s.reg = Reg::UNKNOWN;
                for b in &mut s.bytes {
                    if *b != Byte::Invalid {
                        *b = Byte::Misc;
                    }
                }
            } else {
                s.bytes[byte] = Byte::Misc;
            }
        }
        self.live_read(frame, slot);
        Ok(())
    }

    /// A helper filled `size` bytes at `at`.
    pub(crate) fn fill_stack_by_helper(&mut self, frame: usize, at: i64, size: i64) -> Check {
        if size == 0 {
            return Ok(());
        }
        self.grow_frame(frame, at);
        for i in at..at + size {
            let (slot, byte) = place(i);
            let s = self.cur.frames[frame].stack[slot];
            if !self.privileges.leak_pointers && s.is_spill() && !s.reg.is_scalar() {
                let message = format!(
                    "the helper would overwrite {} spilled at {i}",
                    s.reg.describe()
                );
                return fail(code::STACK_CORRUPTS_SPILL, errno::EACCES, message);
            }
            if !self.privileges.speculation
                && s.bytes[byte] != Byte::Misc
                && s.bytes[byte] != Byte::Zero
            {
                self.rec.set_store_barrier(self.insn);
            }
            self.drop_special_object(frame, slot)?;
            let s = &mut self.cur.frame_at_mut(frame).stack_mut()[slot];
            if s.is_spill() || s.is_special() {
                for b in &mut s.bytes {
                    if *b != Byte::Invalid {
                        *b = Byte::Misc;
                    }
                }
            }
            s.reg = Reg::NOT_INIT;
            s.bytes[byte] = Byte::Misc;
        }
        Ok(())
    }
}

/// The `size` bytes of a slot from byte `first` towards higher addresses.
fn bytes_of(s: &StackSlot, first: usize, size: u32) -> impl Iterator<Item = Byte> + '_ {
    (0..size as usize).map(move |i| s.bytes[(first + SLOT - i) % SLOT])
}

/// Bits a number needs.
fn width_of(reg: &Reg) -> u32 {
    64 - reg.var.umax.leading_zeros()
}
