//! Selection of arithmetic.

use super::{Selector, w_of};
use crate::jit::ir::{BinOp, Inst, Value};
use crate::jit::x64::asm::{Alu, Bytes, Gpr, Shift, W};
use crate::jit::x64::mach::{Base, MInst, Mem, Operand, VReg};
use skep_isa::{Size, Width};

impl Selector<'_> {
    pub(super) fn bin(&mut self, v: Value, op: BinOp, width: Width, a: Value, b: Value) {
        let w = w_of(width);
        match op {
            BinOp::Add => self.add(v, w, a, b),
            BinOp::Sub => self.simple(v, Alu::Sub, w, a, b),
            BinOp::And => self.and(v, w, a, b),
            BinOp::Or => self.simple(v, Alu::Or, w, a, b),
            BinOp::Xor => self.xor(v, w, a, b),
            BinOp::Mul => self.mul(v, w, a, b),
            BinOp::Shl => self.shift(v, Shift::Shl, w, a, b),
            BinOp::Shr => self.shift(v, Shift::Shr, w, a, b),
            BinOp::Sar => self.shift(v, Shift::Sar, w, a, b),
            BinOp::Rotl => self.shift(v, Shift::Rol, w, a, b),
            BinOp::Div | BinOp::Mod | BinOp::Sdiv | BinOp::Smod => self.div(v, op, width, a, b),
        }
    }

    /// `dst = a; dst op= b`, with the operand first that is better overwritten.
    fn simple(&mut self, v: Value, op: Alu, w: W, a: Value, b: Value) {
        let (a, b) = if op != Alu::Sub && self.prefers_first(b, a, v) {
            (b, a)
        } else {
            (a, b)
        };
        let dst = self.def(v);
        let src = self.operand(w, v, b);
        self.put(dst, a);
        self.emit(MInst::Alu { op, w, dst, src });
    }

    /// True if `a` is the better one to overwrite: its last use is here, or it comes round a loop as `v`.
    fn prefers_first(&self, a: Value, than: Value, v: Value) -> bool {
        if self.g.constant(than).is_some() {
            return true;
        }
        if self.g.constant(a).is_some() {
            return false;
        }
        let is_load =
            |x: Value| matches!(self.g.inst(x), Inst::Load { .. }) && self.uses[x.index()] == 1;
        let rank = |x: Value| match self.g.inst(x) {
            Inst::Phi(args) if args.iter().any(|next| self.is_or_merges(*next, v)) => 3,
            _ if is_load(x) => 0,
            _ if self.uses[x.index()] == 1 => 2,
            _ => 1,
        };
        rank(a) > rank(than)
    }

    /// True if `next` is `v`, or `v` where the way it was computed on was taken.
    fn is_or_merges(&self, next: Value, v: Value) -> bool {
        next == v || matches!(self.g.inst(next), Inst::Phi(args) if args.contains(&v))
    }

    fn add(&mut self, v: Value, w: W, a: Value, b: Value) {
        if let Some(mem) = self.scaled_sum(w, a, b) {
            let dst = self.def(v);
            return self.emit(MInst::Lea { w, dst, mem });
        }
        self.simple(v, Alu::Add, w, a, b);
    }

    /// `a + (b << k)` for `k` up to 3, if the shift is used only here.
    fn scaled_sum(&mut self, w: W, a: Value, b: Value) -> Option<Mem> {
        for (a, b) in [(a, b), (b, a)] {
            if let Inst::Bin(BinOp::Shl, width, x, k) = *self.g.inst(b)
                && self.uses[b.index()] == 1
                && self.homes[b.index()] == self.block
                && w_of(width) == w
                && let Some(k @ 1..=3) = self.g.constant(k)
                && self.g.constant(a).is_none()
            {
                let base = Base::Reg(self.reg(a));
                return Some(Mem {
                    base,
                    index: Some((self.reg(x), k as u8)),
                    disp: 0,
                });
            }
        }
        None
    }

    fn and(&mut self, v: Value, w: W, a: Value, b: Value) {
        let part = match self.g.constant(b) {
            Some(0xff) => Bytes::B1,
            Some(0xffff) => Bytes::B2,
            Some(0xffff_ffff) => Bytes::B4,
            Some(c) if u32::try_from(c).is_ok() => return self.simple(v, Alu::And, W::D, a, b),
            _ => return self.simple(v, Alu::And, w, a, b),
        };
        let (dst, src) = (self.def(v), self.reg(a));
        self.emit(MInst::Movzx {
            size: part,
            dst,
            src,
        });
    }

    fn xor(&mut self, v: Value, w: W, a: Value, b: Value) {
        let all = if w == W::Q { u64::MAX } else { 0xffff_ffff };
        if self.g.constant(b) == Some(all) {
            let dst = self.def(v);
            self.put(dst, a);
            return self.emit(MInst::Not { w, dst });
        }
        self.simple(v, Alu::Xor, w, a, b);
    }

    fn mul(&mut self, v: Value, w: W, a: Value, b: Value) {
        let dst = self.def(v);
        match (self.g.constant(b), self.imm(w, b)) {
            (Some(c @ (3 | 5 | 9)), _) => {
                let src = self.reg(a);
                let shift = (c - 1).trailing_zeros() as u8;
                let mem = Mem {
                    base: Base::Reg(src),
                    index: Some((src, shift)),
                    disp: 0,
                };
                self.emit(MInst::Lea { w, dst, mem });
            }
            (_, Some(imm)) => {
                let src = self.reg(a);
                self.emit(MInst::MulImm { w, dst, src, imm });
            }
            _ => {
                let (a, b) = if self.prefers_first(b, a, v) {
                    (b, a)
                } else {
                    (a, b)
                };
                let src = self.reg(b);
                self.put(dst, a);
                self.emit(MInst::Mul { w, dst, src });
            }
        }
    }

    fn shift(&mut self, v: Value, op: Shift, w: W, a: Value, b: Value) {
        let dst = self.def(v);
        let mask = if w == W::Q { 63 } else { 31 };
        if let Some(c) = self.g.constant(b) {
            let count = (c & mask) as u8;
            self.put(dst, a);
            return match (op, count) {
                (Shift::Shl, 1) => self.emit(MInst::Alu {
                    op: Alu::Add,
                    w,
                    dst,
                    src: Operand::Reg(dst),
                }),
                _ => self.emit(MInst::ShiftImm { op, w, dst, count }),
            };
        }
        if self.cpu.bmi2 && op != Shift::Rol {
            let (src, count) = (self.reg(a), self.reg(b));
            return self.emit(MInst::ShiftX {
                op,
                w,
                dst,
                src,
                count,
            });
        }
        self.put(dst, a);
        self.put(VReg::fixed(Gpr::RCX), b);
        self.emit(MInst::ShiftCl { op, w, dst });
    }

    fn div(&mut self, v: Value, op: BinOp, width: Width, a: Value, b: Value) {
        let signed = matches!(op, BinOp::Sdiv | BinOp::Smod);
        let remainder = matches!(op, BinOp::Mod | BinOp::Smod);
        let small = |x: Value| self.zeros[x.index()] >> 32 == 0xffff_ffff;
        let w = if !signed && small(a) && small(b) {
            W::D
        } else {
            w_of(width)
        };
        let checked = if signed {
            !self.plain_signed_divisor(b, width)
        } else {
            !self.nonzero(b, width)
        };
        let src = self.reg(b);
        self.put(VReg::fixed(Gpr::RAX), a);
        self.emit(MInst::Div {
            w,
            signed,
            checked,
            remainder,
            src,
        });
        let result = if remainder { Gpr::RDX } else { Gpr::RAX };
        let dst = self.def(v);
        self.emit(MInst::Mov {
            dst,
            src: VReg::fixed(result),
        });
    }

    /// A constant that is neither 0 nor -1 at the width.
    fn plain_signed_divisor(&self, v: Value, width: Width) -> bool {
        let all = if width == Width::W64 {
            u64::MAX
        } else {
            0xffff_ffff
        };
        self.g
            .constant(v)
            .is_some_and(|c| c & all != 0 && c & all != all)
    }

    /// True if a value is known not to be zero at the width.
    fn nonzero(&self, v: Value, width: Width) -> bool {
        let all = if width == Width::W64 {
            u64::MAX
        } else {
            0xffff_ffff
        };
        match *self.g.inst(v) {
            Inst::Const(c) => c & all != 0,
            Inst::Bin(BinOp::Or, _, _, c) => self.g.constant(c).is_some_and(|c| c & all != 0),
            // A sum of small numbers does not wrap.
            Inst::Bin(BinOp::Add, _, x, c) => {
                self.zeros[x.index()] >> 31 == 0x1_ffff_ffff
                    && self
                        .g
                        .constant(c)
                        .is_some_and(|c| (1..1 << 31).contains(&c))
            }
            _ => false,
        }
    }

    pub(super) fn sext(&mut self, v: Value, from: Size, width: Width, value: Value) {
        let (dst, src) = (self.def(v), self.reg(value));
        let size = crate::jit::x64::baseline::bytes(from);
        self.emit(MInst::Movsx {
            size,
            w: w_of(width),
            dst,
            src,
        });
    }

    /// `dst = value & !((limit - value | value) >>s 63)`
    pub(super) fn confine(&mut self, v: Value, value: Value, limit: u32) {
        let (dst, beyond, src) = (self.def(v), self.fresh(), self.reg(value));
        let (w, value) = (W::Q, u64::from(limit));
        self.emit(MInst::Imm { dst: beyond, value });
        for op in [Alu::Sub, Alu::Or] {
            self.emit(MInst::Alu {
                op,
                w,
                dst: beyond,
                src: Operand::Reg(src),
            });
        }
        self.emit(MInst::ShiftImm {
            op: Shift::Sar,
            w,
            dst: beyond,
            count: 63,
        });
        self.emit(MInst::Not { w, dst: beyond });
        self.emit(MInst::Mov { dst, src });
        self.emit(MInst::Alu {
            op: Alu::And,
            w,
            dst,
            src: Operand::Reg(beyond),
        });
    }

    pub(super) fn bswap(&mut self, v: Value, size: Size, value: Value) {
        let dst = self.def(v);
        self.put(dst, value);
        match size {
            Size::B => self.emit(MInst::Movzx {
                size: Bytes::B1,
                dst,
                src: dst,
            }),
            Size::H => {
                self.emit(MInst::Swap16 { dst });
                self.emit(MInst::Movzx {
                    size: Bytes::B2,
                    dst,
                    src: dst,
                });
            }
            Size::W => self.emit(MInst::Bswap { w: W::D, dst }),
            Size::DW => self.emit(MInst::Bswap { w: W::Q, dst }),
        }
    }
}
