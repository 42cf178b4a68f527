//! Constant blinding: an immediate of the program is put together at run time from two numbers that nobody chose.

use super::{Alu, Baseline, Gpr, TMP, W};
use crate::jit::x64::asm::Shift;

/// Where the numbers come from: xorshift64, seeded for each program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blinding(pub(super) u64);

impl Blinding {
    /// The next number, of 32 bits and not zero.
    fn next(&mut self) -> i32 {
        loop {
            self.0 |= 1;
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let number = (self.0 >> 32) as u32;
            if number != 0 {
                return number.cast_signed();
            }
        }
    }
}

impl Baseline<'_> {
    /// Puts an immediate into [`TMP`], sign-extended to the width, if immediates are blinded.
    pub(super) fn hidden(&mut self, w: W, imm: i32) -> Option<Gpr> {
        let key = self.blinding.as_mut()?.next();
        self.xored(TMP, w, imm, key);
        Some(TMP)
    }

    /// `dst = value`
    pub(super) fn constant(&mut self, dst: Gpr, value: u64) {
        let Some(blinding) = &mut self.blinding else {
            return self.a.mov_ri(dst, value);
        };
        let (first, second) = (blinding.next(), blinding.next());
        if let Ok(imm) = i32::try_from(value.cast_signed()) {
            return self.xored(dst, W::Q, imm, first);
        }
        self.xored(dst, W::Q, ((value >> 32) as u32).cast_signed(), first);
        self.a.shift_ri(Shift::Shl, W::Q, dst, 32);
        self.xored(TMP, W::D, (value as u32).cast_signed(), second);
        self.a.alu_rr(Alu::Or, W::Q, dst, TMP);
    }

    fn xored(&mut self, dst: Gpr, w: W, imm: i32, key: i32) {
        let mixed = imm ^ key;
        match w {
            W::Q => self.a.mov_ri(dst, i64::from(mixed).cast_unsigned()),
            W::D => self.a.mov_ri(dst, u64::from(mixed.cast_unsigned())),
        }
        self.a.alu_ri(Alu::Xor, w, dst, key);
    }
}
