//! Machine instructions with registers to bytes.

use super::asm::{Addr, Alu, Asm, Bytes, Cond, Gpr, Label, OutOfReach, Shift, W};
use super::frame::Prologue;
use super::mach::{Base, Callee, MFunc, MInst, Mem, Operand, VReg};
use super::{Cpu, vector};
use crate::jit::image::{Fault, FuncCode, Line};
use crate::jit::ir::Block;
use crate::jit::layout::{ENV_SECTIONS, ENV_STOP, ENV_THROWN, ENV_THROWN_VALUE};

/// A function ready to be emitted.
pub(super) struct Ready {
    pub(super) func: u32,
    pub(super) code: MFunc,
    pub(super) colours: Vec<Gpr>,
}

/// What the emission of a program yields besides the code.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) funcs: Vec<FuncCode>,
    pub(super) lines: Vec<Line>,
    pub(super) faults: Vec<Fault>,
}

/// What all functions of a program share.
#[derive(Clone, Copy)]
pub(super) struct Shared {
    pub(super) cpu: Cpu,
    pub(super) throws: bool,
    pub(super) exception_callback: Option<u32>,
}

/// Registers that a function must preserve.
const CALLEE_SAVED: [Gpr; 6] = [Gpr::RBX, Gpr::RBP, Gpr::R12, Gpr::R13, Gpr::R14, Gpr::R15];
/// Alignment of functions.
const FUNC_ALIGN: usize = 16;

/// Emits all functions; jumps are shortened in a second pass.
pub(super) fn emit(funcs: &[Ready], count: usize, shared: Shared) -> (Asm, Tables) {
    let long = pass(funcs, count, shared, Asm::default());
    let short = Asm::second_pass(&long.0);
    match pass(funcs, count, shared, short) {
        (asm, tables, Ok(())) => (asm, tables),
        _ => (long.0, long.1),
    }
}

fn pass(
    funcs: &[Ready],
    count: usize,
    shared: Shared,
    asm: Asm,
) -> (Asm, Tables, Result<(), OutOfReach>) {
    let mut asm = asm;
    let labels: Vec<Label> = (0..count).map(|_| asm.new_label()).collect();
    let mut tables = Tables::default();
    for f in funcs {
        let mut e = Emitter::new(f, shared, &labels, &mut asm, &mut tables);
        e.function();
    }
    tables.faults.sort_by_key(|f| f.at);
    let finished = asm.finish();
    (asm, tables, finished)
}

/// Code that is rarely needed, placed behind the function.
enum Slow {
    /// The stop flag is set: leaves unless a lock is held.
    Stop {
        at: Label,
        back: Label,
        env: Gpr,
    },
    Thrown {
        at: Label,
        env: Gpr,
    },
    /// Division by zero or, signed, by -1.
    Division {
        at: Label,
        back: Label,
        w: W,
        signed: bool,
        remainder: bool,
        src: Gpr,
    },
    /// A fault at `access`: clears `dst` and goes on.
    Fault {
        access: u32,
        back: Label,
        dst: Option<Gpr>,
    },
}

pub(super) struct Emitter<'a> {
    f: &'a Ready,
    shared: Shared,
    funcs: &'a [Label],
    pub(super) a: &'a mut Asm,
    tables: &'a mut Tables,
    blocks: Vec<Label>,
    prologue: Prologue,
    /// Where functions that return early go.
    abandon: Label,
    abandons: bool,
    slow: Vec<Slow>,
    /// The block that each jump table ends, and where the table is.
    jump_tables: Vec<(Block, Label)>,
    /// Instructions of copies of ways to jump tables.
    pub(super) copied: usize,
}

impl<'a> Emitter<'a> {
    fn new(
        f: &'a Ready,
        shared: Shared,
        funcs: &'a [Label],
        a: &'a mut Asm,
        tables: &'a mut Tables,
    ) -> Self {
        let blocks = f.code.blocks.iter().map(|_| a.new_label()).collect();
        let abandon = a.new_label();
        Self {
            f,
            shared,
            funcs,
            a,
            tables,
            blocks,
            prologue: Prologue::default(),
            abandon,
            abandons: false,
            slow: Vec::new(),
            jump_tables: Vec::new(),
            copied: 0,
        }
    }

    fn is_entry(&self) -> bool {
        self.f.func == 0
    }

    fn r(&self, v: VReg) -> Gpr {
        self.f.colours[v.index()]
    }

    fn addr(&self, m: Mem) -> Addr {
        let spills = (self.f.code.spill_slots * 8).cast_signed();
        let (base, disp) = match m.base {
            Base::Reg(r) => (self.r(r), m.disp),
            Base::Frame => (Gpr::RSP, m.disp + spills),
            Base::Spill(n) => (Gpr::RSP, m.disp + (n * 8).cast_signed()),
        };
        match m.index {
            Some((i, shift)) => Addr::indexed(base, self.r(i), shift, disp),
            None => Addr::base(base, disp),
        }
    }

    fn function(&mut self) {
        self.a.align(FUNC_ALIGN);
        let start = self.a.here();
        self.a.bind(self.funcs[self.f.func as usize]);
        self.enter();
        let code = &self.f.code;
        let order: Vec<Block> = code
            .order
            .iter()
            .copied()
            .filter(|b| *b == Block::ENTRY || !self.is_empty(*b))
            .collect();
        for (i, &b) in order.iter().enumerate() {
            if let Some(align) = code.blocks[b.index()].align {
                self.a.align(align);
            }
            self.a.bind(self.blocks[b.index()]);
            self.block(b, order.get(i + 1).copied());
        }
        self.slow_paths();
        if self.abandons {
            self.leave_early();
        }
        self.emit_tables();
        self.tables.funcs.push(FuncCode {
            func: self.f.func,
            start,
            end: self.a.here(),
            unwind: self.prologue.unwind.clone(),
        });
    }

    fn enter(&mut self) {
        let mut used = [false; 16];
        let mut calls = self.is_entry() && self.shared.throws;
        let mut frame = false;
        for b in &self.f.code.blocks {
            for inst in &b.insts {
                inst.each_reg(|r, _| used[usize::from(self.r(r).0)] = true);
                calls |= matches!(inst, MInst::Call { .. });
                frame |= uses_frame(inst);
            }
        }
        let saved: Vec<Gpr> = CALLEE_SAVED
            .into_iter()
            .filter(|r| used[usize::from(r.0)])
            .collect();
        let bytes = self.f.code.spill_slots * 8 + if frame { self.f.code.frame_bytes } else { 0 };
        self.prologue = Prologue::emit(self.a, &saved, bytes, calls);
    }

    /// True if a block does nothing but go on.
    fn is_empty(&self, b: Block) -> bool {
        let (last, rest) = match self.f.code.blocks[b.index()].insts.split_last() {
            Some(parts) => parts,
            None => return false,
        };
        matches!(last, MInst::Jmp { .. }) && rest.iter().all(|i| self.is_no_op(i))
    }

    fn is_no_op(&self, inst: &MInst) -> bool {
        matches!(inst, MInst::Mov { dst, src } if self.r(*dst) == self.r(*src))
    }

    /// Where a jump to `b` ends up.
    pub(super) fn target(&self, mut b: Block) -> Block {
        for _ in 0..self.f.code.blocks.len() {
            match self.f.code.blocks[b.index()].insts.last() {
                Some(MInst::Jmp { target }) if b != Block::ENTRY && self.is_empty(b) => b = *target,
                _ => break,
            }
        }
        b
    }

    pub(super) fn code_of(&self, b: Block) -> &[MInst] {
        &self.f.code.blocks[b.index()].insts
    }

    pub(super) fn block(&mut self, b: Block, next: Option<Block>) {
        let data = &self.f.code.blocks[b.index()];
        let mut i = 0;
        while let Some(inst) = data.insts.get(i) {
            self.line(data.origin[i]);
            let rest = &data.insts[i + 1..];
            i += 1;
            if self.is_no_op(inst) {
                continue;
            }
            match (inst, rest) {
                (MInst::Jcc { cond, target }, [MInst::Jmp { target: other }]) => {
                    self.branch(*cond, *target, *other, next);
                    return;
                }
                (MInst::Jmp { target }, _) => self.jump(*target, next),
                (MInst::Imm { dst, value: 0 }, _) if !flags_live(rest) => {
                    let dst = self.r(*dst);
                    self.a.zero(dst);
                }
                (MInst::Mov { dst, src }, [second, ..]) if self.fused(*dst, *src, second) => i += 1,
                _ => self.inst(inst),
            }
        }
    }

    fn line(&mut self, op: u32) {
        let code = self.a.here();
        if self.tables.lines.last().is_none_or(|l| l.op != op) {
            self.tables.lines.push(Line { code, op });
        }
    }

    fn jump(&mut self, target: Block, next: Option<Block>) {
        let target = self.target(target);
        if next != Some(target) && !self.go_on_by_table(target) {
            self.a.jmp(self.blocks[target.index()]);
        }
    }

    fn branch(&mut self, cond: Cond, then: Block, other: Block, next: Option<Block>) {
        let (then, other) = (self.target(then), self.target(other));
        if next == Some(then) {
            self.a.jcc(cond.not(), self.blocks[other.index()]);
        } else {
            self.a.jcc(cond, self.blocks[then.index()]);
            self.jump(other, next);
        }
    }

    /// A copy and the operation on it as one instruction with three operands.
    fn fused(&mut self, dst: VReg, src: VReg, second: &MInst) -> bool {
        let (d, s) = (self.r(dst), self.r(src));
        match *second {
            MInst::Alu {
                op: Alu::Add,
                w,
                dst: d2,
                src: Operand::Imm(imm),
            } if self.r(d2) == d => {
                self.a.lea(w, d, Addr::base(s, imm));
            }
            MInst::Alu {
                op: Alu::Add,
                w,
                dst: d2,
                src: Operand::Reg(r),
            } if self.r(d2) == d => {
                let r = if self.r(r) == d { s } else { self.r(r) };
                self.a.lea(w, d, Addr::indexed(s, r, 0, 0));
            }
            MInst::ShiftImm {
                op: Shift::Rol,
                w,
                dst: d2,
                count,
            } if self.r(d2) == d && self.shared.cpu.bmi2 => {
                let bits = if w == W::Q { 64 } else { 32 };
                self.a.rorx(w, d, s, bits - count);
            }
            _ => return false,
        }
        true
    }

    fn may_fault(&mut self, may: bool, dst: Option<Gpr>) -> Option<Label> {
        if !may {
            return None;
        }
        let back = self.a.new_label();
        let access = self.a.here();
        self.slow.push(Slow::Fault { access, back, dst });
        Some(back)
    }

    fn faulted(&mut self, back: Option<Label>) {
        if let Some(back) = back {
            self.a.bind(back);
        }
    }

    #[rustfmt::skip] // one instruction an arm
    fn inst(&mut self, inst: &MInst) {
        match *inst {
            MInst::Mov { dst, src } => self.a.mov_rr(W::Q, self.r(dst), self.r(src)),
            MInst::Imm { dst, value } => self.a.mov_ri(self.r(dst), value),
            MInst::Symbol { dst, symbol } => self.a.mov_symbol(self.r(dst), symbol),
            MInst::FuncAddr { dst, func } => self.a.lea_label(self.r(dst), self.funcs[func as usize]),
            MInst::Lea { w, dst, mem } => self.a.lea(w, self.r(dst), self.addr(mem)),
            MInst::Load { .. } | MInst::LoadSigned { .. } | MInst::LoadOver { .. } | MInst::Store { .. } | MInst::StoreImm { .. } => self.access(inst),
            MInst::Alu { op, w, dst, src } => self.alu(op, w, dst, src),
            MInst::AluMem { op, w, mem, src: Operand::Imm(i) } => self.a.alu_mi(op, w, self.addr(mem), i),
            MInst::AluMem { op, w, mem, src: Operand::Reg(r) } => self.a.alu_mr(op, w, self.addr(mem), self.r(r)),
            MInst::AluMem { .. } => self.a.ud2(),
            MInst::Cmp { w, a, b } => self.alu(Alu::Cmp, w, a, b),
            MInst::Test { w, a, b: Operand::Imm(i) } => self.a.test_ri(w, self.r(a), i),
            MInst::Test { w, a, b: Operand::Reg(b) } => self.a.test_rr(w, self.r(a), self.r(b)),
            MInst::Test { .. } => self.a.ud2(),
            MInst::Bit { a, bit } => self.a.bt_ri(self.r(a), bit),
            MInst::Mul { w, dst, src } => self.a.imul_rr(w, self.r(dst), self.r(src)),
            MInst::MulImm { w, dst, src, imm } => self.a.imul_rri(w, self.r(dst), self.r(src), imm),
            MInst::ShiftImm { op, w, dst, count } => self.a.shift_ri(op, w, self.r(dst), count),
            MInst::ShiftCl { op, w, dst } => self.a.shift_rcl(op, w, self.r(dst)),
            MInst::ShiftX { op, w, dst, src, count } => self.a.shift_x(op, w, self.r(dst), self.r(src), self.r(count)),
            MInst::Neg { w, dst } => self.a.neg(w, self.r(dst)),
            MInst::Not { w, dst } => self.a.not(w, self.r(dst)),
            MInst::Bswap { w, dst } => self.a.bswap(w, self.r(dst)),
            MInst::Swap16 { dst } => self.a.swap16(self.r(dst)),
            MInst::Movzx { size, dst, src } => self.a.movzx(size, self.r(dst), self.r(src)),
            MInst::Movsx { size, w, dst, src } => self.a.movsx_rr(size, w, self.r(dst), self.r(src)),
            MInst::Cmov { cond, w, dst, src } => self.a.cmov(cond, w, self.r(dst), self.r(src)),
            MInst::Div { .. } => self.div(inst),
            MInst::LockAlu { .. } | MInst::Xadd { .. } | MInst::Xchg { .. } | MInst::Cmpxchg { .. } => self.atomic(inst),
            MInst::FetchLoop { .. } => self.fetch_loop(inst),
            MInst::Call { callee, .. } => self.call(callee),
            MInst::Fence => self.a.lfence(),
            MInst::Poll { env, tmp } => self.poll(self.r(env), self.r(tmp)),
            MInst::TestThrown { env } => self.test_thrown(self.r(env)),
            MInst::Throw { env, value } => self.throw(self.r(env), self.r(value)),
            MInst::Sum { size, width, dst, addr, tmp, tmp2, count } => {
                let regs = vector::SumRegs { dst: self.r(dst), addr: self.r(addr), tmp: self.r(tmp), tmp2: self.r(tmp2) };
                vector::sum(self.a, (size, width), regs, count);
            }
            MInst::Copy { dst, src, tmp, bytes } => vector::copy(self.a, self.r(dst), self.r(src), self.r(tmp), bytes),
            MInst::Mismatch { dst, a, b, tmp, count } => {
                vector::mismatch(self.a, (self.r(dst), self.r(tmp)), (self.r(a), self.r(b)), count);
            }
            MInst::Jcc { cond, target } => self.a.jcc(cond, self.blocks[self.target(target).index()]),
            MInst::Jmp { target } => self.jump(target, None),
            MInst::TableAddr { dst, block } => self.table_addr(self.r(dst), block),
            MInst::Table { index, table, entry, .. } => self.table(self.r(index), self.r(table), self.r(entry)),
            MInst::Ret => {
                self.prologue.restore(self.a);
                self.a.ret();
            }
            MInst::TailJump => {
                self.prologue.restore(self.a);
                self.a.jmp_r(Gpr::RAX);
            }
            MInst::Abandon => {
                self.abandons = true;
                self.a.jmp(self.abandon);
            }
            MInst::Trap => self.a.ud2(),
        }
    }

    fn alu(&mut self, op: Alu, w: W, dst: VReg, src: Operand) {
        let d = self.r(dst);
        match src {
            Operand::Reg(r) => self.a.alu_rr(op, w, d, self.r(r)),
            Operand::Imm(i) => self.a.alu_ri(op, w, d, i),
            Operand::Mem(m) => self.a.alu_rm(op, w, d, self.addr(m)),
        }
    }

    fn access(&mut self, inst: &MInst) {
        match *inst {
            MInst::Load {
                size,
                dst,
                mem,
                may_fault,
            } => {
                let back = self.may_fault(may_fault, Some(self.r(dst)));
                self.a.load(size, self.r(dst), self.addr(mem));
                self.faulted(back);
            }
            MInst::LoadSigned {
                size,
                dst,
                mem,
                may_fault,
            } => {
                let back = self.may_fault(may_fault, Some(self.r(dst)));
                self.a.load_signed(size, W::Q, self.r(dst), self.addr(mem));
                self.faulted(back);
            }
            MInst::LoadOver { size, dst, mem } => {
                let back = self.may_fault(true, None);
                self.a.load(size, self.r(dst), self.addr(mem));
                self.faulted(back);
            }
            MInst::Store {
                size,
                mem,
                src,
                may_fault,
            } => {
                let back = self.may_fault(may_fault, None);
                self.a.store(size, self.addr(mem), self.r(src));
                self.faulted(back);
            }
            MInst::StoreImm {
                size,
                mem,
                imm,
                may_fault,
            } => {
                let back = self.may_fault(may_fault, None);
                self.a.store_imm(size, self.addr(mem), imm);
                self.faulted(back);
            }
            _ => {}
        }
    }

    fn atomic(&mut self, inst: &MInst) {
        match *inst {
            MInst::LockAlu {
                op,
                w,
                mem,
                src,
                may_fault,
            } => {
                let back = self.may_fault(may_fault, None);
                self.a.lock_alu(op, w, self.addr(mem), self.r(src));
                self.faulted(back);
            }
            MInst::Xadd {
                w,
                mem,
                src,
                may_fault,
            } => {
                let back = self.may_fault(may_fault, None);
                self.a.lock_xadd(w, self.addr(mem), self.r(src));
                self.faulted(back);
            }
            MInst::Xchg {
                w,
                mem,
                src,
                may_fault,
            } => {
                let back = self.may_fault(may_fault, None);
                self.a.xchg_mr(w, self.addr(mem), self.r(src));
                self.faulted(back);
            }
            MInst::Cmpxchg {
                w,
                mem,
                src,
                may_fault,
            } => {
                let back = self.may_fault(may_fault, None);
                self.a.lock_cmpxchg(w, self.addr(mem), self.r(src));
                if w == W::D {
                    // It writes `eax` only where it differs.
                    self.a.mov_rr(W::D, Gpr::RAX, Gpr::RAX);
                }
                self.faulted(back);
            }
            _ => {}
        }
    }

    fn fetch_loop(&mut self, inst: &MInst) {
        let MInst::FetchLoop {
            op,
            w,
            mem,
            src,
            tmp,
            may_fault,
        } = *inst
        else {
            return;
        };
        let (addr, tmp, src) = (self.addr(mem), self.r(tmp), self.r(src));
        let size = if w == W::Q { Bytes::B8 } else { Bytes::B4 };
        let retry = self.a.new_label();
        let back = self.may_fault(may_fault, Some(Gpr::RAX));
        self.a.load(size, Gpr::RAX, addr);
        self.a.bind(retry);
        self.a.mov_rr(W::Q, tmp, Gpr::RAX);
        self.a.alu_rr(op, w, tmp, src);
        self.a.lock_cmpxchg(w, addr, tmp);
        self.a.jcc(Cond::Ne, retry);
        self.faulted(back);
    }

    fn div(&mut self, inst: &MInst) {
        let MInst::Div {
            w,
            signed,
            checked,
            remainder,
            src,
        } = *inst
        else {
            return;
        };
        let src = self.r(src);
        let (at, back) = (self.a.new_label(), self.a.new_label());
        if checked && signed {
            // 0 and -1: divisor + 1 is at most 1, unsigned.
            self.a.lea(w, Gpr::RDX, Addr::base(src, 1));
            self.a.alu_ri(Alu::Cmp, w, Gpr::RDX, 1);
            self.a.jcc(Cond::Be, at);
        } else if checked {
            self.a.test_rr(w, src, src);
            self.a.jcc(Cond::E, at);
        }
        if signed {
            self.a.sign_to_rdx(w);
            self.a.idiv(w, src);
        } else {
            self.a.zero(Gpr::RDX);
            self.a.div(w, src);
        }
        self.a.bind(back);
        if checked {
            self.slow.push(Slow::Division {
                at,
                back,
                w,
                signed,
                remainder,
                src,
            });
        }
    }

    fn call(&mut self, callee: Callee) {
        match callee {
            Callee::Func(f) => self.a.call_label(self.funcs[f as usize]),
            Callee::Symbol(s) => {
                self.a.mov_symbol(Gpr::RAX, s);
                self.a.call_r(Gpr::RAX);
            }
        }
    }

    fn poll(&mut self, env: Gpr, tmp: Gpr) {
        let (at, back) = (self.a.new_label(), self.a.new_label());
        self.a.load(Bytes::B8, tmp, Addr::base(env, ENV_STOP));
        self.a.alu_mi(Alu::Cmp, W::D, Addr::base(tmp, 0), 0);
        self.a.jcc(Cond::Ne, at);
        self.a.bind(back);
        self.slow.push(Slow::Stop { at, back, env });
    }

    fn test_thrown(&mut self, env: Gpr) {
        let at = self.a.new_label();
        self.a
            .alu_mi(Alu::Cmp, W::D, Addr::base(env, ENV_THROWN), 0);
        self.a.jcc(Cond::Ne, at);
        self.slow.push(Slow::Thrown { at, env });
    }

    fn throw(&mut self, env: Gpr, value: Gpr) {
        self.a
            .store(Bytes::B8, Addr::base(env, ENV_THROWN_VALUE), value);
        self.a.store_imm(Bytes::B4, Addr::base(env, ENV_THROWN), 1);
        self.a.mov_rr(W::Q, Gpr::RDI, env);
    }

    /// The address of the table that ends `block`.
    fn table_addr(&mut self, dst: Gpr, block: Block) {
        let table = match self.jump_tables.iter().find(|(b, _)| *b == block) {
            Some((_, table)) => *table,
            None => {
                let table = self.a.new_label();
                self.jump_tables.push((block, table));
                table
            }
        };
        self.a.lea_label(dst, table);
    }

    fn table(&mut self, index: Gpr, table: Gpr, entry: Gpr) {
        let place = Addr::indexed(table, index, 2, 0);
        self.a.load_signed(Bytes::B4, W::Q, entry, place);
        self.a.alu_rr(Alu::Add, W::Q, entry, table);
        self.a.jmp_r(entry);
    }

    fn emit_tables(&mut self) {
        for (block, table) in std::mem::take(&mut self.jump_tables) {
            let Some(MInst::Table { targets, .. }) = self.f.code.blocks[block.index()].insts.last()
            else {
                continue;
            };
            self.a.align(4);
            self.a.bind(table);
            for &t in targets {
                let label = self.blocks[self.target(t).index()];
                self.a.table_entry(table, label);
            }
        }
    }

    fn slow_paths(&mut self) {
        for s in std::mem::take(&mut self.slow) {
            match s {
                Slow::Stop { at, back, env } => {
                    self.a.bind(at);
                    self.a
                        .alu_mi(Alu::Cmp, W::D, Addr::base(env, ENV_SECTIONS), 0);
                    self.a.jcc(Cond::Ne, back);
                    self.abandon_from(env);
                }
                Slow::Thrown { at, env } => {
                    self.a.bind(at);
                    self.abandon_from(env);
                }
                Slow::Division {
                    at,
                    back,
                    w,
                    signed,
                    remainder,
                    src,
                } => {
                    self.a.bind(at);
                    self.special_division(w, signed, remainder, src);
                    self.a.jmp(back);
                }
                Slow::Fault { access, back, dst } => {
                    let resume = self.a.here();
                    self.tables.faults.push(Fault { at: access, resume });
                    if let Some(dst) = dst {
                        self.a.mov_ri(dst, 0);
                    }
                    self.a.jmp(back);
                }
            }
        }
    }

    fn abandon_from(&mut self, env: Gpr) {
        self.abandons = true;
        self.a.mov_rr(W::Q, Gpr::RDI, env);
        self.a.jmp(self.abandon);
    }

    /// Results of a division by 0 or -1.
    fn special_division(&mut self, w: W, signed: bool, remainder: bool, src: Gpr) {
        match (signed, remainder) {
            (false, false) => self.a.zero(Gpr::RAX),
            (false, true) => self.a.mov_rr(w, Gpr::RDX, Gpr::RAX),
            // 0, or the negation.
            (true, false) => self.a.imul_rr(w, Gpr::RAX, src),
            // By zero the dividend stays, by -1 nothing remains.
            (true, true) => {
                self.a.mov_rr(w, Gpr::RDX, src);
                self.a.not(w, Gpr::RDX);
                self.a.alu_rr(Alu::And, w, Gpr::RDX, Gpr::RAX);
            }
        }
    }

    /// Returns early. In the entry function a thrown value becomes the result; `rdi` is the run environment.
    fn leave_early(&mut self) {
        self.a.bind(self.abandon);
        if self.is_entry() && self.shared.throws {
            let out = self.a.new_label();
            let thrown = Addr::base(Gpr::RDI, ENV_THROWN);
            let value = Addr::base(Gpr::RDI, ENV_THROWN_VALUE);
            self.a.alu_mi(Alu::Cmp, W::D, thrown, 0);
            self.a.jcc(Cond::E, out);
            self.a.store_imm(Bytes::B4, thrown, 0);
            match self.shared.exception_callback {
                Some(f) => {
                    self.a.load(Bytes::B8, Gpr::RSI, value);
                    self.a.call_label(self.funcs[f as usize]);
                }
                None => self.a.load(Bytes::B8, Gpr::RAX, value),
            }
            self.a.bind(out);
        }
        self.prologue.restore(self.a);
        self.a.ret();
    }
}

/// True if an instruction after this point reads the flags as they are here.
fn flags_live(rest: &[MInst]) -> bool {
    for i in rest {
        if i.reads_flags() {
            return true;
        }
        if i.sets_flags() {
            return false;
        }
    }
    false
}

/// True if an instruction names the BPF frame.
fn uses_frame(inst: &MInst) -> bool {
    let is_frame = |m: &Mem| m.base == Base::Frame;
    match inst {
        MInst::Lea { mem, .. }
        | MInst::Load { mem, .. }
        | MInst::LoadSigned { mem, .. }
        | MInst::Store { mem, .. }
        | MInst::StoreImm { mem, .. }
        | MInst::AluMem { mem, .. }
        | MInst::LockAlu { mem, .. }
        | MInst::Xadd { mem, .. }
        | MInst::Xchg { mem, .. }
        | MInst::Cmpxchg { mem, .. }
        | MInst::FetchLoop { mem, .. } => is_frame(mem),
        MInst::Alu { src, .. } | MInst::Cmp { b: src, .. } => {
            matches!(src, Operand::Mem(m) if is_frame(m))
        }
        _ => false,
    }
}
