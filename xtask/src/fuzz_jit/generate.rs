//! Random programs that the verifier should accept: `tc` programs on a packet, three maps and the stack.
//!
//! Registers: `r6` context, `r7` packet data (64 bytes proven), `r8` the value of the array map, `r9` loop counter or
//! number; `r0`–`r5` hold numbers between statements. 64 bytes of stack are initialised.

mod arena;
mod leave;
mod shapes;

use crate::fuzz_verify::Random;
use leave::Ways;
pub(super) use leave::targets;
use skep_isa::{Slot, opcode as op};

/// Bytes of the packet that are proven, of the array's value, and of initialised stack.
const PACKET: usize = 64;
pub(super) const VALUE: usize = 64;
const STACK: usize = 64;
/// Slots of the prologue.
pub(super) const PROLOGUE: usize = 26;
/// Registers that hold numbers.
const NUMBERS: usize = 6;
/// Numbers that tend to break things.
#[rustfmt::skip]
const EDGES: &[i32] = &[0, 1, -1, 2, 7, 8, 31, 32, 33, 63, 64, 127, 128, 255, 256, 0x7fff, 0x8000, 0xffff, i32::MAX, i32::MIN];
/// Maps, by index.
pub(super) const ARRAY: i32 = 0;
pub(super) const PERCPU: i32 = 1;
pub(super) const HASH: i32 = 2;
pub(super) const TARGETS: i32 = 3;
pub(super) const ARENA: i32 = 4;
/// Fields of `struct __sk_buff` that programs may read, and those that they may also write.
const READABLE: &[i16] = &[0, 8, 16, 32, 44, 48, 52, 56, 60, 64];
const WRITABLE: &[i16] = &[8, 32, 44, 48, 52, 56, 60, 64];
/// Numbers of helpers.
const LOOKUP: i32 = 1;
const UPDATE: i32 = 2;
const DELETE: i32 = 3;
const LOAD_BYTES: i32 = 26;
const CSUM_DIFF: i32 = 28;
const LOOP: i32 = 181;
/// One statement in so many may leave the program, if it is one that does.
const LEAVING: usize = 12;
/// Deepest nesting of branches.
const DEPTH_MAX: u32 = 3;

/// A program.
pub(super) struct Generated {
    /// Its slots; map operands are indexes.
    pub(super) insns: Vec<Slot>,
    /// Where its functions start.
    pub(super) starts: Vec<u32>,
}

/// How a program deals with errors of Linux 6.18 (docs/kernels.md).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Not at all.
    Plain,
    /// Extra instructions that change no result keep clear of them.
    Careful,
}

/// Makes a program. From the same state of `random` both forms give the same results.
pub(super) fn generate(random: &mut Random, form: Form) -> Generated {
    let mut g = Maker {
        random,
        form,
        out: Vec::new(),
        calls: Vec::new(),
        callbacks: Vec::new(),
        tail_callers: Vec::new(),
        ways: Ways::Ends,
        in_loop: false,
        starts: vec![0],
    };
    g.ways = g
        .random
        .pick(&[Ways::Ends, Ways::Ends, Ways::TailCalls, Ways::Throws]);
    g.prologue();
    // Mostly short programs, of which more fit into a second, and some long ones.
    let longest = 2 + g.random.below(20);
    let statements = 2 + g.random.below(longest);
    for _ in 0..statements {
        g.statement(0);
    }
    g.epilogue();
    g.functions();
    Generated {
        insns: g.out,
        starts: g.starts,
    }
}

struct Maker<'a> {
    random: &'a mut Random,
    form: Form,
    out: Vec<Slot>,
    /// Calls of subprogs, to be patched.
    calls: Vec<usize>,
    /// Loads of the callback's address, to be patched.
    callbacks: Vec<usize>,
    /// Calls of the function that makes a tail call, to be patched.
    tail_callers: Vec<usize>,
    ways: Ways,
    in_loop: bool,
    starts: Vec<u32>,
}

const fn mov(dst: u8, src: u8) -> Slot {
    Slot::new(op::ALU64 | op::MOV | op::X, dst, src, 0, 0)
}

const fn mov_imm(dst: u8, imm: i32) -> Slot {
    Slot::new(op::ALU64 | op::MOV, dst, 0, 0, imm)
}

const fn add_imm(dst: u8, imm: i32) -> Slot {
    Slot::new(op::ALU64 | op::ADD, dst, 0, 0, imm)
}

const EXIT: Slot = Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0);

impl Maker<'_> {
    fn push(&mut self, s: Slot) {
        self.out.push(s);
    }

    fn all(&mut self, slots: &[Slot]) {
        self.out.extend_from_slice(slots);
    }

    fn number(&mut self) -> u8 {
        self.random.below(NUMBERS) as u8
    }

    fn imm(&mut self) -> i32 {
        match self.random.below(3) {
            0 => self.random.pick(EDGES),
            1 => self.random.below(64) as i32,
            _ => self.random.next() as i32,
        }
    }

    fn size(&mut self) -> (u8, usize) {
        self.random
            .pick(&[(op::B, 1), (op::H, 2), (op::W, 4), (op::DW, 8)])
    }

    /// Jumps over what `body` emits if the comparison holds.
    fn unless(&mut self, jump: Slot, body: impl FnOnce(&mut Self)) {
        let at = self.out.len();
        self.push(jump);
        body(self);
        self.out[at].offset = (self.out.len() - at - 1) as i16;
    }

    fn map_address(&mut self, dst: u8, map: i32) {
        self.push(Slot::new(op::LDDW, dst, op::PSEUDO_MAP_FD, 0, map));
        self.push(Slot::new(0, 0, 0, 0, 0));
    }

    fn helper(&mut self, id: i32) {
        self.push(Slot::new(op::JMP | op::CALL, 0, 0, 0, id));
    }

    fn prologue(&mut self) {
        self.push(mov(6, 1));
        for at in 0..STACK / 8 {
            let imm = self.imm();
            let offset = -8 * (at as i16 + 1);
            self.push(Slot::new(op::ST | op::MEM | op::DW, 10, 0, offset, imm));
        }
        self.packet();
        // r8 = the array's value.
        self.push(Slot::new(op::ST | op::MEM | op::W, 10, 0, -4, 0));
        self.all(&[mov(2, 10), add_imm(2, -4)]);
        self.map_address(1, ARRAY);
        self.helper(LOOKUP);
        self.all(&[
            Slot::new(op::JMP | op::JNE, 0, 0, 1, 0),
            EXIT,
            mov(8, 0),
            mov_imm(9, 0),
        ]);
        self.refill(0);
    }

    /// `r7` = data, proven for [`PACKET`] bytes.
    fn packet(&mut self) {
        self.all(&[
            Slot::new(op::LDX | op::MEM | op::W, 7, 6, 76, 0),
            Slot::new(op::LDX | op::MEM | op::W, 2, 6, 80, 0),
            mov(3, 7),
            add_imm(3, PACKET as i32),
            Slot::new(op::JMP | op::JLE | op::X, 3, 2, 2, 0),
            mov_imm(0, 0),
            EXIT,
        ]);
    }

    /// Gives every register from `first` on a number again.
    fn refill(&mut self, first: u8) {
        for r in first..NUMBERS as u8 {
            match self.random.below(4) {
                0 => {
                    let imm = self.imm();
                    self.push(mov_imm(r, imm));
                }
                1 => self.load_from(r, 7, PACKET, 0),
                2 => self.load_from(r, 8, VALUE, 0),
                _ => self.load_from(r, 10, STACK, STACK as i16),
            }
        }
    }

    /// Loads a number from a place of `bytes` bytes that begins `back` bytes below the base.
    fn load_from(&mut self, dst: u8, base: u8, bytes: usize, back: i16) {
        let (size, n) = self.size();
        let signed = n < 8 && self.random.one_in(4);
        let mode = if signed { op::MEMSX } else { op::MEM };
        let offset = self.offset(bytes, n, base) - back;
        self.push(Slot::new(op::LDX | mode | size, dst, base, offset, 0));
        if signed && base == 10 && self.form == Form::Careful {
            // It is another number than the one in the slot.
            self.push(Slot::new(op::ALU64 | op::OR, dst, 0, 0, 0));
        }
    }

    /// A place for an access of `n` bytes; on the stack an aligned one.
    fn offset(&mut self, bytes: usize, n: usize, base: u8) -> i16 {
        let at = self.random.below(bytes - n + 1);
        let at = if base == 7 { at } else { at / n * n };
        at as i16
    }

    fn statement(&mut self, depth: u32) {
        if self.ways != Ways::Ends && self.random.one_in(LEAVING) {
            return self.leave();
        }
        match self.random.below(114) {
            0..=33 => self.arithmetic(),
            34..=38 => self.unary(),
            39..=52 => self.access(),
            53..=58 => self.variable_access(),
            59..=64 => self.atomic(),
            65..=77 => self.branch(depth),
            78..=82 => self.counted_loop(),
            83..=85 => self.lookup(),
            86..=88 => self.change_hash(),
            89..=90 => self.subprog_call(),
            91 => self.bpf_loop(),
            92..=93 => self.legacy_load(),
            94..=95 => self.context(),
            96 => self.load_bytes(),
            97 => self.checksum(),
            98..=99 => self.wide_constant(),
            100..=109 => self.shape(),
            _ => self.arena_access(),
        }
    }

    fn arithmetic(&mut self) {
        let class = self.random.pick(&[op::ALU, op::ALU64]);
        #[rustfmt::skip]
        let code = self.random.pick(&[
            op::ADD, op::SUB, op::MUL, op::DIV, op::OR, op::AND, op::LSH, op::RSH, op::MOD, op::XOR, op::MOV, op::ARSH, op::ADD, op::AND,
        ]);
        let dst = self.number();
        let bits = if class == op::ALU { 32 } else { 64 };
        let signed = i16::from(matches!(code, op::DIV | op::MOD) && self.random.one_in(2));
        let shifts = matches!(code, op::LSH | op::RSH | op::ARSH);
        if self.random.one_in(2) {
            let imm = match (shifts, matches!(code, op::DIV | op::MOD), self.imm()) {
                (true, _, i) => i & (bits - 1),
                (_, true, 0) => 3,
                (_, _, i) => i,
            };
            return self.push(Slot::new(class | code, dst, 0, signed, imm));
        }
        let src = self.number();
        let offset = match (code, self.random.below(3)) {
            (op::MOV, 0) => 8,
            (op::MOV, 1) => 16,
            _ => signed,
        };
        self.push(Slot::new(class | code | op::X, dst, src, offset, 0));
    }

    fn unary(&mut self) {
        let dst = self.number();
        let slot = match self.random.below(3) {
            0 => Slot::new(
                self.random.pick(&[op::ALU, op::ALU64]) | op::NEG,
                dst,
                0,
                0,
                0,
            ),
            1 => Slot::new(
                op::ALU | op::END | self.random.pick(&[op::K, op::X]),
                dst,
                0,
                0,
                self.random.pick(&[16, 32, 64]),
            ),
            _ => Slot::new(
                op::ALU64 | op::END,
                dst,
                0,
                0,
                self.random.pick(&[16, 32, 64]),
            ),
        };
        self.push(slot);
    }

    /// Base register, bytes, and how far below the base they begin.
    fn place(&mut self) -> (u8, usize, i16) {
        self.random
            .pick(&[(7, PACKET, 0), (8, VALUE, 0), (10, STACK, STACK as i16)])
    }

    fn access(&mut self) {
        let (base, bytes, back) = self.place();
        let r = self.number();
        match self.random.below(5) {
            0 | 1 => self.load_from(r, base, bytes, back),
            2 => {
                let ((size, n), imm) = (self.size(), self.imm());
                let offset = self.offset(bytes, n, base) - back;
                self.push(Slot::new(op::ST | op::MEM | size, base, 0, offset, imm));
            }
            3 => {
                let (size, n) = self.size();
                let offset = self.offset(bytes, n, base) - back;
                self.push(Slot::new(op::STX | op::MEM | size, base, r, offset, 0));
            }
            _ => {
                let (size, n) = self.size();
                let offset = self.offset(VALUE, n, 8);
                let (dst, src, order) = if self.random.one_in(2) {
                    (r, 8, op::LOAD_ACQ)
                } else {
                    (8, r, op::STORE_REL)
                };
                self.push(Slot::new(
                    op::STX | op::ATOMIC | size,
                    dst,
                    src,
                    offset,
                    order,
                ));
            }
        }
    }

    /// An access at a masked number.
    fn variable_access(&mut self) {
        let (base, bytes, back) = self.place();
        if base == 7 {
            return self.variable_packet_access();
        }
        let (size, n) = self.size();
        let (at, other) = (self.number(), self.number());
        let mask = (bytes - 1) & !(n - 1);
        self.push(Slot::new(op::ALU64 | op::AND, at, 0, 0, mask as i32));
        self.push(Slot::new(op::ALU64 | op::ADD | op::X, at, base, 0, 0));
        let store = self.random.one_in(2);
        if store && other != at {
            self.push(Slot::new(op::STX | op::MEM | size, at, other, -back, 0));
            let imm = self.imm();
            self.push(mov_imm(at, imm));
        } else {
            self.push(Slot::new(op::LDX | op::MEM | size, at, at, -back, 0));
        }
    }

    /// The same in the packet, where it needs a check of its own.
    fn variable_packet_access(&mut self) {
        let (size, n) = self.size();
        let at = self.number();
        let (end, limit) = ((at + 1) % NUMBERS as u8, (at + 2) % NUMBERS as u8);
        self.push(Slot::new(op::ALU64 | op::AND, at, 0, 0, 127));
        self.all(&[
            Slot::new(op::ALU64 | op::ADD | op::X, at, 7, 0, 0),
            mov(end, at),
            add_imm(end, n as i32),
            Slot::new(op::LDX | op::MEM | op::W, limit, 6, 80, 0),
        ]);
        let store = self.random.one_in(2);
        let (imm, other, past) = (self.imm(), self.imm(), self.imm());
        self.unless(
            Slot::new(op::JMP | op::JGT | op::X, end, limit, 0, 0),
            |g| {
                if store {
                    g.push(Slot::new(op::ST | op::MEM | size, at, 0, 0, imm));
                } else {
                    g.push(Slot::new(op::LDX | op::MEM | size, at, at, 0, 0));
                    g.push(Slot::new(op::STX | op::MEM | op::DW, 8, at, 8, 0));
                }
            },
        );
        self.all(&[mov_imm(at, imm), mov_imm(end, other), mov_imm(limit, past)]);
    }

    fn atomic(&mut self) {
        let (base, bytes, back) = self
            .random
            .pick(&[(8, VALUE, 0), (10, STACK, STACK as i16)]);
        let (size, n) = self.random.pick(&[(op::W, 4), (op::DW, 8)]);
        let offset = self.offset(bytes, n, base) - back;
        #[rustfmt::skip]
        let imm = self.random.pick(&[
            i32::from(op::ADD), i32::from(op::OR), i32::from(op::AND), i32::from(op::XOR),
            i32::from(op::ADD) | op::FETCH, i32::from(op::OR) | op::FETCH, i32::from(op::AND) | op::FETCH, i32::from(op::XOR) | op::FETCH,
            op::XCHG, op::CMPXCHG,
        ]);
        let src = self.number();
        if base == 10 && self.form == Form::Careful {
            self.forget_slot(size, offset);
        }
        self.push(Slot::new(
            op::STX | op::ATOMIC | size,
            base,
            src,
            offset,
            imm,
        ));
        if imm == op::CMPXCHG && size == op::W && self.form == Form::Careful {
            self.push(Slot::new(op::ALU | op::MOV | op::X, 0, 0, 0, 0));
        }
    }

    /// Makes the kernel forget what it knows of a place on the stack: an atomic operation with 0 through a register whose
    /// number waits below the initialised stack.
    fn forget_slot(&mut self, size: u8, offset: i16) {
        let (saved, or) = (-(STACK as i16) - 8, i32::from(op::OR));
        self.all(&[
            Slot::new(op::STX | op::MEM | op::DW, 10, 5, saved, 0),
            mov_imm(5, 0),
            Slot::new(op::STX | op::ATOMIC | size, 10, 5, offset, or),
            Slot::new(op::LDX | op::MEM | op::DW, 5, 10, saved, 0),
        ]);
    }

    /// A comparison of numbers, as a jump.
    fn comparison(&mut self) -> Slot {
        #[rustfmt::skip]
        let code = self.random.pick(&[
            op::JEQ, op::JNE, op::JGT, op::JGE, op::JLT, op::JLE, op::JSET, op::JSGT, op::JSGE, op::JSLT, op::JSLE,
        ]);
        let class = self.random.pick(&[op::JMP, op::JMP32]);
        let dst = self.number();
        if self.random.one_in(2) {
            let imm = self.imm();
            Slot::new(class | code, dst, 0, 0, imm)
        } else {
            let src = self.number();
            Slot::new(class | code | op::X, dst, src, 0, 0)
        }
    }

    fn branch(&mut self, depth: u32) {
        if depth >= DEPTH_MAX || (self.in_loop && depth > 0) {
            return self.arithmetic();
        }
        let jump = self.comparison();
        let both = self.random.one_in(2);
        let count = 1 + self.random.below(4);
        self.unless(jump, |g| {
            for _ in 0..count {
                g.statement(depth + 1);
            }
            if both {
                // The other way begins behind this jump.
                g.push(Slot::new(op::JMP | op::JA, 0, 0, 0, 0));
            }
        });
        if both {
            let jump_at = self.out.len() - 1;
            let count = 1 + self.random.below(3);
            for _ in 0..count {
                self.statement(depth + 1);
            }
            self.out[jump_at].offset = (self.out.len() - jump_at - 1) as i16;
        }
    }

    /// `r9` counts to a constant, with `may_goto` or without.
    fn counted_loop(&mut self) {
        if self.in_loop {
            return self.arithmetic();
        }
        self.in_loop = true;
        self.push(mov_imm(9, 0));
        let start = self.out.len();
        let guard = self.random.one_in(3).then(|| {
            self.push(Slot::new(op::JMP | op::JCOND, 0, 0, 0, 0));
            start
        });
        let count = 1 + self.random.below(4);
        for _ in 0..count {
            self.statement(DEPTH_MAX - 1);
        }
        if self.random.one_in(3) {
            let dst = self.number();
            self.push(Slot::new(op::ALU64 | op::ADD | op::X, dst, 9, 0, 0));
        }
        self.push(add_imm(9, 1));
        let rounds = 2 + self.random.below(5) as i32;
        let back = start as i64 - self.out.len() as i64 - 1;
        self.push(Slot::new(op::JMP | op::JLT, 9, 0, back as i16, rounds));
        if let Some(at) = guard {
            self.out[at].offset = (self.out.len() - at - 1) as i16;
        }
        self.in_loop = false;
    }

    /// Writes a key below `limit` to the stack and lets `r2` point to it.
    fn key(&mut self, limit: i32, bytes: i16) {
        let r = self.number();
        self.push(Slot::new(op::ALU64 | op::AND, r, 0, 0, limit - 1));
        let size = if bytes == 8 { op::DW } else { op::W };
        self.push(Slot::new(op::STX | op::MEM | size, 10, r, -8, 0));
        self.all(&[mov(2, 10), add_imm(2, -8)]);
    }

    fn lookup(&mut self) {
        let (map, limit, bytes) = self
            .random
            .pick(&[(PERCPU, 4, 4), (HASH, 8, 8), (ARRAY, 2, 4)]);
        self.key(limit, bytes);
        self.map_address(1, map);
        self.helper(LOOKUP);
        self.refill(1);
        let other = 1 + self.random.below(NUMBERS - 1) as u8;
        let size = self.random.pick(&[op::W, op::DW]);
        let change = self.random.below(3);
        self.unless(Slot::new(op::JMP | op::JEQ, 0, 0, 0, 0), |g| match change {
            0 => g.push(Slot::new(op::LDX | op::MEM | size, other, 0, 8, 0)),
            1 => g.push(Slot::new(op::STX | op::MEM | size, 0, other, 0, 0)),
            _ => g.push(Slot::new(
                op::STX | op::ATOMIC | size,
                0,
                other,
                8,
                i32::from(op::ADD),
            )),
        });
        let imm = self.imm();
        self.push(mov_imm(0, imm));
    }

    fn change_hash(&mut self) {
        self.key(8, 8);
        if self.random.one_in(3) {
            self.map_address(1, HASH);
            self.helper(DELETE);
        } else {
            let flags = self.random.pick(&[0, 0, 1, 2]);
            self.all(&[mov(3, 10), add_imm(3, -32), mov_imm(4, flags)]);
            self.map_address(1, HASH);
            self.helper(UPDATE);
        }
        self.refill(1);
    }

    fn subprog_call(&mut self) {
        self.calls.push(self.out.len());
        self.push(Slot::new(op::JMP | op::CALL, 0, op::PSEUDO_CALL, 0, 0));
        self.refill(1);
    }

    fn bpf_loop(&mut self) {
        if self.in_loop {
            return self.arithmetic();
        }
        let rounds = self.random.below(6) as i32;
        self.push(mov_imm(1, rounds));
        self.callbacks.push(self.out.len());
        self.push(Slot::new(op::LDDW, 2, op::PSEUDO_FUNC, 0, 0));
        self.push(Slot::new(0, 0, 0, 0, 0));
        self.all(&[mov(3, 10), add_imm(3, -(STACK as i32)), mov_imm(4, 0)]);
        self.helper(LOOP);
        self.refill(1);
    }

    fn legacy_load(&mut self) {
        let size = self.random.pick(&[op::B, op::H, op::W]);
        let imm = if self.random.one_in(20) {
            self.random.below(200) as i32
        } else {
            self.random.below(32) as i32
        };
        if self.random.one_in(2) {
            self.push(Slot::new(op::LD | op::ABS | size, 0, 0, 0, imm));
        } else {
            let r = self.number();
            self.push(Slot::new(op::ALU64 | op::AND, r, 0, 0, 31));
            self.push(Slot::new(op::LD | op::IND | size, 0, r, 0, imm));
        }
        self.refill(1);
    }

    fn context(&mut self) {
        let r = self.number();
        if self.random.one_in(2) {
            let field = self.random.pick(READABLE);
            self.push(Slot::new(op::LDX | op::MEM | op::W, r, 6, field, 0));
        } else {
            let field = self.random.pick(WRITABLE);
            self.push(Slot::new(op::STX | op::MEM | op::W, 6, r, field, 0));
        }
    }

    fn load_bytes(&mut self) {
        let r = self.number();
        self.push(Slot::new(op::ALU64 | op::AND, r, 0, 0, 127));
        self.all(&[mov(2, r), mov(1, 6), mov(3, 10), add_imm(3, -48)]);
        let bytes = 1 + self.random.below(16) as i32;
        self.push(mov_imm(4, bytes));
        self.helper(LOAD_BYTES);
        self.refill(1);
    }

    fn checksum(&mut self) {
        let seed = self.number();
        self.push(mov(5, seed));
        let bytes = 4 * self.random.below(5) as i32;
        self.all(&[mov(1, 10), add_imm(1, -32), mov_imm(2, bytes)]);
        self.all(&[mov(3, 10), add_imm(3, -64), mov_imm(4, 16)]);
        self.helper(CSUM_DIFF);
        self.refill(1);
    }

    fn wide_constant(&mut self) {
        let (dst, value) = (self.number(), self.random.next());
        self.push(Slot::new(op::LDDW, dst, 0, 0, value as i32));
        self.push(Slot::new(0, 0, 0, 0, (value >> 32) as i32));
    }

    /// Folds every number into the result.
    fn epilogue(&mut self) {
        for r in (1..NUMBERS as u8).chain([9]) {
            self.push(Slot::new(op::ALU64 | op::MUL, 0, 0, 0, 31));
            self.push(Slot::new(op::ALU64 | op::XOR | op::X, 0, r, 0, 0));
        }
        self.push(mov(1, 0));
        self.push(Slot::new(op::ALU64 | op::RSH, 1, 0, 0, 32));
        self.push(Slot::new(op::ALU64 | op::XOR | op::X, 0, 1, 0, 0));
        self.push(EXIT);
    }

    /// The subprog and the callback, if anything refers to them.
    fn functions(&mut self) {
        if !self.calls.is_empty() {
            let start = self.out.len();
            self.starts.push(start as u32);
            for at in std::mem::take(&mut self.calls) {
                self.out[at].imm = (start - at - 1) as i32;
            }
            self.push(mov(0, 1));
            for at in 0..4 {
                let slot = Slot::new(
                    op::STX | op::MEM | op::DW,
                    10,
                    at + 1,
                    -8 * (i16::from(at) + 1),
                    0,
                );
                self.push(slot);
            }
            let count = 2 + self.random.below(8);
            for _ in 0..count {
                match self.random.below(3) {
                    0 => {
                        let dst = self.number();
                        self.load_from(dst, 10, 32, 32);
                    }
                    _ => self.arithmetic(),
                }
            }
            let jump = self.comparison();
            self.unless(jump, Self::arithmetic);
            if self.ways == Ways::Throws && self.random.one_in(2) {
                self.throw();
            }
            self.push(EXIT);
        }
        self.tail_caller();
        if !self.callbacks.is_empty() {
            let start = self.out.len();
            self.starts.push(start as u32);
            for at in std::mem::take(&mut self.callbacks) {
                self.out[at].imm = (start - at - 1) as i32;
            }
            let offset = self.offset(STACK, 8, 10);
            self.all(&[
                Slot::new(op::LDX | op::MEM | op::DW, 3, 2, offset, 0),
                Slot::new(op::ALU64 | op::ADD | op::X, 3, 1, 0, 0),
                Slot::new(op::ALU64 | op::XOR, 3, 0, 0, 0x1234),
                Slot::new(op::STX | op::MEM | op::DW, 2, 3, offset, 0),
                mov_imm(0, 0),
                Slot::new(op::JMP | op::JNE, 1, 0, 1, 3),
                mov_imm(0, 1),
                EXIT,
            ]);
        }
    }
}
