//! Arithmetic and moves on scalars; pointers are passed on to `pointer_alu`.

use crate::cause::Cause;
use crate::code;
use crate::domain::{Scalar, alu};
use crate::fail::{Check, errno, fail};
use crate::reg::{ADD_CONST, ADD_CONST32, ADD_CONST64, Kind, Reg};
use crate::verifier::Verifier;
use skep_abi::kernel::{Rule, has_rule};
use skep_isa::{AluOp, EndOp, Reg as R, Size, Src, Width};

impl Verifier<'_> {
    /// `dst op= src`
    pub(crate) fn check_alu(&mut self, width: Width, op: AluOp, dst: R, src: Src) -> Check {
        if let Src::Reg(src) = src {
            self.check_readable(src.index())?;
        }
        self.check_readable(dst.index())?;
        if let Src::Imm(imm) = src {
            check_immediate(width, op, imm)?;
        }
        self.check_writable(dst.index())?;
        let d = *self.reg(dst.index());
        if d.kind == Kind::Arena {
            return Ok(());
        }
        let s = match src {
            Src::Reg(src) => *self.reg(src.index()),
            Src::Imm(imm) => Reg::constant(i64::from(imm).cast_unsigned()),
        };
        match (d.is_scalar(), s.is_scalar()) {
            (true, true) => self.scalar_alu(width, op, dst, src, &s)?,
            (false, true) => {
                if let Src::Reg(src) = src {
                    self.mark_precise(src.index())?;
                }
                self.pointer_alu(width, op, dst, src, &d, &s, true)?;
            }
            (true, false) => {
                self.mark_precise(dst.index())?;
                self.pointer_alu(width, op, dst, src, &s, &d, false)?;
            }
            (false, false) if op == AluOp::Sub && self.privileges.leak_pointers => {
                *self.reg_mut(dst.index()) = Reg::UNKNOWN;
            }
            (false, false) => {
                let message = Cause::about(
                    dst.index(),
                    format!(
                        "arithmetic on two pointers ({dst} is {}, the other is {})",
                        d.describe(),
                        s.describe()
                    ),
                );
                return fail(code::POINTER_ARITHMETIC, errno::EACCES, message);
            }
        }
        Ok(())
    }

    fn scalar_alu(&mut self, width: Width, op: AluOp, dst: R, src: Src, s: &Reg) -> Check {
        if let (true, Src::Reg(src)) = (self.reg(dst.index()).precise, src) {
            self.mark_precise(src.index())?;
        }
        if matches!(op, AluOp::Add | AluOp::Sub) && matches!(src, Src::Reg(_)) {
            self.limit_scalar_alu()?;
        }
        if matches!(op, AluOp::And | AluOp::Or) && s.var.is_const() {
            self.split_sign(dst)?;
        }
        let same = src == Src::Reg(dst);
        let d = self.reg_mut(dst.index());
        let distance = if same {
            None
        } else {
            link_distance(width, op, &d.var, &s.var)
        };
        d.var = alu::binary(width, op, &d.var, &s.var);
        match distance {
            // The distance between linked scalars is remembered once; a second one would have to be added up.
            Some(distance) if d.id != 0 && d.id & ADD_CONST == 0 => {
                d.id |= if width == Width::W64 {
                    ADD_CONST64
                } else {
                    ADD_CONST32
                };
                d.off = distance;
            }
            _ => d.unlink(),
        }
        repair(d);
        Ok(())
    }

    /// What a sign bit was shifted down to, 0 or -1, is a choice in a mask: the kernel walks each of the two by itself. The
    /// path with 0 waits and comes to the same instruction again.
    fn split_sign(&mut self, dst: R) -> Check {
        let d = &self.reg(dst.index()).var;
        let set: fn(&mut Reg, i32) = if (d.smin, d.smax) == (-1, 0) {
            |r, value| {
                *r = Reg {
                    precise: r.precise,
                    ..Reg::constant(i64::from(value).cast_unsigned())
                };
            }
        } else if (d.s32_min, d.s32_max) == (-1, 0) {
            |r, value| r.var.set_half(value.cast_unsigned())
        } else {
            return Ok(());
        };
        self.push_path(self.insn, |s| set(&mut s.frame_mut().regs[dst.index()], 0))?;
        set(self.reg_mut(dst.index()), -1);
        Ok(())
    }

    /// `dst = -dst`
    pub(crate) fn check_neg(&mut self, width: Width, dst: R) -> Check {
        self.check_readable(dst.index())?;
        if self.is_secret_pointer(dst.index()) {
            return fail(
                code::POINTER_ARITHMETIC,
                errno::EACCES,
                Cause::about(
                    dst.index(),
                    format!("{dst} is a pointer and cannot be negated"),
                ),
            );
        }
        self.check_writable(dst.index())?;
        let d = self.reg_mut(dst.index());
        if d.is_scalar() {
            d.var = alu::negate(width, &d.var);
            d.unlink();
            repair(d);
        } else {
            *d = Reg::UNKNOWN;
        }
        Ok(())
    }

    /// Byte order: the known bits move along.
    pub(crate) fn check_end(&mut self, op: EndOp, size: Size, dst: R) -> Check {
        self.check_readable(dst.index())?;
        if self.is_secret_pointer(dst.index()) {
            return fail(
                code::POINTER_ARITHMETIC,
                errno::EACCES,
                Cause::about(
                    dst.index(),
                    format!("{dst} is a pointer and cannot be swapped"),
                ),
            );
        }
        self.check_writable(dst.index())?;
        let d = self.reg_mut(dst.index());
        if d.is_scalar() {
            d.var = alu::byte_order(op, size.bytes(), &d.var);
            d.unlink();
            repair(d);
        } else {
            *d = Reg::UNKNOWN;
        }
        Ok(())
    }

    /// `dst = src`
    pub(crate) fn check_mov(&mut self, width: Width, dst: R, src: Src) -> Check {
        let Src::Reg(src) = src else {
            let Src::Imm(imm) = src else { return Ok(()) };
            self.check_writable(dst.index())?;
            let value = match width {
                Width::W64 => i64::from(imm).cast_unsigned(),
                Width::W32 => u64::from(imm.cast_unsigned()),
            };
            *self.reg_mut(dst.index()) = Reg::constant(value);
            return Ok(());
        };
        self.check_readable(src.index())?;
        self.check_writable(dst.index())?;
        match width {
            Width::W64 => {
                self.link_scalar(src);
                *self.reg_mut(dst.index()) = *self.reg(src.index());
            }
            Width::W32 => self.mov32(dst, src)?,
        }
        Ok(())
    }

    fn mov32(&mut self, dst: R, src: R) -> Check {
        if self.is_secret_pointer(src.index()) {
            return fail(
                code::PARTIAL_POINTER,
                errno::EACCES,
                Cause::about(
                    src.index(),
                    format!("only half of the pointer in {src} is copied"),
                ),
            );
        }
        let mut d = Reg::UNKNOWN;
        if self.reg(src.index()).is_scalar() {
            let fits = self.reg(src.index()).var.umax <= u64::from(u32::MAX);
            if fits {
                self.link_scalar(src);
            }
            d = *self.reg(src.index());
            if !fits {
                d.unlink();
            }
        }
        d.var.zero_upper();
        d.var.sync();
        *self.reg_mut(dst.index()) = d;
        Ok(())
    }

    /// `dst = (sN)src`
    pub(crate) fn check_movsx(&mut self, width: Width, from: Size, dst: R, src: R) -> Check {
        self.check_readable(src.index())?;
        self.check_writable(dst.index())?;
        if self.is_secret_pointer(src.index()) {
            return fail(
                code::PARTIAL_POINTER,
                errno::EACCES,
                Cause::about(
                    src.index(),
                    format!("part of the pointer in {src} is sign-extended"),
                ),
            );
        }
        let mut d = Reg::UNKNOWN;
        if self.reg(src.index()).is_scalar() {
            let keeps_value = self.reg(src.index()).var.umax < 1 << (from.bits() - 1);
            if keeps_value {
                self.link_scalar(src);
            }
            d = *self.reg(src.index());
            if !keeps_value {
                d.unlink();
            }
            match width {
                Width::W64 => d.var.sign_extend(from.bytes()),
                Width::W32 => d.var.sign_extend32(from.bytes()),
            }
        }
        if width == Width::W32 {
            d.var.zero_upper();
            d.var.sync();
        }
        *self.reg_mut(dst.index()) = d;
        Ok(())
    }

    /// `dst = addr_space_cast(src, …)`: into the arena's address space, or out of it.
    pub(crate) fn check_addr_space_cast(
        &mut self,
        dst: R,
        src: R,
        dst_as: u16,
        src_as: u16,
    ) -> Check {
        if !matches!((dst_as, src_as), (1, 0) | (0, 1)) {
            let message = format!(
                "address space {src_as} cannot be cast to {dst_as}, only 0 to 1 and 1 to 0"
            );
            return fail(code::MALFORMED, errno::EINVAL, message);
        }
        if !self.uses_arena {
            return fail(
                code::MAP_PROGRAM_MISMATCH,
                errno::EINVAL,
                "addr_space_cast needs a program that names an arena",
            );
        }
        self.check_readable(src.index())?;
        self.check_writable(dst.index())?;
        let kind = if dst_as == 0 {
            Kind::Arena
        } else {
            Kind::Scalar
        };
        *self.reg_mut(dst.index()) = Reg {
            kind,
            ..Reg::UNKNOWN
        };
        Ok(())
    }

    /// Gives a scalar an id before it is copied, so that what is learned of one copy is learned of both.
    pub(crate) fn link_scalar(&mut self, src: R) {
        let mut r = *self.reg(src.index());
        if self.assign_link(&mut r) {
            *self.reg_mut(src.index()) = r;
        }
    }

    /// As [`Self::link_scalar`] for a number that goes to the stack or comes from there; true if it changed.
    pub(crate) fn link_spilled(&mut self, r: &mut Reg) -> bool {
        has_rule(self.req.kernel, Rule::SpilledCopies) && self.assign_link(r)
    }

    /// As [`Self::link_scalar`] for any register state; true if it changed.
    fn assign_link(&mut self, r: &mut Reg) -> bool {
        if !r.is_scalar() {
            return false;
        }
        let before = (r.id, r.off);
        if r.id & ADD_CONST != 0 {
            r.unlink();
        }
        if r.id == 0 && !r.var.is_const() {
            r.id = self.new_id();
        }
        before != (r.id, r.off)
    }
}

/// The constant by which `dst` moves away from its linked scalars, if it is one.
///
/// A 32-bit addition clears the upper half, so that the scalars must fit the lower one to stay linked.
fn link_distance(width: Width, op: AluOp, dst: &Scalar, src: &Scalar) -> Option<i32> {
    let value = match width {
        Width::W64 => i32::try_from(src.as_const()?.cast_signed()).ok()?,
        Width::W32 if dst.umax <= u64::from(u32::MAX) => src.as_const32()?.cast_signed(),
        Width::W32 => return None,
    };
    match op {
        AluOp::Add => Some(value),
        AluOp::Sub => value.checked_neg(),
        _ => None,
    }
}

/// Contradicting ranges mean that no value can get here; only the known bits are kept.
pub(crate) fn repair(r: &mut Reg) {
    if r.var.is_broken() {
        r.var.forget_range64();
        r.var.forget_range32();
    }
}

fn check_immediate(width: Width, op: AluOp, imm: i32) -> Check {
    match op {
        AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod if imm == 0 => fail(
            code::DIV_BY_ZERO,
            errno::EINVAL,
            "division by the constant zero",
        ),
        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => {
            let bits = if width == Width::W64 { 64 } else { 32 };
            if (0..bits).contains(&imm) {
                return Ok(());
            }
            fail(
                code::BAD_SHIFT,
                errno::EINVAL,
                format!("shift by {imm} in a {bits}-bit operation"),
            )
        }
        _ => Ok(()),
    }
}
