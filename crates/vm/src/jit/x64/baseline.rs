//! The template compiler: each op becomes a fixed sequence, each BPF register lives in one machine register.
//!
//! Compiles in one pass. Its results are the reference for the optimising compiler's calling convention, which is the same:
//! every function has the C signature `(env, r1…r5) → r0`, so that functions of either tier, helpers and callbacks call each
//! other without thunks.

use super::asm::{Addr, Alu, Asm, Bytes, Cond, Gpr, Label, Shift, W};
use super::frame::Prologue;
mod atomic;
mod blinding;
mod divide;
mod limit;
mod registers;

use crate::jit::image::{CodeImage, Fault, FuncCode, Line, Runtime, Symbol, Tier};
use crate::jit::layout::{
    ENV_ARENA_BASE, ENV_ARENA_USER_BASE, ENV_PROGRAM, ENV_SECTIONS, ENV_STOP, ENV_THROWN,
    ENV_THROWN_VALUE, TAIL_CALL_FAILED,
};
use crate::jit::source::Source;
use crate::lowered::{ArenaView, Func, Mem, Op, OpIdx, Space};
use blinding::Blinding;

use registers::{callee_saved, needs_own_words};
use skep_abi::limits::BPF_MAX_LOOPS;
use skep_isa::{AluOp, EndOp, Extend, JmpOp, Reg, Size, Src, Width};

/// Machine register of each BPF register. `r1`–`r5` are where C functions take their second to sixth argument.
const MAP: [Gpr; Reg::COUNT] = [
    Gpr::RAX,
    Gpr::RSI,
    Gpr::RDX,
    Gpr::RCX,
    Gpr::R8,
    Gpr::R9,
    Gpr::RBX,
    Gpr::R13,
    Gpr::R14,
    Gpr::R15,
    Gpr::RBP,
];
/// Holds the run environment.
const ENV: Gpr = Gpr::R12;
const TMP: Gpr = Gpr::R11;
const TMP2: Gpr = Gpr::R10;
const TMP3: Gpr = Gpr::RDI;

// Own words at the stack pointer, below the BPF frame.
const BUDGET: i32 = 0;
const PROGRAM: i32 = 8;
const CONTEXT: i32 = 16;
const OWN_BYTES: u32 = 24;

pub(super) const fn reg(r: Reg) -> Gpr {
    MAP[r.index()]
}

pub(super) const fn width(w: Width) -> W {
    match w {
        Width::W32 => W::D,
        Width::W64 => W::Q,
    }
}

pub(super) const fn bytes(size: Size) -> Bytes {
    match size {
        Size::B => Bytes::B1,
        Size::H => Bytes::B2,
        Size::W => Bytes::B4,
        Size::DW => Bytes::B8,
    }
}

/// Width of an access of 4 or 8 bytes.
pub(super) const fn access_width(size: Size) -> W {
    match size {
        Size::DW => W::Q,
        _ => W::D,
    }
}

/// The hardware condition of a comparison; `Set` tests bits and is "not equal" after `test`.
pub(super) const fn cond(op: JmpOp) -> Cond {
    match op {
        JmpOp::Eq => Cond::E,
        JmpOp::Ne | JmpOp::Set => Cond::Ne,
        JmpOp::Gt => Cond::A,
        JmpOp::Ge => Cond::Ae,
        JmpOp::Lt => Cond::B,
        JmpOp::Le => Cond::Be,
        JmpOp::Sgt => Cond::G,
        JmpOp::Sge => Cond::Ge,
        JmpOp::Slt => Cond::L,
        JmpOp::Sle => Cond::Le,
    }
}

/// Compiles a program with templates. With a `seed`, immediates of the program are blinded by numbers made from it.
pub(crate) fn compile(src: Source<'_>, seed: Option<u64>) -> CodeImage {
    let mut a = Asm::default();
    a.code.reserve(src.ops.len() * 8 + 64);
    let func_labels = src.funcs.iter().map(|_| a.new_label()).collect();
    let op_labels = src.ops.iter().map(|_| a.new_label()).collect();
    let mut c = Baseline {
        src,
        a,
        func_labels,
        op_labels,
        lines: Vec::with_capacity(src.ops.len()),
        faults: Vec::new(),
        pads: Vec::new(),
        frame: Frame::default(),
        blinding: seed.map(Blinding),
    };
    let mut funcs = Vec::with_capacity(src.funcs.len());
    for (i, f) in src.funcs.iter().enumerate() {
        funcs.push(c.function(i, f));
    }
    let finished = c.a.finish();
    assert!(finished.is_ok(), "forward jumps of templates are long");
    c.faults.sort_by_key(|f| f.at);
    CodeImage {
        code: c.a.code,
        relocs: c.a.relocs,
        funcs,
        lines: c.lines,
        faults: c.faults,
        tier: Tier::Baseline,
    }
}

/// What the prologue of the current function did, and where it ends.
struct Frame {
    prologue: Prologue,
    index: usize,
    exit: Label,
    /// Returns early: the stop flag is set, or a value was thrown.
    abandon: Label,
    tail_calls: bool,
}

impl Default for Frame {
    fn default() -> Self {
        Self {
            prologue: Prologue::default(),
            index: 0,
            exit: Label(0),
            abandon: Label(0),
            tail_calls: false,
        }
    }
}

/// A landing pad: clears `dst` after a fault at a load and continues behind it.
struct Pad {
    at: u32,
    dst: Option<Gpr>,
    back: Label,
}

struct Baseline<'a> {
    src: Source<'a>,
    a: Asm,
    func_labels: Vec<Label>,
    op_labels: Vec<Label>,
    lines: Vec<Line>,
    faults: Vec<Fault>,
    pads: Vec<Pad>,
    frame: Frame,
    blinding: Option<Blinding>,
}

impl Baseline<'_> {
    fn function(&mut self, index: usize, f: &Func) -> FuncCode {
        self.a.align(16);
        let start = self.a.here();
        self.a.bind(self.func_labels[index]);
        let ops = &self.src.ops[f.start as usize..f.end as usize];
        let catches = index == 0 && self.src.throws;
        let saved = callee_saved(ops, catches);
        let own = if needs_own_words(self.src, ops) {
            OWN_BYTES
        } else {
            0
        };
        let uses_frame = saved.contains(&Gpr::RBP);
        self.frame = Frame {
            prologue: Prologue::emit(&mut self.a, &saved, f.stack_bytes + own, true),
            index,
            exit: self.a.new_label(),
            abandon: self.a.new_label(),
            tail_calls: own > 0 && ops.iter().any(|op| self.restores_program(op)),
        };
        if saved.contains(&ENV) {
            self.a.mov_rr(W::Q, ENV, Gpr::RDI);
        }
        if uses_frame {
            let top = self.frame.prologue.frame_bytes.cast_signed();
            self.a.lea(W::Q, Gpr::RBP, Addr::base(Gpr::RSP, top));
        }
        self.enter(f);
        for i in f.start..f.end {
            self.lines.push(Line {
                code: self.a.here(),
                op: i,
            });
            self.a.bind(self.op_labels[i as usize]);
            let last = i + 1 == f.end;
            self.op(i, self.src.ops[i as usize], last);
        }
        self.leave(index);
        self.landing_pads();
        FuncCode {
            func: index as u32,
            start,
            end: self.a.here(),
            unwind: self.frame.prologue.unwind.clone(),
        }
    }

    fn restores_program(&self, op: &Op) -> bool {
        matches!(op, Op::CallFunc { func } if self.src.may_tail_call(*func))
    }

    /// Initialises what the function keeps beside its registers.
    fn enter(&mut self, f: &Func) {
        if f.has_may_goto {
            let budget = Addr::base(Gpr::RSP, BUDGET);
            self.a
                .store_imm(Bytes::B8, budget, BPF_MAX_LOOPS.cast_signed());
        }
        if self.frame.tail_calls {
            self.a.load(Bytes::B8, TMP, Addr::base(ENV, ENV_PROGRAM));
            self.a.store(Bytes::B8, Addr::base(Gpr::RSP, PROGRAM), TMP);
        }
    }

    fn leave(&mut self, index: usize) {
        self.a.bind(self.frame.abandon);
        if index == 0 && self.src.throws {
            self.catch();
        }
        self.a.bind(self.frame.exit);
        self.frame.prologue.restore(&mut self.a);
        self.a.ret();
    }

    /// The entry function turns a thrown value into the result.
    fn catch(&mut self) {
        let thrown = Addr::base(ENV, ENV_THROWN);
        self.a.alu_mi(Alu::Cmp, W::D, thrown, 0);
        self.a.jcc(Cond::E, self.frame.exit);
        self.a.store_imm(Bytes::B4, thrown, 0);
        let value = Addr::base(ENV, ENV_THROWN_VALUE);
        match self.src.exception_callback {
            Some(f) => {
                self.a.load(Bytes::B8, Gpr::RSI, value);
                self.a.mov_rr(W::Q, Gpr::RDI, ENV);
                self.a.call_label(self.func_labels[f as usize]);
            }
            None => self.a.load(Bytes::B8, Gpr::RAX, value),
        }
    }

    fn landing_pads(&mut self) {
        for p in std::mem::take(&mut self.pads) {
            self.faults.push(Fault {
                at: p.at,
                resume: self.a.here(),
            });
            if let Some(dst) = p.dst {
                self.a.zero(dst);
            }
            self.a.jmp(p.back);
        }
    }

    fn op(&mut self, at: OpIdx, op: Op, last: bool) {
        match op {
            Op::Alu {
                width: w,
                op,
                dst,
                src,
            } => self.alu(op, width(w), reg(dst), src),
            Op::MovePointer {
                op,
                dst,
                src,
                limit,
            } => self.move_pointer(op, reg(dst), reg(src), limit),
            Op::Neg { width: w, dst } => self.a.neg(width(w), reg(dst)),
            Op::Mov { width: w, dst, src } => self.a.mov_rr(width(w), reg(dst), reg(src)),
            Op::Movsx {
                width: w,
                from,
                dst,
                src,
            } => {
                self.a.movsx_rr(bytes(from), width(w), reg(dst), reg(src));
            }
            Op::End { op, size, dst } => self.end(op, size, reg(dst)),
            Op::Const { dst, value: 0 } => self.a.zero(reg(dst)),
            Op::Const { dst, value } => self.constant(reg(dst), value),
            Op::MapAddr { dst, map } => self.a.mov_symbol(reg(dst), Symbol::Map(map)),
            Op::MapValueAddr { dst, map, offset } => {
                self.a
                    .mov_symbol(reg(dst), Symbol::MapValue { map, offset });
            }
            Op::FuncAddr { dst, func } => self.func_addr(reg(dst), func),
            Op::ArenaCast { view, dst, src } => self.arena_cast(view, reg(dst), reg(src)),
            Op::Load {
                size,
                extend,
                dst,
                mem,
            } => self.load(size, extend, reg(dst), mem),
            Op::LoadAcquire { size, dst, mem } => self.load_acquire(size, reg(dst), mem),
            Op::Store { size, src, mem } => self.store(size, src, mem),
            Op::StoreRelease { size, src, mem } => self.store(size, Src::Reg(src), mem),
            Op::Atomic { size, op, src, mem } => self.atomic(size, op, reg(src), mem),
            Op::LoadPacket { size, index, imm } => self.load_packet(size, index, imm),
            Op::Jump { target } => self.jump(at, target),
            Op::JumpIf {
                width: w,
                op,
                dst,
                src,
                target,
            } => {
                self.jump_if(at, (width(w), op), reg(dst), src, target);
            }
            Op::MayGoto { target } => self.may_goto(target),
            Op::Call { callee } => self.call(callee),
            Op::CallFunc { func } => self.call_func(func),
            Op::TailCall => self.tail_call(),
            Op::Throw => self.throw(),
            Op::Exit if last => {}
            Op::Exit => self.a.jmp(self.frame.exit),
            Op::Barrier => self.a.lfence(),
            Op::Unreachable => self.a.ud2(),
        }
        if last {
            self.last(op);
        }
    }

    fn func_addr(&mut self, dst: Gpr, func: u32) {
        self.a.lea_label(dst, self.func_labels[func as usize]);
    }

    /// Ends a function behind its last op.
    fn last(&mut self, op: Op) {
        if !matches!(op, Op::Exit) {
            // Never reached: the last op of a function does not fall through.
            self.a.ud2();
        } else if self.frame.index == 0 && self.src.throws {
            self.a.jmp(self.frame.exit);
        }
    }

    fn alu(&mut self, op: AluOp, w: W, dst: Gpr, src: Src) {
        let simple = match op {
            AluOp::Add => Alu::Add,
            AluOp::Sub => Alu::Sub,
            AluOp::Or => Alu::Or,
            AluOp::And => Alu::And,
            AluOp::Xor => Alu::Xor,
            AluOp::Mul => return self.mul(w, dst, src),
            AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod => {
                return self.divide(op, w, dst, src);
            }
            AluOp::Lsh => return self.shift(Shift::Shl, w, dst, src),
            AluOp::Rsh => return self.shift(Shift::Shr, w, dst, src),
            AluOp::Arsh => return self.shift(Shift::Sar, w, dst, src),
        };
        match src {
            Src::Reg(s) => self.a.alu_rr(simple, w, dst, reg(s)),
            Src::Imm(i) => match self.hidden(w, i) {
                Some(s) => self.a.alu_rr(simple, w, dst, s),
                None => self.a.alu_ri(simple, w, dst, i),
            },
        }
    }

    fn mul(&mut self, w: W, dst: Gpr, src: Src) {
        match src {
            Src::Reg(s) => self.a.imul_rr(w, dst, reg(s)),
            Src::Imm(i) => match self.hidden(w, i) {
                Some(s) => self.a.imul_rr(w, dst, s),
                None => self.a.imul_rri(w, dst, dst, i),
            },
        }
    }

    fn shift(&mut self, op: Shift, w: W, dst: Gpr, src: Src) {
        let mask = if w == W::Q { 63 } else { 31 };
        match src {
            Src::Imm(i) => match i.to_le_bytes()[0] & mask {
                0 => self.a.mov_rr(w, dst, dst),
                n => self.a.shift_ri(op, w, dst, n),
            },
            Src::Reg(s) if reg(s) == Gpr::RCX => {
                // `rcx op= cl` included.
                self.a.shift_rcl(op, w, dst);
            }
            Src::Reg(s) => {
                self.a.mov_rr(W::Q, TMP, Gpr::RCX);
                self.a.mov_rr(W::Q, TMP2, dst);
                self.a.mov_rr(W::D, Gpr::RCX, reg(s));
                self.a.shift_rcl(op, w, TMP2);
                self.a.mov_rr(W::Q, Gpr::RCX, TMP);
                self.a.mov_rr(W::Q, dst, TMP2);
            }
        }
    }

    fn end(&mut self, op: EndOp, size: Size, dst: Gpr) {
        let swap = op != EndOp::ToLe;
        match (size, swap) {
            (Size::H, true) => {
                self.a.swap16(dst);
                self.a.movzx(Bytes::B2, dst, dst);
            }
            (Size::W, true) => self.a.bswap(W::D, dst),
            (Size::DW, true) => self.a.bswap(W::Q, dst),
            (Size::DW, false) => {}
            (_, false) => self.a.movzx(bytes(size), dst, dst),
            (Size::B, true) => {}
        }
    }

    fn arena_cast(&mut self, view: ArenaView, dst: Gpr, src: Gpr) {
        self.a.mov_rr(W::D, dst, src);
        if view == ArenaView::User {
            let done = self.a.new_label();
            self.a.test_rr(W::D, dst, dst);
            self.a.jcc(Cond::E, done);
            let base = Addr::base(ENV, ENV_ARENA_USER_BASE);
            self.a.alu_rm(Alu::Or, W::Q, dst, base);
            self.a.bind(done);
        }
    }

    /// The machine address of a memory operand; arena addresses go through `TMP2`.
    fn addr(&mut self, mem: Mem) -> Addr {
        if mem.space == Space::Arena {
            self.a.mov_rr(W::D, TMP2, reg(mem.base));
            let base = Addr::base(ENV, ENV_ARENA_BASE);
            self.a.alu_rm(Alu::Add, W::Q, TMP2, base);
            return Addr::base(TMP2, mem.offset);
        }
        Addr::base(reg(mem.base), mem.offset)
    }

    /// Notes that the access just about to be emitted may fault; [`Self::faulted`] must follow it.
    fn may_fault(&mut self, mem: Mem, dst: Option<Gpr>) -> Option<Label> {
        if mem.space == Space::Plain {
            return None;
        }
        let back = self.a.new_label();
        self.pads.push(Pad {
            at: self.a.here(),
            dst,
            back,
        });
        Some(back)
    }

    fn faulted(&mut self, back: Option<Label>) {
        if let Some(back) = back {
            self.a.bind(back);
        }
    }

    fn load(&mut self, size: Size, extend: Extend, dst: Gpr, mem: Mem) {
        let addr = self.addr(mem);
        let back = self.may_fault(mem, Some(dst));
        match extend {
            Extend::Zero => self.a.load(bytes(size), dst, addr),
            Extend::Sign => self.a.load_signed(bytes(size), W::Q, dst, addr),
        }
        self.faulted(back);
    }

    /// As in the kernel, `dst` stays if there is no memory, but for bits that the proof knows nothing of.
    fn load_acquire(&mut self, size: Size, dst: Gpr, mem: Mem) {
        let addr = self.addr(mem);
        if mem.space != Space::Plain && size != Size::DW {
            self.a.movzx(bytes(size), dst, dst);
        }
        let back = self.may_fault(mem, None);
        self.a.load(bytes(size), dst, addr);
        self.faulted(back);
    }

    fn store(&mut self, size: Size, src: Src, mem: Mem) {
        let addr = self.addr(mem);
        let hidden = match src {
            Src::Reg(s) => Some(reg(s)),
            Src::Imm(i) => self.hidden(W::Q, i),
        };
        let back = self.may_fault(mem, None);
        match (hidden, src) {
            (Some(s), _) => self.a.store(bytes(size), addr, s),
            (None, Src::Imm(i)) => self.a.store_imm(bytes(size), addr, i),
            (None, Src::Reg(_)) => {}
        }
        self.faulted(back);
    }

    fn load_packet(&mut self, size: Size, index: Option<Reg>, imm: i32) {
        match index {
            Some(r) => {
                self.a.mov_rr(W::D, Gpr::RDX, reg(r));
                match self.hidden(W::D, imm) {
                    Some(s) => self.a.alu_rr(Alu::Add, W::D, Gpr::RDX, s),
                    None => self.a.alu_ri(Alu::Add, W::D, Gpr::RDX, imm),
                }
                self.a.movsx_rr(Bytes::B4, W::Q, Gpr::RDX, Gpr::RDX);
            }
            None => self.constant(Gpr::RDX, i64::from(imm).cast_unsigned()),
        }
        self.a.mov_rr(W::Q, Gpr::RSI, reg(Reg::R6));
        self.a.mov_ri(Gpr::RCX, u64::from(size.bytes()));
        self.call_symbol(Symbol::Runtime(Runtime::LoadPacket));
        let inside = self.a.new_label();
        self.a.test_rr(W::Q, Gpr::RAX, Gpr::RAX);
        self.a.jcc(Cond::Ns, inside);
        self.a.zero(Gpr::RAX);
        self.a.jmp(self.frame.exit);
        self.a.bind(inside);
    }

    fn jump(&mut self, at: OpIdx, target: OpIdx) {
        if self.src.polls(at, target) {
            self.poll();
        }
        self.a.jmp(self.op_labels[target as usize]);
    }

    fn jump_if(&mut self, at: OpIdx, (w, op): (W, JmpOp), dst: Gpr, src: Src, target: OpIdx) {
        if self.src.polls(at, target) {
            self.poll();
        }
        let hidden = match src {
            Src::Imm(i) if i != 0 => self.hidden(w, i),
            _ => None,
        };
        match (op, src) {
            (JmpOp::Set, Src::Imm(_)) if hidden.is_some() => self.a.test_rr(w, dst, TMP),
            (_, Src::Imm(_)) if hidden.is_some() => self.a.alu_rr(Alu::Cmp, w, dst, TMP),
            (JmpOp::Set, Src::Reg(s)) => self.a.test_rr(w, dst, reg(s)),
            (JmpOp::Set, Src::Imm(i)) => self.a.test_ri(w, dst, i),
            (_, Src::Imm(0)) => self.a.test_rr(w, dst, dst),
            (_, Src::Imm(i)) => self.a.alu_ri(Alu::Cmp, w, dst, i),
            (_, Src::Reg(s)) => self.a.alu_rr(Alu::Cmp, w, dst, reg(s)),
        }
        self.a.jcc(cond(op), self.op_labels[target as usize]);
    }

    /// Leaves the function if somebody asked the run to stop, unless it holds a lock.
    fn poll(&mut self) {
        self.a.load(Bytes::B8, TMP, Addr::base(ENV, ENV_STOP));
        self.a.alu_mi(Alu::Cmp, W::D, Addr::base(TMP, 0), 0);
        let go_on = self.a.new_label();
        self.a.jcc(Cond::E, go_on);
        self.a
            .alu_mi(Alu::Cmp, W::D, Addr::base(ENV, ENV_SECTIONS), 0);
        self.a.jcc(Cond::E, self.frame.abandon);
        self.a.bind(go_on);
    }

    fn may_goto(&mut self, target: OpIdx) {
        self.poll();
        let budget = Addr::base(Gpr::RSP, BUDGET);
        self.a.alu_mi(Alu::Cmp, W::Q, budget, 0);
        self.a.jcc(Cond::E, self.op_labels[target as usize]);
        self.a.alu_mi(Alu::Sub, W::Q, budget, 1);
    }

    fn call_symbol(&mut self, symbol: Symbol) {
        self.a.mov_rr(W::Q, Gpr::RDI, ENV);
        self.a.mov_symbol(Gpr::RAX, symbol);
        self.a.call_r(Gpr::RAX);
    }

    fn call(&mut self, callee: u32) {
        self.call_symbol(Symbol::Callee(callee));
        if self.src.throws && self.src.callees[callee as usize].calls_back {
            self.test_thrown();
        }
    }

    fn call_func(&mut self, func: u32) {
        self.a.mov_rr(W::Q, Gpr::RDI, ENV);
        self.a.call_label(self.func_labels[func as usize]);
        if self.src.may_tail_call(func) {
            self.a
                .load(Bytes::B8, Gpr::RSI, Addr::base(Gpr::RSP, PROGRAM));
            self.a.mov_rr(W::Q, Gpr::RDX, Gpr::RAX);
            self.call_symbol(Symbol::Runtime(Runtime::MakeCurrent));
        }
        if self.src.throws {
            self.test_thrown();
        }
    }

    fn test_thrown(&mut self) {
        self.a
            .alu_mi(Alu::Cmp, W::D, Addr::base(ENV, ENV_THROWN), 0);
        self.a.jcc(Cond::Ne, self.frame.abandon);
    }

    fn throw(&mut self) {
        let value = Addr::base(ENV, ENV_THROWN_VALUE);
        self.a.store(Bytes::B8, value, reg(Reg::R1));
        self.a.store_imm(Bytes::B4, Addr::base(ENV, ENV_THROWN), 1);
        self.a.jmp(self.frame.abandon);
    }

    fn tail_call(&mut self) {
        let context = Addr::base(Gpr::RSP, CONTEXT);
        self.a.store(Bytes::B8, context, reg(Reg::R1));
        self.a.mov_rr(W::Q, Gpr::RSI, reg(Reg::R2));
        self.a.mov_rr(W::D, Gpr::RDX, reg(Reg::R3));
        self.call_symbol(Symbol::Runtime(Runtime::TailCallEntry));
        let failed = self.a.new_label();
        self.a.test_rr(W::Q, Gpr::RAX, Gpr::RAX);
        self.a.jcc(Cond::E, failed);
        self.a.load(Bytes::B8, Gpr::RSI, context);
        self.a.mov_rr(W::Q, Gpr::RDI, ENV);
        self.frame.prologue.restore(&mut self.a);
        self.a.jmp_r(Gpr::RAX);
        self.a.bind(failed);
        self.a.mov_ri(Gpr::RAX, TAIL_CALL_FAILED);
    }
}
