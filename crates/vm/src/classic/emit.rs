//! Machine code of a classic program, for x86-64.
//!
//! `eax` is A, `ecx` X, `rdi` the packet, `rsi` its bytes, `r8d` its length on the wire; scratch words are `r9d`, `r10d`,
//! then the red zone. `rdx` and `r11` hold what lives for one instruction. The program is there twice: as a function of one
//! packet, and inside a loop over many, where `rbx` and `rbp` are the packets to come and their end, and `r12` is where
//! the next result goes.

use super::flow::{Ahead, Flow, NEVER, Order, targets};
use crate::jit::x64::asm::{Addr, Alu, Asm, Bytes, Cond, Gpr, Label, OutOfReach, Shift, W};
use skep_cbpf::insn::{AluOp, BPF_MEMWORDS, Op, Relation, Size};
use skep_cbpf::{Insn, LongShift};

const A: Gpr = Gpr::RAX;
const X: Gpr = Gpr::RCX;
const PACKET: Gpr = Gpr::RDI;
const LENGTH: Gpr = Gpr::RSI;
const WIRE: Gpr = Gpr::R8;
const TMP: Gpr = Gpr::RDX;
const DIVISOR: Gpr = Gpr::R11;
const PACKETS: Gpr = Gpr::RBX;
const END: Gpr = Gpr::RBP;
const RESULT: Gpr = Gpr::R12;
/// Registers that belong to the caller.
const SAVED: [Gpr; 3] = [PACKETS, END, RESULT];
/// Bytes of an element of the packets: address, bytes, length on the wire.
const PACKET_BYTES: i32 = 16;
/// Registers of the scratch words that are named first.
const WORDS: [Gpr; 2] = [Gpr::R9, Gpr::R10];
/// Bytes below the stack pointer that a function without calls may use (System V ABI).
const RED_ZONE: i32 = 128;

/// Code, with the places of its two functions.
pub(super) struct Compiled {
    pub(super) code: Vec<u8>,
    /// Of one packet.
    pub(super) one: usize,
    /// Of many.
    pub(super) many: usize,
}

/// The code of a checked program whose loads are all of the packet.
pub(super) fn compile(program: &[Insn], long_shift: LongShift) -> Result<Compiled, OutOfReach> {
    let flow = Flow::of(program);
    let emit = |mut asm: Asm| {
        let mut starts = [0, 0];
        for (start, form) in starts.iter_mut().zip([Form::One, Form::Many]) {
            asm.align(FUNCTION_ALIGN);
            *start = asm.here() as usize;
            asm = Emitter::new(program, &flow, long_shift, asm).function(form);
        }
        (asm, starts)
    };
    let (mut first, starts) = emit(Asm::default());
    let (mut second, better) = emit(Asm::second_pass(&first));
    let (code, [one, many]) = match second.finish() {
        Ok(()) => (second.code, better),
        Err(OutOfReach) => {
            first.finish()?;
            (first.code, starts)
        }
    };
    Ok(Compiled { code, one, many })
}

/// Functions and loops begin at multiples of this.
const FUNCTION_ALIGN: usize = 64;

/// How packets come and results go.
#[derive(Clone, Copy)]
enum Form {
    /// Arguments of a function, and what it returns.
    One,
    /// Elements of arrays.
    Many,
}

/// What a program ends with.
#[derive(Clone, Copy)]
enum Returned {
    Constant(u32),
    A,
}

/// What is proven before an instruction.
#[derive(Clone, Copy)]
struct Proven {
    bytes: u32,
    bytes_at_x: u32,
}

struct Emitter<'a> {
    program: &'a [Insn],
    flow: &'a Flow,
    long_shift: LongShift,
    asm: Asm,
    form: Form,
    labels: Vec<Label>,
    reject: Label,
    /// With many packets: where the next begins, and where the function ends.
    next: Label,
    done: Label,
    /// By instruction; `None` as long as no way leads there.
    proven: Vec<Option<Proven>>,
    /// Scratch words that have a register.
    words: Vec<u32>,
}

impl<'a> Emitter<'a> {
    fn new(program: &'a [Insn], flow: &'a Flow, long_shift: LongShift, mut asm: Asm) -> Self {
        let mut words = Vec::new();
        for insn in program {
            if matches!(insn.op(), Some(Op::Store | Op::StoreX))
                && !words.contains(&insn.k)
                && words.len() < WORDS.len()
            {
                words.push(insn.k);
            }
        }
        Self {
            labels: program.iter().map(|_| asm.new_label()).collect(),
            reject: asm.new_label(),
            next: asm.new_label(),
            done: asm.new_label(),
            form: Form::One,
            proven: vec![None; program.len()],
            program,
            flow,
            long_shift,
            asm,
            words,
        }
    }

    /// Emits the whole function.
    fn function(mut self, form: Form) -> Asm {
        self.form = form;
        match form {
            Form::One => {
                if self.reads_length() {
                    self.asm.mov_rr(W::D, WIRE, TMP);
                }
                self.body();
            }
            Form::Many => {
                for saved in SAVED {
                    self.asm.push(saved);
                }
                self.asm.mov_rr(W::Q, PACKETS, Gpr::RDI);
                self.asm.mov_rr(W::Q, END, Gpr::RSI);
                self.asm.mov_rr(W::Q, RESULT, Gpr::RDX);
                self.asm.align(FUNCTION_ALIGN);
                self.asm.bind(self.next);
                self.asm.load(Bytes::B8, PACKET, Addr::base(PACKETS, 0));
                self.asm.load(Bytes::B4, LENGTH, Addr::base(PACKETS, 8));
                if self.reads_length() {
                    self.asm.load(Bytes::B4, WIRE, Addr::base(PACKETS, 12));
                }
                self.asm.alu_ri(Alu::Add, W::Q, PACKETS, PACKET_BYTES);
                self.body();
                self.asm.bind(self.done);
                for saved in SAVED.into_iter().rev() {
                    self.asm.pop(saved);
                }
                self.asm.ret();
            }
        }
        self.asm
    }

    fn reads_length(&self) -> bool {
        let mut ops = self.program.iter().map(|i| i.op());
        ops.any(|op| matches!(op, Some(Op::LoadLen | Op::LoadXLen)))
    }

    /// The program, from its first instruction to its results.
    fn body(&mut self) {
        let start = self.flow.ahead[0];
        if start.reads_a {
            self.asm.zero(A);
        }
        if start.reads_x || start.bytes_at_x > 0 {
            self.asm.zero(X);
        }
        self.reach(
            0,
            Proven {
                bytes: 0,
                bytes_at_x: 0,
            },
        );
        for (at, insn) in self.program.iter().enumerate() {
            self.asm.bind(self.labels[at]);
            if let Some(proven) = self.proven[at] {
                self.insn(at, *insn, proven);
            }
        }
        self.asm.bind(self.reject);
        self.end(Returned::Constant(0));
    }

    /// Ends a run with a result.
    fn end(&mut self, result: Returned) {
        match (self.form, result) {
            (Form::One, Returned::Constant(0)) => self.asm.zero(A),
            (Form::One, Returned::Constant(k)) => self.asm.mov_ri(A, u64::from(k)),
            (Form::One, Returned::A) => {}
            (Form::Many, Returned::Constant(k)) => {
                let to = Addr::base(RESULT, 0);
                self.asm.store_imm(Bytes::B4, to, k.cast_signed());
            }
            (Form::Many, Returned::A) => self.asm.store(Bytes::B4, Addr::base(RESULT, 0), A),
        }
        match self.form {
            Form::One => self.asm.ret(),
            Form::Many => {
                self.asm.alu_ri(Alu::Add, W::Q, RESULT, 4);
                self.asm.alu_rr(Alu::Cmp, W::Q, PACKETS, END);
                self.asm.jcc(Cond::Ne, self.next);
                self.asm.jmp(self.done);
            }
        }
    }

    /// Notes what is proven on a way to an instruction.
    fn reach(&mut self, to: usize, proven: Proven) {
        let slot = &mut self.proven[to];
        *slot = Some(match *slot {
            None => proven,
            Some(other) => Proven {
                bytes: proven.bytes.min(other.bytes),
                bytes_at_x: proven.bytes_at_x.min(other.bytes_at_x),
            },
        });
    }

    /// Where a jump to an instruction goes: what never accepts rejects at once.
    fn label(&self, to: usize) -> Label {
        if self.flow.ahead[to].bytes == NEVER {
            self.reject
        } else {
            self.labels[to]
        }
    }

    /// Rejects packets that end before what every way from here on reads.
    fn prove(&mut self, ahead: Ahead, proven: Proven) -> Proven {
        let mut proven = proven;
        if ahead.bytes > proven.bytes {
            self.asm
                .alu_ri(Alu::Cmp, W::Q, LENGTH, ahead.bytes.cast_signed());
            self.asm.jcc(Cond::B, self.reject);
            proven.bytes = ahead.bytes;
        }
        if ahead.bytes_at_x > proven.bytes_at_x {
            // X has 32 bits and the offset 31: the sum does not wrap in 64.
            let end = Addr::base(X, ahead.bytes_at_x.cast_signed());
            self.asm.lea(W::Q, TMP, end);
            self.asm.alu_rr(Alu::Cmp, W::Q, TMP, LENGTH);
            self.asm.jcc(Cond::A, self.reject);
            proven.bytes_at_x = ahead.bytes_at_x;
        }
        proven
    }

    fn insn(&mut self, at: usize, insn: Insn, proven: Proven) {
        let ahead = self.flow.ahead[at];
        if ahead.bytes == NEVER {
            // Only ways that fell through come here.
            self.end(Returned::Constant(0));
            return;
        }
        let mut proven = self.prove(ahead, proven);
        let Some(op) = insn.op() else { return };
        match op {
            Op::LoadAbs(size) => {
                self.load(size, Addr::base(PACKET, insn.k.cast_signed()), at);
            }
            Op::LoadInd(size) => {
                self.load(size, Addr::indexed(PACKET, X, 0, insn.k.cast_signed()), at);
            }
            Op::LoadXMsh => {
                let byte = Addr::base(PACKET, insn.k.cast_signed());
                self.asm.load(Bytes::B1, X, byte);
                self.asm.alu_ri(Alu::And, W::D, X, 0xf);
                self.asm.shift_ri(Shift::Shl, W::D, X, 2);
            }
            Op::LoadImm => self.asm.mov_ri(A, u64::from(insn.k)),
            Op::LoadXImm => self.asm.mov_ri(X, u64::from(insn.k)),
            Op::LoadLen => self.asm.mov_rr(W::D, A, WIRE),
            Op::LoadXLen => self.asm.mov_rr(W::D, X, WIRE),
            Op::LoadMem => self.load_word(A, insn.k),
            Op::LoadXMem => self.load_word(X, insn.k),
            Op::Store => self.store_word(insn.k, A),
            Op::StoreX => self.store_word(insn.k, X),
            Op::AluK(op) => self.alu_k(op, insn.k),
            Op::AluX(op) => self.alu_x(op),
            Op::Neg => self.asm.neg(W::D, A),
            Op::Tax => self.asm.mov_rr(W::D, X, A),
            Op::Txa => self.asm.mov_rr(W::D, A, X),
            Op::Jump => return self.jump(at, at + 1 + insn.k as usize, proven),
            Op::JumpK(relation) => return self.jump_k(at, relation, insn, proven),
            Op::JumpX(relation) => {
                match relation {
                    Relation::Set => self.asm.test_rr(W::D, A, X),
                    _ => self.asm.alu_rr(Alu::Cmp, W::D, A, X),
                }
                return self.branch(at, condition(relation), insn, proven);
            }
            Op::RetK => return self.end(Returned::Constant(insn.k)),
            Op::RetA => return self.end(Returned::A),
        }
        let writes_x = matches!(
            op,
            Op::LoadXImm | Op::LoadXLen | Op::LoadXMem | Op::LoadXMsh | Op::Tax
        );
        if writes_x {
            proven.bytes_at_x = 0;
        }
        self.reach(at + 1, proven);
    }

    /// A load of the packet; the bytes are swapped if the next instruction is to find a number.
    fn load(&mut self, size: Size, from: Addr, at: usize) {
        let bytes = match size {
            Size::B => Bytes::B1,
            Size::H => Bytes::B2,
            Size::W => Bytes::B4,
        };
        self.asm.load(bytes, A, from);
        if self.flow.order[at + 1] == Order::Number {
            match size {
                Size::B => {}
                Size::H => self.asm.swap16(A),
                Size::W => self.asm.bswap(W::D, A),
            }
        }
    }

    /// The place of a scratch word in the red zone.
    fn word(k: u32) -> Addr {
        let below = (BPF_MEMWORDS - k % BPF_MEMWORDS) * 4;
        debug_assert!(below.cast_signed() <= RED_ZONE, "the words fit");
        Addr::base(Gpr::RSP, -below.cast_signed())
    }

    fn register_of(&self, k: u32) -> Option<Gpr> {
        let at = self.words.iter().position(|w| *w == k)?;
        WORDS.get(at).copied()
    }

    fn load_word(&mut self, dst: Gpr, k: u32) {
        match self.register_of(k) {
            Some(register) => self.asm.mov_rr(W::D, dst, register),
            None => self.asm.load(Bytes::B4, dst, Self::word(k)),
        }
    }

    fn store_word(&mut self, k: u32, src: Gpr) {
        match self.register_of(k) {
            Some(register) => self.asm.mov_rr(W::D, register, src),
            None => self.asm.store(Bytes::B4, Self::word(k), src),
        }
    }

    fn alu_k(&mut self, op: AluOp, k: u32) {
        let imm = k.cast_signed();
        match op {
            AluOp::Add => self.asm.alu_ri(Alu::Add, W::D, A, imm),
            AluOp::Sub => self.asm.alu_ri(Alu::Sub, W::D, A, imm),
            AluOp::And => self.asm.alu_ri(Alu::And, W::D, A, imm),
            AluOp::Or => self.asm.alu_ri(Alu::Or, W::D, A, imm),
            AluOp::Xor => self.asm.alu_ri(Alu::Xor, W::D, A, imm),
            AluOp::Mul => self.asm.imul_rri(W::D, A, A, imm),
            AluOp::Lsh => self.shift_k(Shift::Shl, k),
            AluOp::Rsh => self.shift_k(Shift::Shr, k),
            AluOp::Div if k.is_power_of_two() => self.shift_k(Shift::Shr, k.trailing_zeros()),
            AluOp::Mod if k.is_power_of_two() => {
                self.asm.alu_ri(Alu::And, W::D, A, (k - 1).cast_signed());
            }
            AluOp::Div | AluOp::Mod => {
                self.asm.mov_ri(DIVISOR, u64::from(k));
                self.divide(op, DIVISOR);
            }
        }
    }

    fn shift_k(&mut self, shift: Shift, count: u32) {
        // The checker refuses counts of 32 and more.
        if let Ok(count @ 1..) = u8::try_from(count) {
            self.asm.shift_ri(shift, W::D, A, count);
        }
    }

    fn divide(&mut self, op: AluOp, by: Gpr) {
        self.asm.zero(TMP);
        self.asm.div(W::D, by);
        if op == AluOp::Mod {
            self.asm.mov_rr(W::D, A, TMP);
        }
    }

    fn alu_x(&mut self, op: AluOp) {
        match op {
            AluOp::Add => self.asm.alu_rr(Alu::Add, W::D, A, X),
            AluOp::Sub => self.asm.alu_rr(Alu::Sub, W::D, A, X),
            AluOp::And => self.asm.alu_rr(Alu::And, W::D, A, X),
            AluOp::Or => self.asm.alu_rr(Alu::Or, W::D, A, X),
            AluOp::Xor => self.asm.alu_rr(Alu::Xor, W::D, A, X),
            AluOp::Mul => self.asm.imul_rr(W::D, A, X),
            AluOp::Lsh => self.shift_x(Shift::Shl),
            AluOp::Rsh => self.shift_x(Shift::Shr),
            AluOp::Div | AluOp::Mod => {
                self.asm.test_rr(W::D, X, X);
                self.asm.jcc(Cond::E, self.reject);
                self.divide(op, X);
            }
        }
    }

    /// A shift by X. The processor takes the count modulo 32.
    fn shift_x(&mut self, shift: Shift) {
        self.asm.shift_rcl(shift, W::D, A);
        if self.long_shift == LongShift::Zero {
            self.asm.zero(TMP);
            self.asm.alu_ri(Alu::Cmp, W::D, X, 31);
            self.asm.cmov(Cond::A, W::D, A, TMP);
        }
    }

    fn jump(&mut self, at: usize, to: usize, proven: Proven) {
        if to != at + 1 {
            let label = self.label(to);
            self.asm.jmp(label);
        }
        self.reach(to, proven);
    }

    fn jump_k(&mut self, at: usize, relation: Relation, insn: Insn, proven: Proven) {
        let k = match self.flow.order[at] {
            Order::Packet(Size::W) => insn.k.swap_bytes(),
            // No 16 bits are equal to what has more; more bits of a mask have no partner.
            Order::Packet(Size::H) if relation == Relation::Eq && insn.k > 0xffff => insn.k,
            Order::Packet(Size::H) => u32::from((insn.k as u16).swap_bytes()),
            _ => insn.k,
        };
        match (relation, k) {
            (Relation::Set, _) => self.asm.test_ri(W::D, A, k.cast_signed()),
            (Relation::Eq, 0) => self.asm.test_rr(W::D, A, A),
            _ => self.asm.alu_ri(Alu::Cmp, W::D, A, k.cast_signed()),
        }
        self.branch(at, condition(relation), insn, proven);
    }

    /// Two ways on, of which one may be the next instruction.
    fn branch(&mut self, at: usize, cond: Cond, insn: Insn, proven: Proven) {
        let (yes, no) = targets(at, insn);
        let (to_yes, to_no) = (self.label(yes), self.label(no));
        if yes == no {
            if yes != at + 1 {
                self.asm.jmp(to_yes);
            }
        } else if yes == at + 1 {
            self.asm.jcc(cond.not(), to_no);
        } else {
            self.asm.jcc(cond, to_yes);
            if no != at + 1 {
                self.asm.jmp(to_no);
            }
        }
        self.reach(yes, proven);
        self.reach(no, proven);
    }
}

/// The condition of the flags for a comparison.
fn condition(relation: Relation) -> Cond {
    match relation {
        Relation::Eq => Cond::E,
        Relation::Gt => Cond::A,
        Relation::Ge => Cond::Ae,
        Relation::Set => Cond::Ne,
    }
}
