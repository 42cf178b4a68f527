//! Pointer arithmetic that stays in its memory when the processor guesses wrong.

use super::{Alu, Baseline, Gpr, TMP, TMP2, W};
use crate::jit::x64::asm::Shift;
use crate::lowered::{MoveOp, direction};
use skep_verifier::PointerLimit;

impl Baseline<'_> {
    /// `dst = pointer op offset`, where an offset out of the limit counts as 0: see [`crate::lowered::moved`].
    pub(super) fn move_pointer(&mut self, op: MoveOp, dst: Gpr, src: Gpr, limit: PointerLimit) {
        let offset = if limit.pointer_is_dst { src } else { dst };
        self.constant(TMP2, u64::from(limit.limit));
        self.a.mov_rr(W::Q, TMP, offset);
        if limit.negative {
            self.a.neg(W::Q, TMP);
        }
        self.a.alu_rr(Alu::Sub, W::Q, TMP2, TMP);
        self.a.alu_rr(Alu::Or, W::Q, TMP2, TMP);
        self.a.shift_ri(Shift::Sar, W::Q, TMP2, 63);
        self.a.not(W::Q, TMP2);
        self.a.alu_rr(Alu::And, W::Q, TMP, TMP2);
        if !limit.pointer_is_dst {
            self.a.mov_rr(W::Q, dst, src);
        }
        let op = match direction(op, limit) {
            MoveOp::Add => Alu::Add,
            MoveOp::Sub => Alu::Sub,
        };
        self.a.alu_rr(op, W::Q, dst, TMP);
    }
}
