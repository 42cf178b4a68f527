//! Programs in which Linux 6.18 believes what is not so (docs/kernels.md), spelled out so that it does not.
//!
//! Where the kernel accepts a program that we refuse, it is asked about the same program in simpler instructions. If it refuses
//! that one, it errs in the other.

use super::shrink::target;
use skep_isa::{Slot, opcode as op};
use skep_object::Program;

/// The same program without fetching atomic operations (a load, and an atomic operation that fetches nothing) and without loads
/// that extend the sign of 32 bits (a load and two shifts); `None` if it has none of them.
pub(super) fn spelled_out(program: &Program) -> Option<Program> {
    let (insns, starts) = simpler_slots(&program.insns)?;
    let mut program = Program {
        insns,
        ..program.clone()
    };
    program.line_info.clear();
    for record in &mut program.func_info {
        record.insn = u32::try_from(*starts.get(record.insn as usize)?).ok()?;
    }
    Some(program)
}

/// The instructions, and where each of the old ones begins in them.
fn simpler_slots(insns: &[Slot]) -> Option<(Vec<Slot>, Vec<usize>)> {
    let mut out = Vec::with_capacity(insns.len());
    let mut starts = Vec::with_capacity(insns.len() + 1);
    let mut second_half = false;
    for s in insns {
        starts.push(out.len());
        match simpler(*s).filter(|_| !second_half) {
            Some(several) => out.extend(several),
            None => out.push(*s),
        }
        second_half = s.is_wide() && !second_half;
    }
    if out.len() == insns.len() {
        return None;
    }
    starts.push(out.len());
    for (at, s) in insns.iter().enumerate() {
        let is_second_half = at > 0 && insns[at - 1].is_wide();
        let Some(to) = target(*s, at).filter(|_| !is_second_half) else {
            continue;
        };
        let to = *starts.get(usize::try_from(to).ok()?)?;
        let distance = to as i64 - starts[at] as i64 - 1;
        let jump = &mut out[starts[at]];
        if s.is_wide() || s.code == op::JMP | op::CALL || s.code == op::JMP32 | op::JA {
            jump.imm = i32::try_from(distance).ok()?;
        } else {
            jump.offset = i16::try_from(distance).ok()?;
        }
    }
    Some((out, starts))
}

/// What the instruction does in several.
fn simpler(s: Slot) -> Option<Vec<Slot>> {
    let (class, mode) = (s.code & op::CLASS_MASK, s.code & op::MODE_MASK);
    let size = s.code & op::SIZE_MASK;
    match (class, mode) {
        (op::STX, op::ATOMIC) if s.imm & op::FETCH != 0 && matches!(size, op::W | op::DW) => {
            let fetched = if s.imm == op::CMPXCHG { 0 } else { s.src() };
            Some(vec![
                Slot::new(op::LDX | op::MEM | size, fetched, s.dst(), s.offset, 0),
                Slot::new(s.code, s.dst(), fetched, s.offset, 0),
            ])
        }
        (op::LDX, op::MEMSX) if size == op::W => {
            let shift = |code| Slot::new(op::ALU64 | op::K | code, s.dst(), 0, 0, 32);
            let load = Slot::new(op::LDX | op::MEM | size, s.dst(), s.src(), s.offset, 0);
            Some(vec![load, shift(op::LSH), shift(op::ARSH)])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use skep_isa::asm::{NoFacts, assemble_insns};
    use skep_isa::{Slot, decode};

    fn simpler(text: &str) -> Option<Vec<Slot>> {
        let insns = assemble_insns(text, &NoFacts).unwrap();
        super::simpler_slots(&insns).map(|(insns, _)| insns)
    }

    #[test]
    fn jumps_lead_to_the_same_instructions() {
        let found = simpler(
            "if r1 == 0 goto +2
            w0 = cmpxchg32_32(r10 - 8, w0, w1)
            r2 = *(s32 *)(r10 - 8)
            if r0 == 0 goto -4
            exit",
        )
        .unwrap();
        let text: Vec<String> = (0..found.len())
            .map(|at| decode(&found, at).unwrap().to_string())
            .collect();
        assert_eq!(text[0], "if r1 == 0 goto +5");
        assert_eq!(text[1], "r0 = *(u32 *)(r10 - 8)");
        assert_eq!(text[6], "if r0 == 0 goto -7");
    }

    #[test]
    fn a_program_without_them_stays() {
        assert_eq!(simpler("r0 = 0\nexit"), None);
    }
}
