//! Accesses of the arena, around the end of the only page that is there.

use super::{ARENA, Maker, NUMBERS, mov, mov_imm};
use crate::fuzz_jit::state::{ARENA_ADDRESS, ARENA_BYTES, ARENA_START};
use skep_isa::{Slot, opcode as op};

impl Maker<'_> {
    /// One access at a constant or masked place: some touch memory, some none, some both.
    pub(super) fn arena_access(&mut self) {
        // Not `r0`, which is an operand of compare and exchange.
        let at = 1 + self.random.below(NUMBERS - 1) as u8;
        let other = (at + 1 + self.random.below(NUMBERS - 1) as u8) % NUMBERS as u8;
        self.map_address(at, ARENA);
        let start = ARENA_ADDRESS as i32 + ARENA_START as i32;
        if self.random.one_in(2) {
            let place = start + self.random.below(2 * ARENA_BYTES) as i32;
            self.push(mov_imm(at, place));
        } else {
            self.push(mov(at, other));
            let (mask, class) = (2 * ARENA_BYTES - 1, op::ALU64);
            self.push(Slot::new(class | op::AND, at, 0, 0, mask as i32));
            self.push(Slot::new(class | op::ADD, at, 0, 0, start));
        }
        let cast = op::OFFSET_ADDR_SPACE_CAST;
        self.push(Slot::new(op::ALU64 | op::MOV | op::X, at, at, cast, 1));
        let offset = self.random.below(16) as i16;
        self.access_at(at, other, offset);
        let imm = self.imm();
        self.push(mov_imm(at, imm));
    }

    /// Leaves `n` bytes of a register: without memory it stays as it is, and the verifier of Linux 6.18 believes that it has no
    /// more bits than the access (docs/kernels.md).
    fn cut(&mut self, r: u8, n: usize) {
        match n {
            4 => self.push(Slot::new(op::ALU | op::MOV | op::X, r, r, 0, 0)),
            1 | 2 => self.push(Slot::new(op::ALU64 | op::AND, r, 0, 0, (1 << (8 * n)) - 1)),
            _ => {}
        }
    }

    fn access_at(&mut self, at: u8, other: u8, offset: i16) {
        let (size, n) = self.size();
        let slot = match self.random.below(6) {
            0 => Slot::new(op::LDX | op::MEM | size, other, at, offset, 0),
            1 => {
                let imm = self.imm();
                Slot::new(op::ST | op::MEM | size, at, 0, offset, imm)
            }
            2 => Slot::new(op::STX | op::MEM | size, at, other, offset, 0),
            3 => {
                self.cut(other, n);
                Slot::new(op::STX | op::ATOMIC | size, other, at, offset, op::LOAD_ACQ)
            }
            4 => Slot::new(
                op::STX | op::ATOMIC | size,
                at,
                other,
                offset,
                op::STORE_REL,
            ),
            _ => {
                let (size, n) = self.random.pick(&[(op::W, 4), (op::DW, 8)]);
                self.cut(other, n);
                self.cut(0, n);
                // The kernel refuses to fetch with the others.
                #[rustfmt::skip]
                let what = self.random.pick(&[
                    i32::from(op::ADD), i32::from(op::OR), i32::from(op::AND), i32::from(op::XOR),
                    i32::from(op::ADD) | op::FETCH, op::XCHG, op::CMPXCHG,
                ]);
                Slot::new(op::STX | op::ATOMIC | size, at, other, offset, what)
            }
        };
        self.push(slot);
    }
}
