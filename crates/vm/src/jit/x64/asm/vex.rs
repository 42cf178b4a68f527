//! Vector instructions (VEX, 256 bits unless said otherwise).

use super::{Addr, Asm, Gpr, Rm};

impl Asm {
    pub(super) fn vex_rm(&mut self, op: VexOp, reg: u8, vvvv: u8, rm: Rm) {
        let (x, b) = match rm {
            Rm::Reg(r) => (false, r.high()),
            Rm::Mem(m) => (
                m.index.is_some_and(|(i, _)| i.high()),
                m.base.is_some_and(Gpr::high),
            ),
        };
        self.byte(0xc4);
        self.byte(u8::from(reg < 8) << 7 | u8::from(!x) << 6 | u8::from(!b) << 5 | op.map);
        self.byte(u8::from(op.w) << 7 | (!vvvv & 15) << 3 | u8::from(op.long) << 2 | op.pp);
        self.byte(op.opcode);
        self.modrm(reg, rm);
    }

    /// A vector instruction `dst, a, b` in registers.
    pub(crate) fn v_rrr(&mut self, op: VexOp, dst: Xmm, a: Xmm, b: Xmm) {
        self.vex_rm(op, dst.0, a.0, Rm::Reg(Gpr(b.0)));
    }

    /// A vector instruction with a memory operand; `a` is `XMM0` for two-operand forms.
    pub(crate) fn v_rrm(&mut self, op: VexOp, dst: Xmm, a: Xmm, m: Addr) {
        self.vex_rm(op, dst.0, a.0, Rm::Mem(m));
    }

    /// As [`Self::v_rrr`], with an immediate byte.
    pub(crate) fn v_rrri(&mut self, op: VexOp, dst: Xmm, a: Xmm, b: Xmm, imm: u8) {
        self.v_rrr(op, dst, a, b);
        self.byte(imm);
    }

    /// A move between a general register and a vector register, or a mask extraction.
    pub(crate) fn v_gpr(&mut self, op: VexOp, reg: u8, rm: u8) {
        self.vex_rm(op, reg, 0, Rm::Reg(Gpr(rm)));
    }

    pub(crate) fn vzeroupper(&mut self) {
        self.code.extend_from_slice(&[0xc5, 0xf8, 0x77]);
    }
}

/// A vector register by its hardware number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Xmm(pub(crate) u8);

/// The fixed part of a VEX instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct VexOp {
    /// Opcode map: 1 is `0F`, 2 is `0F38`, 3 is `0F3A`.
    pub(crate) map: u8,
    /// Implied prefix: 0 none, 1 `66`, 2 `F3`, 3 `F2`.
    pub(crate) pp: u8,
    pub(crate) opcode: u8,
    pub(crate) w: bool,
    /// 256 bits.
    pub(crate) long: bool,
}
