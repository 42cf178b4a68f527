//! Semantics of single instructions, as rows.

use super::testing::{program, run_once};
use crate::program::Engine;
use skep_isa::{Slot, opcode as op};

fn run(slots: Vec<Slot>, starts: &[u32]) -> u64 {
    run_once(&program(slots, starts, Engine::Interp.into()))
}

fn lddw(dst: u8, value: u64) -> [Slot; 2] {
    [
        Slot::new(op::LDDW, dst, 0, 0, value as i32),
        Slot::new(0, 0, 0, 0, (value >> 32) as i32),
    ]
}

const EXIT: Slot = Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0);

#[test]
#[rustfmt::skip] // one row per line
fn arithmetic() {
    const W: u8 = op::ALU64;
    const N: u8 = op::ALU;
    let signed = |v: i64| v.cast_unsigned();
    let rows: &[(u8, i16, u64, u64, u64)] = &[
        // code, offset, dst, src, result
        (W | op::ADD, 0, u64::MAX, 2, 1),
        (N | op::ADD, 0, 0xffff_ffff, 2, 1),
        (W | op::SUB, 0, 0, 1, u64::MAX),
        (N | op::SUB, 0, 0, 1, 0xffff_ffff),
        (W | op::MUL, 0, 1 << 63, 3, 1 << 63),
        (W | op::DIV, 0, 7, 0, 0),
        (N | op::DIV, 0, 0x1_0000_0007, 2, 3),
        (W | op::MOD, 0, u64::MAX, 0, u64::MAX),
        (N | op::MOD, 0, u64::MAX, 0, 0xffff_ffff),
        (W | op::DIV, 1, signed(-7), 2, signed(-3)),
        (W | op::DIV, 1, 1 << 63, u64::MAX, 1 << 63),
        (N | op::DIV, 1, 0x8000_0000, 0xffff_ffff, 0x8000_0000),
        (W | op::MOD, 1, signed(-7), 2, u64::MAX),
        (W | op::MOD, 1, 1 << 63, u64::MAX, 0),
        (N | op::MOD, 1, signed(-7), 0, 0xffff_fff9),
        (W | op::LSH, 0, 1, 65, 2),
        (N | op::LSH, 0, 1, 33, 2),
        (W | op::RSH, 0, 1 << 63, 127, 1),
        (W | op::ARSH, 0, 1 << 63, 63, u64::MAX),
        (N | op::ARSH, 0, 0x8000_0000, 31, 0xffff_ffff),
        (W | op::MOV, 8, 0, 0x80, signed(-128)),
        (N | op::MOV, 16, 0, 0x8000, 0xffff_8000),
        (W | op::MOV, 32, 0, 0x8000_0000, 0xffff_ffff_8000_0000),
        (N | op::MOV, 0, 0, u64::MAX, 0xffff_ffff),
        (W | op::XOR, 0, 5, 6, 3),
    ];
    for &(code, offset, dst, src, expected) in rows {
        let mut slots = [lddw(0, dst), lddw(1, src)].concat();
        slots.extend([Slot::new(code | op::X, 0, 1, offset, 0), EXIT]);
        assert_eq!(run(slots, &[0]), expected, "code {code:#x} offset {offset} of {dst:#x}, {src:#x}");
    }
}

#[test]
fn byte_order() {
    let value = 0x0102_0304_0506_0708;
    let rows = [
        (op::ALU | op::END | op::X, 16, 0x0807),
        (op::ALU | op::END | op::X, 32, 0x0807_0605),
        (op::ALU | op::END | op::X, 64, 0x0807_0605_0403_0201),
        (op::ALU | op::END, 16, 0x0708),
        (op::ALU | op::END, 64, value),
        (op::ALU64 | op::END, 32, 0x0807_0605),
    ];
    for (code, bits, expected) in rows {
        let mut slots = lddw(0, value).to_vec();
        slots.extend([Slot::new(code, 0, 0, 0, bits), EXIT]);
        assert_eq!(run(slots, &[0]), expected, "code {code:#x} {bits}");
    }
}

#[test]
fn atomics_return_the_old_value_where_they_fetch() {
    let rows = [
        // operation, r0 before, src, memory, r0, src and memory afterwards
        (0x00, 9, 5, 7, 9, 5, 12),
        (0x01, 9, 5, 7, 9, 7, 12),
        (0x51, 9, 5, 7, 9, 7, 5),
        (op::XCHG, 9, 5, 7, 9, 7, 5),
        (op::CMPXCHG, 9, 5, 7, 7, 5, 7),
        (op::CMPXCHG, 7, 5, 7, 7, 5, 5),
    ];
    for (operation, r0, src, memory, r0_after, src_after, memory_after) in rows {
        for (want, from) in [(r0_after, 0u8), (src_after, 2), (memory_after, 3)] {
            let mut slots = [lddw(0, r0), lddw(2, src), lddw(4, memory)].concat();
            slots.extend([
                Slot::new(op::STX | op::MEM | op::DW, 10, 4, -8, 0),
                Slot::new(op::STX | op::ATOMIC | op::DW, 10, 2, -8, operation),
                Slot::new(op::LDX | op::MEM | op::DW, 3, 10, -8, 0),
                Slot::new(op::ALU64 | op::MOV | op::X, 0, from, 0, 0),
                EXIT,
            ]);
            assert_eq!(run(slots, &[0]), want, "atomic {operation:#x}, r{from}");
        }
    }
}

#[test]
fn calls_preserve_r6_to_r10() {
    let slots = vec![
        Slot::new(op::ALU64 | op::MOV, 6, 0, 0, 40),
        Slot::new(op::ST | op::MEM | op::DW, 10, 0, -8, 2),
        Slot::new(op::JMP | op::CALL, 0, 1, 0, 3),
        Slot::new(op::LDX | op::MEM | op::DW, 1, 10, -8, 0),
        Slot::new(op::ALU64 | op::ADD | op::X, 0, 1, 0, 0),
        EXIT,
        // The callee: its own frame, its own r6.
        Slot::new(op::ST | op::MEM | op::DW, 10, 0, -8, 77),
        Slot::new(op::ALU64 | op::MOV | op::X, 0, 6, 0, 0),
        Slot::new(op::ALU64 | op::MOV, 6, 0, 0, 1),
        EXIT,
    ];
    assert_eq!(run(slots, &[0, 6]), 42);
}

#[test]
fn may_goto_ends_an_endless_loop() {
    let slots = vec![
        Slot::new(op::ALU64 | op::MOV, 0, 0, 0, 0),
        Slot::new(op::JMP | op::JCOND, 0, 0, 2, 0),
        Slot::new(op::ALU64 | op::ADD, 0, 0, 0, 1),
        Slot::new(op::JMP | op::JA, 0, 0, -3, 0),
        EXIT,
    ];
    assert_eq!(run(slots, &[0]), 8 * 1024 * 1024);
}
