//! Takes instructions out of a program for as long as it still shows what it was kept for.

use skep_isa::{Slot, opcode as op};
use skep_object::Program;

/// Passes over the program at most.
const PASSES_MAX: usize = 8;

/// The smallest program found that still `shows`.
pub(super) fn shrink(program: &Program, shows: &dyn Fn(&Program) -> bool) -> Program {
    let mut best = program.clone();
    for _ in 0..PASSES_MAX {
        let before = best.insns.len();
        for len in [16, 4, 1] {
            let mut at = best.insns.len();
            while at > 0 {
                at = at.saturating_sub(len);
                if let Some(less) = without(&best, at, len)
                    && shows(&less)
                {
                    best = less;
                }
            }
        }
        if best.insns.len() == before {
            break;
        }
    }
    best
}

/// Where the jump or call at slot `at` leads.
fn target(s: Slot, at: usize) -> Option<i64> {
    let class = s.code & op::CLASS_MASK;
    let next = at as i64 + 1;
    if s.is_wide() {
        return (s.src() == op::PSEUDO_FUNC).then_some(next + i64::from(s.imm));
    }
    if class != op::JMP && class != op::JMP32 {
        return None;
    }
    match s.code & op::CODE_MASK {
        op::EXIT => None,
        op::CALL => (s.src() == op::PSEUDO_CALL).then_some(next + i64::from(s.imm)),
        op::JA if class == op::JMP32 => Some(next + i64::from(s.imm)),
        _ => Some(next + i64::from(s.offset)),
    }
}

/// The program without `len` slots at `at`; jumps lead to the same instructions, or to what follows those taken out.
fn without(program: &Program, at: usize, len: usize) -> Option<Program> {
    let insns = &program.insns;
    let end = (at + len).min(insns.len());
    let splits = |i: usize| i > 0 && insns.get(i - 1).is_some_and(|s| s.is_wide());
    if splits(at) || splits(end) {
        return None;
    }
    let moved = |i: i64| {
        let i = usize::try_from(i).ok().filter(|i| *i <= insns.len())?;
        Some(if i <= at {
            i
        } else if i < end {
            at
        } else {
            i - (end - at)
        } as i64)
    };
    let mut out = Vec::with_capacity(insns.len());
    let mut second_half = false;
    for (i, s) in insns.iter().enumerate() {
        let is_second_half = second_half;
        second_half = s.is_wide() && !is_second_half;
        if (at..end).contains(&i) {
            continue;
        }
        let mut s = *s;
        if !is_second_half && let Some(to) = target(s, i) {
            let distance = moved(to)? - moved(i as i64)? - 1;
            if s.is_wide() || s.code == op::JMP | op::CALL || s.code == op::JMP32 | op::JA {
                s.imm = i32::try_from(distance).ok()?;
            } else {
                s.offset = i16::try_from(distance).ok()?;
            }
        }
        out.push(s);
    }
    let mut less = Program {
        insns: out,
        ..program.clone()
    };
    for record in &mut less.func_info {
        record.insn = u32::try_from(moved(record.insn.into())?).ok()?;
    }
    Some(less)
}
