//! Ways out of a program: tail calls, thrown values.

use super::{EXIT, Generated, Maker, TARGETS, WRITABLE, add_imm, mov, mov_imm};
use skep_isa::{Slot, opcode as op};

const TAIL_CALL: i32 = 12;

/// How a program ends other than by its last instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ways {
    /// Not at all.
    Ends,
    /// It goes to other programs.
    TailCalls,
    /// It throws.
    Throws,
}

impl Maker<'_> {
    /// May leave the program here.
    pub(super) fn leave(&mut self) {
        match self.ways {
            Ways::Ends => {}
            Ways::Throws => self.throw(),
            Ways::TailCalls if self.random.one_in(2) => {
                let index = self.number();
                self.all(&[
                    Slot::new(op::ALU64 | op::AND, index, 0, 0, 7),
                    mov(3, index),
                    mov(1, 6),
                ]);
                self.map_address(2, TARGETS);
                self.helper(TAIL_CALL);
                self.packet();
                self.refill(0);
            }
            Ways::TailCalls => {
                let index = self.number();
                self.all(&[mov(2, index), mov(1, 6)]);
                self.tail_callers.push(self.out.len());
                self.push(Slot::new(op::JMP | op::CALL, 0, op::PSEUDO_CALL, 0, 0));
                // The other program may have changed the packet.
                self.all(&[
                    mov(1, 0),
                    Slot::new(op::STX | op::MEM | op::W, 6, 1, WRITABLE[0], 0),
                ]);
                self.packet();
                self.refill(0);
            }
        }
    }

    /// Throws a number unless some comparison holds.
    pub(super) fn throw(&mut self) {
        let jump = self.comparison();
        let r = self.number();
        self.unless(jump, |g| {
            g.all(&[
                mov(1, r),
                Slot::new(op::JMP | op::CALL, 0, op::PSEUDO_KFUNC_CALL, 0, 0),
            ]);
        });
    }

    /// The function that makes a tail call with the index and the context that it is given, if anything calls it.
    pub(super) fn tail_caller(&mut self) {
        if self.tail_callers.is_empty() {
            return;
        }
        let start = self.out.len();
        self.starts.push(start as u32);
        for at in std::mem::take(&mut self.tail_callers) {
            self.out[at].imm = (start - at - 1) as i32;
        }
        let imm = self.imm();
        self.all(&[
            Slot::new(op::STX | op::MEM | op::DW, 10, 2, -8, 0),
            mov(6, 2),
            mov(3, 2),
            Slot::new(op::ALU64 | op::AND, 3, 0, 0, 3),
        ]);
        self.map_address(2, TARGETS);
        self.helper(TAIL_CALL);
        self.all(&[
            Slot::new(op::LDX | op::MEM | op::DW, 0, 10, -8, 0),
            Slot::new(op::ALU64 | op::ADD | op::X, 0, 6, 0, 0),
            Slot::new(op::ALU64 | op::XOR, 0, 0, 0, imm),
            EXIT,
        ]);
    }
}

/// The programs that tail calls go to, in the order of the prog array.
pub(in crate::fuzz_jit) fn targets() -> Vec<Generated> {
    let field =
        |code: u8, dst: u8, src: u8, at: i16| Slot::new(code | op::MEM | op::W, dst, src, at, 0);
    // Changes the mark of the packet.
    let mark = vec![
        field(op::LDX, 0, 1, 8),
        Slot::new(op::ALU64 | op::MUL, 0, 0, 0, 31),
        add_imm(0, 7),
        field(op::STX, 1, 0, 8),
        EXIT,
    ];
    // Counts in `cb[0]` and goes on to the first one, unless it came here too often.
    let again = vec![
        mov(6, 1),
        field(op::LDX, 7, 6, 48),
        add_imm(7, 1),
        field(op::STX, 6, 7, 48),
        Slot::new(op::LDDW, 2, op::PSEUDO_MAP_FD, 0, TARGETS),
        Slot::new(0, 0, 0, 0, 0),
        mov(3, 7),
        Slot::new(op::ALU64 | op::AND, 3, 0, 0, 1),
        Slot::new(op::JMP | op::CALL, 0, 0, 0, TAIL_CALL),
        mov(0, 7),
        EXIT,
    ];
    // Uses stack and registers that its caller needs, and calls a function.
    let mut busy: Vec<Slot> = (6..10).map(|r| mov_imm(r, -i32::from(r))).collect();
    busy.extend((1..9).map(|at| Slot::new(op::ST | op::MEM | op::DW, 10, 0, -8 * at, -1)));
    busy.extend([
        mov_imm(1, 77),
        Slot::new(op::JMP | op::CALL, 0, op::PSEUDO_CALL, 0, 1),
        EXIT,
        mov_imm(6, 1),
        mov(0, 1),
        Slot::new(op::ST | op::MEM | op::DW, 10, 0, -8, -1),
        EXIT,
    ]);
    let function = busy.len() as u32 - 4;
    vec![
        Generated {
            insns: mark,
            starts: vec![0],
        },
        Generated {
            insns: again,
            starts: vec![0],
        },
        Generated {
            insns: busy,
            starts: vec![0, function],
        },
    ]
}
