//! Prologues and epilogues of compiled functions.

use super::asm::{Addr, Alu, Asm, Gpr, W};
use crate::jit::image::UnwindStep;

/// DWARF numbers of the general purpose registers (System V ABI, AMD64 supplement, figure 3.36).
const DWARF: [u8; 16] = [0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];

/// What a prologue did.
#[derive(Clone, Default)]
pub(super) struct Prologue {
    saved: Vec<Gpr>,
    /// Bytes below the saved registers: the function's own words, and the BPF frame at their end.
    pub(super) frame_bytes: u32,
    pub(super) unwind: Vec<UnwindStep>,
}

impl Prologue {
    /// Saves registers and makes room for `bytes`; if the function calls, the stack pointer is a multiple of 16 behind it.
    pub(super) fn emit(a: &mut Asm, saved: &[Gpr], bytes: u32, calls: bool) -> Self {
        let mut unwind = Vec::new();
        let mut depth = 8;
        for &r in saved {
            a.push(r);
            depth += 8;
            unwind.push(UnwindStep {
                code: a.here(),
                frame_bytes: depth,
                saved: Some(DWARF[usize::from(r.0)]),
            });
        }
        let frame_bytes = match calls || bytes > 0 {
            true => (depth + bytes).next_multiple_of(16) - depth,
            false => 0,
        };
        if frame_bytes > 0 {
            a.alu_ri(Alu::Sub, W::Q, Gpr::RSP, frame_bytes.cast_signed());
            unwind.push(UnwindStep {
                code: a.here(),
                frame_bytes: depth + frame_bytes,
                saved: None,
            });
        }
        Self {
            saved: saved.to_vec(),
            frame_bytes,
            unwind,
        }
    }

    /// Undoes the prologue; `rax` and the argument registers stay.
    pub(super) fn restore(&self, a: &mut Asm) {
        if self.frame_bytes > 0 {
            let top = Addr::base(Gpr::RSP, self.frame_bytes.cast_signed());
            a.lea(W::Q, Gpr::RSP, top);
        }
        for &r in self.saved.iter().rev() {
            a.pop(r);
        }
    }
}
