//! Arithmetic on pointers: moving them by a fixed or variable offset.

use crate::cause::Cause;
use crate::code;
use crate::facts::alu;
use crate::fail::{Check, errno, fail};
use crate::reg::{Flags, Kind, Reg};
use crate::verifier::Verifier;
use skep_abi::limits::{BPF_MAX_VAR_OFF, MAX_BPF_STACK};
use skep_isa::{AluOp, Reg as R, Src, Width};

impl Verifier<'_> {
    /// `ptr op= off`, or `off op= ptr` if the pointer is not the destination.
    #[expect(clippy::too_many_arguments, reason = "the parts of one instruction")]
    pub(crate) fn pointer_alu(
        &mut self,
        width: Width,
        op: AluOp,
        dst: R,
        src: Src,
        ptr: &Reg,
        off: &Reg,
        ptr_is_dst: bool,
    ) -> Check {
        if off.var.contradicts_itself() {
            *self.reg_mut(dst.index()) = Reg::UNKNOWN;
            return Ok(());
        }
        if width == Width::W32 {
            if op == AluOp::Sub && self.privileges.leak_pointers {
                *self.reg_mut(dst.index()) = Reg::UNKNOWN;
                return Ok(());
            }
            let message = Cause::about(
                dst.index(),
                format!("32-bit arithmetic on {} in {dst}", ptr.describe()),
            );
            return fail(code::POINTER_ARITHMETIC, errno::EACCES, message);
        }
        if ptr.is_nullable() {
            let message = Cause::about(
                dst.index(),
                format!(
                    "{dst} is {}: check it for NULL before arithmetic",
                    ptr.describe()
                ),
            );
            return fail(code::NULLABLE_ARITHMETIC, errno::EACCES, message);
        }
        if ptr.kind == Kind::Mem && ptr.flags.has(Flags::UNTRUSTED) {
            return Ok(());
        }
        check_movable(op, ptr, off)?;
        check_offset_sane(off, ptr)?;
        check_offset_sane(ptr, ptr)?;
        let limited =
            matches!(op, AluOp::Add | AluOp::Sub) && matches!(src, Src::Reg(_)) && self.is_masked();
        let left = if limited {
            self.limit_pointer_alu(op, dst, ptr, off, ptr_is_dst)?
        } else {
            None
        };
        let mut r = match op {
            AluOp::Add => self.add_offset(ptr, off),
            AluOp::Sub => self.sub_offset(ptr, off, ptr_is_dst)?,
            AluOp::And | AluOp::Or | AluOp::Xor => {
                let message = Cause::about(
                    dst.index(),
                    format!("bitwise operation on {} in {dst}", ptr.describe()),
                );
                return fail(code::POINTER_ARITHMETIC, errno::EACCES, message);
            }
            _ => {
                let message = Cause::about(
                    dst.index(),
                    format!(
                        "only addition and subtraction work on {} in {dst}",
                        ptr.describe()
                    ),
                );
                return fail(code::POINTER_ARITHMETIC, errno::EACCES, message);
            }
        };
        check_offset_sane(&r, ptr)?;
        r.var.sync();
        *self.reg_mut(dst.index()) = r;
        self.check_moved_pointer(dst)?;
        if let Some(left) = left {
            self.narrow_pointer_limit(dst, left)?;
        }
        Ok(())
    }

    fn add_offset(&mut self, ptr: &Reg, off: &Reg) -> Reg {
        let mut r = Reg {
            precise: false,
            ..*ptr
        };
        r.var.forget_range32();
        let fixed = off
            .var
            .as_const()
            .map(|v| i64::from(ptr.off).wrapping_add(v.cast_signed()));
        if let Some(fixed) = fixed.and_then(|f| i32::try_from(f).ok()) {
            r.off = fixed;
            return r;
        }
        let (p, o) = (&ptr.var, &off.var);
        (r.var.smin, r.var.smax) = match (p.smin.checked_add(o.smin), p.smax.checked_add(o.smax)) {
            (Some(min), Some(max)) => (min, max),
            _ => (i64::MIN, i64::MAX),
        };
        (r.var.umin, r.var.umax) = match (p.umin.checked_add(o.umin), p.umax.checked_add(o.umax)) {
            (Some(min), Some(max)) => (min, max),
            _ => (0, u64::MAX),
        };
        r.var.bits = p.bits.add(o.bits);
        if ptr.is_packet() {
            r.id = self.new_id();
            r.aux = 0;
        }
        r
    }

    fn sub_offset(&mut self, ptr: &Reg, off: &Reg, ptr_is_dst: bool) -> Check<Reg> {
        if !ptr_is_dst {
            return fail(
                code::POINTER_ARITHMETIC,
                errno::EACCES,
                "a pointer is subtracted from a scalar",
            );
        }
        if ptr.kind == Kind::Stack {
            return fail(
                code::POINTER_ARITHMETIC,
                errno::EACCES,
                "subtraction from a stack pointer (add a negative number instead)",
            );
        }
        let mut r = Reg {
            precise: false,
            ..*ptr
        };
        r.var.forget_range32();
        let fixed = off
            .var
            .as_const()
            .map(|v| i64::from(ptr.off).wrapping_sub(v.cast_signed()));
        if let Some(fixed) = fixed.and_then(|f| i32::try_from(f).ok()) {
            r.off = fixed;
            return Ok(r);
        }
        let (p, o) = (&ptr.var, &off.var);
        (r.var.smin, r.var.smax) = match (p.smin.checked_sub(o.smax), p.smax.checked_sub(o.smin)) {
            (Some(min), Some(max)) => (min, max),
            _ => (i64::MIN, i64::MAX),
        };
        (r.var.umin, r.var.umax) = if p.umin < o.umax {
            (0, u64::MAX)
        } else {
            (p.umin - o.umax, p.umax.wrapping_sub(o.umin))
        };
        r.var.bits = p.bits.sub(o.bits);
        if ptr.is_packet() {
            r.id = self.new_id();
            if o.smin < 0 {
                r.aux = 0;
            }
        }
        Ok(r)
    }

    /// Without CAP_PERFMON a moved pointer must stay in its memory, since a CPU may use it speculatively.
    fn check_moved_pointer(&mut self, dst: R) -> Check {
        if self.privileges.speculation {
            return Ok(());
        }
        let r = *self.reg(dst.index());
        match r.kind {
            Kind::Stack => {
                let Some(at) = r.fixed_offset() else {
                    let message = Cause::about(
                        dst.index(),
                        format!(
                            "{dst} is a stack pointer at a variable offset, which needs CAP_PERFMON"
                        ),
                    );
                    return fail(code::STACK_VARIABLE, errno::EACCES, message);
                };
                if !(-i64::from(MAX_BPF_STACK)..0).contains(&at) {
                    let message = Cause::about(
                        dst.index(),
                        format!(
                            "{dst} would leave the stack (offset {at}), which needs CAP_PERFMON"
                        ),
                    );
                    return fail(code::STACK_BOUNDS, errno::EACCES, message);
                }
                Ok(())
            }
            Kind::MapValue => self.check_map_bounds(dst.index(), i64::from(r.off), 1, false, true),
            _ => Ok(()),
        }
    }

    /// Must arithmetic at this instruction be masked? Behind a barrier it need not.
    fn is_masked(&self) -> bool {
        !self.privileges.speculation && !self.rec.has_barrier(self.insn)
    }

    /// Arithmetic on two scalars: the instruction must not also do pointer arithmetic on other paths.
    pub(crate) fn limit_scalar_alu(&mut self) -> Check {
        if !self.is_masked() || self.rec.alu_limit(self.insn, alu::SCALARS, 0) {
            return Ok(());
        }
        mixed_paths()
    }

    /// Decides how the move must be masked; the walk of the masked result starts here. Returns what narrowing needs.
    fn limit_pointer_alu(
        &mut self,
        op: AluOp,
        dst: R,
        ptr: &Reg,
        off: &Reg,
        ptr_is_dst: bool,
    ) -> Check<Option<bool>> {
        let known = off.var.is_const();
        let negative = off.var.smin < 0;
        let mut left = None;
        if !self.cur.speculative {
            if !known && negative != (off.var.smax < 0) {
                let message = "the offset may be negative or positive; its sign must be known without CAP_PERFMON";
                return fail(code::UNBOUNDED_OFFSET, errno::EACCES, message);
            }
            let to_left = (op == AluOp::Add && negative) || (op == AluOp::Sub && !negative);
            let limit = self.pointer_limit(ptr, to_left)?;
            let state = u8::from(known) * alu::CONSTANT
                + u8::from(negative) * alu::NEGATIVE
                + u8::from(ptr_is_dst) * alu::POINTER_IS_DST;
            self.strict_scalars |= !known;
            // The limit proper is noted after the move, when the window is known; the first limit takes part in it.
            self.rec.narrow_pending(self.insn, state, limit);
            left = Some(to_left);
        }
        if !known {
            // Speculatively the masked offset may be zero: then the pointer stays where it is.
            let (next, ptr) = (self.insn + 1, *ptr);
            self.push_path(next, |s| {
                s.speculative = true;
                s.frame_mut().regs[dst.index()] = ptr;
            })?;
        }
        Ok(left)
    }

    fn narrow_pointer_limit(&mut self, dst: R, left: bool) -> Check {
        let r = *self.reg(dst.index());
        let after = self.pointer_limit(&r, left)?;
        let Some((state, before)) = self.rec.take_pending(self.insn) else {
            return Ok(());
        };
        if self.rec.alu_limit(self.insn, state, before.abs_diff(after)) {
            Ok(())
        } else {
            mixed_paths()
        }
    }

    /// How far the pointer may move to that side.
    fn pointer_limit(&self, ptr: &Reg, left: bool) -> Check<u32> {
        let (limit, max) = match ptr.kind {
            Kind::Stack => {
                let at = ptr
                    .var
                    .bits
                    .value
                    .cast_signed()
                    .wrapping_add(i64::from(ptr.off));
                (
                    at.wrapping_neg(),
                    i64::from(MAX_BPF_STACK) + i64::from(left),
                )
            }
            Kind::MapValue => {
                let at = if left {
                    ptr.var.smin
                } else {
                    ptr.var.umax.cast_signed()
                };
                (
                    at.wrapping_add(i64::from(ptr.off)),
                    i64::from(self.map(ptr).value_size),
                )
            }
            _ => {
                let message = format!("moving {} by a register needs CAP_PERFMON", ptr.describe());
                return fail(code::POINTER_ARITHMETIC, errno::EACCES, message);
            }
        };
        let limit = limit as u32;
        if i64::from(limit) >= max {
            return fail(
                code::OUT_OF_BOUNDS,
                errno::EACCES,
                "the pointer would leave its memory, which needs CAP_PERFMON",
            );
        }
        Ok(limit)
    }
}

fn mixed_paths() -> Check {
    let message =
        "this instruction moves pointers differently on different paths, which needs CAP_PERFMON";
    fail(code::MIXED_POINTERS, errno::EACCES, message)
}

/// May a pointer of this kind be moved at all?
fn check_movable(op: AluOp, ptr: &Reg, off: &Reg) -> Check {
    let movable = match ptr.kind {
        Kind::Ctx
        | Kind::MapValue
        | Kind::MapKey
        | Kind::Stack
        | Kind::PktMeta
        | Kind::Pkt
        | Kind::TpBuffer
        | Kind::Btf
        | Kind::Mem
        | Kind::Func
        | Kind::Dynptr => true,
        Kind::FlowKeys => off.var.is_const(),
        Kind::ConstMap => op == AluOp::Add && off.var.as_const() == Some(0),
        _ => false,
    };
    if movable {
        return Ok(());
    }
    fail(
        code::POINTER_ARITHMETIC,
        errno::EACCES,
        format!("{} must not be moved", ptr.describe()),
    )
}

/// Offsets beyond ±2^29 are not tracked.
fn check_offset_sane(r: &Reg, ptr: &Reg) -> Check {
    let too_far = |v: i64| v >= BPF_MAX_VAR_OFF || v <= -BPF_MAX_VAR_OFF;
    if let Some(v) = r.var.as_const().map(u64::cast_signed)
        && too_far(v)
    {
        let message = format!("{} is moved by {v}, more than 2^29 bytes", ptr.describe());
        return fail(code::POINTER_BOUNDS, errno::EINVAL, message);
    }
    // Of a linked scalar this is the distance, which the kernel limits here too.
    if too_far(i64::from(r.off)) {
        let message = format!(
            "{} would be {} bytes away from its start",
            ptr.describe(),
            r.off
        );
        return fail(code::POINTER_BOUNDS, errno::EINVAL, message);
    }
    if r.var.smin == i64::MIN {
        let message = format!(
            "{} is moved by a number without lower bound",
            ptr.describe()
        );
        return fail(code::UNBOUNDED_OFFSET, errno::EINVAL, message);
    }
    if too_far(r.var.smin) {
        let message = format!(
            "{} may be moved by {}, more than 2^29 bytes",
            ptr.describe(),
            r.var.smin
        );
        return fail(code::POINTER_BOUNDS, errno::EINVAL, message);
    }
    Ok(())
}
