//! Programs made from scratch: numbers known and unknown, jumps forward, stack and map accesses.

use super::Random;
use super::mutate::EDGES;
use skep_isa::{Imm64, Insn, Reg, Slot, encode, opcode as op};
use skep_object::Program;
use std::collections::BTreeMap;
use std::fmt;

/// Registers that hold numbers; r6 is the context, r9 the map value.
const NUMBERS: &[u8] = &[0, 1, 2, 3, 4, 5, 7, 8];
/// Bytes of the host object's map value.
const VALUE_BYTES: i16 = 64;

/// How often each opcode was made with a known, and with an unknown, second operand.
#[derive(Default)]
pub(super) struct Coverage {
    seen: BTreeMap<u8, [u64; 2]>,
}

impl Coverage {
    fn note(&mut self, code: u8, known: bool) {
        self.seen.entry(code).or_default()[usize::from(!known)] += 1;
    }

    /// Opcodes that were never made with a known or never with an unknown operand.
    pub(super) fn unseen(&self) -> usize {
        self.seen.values().flatten().filter(|n| **n == 0).count()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (code, [known, unknown]) in &self.seen {
            writeln!(f, "  {code:#04x}  {known:8} {unknown:8}")?;
        }
        Ok(())
    }
}

struct Maker<'a> {
    random: &'a mut Random,
    coverage: &'a mut Coverage,
    out: Vec<Slot>,
    /// Registers whose number is known.
    known: [bool; 11],
}

/// A random program with the context and the map of `host`.
pub(super) fn generate(random: &mut Random, host: &Program, coverage: &mut Coverage) -> Vec<Slot> {
    let mut m = Maker {
        random,
        coverage,
        out: Vec::new(),
        known: [false; 11],
    };
    m.prologue(host);
    let steps = 24 + m.random.below(48);
    for _ in 0..steps {
        match m.random.below(100) {
            0..=54 => m.arithmetic(),
            55..=74 => m.jump(),
            75..=84 => m.stack(),
            85..=92 => m.map_value(),
            93..=95 => m.atomic(),
            96 => m.sign_mask(),
            _ => m.load_context(),
        }
    }
    let result = m.random.pick(NUMBERS);
    m.push(Slot::new(op::ALU64 | op::MOV | op::X, 0, result, 0, 0));
    // Jumps reach at most this far past their own place: the end is padded.
    for _ in 0..JUMP_MAX {
        m.push(Slot::new(op::ALU64 | op::MOV | op::K, 0, 0, 0, 0));
    }
    m.push(Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0));
    m.out
}

/// Longest jump, in slots.
const JUMP_MAX: usize = 12;

impl Maker<'_> {
    fn push(&mut self, s: Slot) {
        self.out.push(s);
    }

    fn prologue(&mut self, host: &Program) {
        self.push(Slot::new(op::ALU64 | op::MOV | op::X, 6, 1, 0, 0));
        self.push(Slot::new(op::ST | op::MEM | op::W, 10, 0, -4, 0));
        self.push(Slot::new(op::ALU64 | op::MOV | op::X, 2, 10, 0, 0));
        self.push(Slot::new(op::ALU64 | op::ADD | op::K, 2, 0, 0, -4));
        let map = host
            .insns
            .iter()
            .find(|s| s.is_wide() && s.src() == op::PSEUDO_MAP_FD)
            .map_or(0, |s| s.imm);
        let load = Insn::LoadImm64 {
            dst: Reg::R1,
            imm: Imm64::MapFd(map),
        };
        self.out.extend_from_slice(&encode(&load));
        self.push(Slot::new(op::JMP | op::CALL, 0, 0, 0, 1));
        self.push(Slot::new(op::JMP | op::JNE | op::K, 0, 0, 1, 0));
        self.push(Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0));
        self.push(Slot::new(op::ALU64 | op::MOV | op::X, 9, 0, 0, 0));
        for &r in NUMBERS {
            match self.random.below(4) {
                0 => {
                    let imm = self.number();
                    self.push(Slot::new(op::ALU64 | op::MOV | op::K, r, 0, 0, imm));
                    self.known[usize::from(r)] = true;
                }
                1 => self.push(Slot::new(
                    op::LDX | op::MEM | op::W,
                    r,
                    6,
                    4 * i16::from(r),
                    0,
                )),
                2 => self.push(Slot::new(op::LDX | op::MEM | op::B, r, 6, i16::from(r), 0)),
                _ => self.push(Slot::new(
                    op::LDX | op::MEM | op::DW,
                    r,
                    6,
                    8 * (i16::from(r) % 8),
                    0,
                )),
            }
        }
    }

    fn number(&mut self) -> i32 {
        match self.random.below(3) {
            0 => self.random.pick(EDGES),
            1 => self.random.below(64) as i32,
            _ => self.random.next() as i32,
        }
    }

    fn arithmetic(&mut self) {
        let dst = self.random.pick(NUMBERS);
        let class = self.random.pick(&[op::ALU, op::ALU64]);
        let bits = if class == op::ALU { 32 } else { 64 };
        let code = self.random.pick(&[
            op::ADD,
            op::SUB,
            op::MUL,
            op::DIV,
            op::OR,
            op::AND,
            op::LSH,
            op::RSH,
            op::NEG,
            op::MOD,
            op::XOR,
            op::MOV,
            op::ARSH,
            op::END,
            op::AND,
            op::MOV,
            op::ADD,
        ]);
        let d = usize::from(dst);
        match code {
            op::NEG => {
                self.coverage.note(class | code, self.known[d]);
                self.push(Slot::new(class | code, dst, 0, 0, 0));
                return;
            }
            op::END => {
                self.coverage.note(class | code, self.known[d]);
                let source = if class == op::ALU {
                    self.random.pick(&[op::K, op::X])
                } else {
                    op::K
                };
                let size = self.random.pick(&[16, 32, 64]);
                self.push(Slot::new(class | code | source, dst, 0, 0, size));
                self.known[d] = false;
                return;
            }
            _ => {}
        }
        let signed = i16::from(matches!(code, op::DIV | op::MOD) && self.random.one_in(2));
        if self.random.one_in(2) {
            let src = self.random.pick(NUMBERS);
            let s = usize::from(src);
            self.coverage.note(class | code | op::X, self.known[s]);
            let offset = if code == op::MOV && self.random.one_in(3) {
                self.random
                    .pick(if bits == 32 { &[8, 16] } else { &[8, 16, 32] })
            } else {
                signed
            };
            self.push(Slot::new(class | code | op::X, dst, src, offset, 0));
            self.known[d] = if code == op::MOV {
                self.known[s]
            } else {
                self.known[d] && self.known[s]
            };
        } else {
            self.coverage.note(class | code | op::K, self.known[d]);
            let imm = match code {
                op::LSH | op::RSH | op::ARSH => self.random.below(bits) as i32,
                op::DIV | op::MOD => self.number().max(1),
                _ => self.number(),
            };
            self.push(Slot::new(class | code | op::K, dst, 0, signed, imm));
            self.known[d] = code == op::MOV || self.known[d];
        }
    }

    /// A sign, shifted down to 0 or -1, chooses by a mask.
    fn sign_mask(&mut self) {
        let dst = self.random.pick(NUMBERS);
        let (class, shift) = self.random.pick(&[(op::ALU, 31), (op::ALU64, 63)]);
        self.push(Slot::new(class | op::ARSH | op::K, dst, 0, 0, shift));
        let class = self.random.pick(&[op::ALU, op::ALU64]);
        let code = self.random.pick(&[op::AND, op::OR]);
        let imm = self.number();
        self.push(Slot::new(class | code | op::K, dst, 0, 0, imm));
        self.known[usize::from(dst)] = false;
    }

    fn jump(&mut self) {
        let class = self.random.pick(&[op::JMP, op::JMP32]);
        let code = self.random.pick(&[
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
        let offset = 1 + self.random.below(JUMP_MAX - 1) as i16;
        let dst = self.random.pick(NUMBERS);
        if self.random.one_in(2) {
            let src = self.random.pick(NUMBERS);
            self.coverage
                .note(class | code | op::X, self.known[usize::from(src)]);
            self.push(Slot::new(class | code | op::X, dst, src, offset, 0));
        } else {
            self.coverage
                .note(class | code | op::K, self.known[usize::from(dst)]);
            let imm = self.number();
            self.push(Slot::new(class | code | op::K, dst, 0, offset, imm));
        }
    }

    fn stack(&mut self) {
        let size = self.random.pick(&[op::B, op::H, op::W, op::DW, op::DW]);
        let bytes: i16 = match size {
            op::B => 1,
            op::H => 2,
            op::W => 4,
            _ => 8,
        };
        let at = -8 * (1 + self.random.below(6) as i16)
            + bytes * self.random.below(8 / bytes as usize) as i16;
        let reg = self.random.pick(NUMBERS);
        match self.random.below(3) {
            0 => self.push(Slot::new(op::STX | op::MEM | size, 10, reg, at, 0)),
            1 => {
                let imm = self.number();
                self.push(Slot::new(op::ST | op::MEM | size, 10, 0, at, imm));
            }
            _ => {
                let mode = if size != op::DW && self.random.one_in(3) {
                    op::MEMSX
                } else {
                    op::MEM
                };
                self.push(Slot::new(op::LDX | mode | size, reg, 10, at, 0));
                self.known[usize::from(reg)] = false;
            }
        }
    }

    /// A bounded number moves a pointer into the map's value, which is then read or written.
    fn map_value(&mut self) {
        let (index, pointer) = (self.random.pick(NUMBERS), self.random.pick(NUMBERS));
        if index == pointer {
            return;
        }
        match self.random.below(3) {
            0 => {
                let mask = self.random.pick(&[1, 3, 7, 15, 31, 31, 31, 63, 127]);
                let class = self.random.pick(&[op::ALU, op::ALU64]);
                self.push(Slot::new(class | op::AND | op::K, index, 0, 0, mask));
            }
            1 => {
                let limit = self.random.pick(&[0, 1, 8, 31, 55, 56, 63]);
                let code = self.random.pick(&[op::JGT, op::JGE]);
                let class = self.random.pick(&[op::JMP, op::JMP32]);
                self.push(Slot::new(class | code | op::K, index, 0, 4, limit));
            }
            _ => {
                let divisor = self.random.pick(&[1, 8, 32, 56]);
                self.push(Slot::new(op::ALU64 | op::MOD | op::K, index, 0, 0, divisor));
            }
        }
        self.push(Slot::new(op::ALU64 | op::MOV | op::X, pointer, 9, 0, 0));
        self.push(Slot::new(op::ALU64 | op::ADD | op::X, pointer, index, 0, 0));
        let offset = self.random.pick(&[0, 0, 0, 1, 8, 24, 32, VALUE_BYTES - 8]);
        let size = self.random.pick(&[op::B, op::H, op::W, op::DW]);
        if self.random.one_in(2) {
            self.push(Slot::new(
                op::LDX | op::MEM | size,
                pointer,
                pointer,
                offset,
                0,
            ));
        } else {
            self.push(Slot::new(
                op::STX | op::MEM | size,
                pointer,
                index,
                offset,
                0,
            ));
            self.push(Slot::new(op::ALU64 | op::MOV | op::K, pointer, 0, 0, 0));
        }
        self.known[usize::from(pointer)] = false;
        self.known[usize::from(index)] = false;
    }

    fn atomic(&mut self) {
        let imm = self.random.pick(&[
            i32::from(op::ADD),
            i32::from(op::OR) | op::FETCH,
            i32::from(op::AND),
            i32::from(op::XOR) | op::FETCH,
            i32::from(op::ADD) | op::FETCH,
            op::XCHG,
            op::CMPXCHG,
        ]);
        let size = self.random.pick(&[op::W, op::DW]);
        let src = self.random.pick(NUMBERS);
        let (base, at) = if self.random.one_in(2) {
            (9, 8)
        } else {
            (10, -16)
        };
        self.push(Slot::new(op::STX | op::ATOMIC | size, base, src, at, imm));
        self.known[usize::from(src)] = false;
        self.known[0] = false;
    }

    fn load_context(&mut self) {
        let dst = self.random.pick(NUMBERS);
        let size = self.random.pick(&[op::B, op::H, op::W]);
        let mode = self.random.pick(&[op::MEM, op::MEMSX]);
        let at = 8 * self.random.below(8) as i16;
        self.push(Slot::new(op::LDX | mode | size, dst, 6, at, 0));
        self.known[usize::from(dst)] = false;
    }
}
