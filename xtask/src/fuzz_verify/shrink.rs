//! Takes instructions out of a program for as long as it still shows what it was kept for.

use skep_isa::{Slot, opcode as op};
use skep_object::Program;

/// Passes over the program at most.
const PASSES_MAX: usize = 8;

/// The smallest program found that still `shows`.
pub(super) fn shrink(program: &Program, shows: &dyn Fn(&Program) -> bool) -> Program {
    let places = program.func_info.iter().map(|f| f.insn).collect();
    let from = |(insns, places): &Shrunk| {
        let mut less = Program {
            insns: insns.clone(),
            ..program.clone()
        };
        for (record, insn) in less.func_info.iter_mut().zip(places) {
            record.insn = *insn;
        }
        less
    };
    let all = (program.insns.clone(), places);
    from(&shrink_slots(all, &mut |less| shows(&from(less))))
}

/// Slots, and slots that move with the code (starts of functions).
pub(crate) type Shrunk = (Vec<Slot>, Vec<u32>);

/// The smallest part of `best` found that still `shows`.
pub(crate) fn shrink_slots(mut best: Shrunk, shows: &mut dyn FnMut(&Shrunk) -> bool) -> Shrunk {
    for _ in 0..PASSES_MAX {
        let before = best.0.len();
        for len in [16, 4, 1] {
            let mut at = best.0.len();
            while at > 0 {
                at = at.saturating_sub(len);
                if let Some(less) = without(&best, at, len)
                    && shows(&less)
                {
                    best = less;
                }
            }
        }
        if best.0.len() == before {
            break;
        }
    }
    best
}

/// Where the jump or call at slot `at` leads.
pub(super) fn target(s: Slot, at: usize) -> Option<i64> {
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
fn without((insns, places): &Shrunk, at: usize, len: usize) -> Option<Shrunk> {
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
    let place = |&p: &u32| u32::try_from(moved(p.into())?).ok();
    Some((out, places.iter().map(place).collect::<Option<_>>()?))
}
