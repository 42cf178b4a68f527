//! Every opcode with edge values: what `decode`, `encode`, the disassembler and the assembler say of it agrees.

use skep_isa::{Insn, Slot, decode, encode};

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
    assert!(count > 50_000, "only {count} instructions tried");
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
