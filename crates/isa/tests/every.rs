//! Every opcode with edge values: what `decode`, `encode`, the disassembler and the assembler say of it agrees.

use skep_isa::asm::{NoFacts, assemble_insns};
use skep_isa::{Call, Insn, Slot, Style, Text, decode, encode};

const OFFSETS: &[i16] = &[0, 1, 8, 16, 32, -1, -8, i16::MAX, i16::MIN];
const IMMS: &[i32] = &[
    0,
    1,
    2,
    16,
    32,
    64,
    -1,
    0x10000,
    0x40,
    0x41,
    0x50,
    0x51,
    0xa0,
    0xa1,
    0xe1,
    0xf1,
    0x100,
    0x110,
    i32::MAX,
    i32::MIN,
];
const REGS: &[u8] = &[
    0x00, 0x21, 0x12, 0xa9, 0x9a, 0x01, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xb1, 0x1b, 0xff,
];

/// Calls `check` with every combination of the values above and each of the 256 opcodes; `next_imm` varies with `imm`.
fn every_slot(mut check: impl FnMut([Slot; 2])) {
    for code in 0..=u8::MAX {
        for &regs in REGS {
            for &offset in OFFSETS {
                for &imm in IMMS {
                    let first = Slot {
                        code,
                        regs,
                        offset,
                        imm,
                    };
                    for next_imm in [0, 1, -1, i32::MIN] {
                        check([
                            first,
                            Slot {
                                imm: next_imm,
                                ..Slot::default()
                            },
                        ]);
                        if !first.is_wide() {
                            break;
                        }
                    }
                }
            }
        }
    }
}

fn every_insn(mut check: impl FnMut(&Insn)) {
    let mut count = 0;
    every_slot(|slots| {
        if let Ok(insn) = decode(&slots, 0) {
            count += 1;
            check(&insn);
        }
    });
    assert!(count > 15_000, "only {count} instructions tried");
}

#[test]
fn encode_inverts_decode() {
    every_slot(|slots| {
        if let Ok(insn) = decode(&slots, 0) {
            let encoded = encode(&insn);
            assert_eq!(&*encoded, &slots[..insn.slots()], "{insn:?}");
            assert_eq!(decode(&encoded, 0), Ok(insn));
        }
    });
}

#[test]
fn big_endian_slots_survive() {
    every_insn(|insn| {
        for slot in encode(insn) {
            assert_eq!(Slot::from_be_bytes(slot.to_be_bytes()), slot);
            assert_eq!(Slot::from_le_bytes(slot.to_le_bytes()), slot);
        }
    });
}

/// Assembles many lines at once; on a mistake, names the first.
fn assemble_all(lines: &[(Insn, String)]) {
    for chunk in lines.chunks(20_000) {
        let text: String = chunk.iter().map(|(_, line)| line.as_str()).collect();
        let slots = assemble_insns(&text, &NoFacts).unwrap_or_else(|errors| {
            let line = errors[0].line as usize - 1;
            panic!("{}: {:?}", errors[0], chunk[line]);
        });
        let mut at = 0;
        for (insn, line) in chunk {
            assert_eq!(decode(&slots, at).as_ref(), Ok(insn), "{line}");
            at += insn.slots();
        }
    }
}

#[test]
fn assembler_inverts_disassembler() {
    let mut lines = Vec::new();
    every_insn(|insn| lines.push((*insn, format!("{insn}\n"))));
    assemble_all(&lines);
}

/// llvm-objdump's text does not tell a subprog or kfunc from a helper.
#[test]
fn assembler_reads_llvm_text() {
    let mut lines = Vec::new();
    every_insn(|insn| {
        if !matches!(insn, Insn::Call(Call::Subprog(_) | Call::Kfunc { .. })) {
            lines.push((*insn, format!("{}\n", Text::new(insn, Style::Objdump))));
        }
    });
    assemble_all(&lines);
}
