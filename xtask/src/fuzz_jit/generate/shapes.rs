//! Shapes for which the optimising compiler has rules of its own: words changed in place, rotations, sums, copies and
//! comparisons of memory, choices among many values.

use super::{Maker, NUMBERS, PACKET, VALUE, add_imm, mov, mov_imm};
use skep_isa::{Slot, opcode as op};

/// Cases of a choice, and rounds of a loop around it: the verifier walks every way through them.
const CASES: usize = 8;
const CHOICES: usize = 3;
/// Operations of cases.
const CHANGES: &[u8] = &[op::ADD, op::SUB, op::MUL, op::XOR, op::ADD];

impl Maker<'_> {
    /// One of the shapes; those that loop stay out of other loops.
    pub(super) fn shape(&mut self) {
        match self.random.below(if self.in_loop { 6 } else { 14 }) {
            0..=3 => self.update_in_place(),
            4..=5 => self.rotation(),
            6..=7 => self.sum_of_memory(),
            8..=9 => self.copy_of_memory(),
            10..=11 => self.first_difference(),
            _ => self.choice(),
        }
    }

    /// A word is loaded, changed and stored where it was.
    fn update_in_place(&mut self) {
        let (base, bytes, back) = self.place();
        let (size, n) = self.size();
        let offset = self.offset(bytes, n, base) - back;
        let (r, other) = (self.number(), self.number());
        let class = self.random.pick(&[op::ALU, op::ALU64]);
        let code = self
            .random
            .pick(&[op::ADD, op::SUB, op::AND, op::OR, op::XOR]);
        self.push(Slot::new(op::LDX | op::MEM | size, r, base, offset, 0));
        if self.random.one_in(2) {
            let imm = self.imm();
            self.push(Slot::new(class | code, r, 0, 0, imm));
        } else {
            self.push(Slot::new(class | code | op::X, r, other, 0, 0));
        }
        self.push(Slot::new(op::STX | op::MEM | size, base, r, offset, 0));
        if self.random.one_in(2) {
            let imm = self.imm();
            self.push(mov_imm(r, imm));
        }
    }

    /// Two shifts in opposite directions, put together.
    fn rotation(&mut self) {
        let dst = self.number();
        let other = (dst + 1) % NUMBERS as u8;
        let (class, bits) = self.random.pick(&[(op::ALU, 32), (op::ALU64, 64)]);
        let joined = self.random.pick(&[op::ALU, op::ALU64]);
        let code = self.random.pick(&[op::ADD, op::OR, op::XOR]);
        let left = 1 + self.random.below(bits as usize - 1) as i32;
        let right = match self.random.below(4) {
            0 => self.random.below(bits as usize) as i32,
            _ => bits - left,
        };
        self.push(mov(other, dst));
        self.push(Slot::new(class | op::LSH, dst, 0, 0, left));
        self.push(Slot::new(class | op::RSH, other, 0, 0, right));
        self.push(Slot::new(joined | code | op::X, dst, other, 0, 0));
    }

    /// Three different registers for numbers.
    fn three(&mut self) -> (u8, u8, u8) {
        let n = NUMBERS as u8;
        let first = self.number();
        (first, (first + 1) % n, (first + 2) % n)
    }

    /// `r9` moves by `step` up to a limit that leaves room for `step` bytes below `bytes`.
    fn loop_over(&mut self, bytes: usize, step: usize, body: impl FnOnce(&mut Self)) -> usize {
        let rounds = 2 + self.random.below(bytes / step - 1);
        self.push(mov_imm(9, 0));
        let start = self.out.len();
        body(self);
        self.push(add_imm(9, step as i32));
        let back = start as i64 - self.out.len() as i64 - 1;
        let limit = (rounds * step) as i32;
        self.push(Slot::new(op::JMP | op::JLT, 9, 0, back as i16, limit));
        rounds * step
    }

    /// `dst = base + r9`
    fn moving(&mut self, dst: u8, base: u8) {
        self.push(mov(dst, 9));
        self.push(Slot::new(op::ALU64 | op::ADD | op::X, dst, base, 0, 0));
    }

    /// Makes pointers numbers again.
    fn forget(&mut self, pointers: &[u8]) {
        for &r in pointers {
            let imm = self.imm();
            self.push(mov_imm(r, imm));
        }
    }

    fn sum_of_memory(&mut self) {
        let (base, bytes, back) = self.place();
        let (size, n) = self.size();
        let (total, at, value) = self.three();
        let class = self.random.pick(&[op::ALU, op::ALU64]);
        self.loop_over(bytes, n, |g| {
            g.moving(at, base);
            g.push(Slot::new(op::LDX | op::MEM | size, value, at, -back, 0));
            g.push(Slot::new(class | op::ADD | op::X, total, value, 0, 0));
        });
        self.forget(&[at]);
    }

    /// A copy to a map's value, of the packet or of the value itself, which may overlap.
    fn copy_of_memory(&mut self) {
        let (size, n) = self.size();
        let (value, from, to) = self.three();
        let (base, source) = self.random.pick(&[(7, 0), (8, 0), (8, 8), (8, 32)]);
        let target = 8 * self.random.below(4);
        let bytes = PACKET.min(VALUE) - target.max(source);
        self.loop_over(bytes, n, |g| {
            g.moving(from, base);
            g.moving(to, 8);
            let (source, target) = (source as i16, target as i16);
            g.push(Slot::new(op::LDX | op::MEM | size, value, from, source, 0));
            g.push(Slot::new(op::STX | op::MEM | size, to, value, target, 0));
        });
        self.forget(&[from, to]);
    }

    /// Packet and map are equal up to some place, if they were made so before, and `r9` is where they begin to differ.
    fn first_difference(&mut self) {
        let (a, b, at) = self.three();
        if self.random.one_in(2) {
            self.loop_over(PACKET.min(VALUE), 8, |g| {
                g.moving(at, 7);
                g.push(Slot::new(op::LDX | op::MEM | op::DW, a, at, 0, 0));
                g.moving(at, 8);
                g.push(Slot::new(op::STX | op::MEM | op::DW, at, a, 0, 0));
            });
        }
        let mut leave = 0;
        self.loop_over(PACKET.min(VALUE), 1, |g| {
            g.moving(at, 7);
            g.push(Slot::new(op::LDX | op::MEM | op::B, a, at, 0, 0));
            g.moving(at, 8);
            g.push(Slot::new(op::LDX | op::MEM | op::B, b, at, 0, 0));
            leave = g.out.len();
            g.push(Slot::new(op::JMP | op::JNE | op::X, a, b, 0, 0));
        });
        self.out[leave].offset = (self.out.len() - leave - 1) as i16;
        self.forget(&[at]);
    }

    /// Bytes of the packet decide among many ways, one after the other.
    fn choice(&mut self) {
        let (value, x, y) = self.three();
        let mask = self.random.pick(&[7, 15, 31]);
        let (count, first) = (
            4 + self.random.below(CASES - 3),
            self.random.below(4) as i32,
        );
        let at = self.random.below(PACKET - CHOICES) as i16;
        self.loop_over(CHOICES, 1, |g| {
            g.moving(value, 7);
            g.push(Slot::new(op::LDX | op::MEM | op::B, value, value, at, 0));
            g.push(Slot::new(op::ALU64 | op::AND, value, 0, 0, mask));
            let tests = g.out.len();
            for case in 0..count as i32 {
                let jump = g.random.pick(&[op::JMP, op::JMP32]) | op::JEQ;
                g.push(Slot::new(jump, value, 0, 0, (first + case) & mask));
            }
            let mut ends = Vec::new();
            for case in 0..=count {
                if let Some(test) = case.checked_sub(1) {
                    let test = tests + test;
                    g.out[test].offset = (g.out.len() - test - 1) as i16;
                }
                g.case(x, y);
                ends.push(g.out.len());
                g.push(Slot::new(op::JMP | op::JA, 0, 0, 0, 0));
            }
            for end in ends {
                g.out[end].offset = (g.out.len() - end - 1) as i16;
            }
        });
    }

    /// What a case does: nothing that the verifier would tell apart from what the others do.
    fn case(&mut self, x: u8, y: u8) {
        let class = self.random.pick(&[op::ALU, op::ALU64]);
        let code = self.random.pick(CHANGES);
        let (dst, src) = self.random.pick(&[(x, y), (y, x)]);
        if self.random.one_in(2) {
            let imm = self.imm();
            self.push(Slot::new(class | code, dst, 0, 0, imm));
        } else {
            self.push(Slot::new(class | code | op::X, dst, src, 0, 0));
        }
    }
}
