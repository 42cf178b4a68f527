//! What instructions read and write.

use super::{Final, State};
use crate::insn::{Insn, Op};
use alloc::vec::Vec;
use skep_isa::opcode::X;

/// What an instruction reads and writes: A, X, and a scratch word.
struct Effect {
    reads: (bool, bool, u16),
    writes: (bool, bool, u16),
}

fn effect(insn: Insn) -> Effect {
    let word = 1u16 << (insn.k & 15);
    let none = (false, false, 0);
    let (a, x) = ((true, false, 0), (false, true, 0));
    let (reads, writes) = match insn.op() {
        Some(Op::LoadAbs(_) | Op::LoadImm | Op::LoadLen) => (none, a),
        Some(Op::LoadInd(_)) => (x, a),
        Some(Op::LoadMem) => ((false, false, word), a),
        Some(Op::LoadXImm | Op::LoadXLen | Op::LoadXMsh) => (none, x),
        Some(Op::LoadXMem) => ((false, false, word), x),
        Some(Op::Store) => (a, (false, false, word)),
        Some(Op::StoreX) => (x, (false, false, word)),
        Some(Op::AluK(_) | Op::Neg) => (a, a),
        Some(Op::AluX(_)) => ((true, true, 0), a),
        Some(Op::JumpK(_) | Op::RetA) => (a, none),
        Some(Op::JumpX(_)) => ((true, true, 0), none),
        Some(Op::Tax) => (a, x),
        Some(Op::Txa) => (x, a),
        Some(Op::Jump | Op::RetK) | None => (none, none),
    };
    Effect { reads, writes }
}

/// What is read from each place on before it is written: before every instruction, and at the end.
pub(super) fn needs(code: &[Insn], last: Final) -> Vec<(bool, bool, u16)> {
    let mut need = match last {
        Final::Goto => (false, false, 0),
        Final::Jump { code, .. } => (true, code & X != 0, 0),
        Final::Range { .. } => (true, false, 0),
    };
    let mut all = alloc::vec![need; code.len() + 1];
    for (at, insn) in code.iter().enumerate().rev() {
        let Effect { reads, writes } = effect(*insn);
        need = (
            need.0 && !writes.0 || reads.0,
            need.1 && !writes.1 || reads.1,
            need.2 & !writes.2 | reads.2,
        );
        all[at] = need;
    }
    all
}

/// The state after `code`, entered with `state`; `end` is what a run from the start leaves.
pub(super) fn leaves(code: &[Insn], state: State, end: State) -> State {
    let mut after = state;
    for insn in code {
        let Effect { writes, .. } = effect(*insn);
        if writes.0 {
            after.a = end.a;
        }
        if writes.1 {
            after.x = end.x;
        }
        after.words |= writes.2 & end.words;
    }
    after
}
