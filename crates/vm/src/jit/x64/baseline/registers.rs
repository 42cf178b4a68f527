//! What a function needs of registers and stack.

use super::{ENV, MAP};
use crate::jit::source::Source;
use crate::jit::x64::asm::Gpr;
use crate::lowered::{Op, Space};
use skep_isa::{Reg, Src};

/// True if a function keeps words of its own on the stack.
pub(super) fn needs_own_words(src: Source<'_>, ops: &[Op]) -> bool {
    ops.iter().any(|op| match op {
        Op::MayGoto { .. } | Op::TailCall => true,
        Op::CallFunc { func } => src.may_tail_call(*func),
        _ => false,
    })
}

/// The callee-saved registers that a function writes; `env` if it needs the run environment in any case.
pub(super) fn callee_saved(ops: &[Op], mut env: bool) -> Vec<Gpr> {
    let mut used = [false; Reg::COUNT];
    for op in ops {
        note_registers(*op, &mut used);
        env |= match op {
            Op::Call { .. }
            | Op::CallFunc { .. }
            | Op::TailCall
            | Op::Throw
            | Op::MayGoto { .. }
            | Op::LoadPacket { .. }
            | Op::ArenaCast { .. } => true,
            Op::Load { mem, .. }
            | Op::Store { mem, .. }
            | Op::Atomic { mem, .. }
            | Op::LoadAcquire { mem, .. }
            | Op::StoreRelease { mem, .. } => mem.space == Space::Arena,
            _ => false,
        };
    }
    let mut saved: Vec<Gpr> = (6..Reg::COUNT)
        .filter(|&r| used[r])
        .map(|r| MAP[r])
        .collect();
    if env {
        saved.push(ENV);
    }
    saved
}

/// Marks `r6`–`r10` where an op reads or writes them.
fn note_registers(op: Op, used: &mut [bool; Reg::COUNT]) {
    let mut note = |r: Reg| used[r.index()] = true;
    match op {
        Op::Alu { dst, src, .. } | Op::JumpIf { dst, src, .. } => {
            note(dst);
            if let Src::Reg(s) = src {
                note(s);
            }
        }
        Op::Neg { dst, .. }
        | Op::End { dst, .. }
        | Op::Const { dst, .. }
        | Op::MapAddr { dst, .. }
        | Op::MapValueAddr { dst, .. }
        | Op::FuncAddr { dst, .. } => note(dst),
        Op::Mov { dst, src, .. }
        | Op::Movsx { dst, src, .. }
        | Op::MovePointer { dst, src, .. }
        | Op::ArenaCast { dst, src, .. } => {
            note(dst);
            note(src);
        }
        Op::Load { dst, mem, .. } | Op::LoadAcquire { dst, mem, .. } => {
            note(dst);
            note(mem.base);
        }
        Op::Store { src, mem, .. } => {
            note(mem.base);
            if let Src::Reg(s) = src {
                note(s);
            }
        }
        Op::Atomic { src, mem, .. } | Op::StoreRelease { src, mem, .. } => {
            note(mem.base);
            note(src);
        }
        Op::LoadPacket { index, .. } => {
            note(Reg::R6);
            if let Some(r) = index {
                note(r);
            }
        }
        _ => {}
    }
}
