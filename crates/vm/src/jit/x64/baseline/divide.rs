//! Division: the hardware's, with BPF's rules for what it would refuse.

use super::{Alu, Baseline, Gpr, Src, TMP, TMP2, TMP3, W, reg};
use crate::jit::x64::asm::{Addr, Cond};
use skep_isa::AluOp;

impl Baseline<'_> {
    /// Division and modulo with BPF's rules: by zero, and the most negative number by -1.
    pub(super) fn divide(&mut self, op: AluOp, w: W, dst: Gpr, src: Src) {
        match src {
            Src::Reg(s) => self.a.mov_rr(w, TMP, reg(s)),
            Src::Imm(i) if self.hidden(w, i).is_none() => self.a.mov_ri(TMP, divisor(w, i)),
            Src::Imm(_) => {}
        }
        self.a.mov_rr(W::Q, TMP2, Gpr::RAX);
        self.a.mov_rr(W::Q, TMP3, Gpr::RDX);
        self.a.mov_rr(w, Gpr::RAX, dst);
        let (special, done) = (self.a.new_label(), self.a.new_label());
        let signed = matches!(op, AluOp::Sdiv | AluOp::Smod);
        let quotient = matches!(op, AluOp::Div | AluOp::Sdiv);
        // Signed: 0 and -1 are special, that is `divisor + 1 <= 1` unsigned.
        if signed {
            self.a.lea(w, Gpr::RDX, Addr::base(TMP, 1));
            self.a.alu_ri(Alu::Cmp, w, Gpr::RDX, 1);
            self.a.jcc(Cond::Be, special);
            self.a.sign_to_rdx(w);
            self.a.idiv(w, TMP);
        } else {
            self.a.test_rr(w, TMP, TMP);
            self.a.jcc(Cond::E, special);
            self.a.zero(Gpr::RDX);
            self.a.div(w, TMP);
        }
        let result = if quotient { Gpr::RAX } else { Gpr::RDX };
        self.a.mov_rr(w, TMP, result);
        self.a.jmp(done);
        self.a.bind(special);
        self.special_division(quotient, w);
        self.a.bind(done);
        self.a.mov_rr(W::Q, Gpr::RAX, TMP2);
        self.a.mov_rr(W::Q, Gpr::RDX, TMP3);
        self.a.mov_rr(W::Q, dst, TMP);
    }

    /// `TMP = rax op TMP` where `TMP` is 0 or, for signed operations, -1.
    fn special_division(&mut self, quotient: bool, w: W) {
        if quotient {
            // rax * divisor: 0, or the negation.
            self.a.imul_rr(w, TMP, Gpr::RAX);
            return;
        }
        // By zero the dividend stays, by -1 nothing remains: rax & !divisor.
        self.a.not(w, TMP);
        self.a.alu_rr(Alu::And, w, TMP, Gpr::RAX);
    }
}

/// An immediate divisor at its width.
fn divisor(w: W, imm: i32) -> u64 {
    match w {
        W::Q => i64::from(imm).cast_unsigned(),
        W::D => u64::from(imm.cast_unsigned()),
    }
}
