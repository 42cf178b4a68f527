//! Small changes to real programs.

use super::Random;
use skep_isa::{Slot, opcode as op};

/// Numbers where ranges and bits change their mind.
pub(super) const EDGES: &[i32] = &[
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    15,
    16,
    31,
    32,
    63,
    64,
    100,
    127,
    128,
    255,
    256,
    319,
    320,
    4095,
    65535,
    65536,
    i32::MAX,
    i32::MIN,
    -8,
    -16,
    -128,
    0x7fff_fff8,
    0x0fff_ffff,
];

/// A copy with one to three instructions changed.
pub(super) fn mutate(random: &mut Random, insns: &[Slot]) -> Vec<Slot> {
    let mut out = insns.to_vec();
    for _ in 0..1 + random.below(3) {
        let at = random.below(out.len());
        let in_wide = out[at].is_wide() || (at > 0 && out[at - 1].is_wide());
        if !in_wide {
            change(random, &mut out, at);
        }
    }
    out
}

fn change(random: &mut Random, out: &mut [Slot], at: usize) {
    let s = out[at];
    let class = s.code & op::CLASS_MASK;
    out[at] = match (random.below(8), class) {
        (0, _) => Slot {
            imm: if s.imm == 0 {
                s.imm
            } else {
                random.pick(EDGES)
            },
            ..s
        },
        (1, _) if s.imm != 0 => Slot {
            imm: s.imm.wrapping_add(random.pick(&[-8, -1, 1, 8])),
            ..s
        },
        (2, op::LDX | op::ST | op::STX) => Slot {
            offset: s.offset.wrapping_add(random.pick(&[-8, -4, -1, 1, 4, 8])),
            ..s
        },
        (2, op::JMP | op::JMP32)
            if s.code & op::CODE_MASK != op::CALL && s.code & op::CODE_MASK != op::EXIT =>
        {
            Slot {
                offset: s.offset.wrapping_add(random.pick(&[-2, -1, 1, 2])),
                ..s
            }
        }
        (3, op::ALU | op::ALU64) => {
            let code = random.pick(&[
                op::ADD,
                op::SUB,
                op::MUL,
                op::OR,
                op::AND,
                op::LSH,
                op::RSH,
                op::XOR,
                op::ARSH,
                op::MOV,
            ]);
            Slot {
                code: (s.code & !op::CODE_MASK) | code,
                ..s
            }
        }
        (3, op::JMP | op::JMP32)
            if s.code & op::CODE_MASK != op::CALL && s.code & op::CODE_MASK != op::EXIT =>
        {
            let code = random.pick(&[
                op::JEQ,
                op::JGT,
                op::JGE,
                op::JSET,
                op::JNE,
                op::JSGT,
                op::JSGE,
                op::JLT,
                op::JLE,
                op::JSLT,
                op::JSLE,
            ]);
            Slot {
                code: (s.code & !op::CODE_MASK) | code,
                ..s
            }
        }
        (4, op::ALU) => Slot {
            code: (s.code & !op::CLASS_MASK) | op::ALU64,
            ..s
        },
        (4, op::ALU64) => Slot {
            code: (s.code & !op::CLASS_MASK) | op::ALU,
            ..s
        },
        (4, op::JMP)
            if s.code & op::CODE_MASK != op::CALL
                && s.code & op::CODE_MASK != op::EXIT
                && s.code & op::CODE_MASK != op::JA =>
        {
            Slot {
                code: (s.code & !op::CLASS_MASK) | op::JMP32,
                ..s
            }
        }
        (5, op::LDX | op::ST | op::STX) if s.code & op::MODE_MASK == op::MEM => Slot {
            code: (s.code & !op::SIZE_MASK) | random.pick(&[op::B, op::H, op::W, op::DW]),
            ..s
        },
        (6, _) => Slot::new(s.code, random.below(10) as u8, s.src(), s.offset, s.imm),
        // Taken out: a jump to the next instruction.
        (7, _) => Slot::new(op::JMP | op::JA, 0, 0, 0, 0),
        _ => s,
    };
}
