//! Instruction selection: SSA to machine instructions.
//!
//! Blocks are visited from last to first and instructions from bottom to top, so that a value is selected after everything
//! that needs it: what was folded into its users is never emitted. Constants and symbols are made where they are used, or in
//! front of the outermost loop around the use.

mod arith;
mod memory;

use super::Cpu;
use super::asm::{Cond, Gpr, W};
use super::mach::{ARGS, Callee, MBlock, MFunc, MInst, Mem, Operand, VReg};
use super::placement::Placement;
use crate::jit::image::Symbol;
use crate::jit::ir::dom::Shape;
use crate::jit::ir::{Block, Cmp, Graph, Inst, Target, Term, Value};
use crate::jit::opt::bits;
use crate::jit::opt::hash::FastMap;
use crate::lowered::OpIdx;
use skep_isa::{JmpOp, Width};

/// Selects machine instructions for a graph without critical edges.
pub(super) fn select(g: &Graph, cpu: Cpu) -> MFunc {
    let shape = Shape::of(g);
    let zeros = bits::known_zero(g, &shape);
    let mut s = Selector {
        g,
        cpu,
        uses: g.use_counts(),
        homes: g.homes(),
        epochs: epochs(g),
        vregs: vec![None; g.insts.len()],
        env: None,
        next: VReg::FIRST_VIRTUAL,
        pending: FastMap::default(),
        tables: FastMap::default(),
        made: FastMap::default(),
        out: Vec::new(),
        block: Block::ENTRY,
        at: 0,
        zeros,
        shape: &shape,
    };
    let mut blocks = vec![MBlock::default(); g.blocks.len()];
    for &b in shape.order.iter().rev() {
        blocks[b.index()] = s.block(b);
    }
    let placement = Placement::of(g, &shape);
    for (block, align) in blocks.iter_mut().zip(placement.align) {
        block.align = align;
    }
    MFunc {
        blocks,
        order: placement.order,
        vregs: s.next,
        spill_slots: 0,
        frame_bytes: g.frame_bytes,
    }
}

/// Per instruction, how many instructions with effects precede it in its block.
fn epochs(g: &Graph) -> Vec<u32> {
    let mut epochs = vec![0; g.insts.len()];
    for b in &g.blocks {
        let mut n = 0;
        for &v in &b.insts {
            epochs[v.index()] = n;
            n += u32::from(g.inst(v).has_effect());
        }
    }
    epochs
}

struct Selector<'a> {
    g: &'a Graph,
    cpu: Cpu,
    shape: &'a Shape,
    uses: Vec<u32>,
    homes: Vec<Block>,
    epochs: Vec<u32>,
    zeros: Vec<u64>,
    /// Per value, its register once somebody needs it.
    vregs: Vec<Option<VReg>>,
    /// Register of the run environment.
    env: Option<VReg>,
    next: u32,
    /// Constants to make at the end of a block.
    pending: FastMap<Block, Vec<(Value, VReg)>>,
    /// Addresses of jump tables to make at the end of a block.
    tables: FastMap<Block, Vec<(Block, VReg)>>,
    /// Registers of constants made in front of loops.
    made: FastMap<(Value, Block), VReg>,
    /// The instructions of the SSA instruction being selected.
    out: Vec<MInst>,
    block: Block,
    at: OpIdx,
}

impl Selector<'_> {
    fn fresh(&mut self) -> VReg {
        self.next += 1;
        VReg(self.next - 1)
    }

    fn emit(&mut self, inst: MInst) {
        self.out.push(inst);
    }

    fn block(&mut self, b: Block) -> MBlock {
        self.block = b;
        let data = self.g.block(b);
        // Bottom up; each group is in order and reversed as a whole at the end.
        let mut groups: Vec<(OpIdx, Vec<MInst>)> = Vec::new();
        self.at = data.insts.last().map_or(0, |v| self.g.origin[v.index()]);
        self.term(&data.term);
        groups.push((self.at, std::mem::take(&mut self.out)));
        for &v in data.insts.iter().rev() {
            let inst = self.g.inst(v);
            if matches!(inst, Inst::Phi(_)) || !self.needed(v) {
                continue;
            }
            self.at = self.g.origin[v.index()];
            self.inst(v, inst);
            groups.push((self.at, std::mem::take(&mut self.out)));
        }
        if b == Block::ENTRY {
            self.arguments();
            groups.push((0, std::mem::take(&mut self.out)));
        }
        let mut m = MBlock {
            succs: data.term.targets(),
            depth: self.shape.depth[b.index()],
            ..MBlock::default()
        };
        let constants = self.constants(b);
        let last = groups.remove(0);
        for (op, insts) in groups.into_iter().rev().chain([(last.0, constants), last]) {
            for i in insts {
                m.insts.push(i);
                m.origin.push(op);
            }
        }
        m
    }

    /// Makes the constants that were asked for at the end of `b`.
    fn constants(&mut self, b: Block) -> Vec<MInst> {
        for (v, dst) in self.pending.remove(&b).unwrap_or_default() {
            self.make(v, dst);
        }
        for (block, dst) in self.tables.remove(&b).unwrap_or_default() {
            self.emit(MInst::TableAddr { dst, block });
        }
        std::mem::take(&mut self.out)
    }

    fn arguments(&mut self) {
        if let Some(dst) = self.env {
            let src = VReg::fixed(ARGS[0]);
            self.emit(MInst::Mov { dst, src });
        }
        for v in self.g.block(Block::ENTRY).insts.clone() {
            if let (Inst::Arg(n), Some(dst)) = (self.g.inst(v), self.vregs[v.index()]) {
                let src = VReg::fixed(ARGS[usize::from(*n)]);
                self.emit(MInst::Mov { dst, src });
            }
        }
    }

    /// True if the instruction has to be emitted.
    fn needed(&self, v: Value) -> bool {
        let inst = self.g.inst(v);
        match inst {
            Inst::Const(_)
            | Inst::Symbol(_)
            | Inst::FuncAddr(_)
            | Inst::FrameAddr(_)
            | Inst::Arg(_) => false,
            _ => inst.has_effect() || self.vregs[v.index()].is_some(),
        }
    }

    /// The register that a value defines.
    fn def(&mut self, v: Value) -> VReg {
        if *self.g.inst(v) == Inst::Arg(0) {
            return self.env();
        }
        match self.vregs[v.index()] {
            Some(r) => r,
            None => {
                let r = self.fresh();
                self.vregs[v.index()] = Some(r);
                r
            }
        }
    }

    /// A register that holds a value.
    fn reg(&mut self, v: Value) -> VReg {
        if !is_constant(self.g.inst(v)) {
            return self.def(v);
        }
        match self.outside_loops() {
            None => {
                let r = self.fresh();
                self.make(v, r);
                r
            }
            Some(pre) => {
                if let Some(&r) = self.made.get(&(v, pre)) {
                    return r;
                }
                let r = self.fresh();
                self.made.insert((v, pre), r);
                self.pending.entry(pre).or_default().push((v, r));
                r
            }
        }
    }

    /// The block in front of the outermost loop around the current block.
    fn outside_loops(&self) -> Option<Block> {
        let outer = self
            .shape
            .loops
            .iter()
            .rfind(|l| l.depth == 1 && self.shape.contains(l, self.block))?;
        let outside = |p: &&Block| !self.shape.contains(outer, **p);
        self.g
            .block(outer.header)
            .preds
            .iter()
            .find(outside)
            .copied()
    }

    /// Puts a constant into a register, here.
    fn make(&mut self, v: Value, dst: VReg) {
        let inst = match *self.g.inst(v) {
            Inst::Const(value) => MInst::Imm { dst, value },
            Inst::Symbol(symbol) => MInst::Symbol { dst, symbol },
            Inst::FuncAddr(func) => MInst::FuncAddr { dst, func },
            Inst::FrameAddr(at) => MInst::Lea {
                w: W::Q,
                dst,
                mem: memory::frame(at),
            },
            _ => MInst::Trap,
        };
        self.emit(inst);
    }

    /// Puts a value into a given register.
    fn put(&mut self, dst: VReg, v: Value) {
        if is_constant(self.g.inst(v)) {
            self.make(v, dst);
        } else {
            let src = self.reg(v);
            self.emit(MInst::Mov { dst, src });
        }
    }

    /// An immediate, if the value is one that fits at this width.
    fn imm(&self, w: W, v: Value) -> Option<i32> {
        let c = self.g.constant(v)?;
        match w {
            W::Q => i32::try_from(c.cast_signed()).ok(),
            W::D => Some((c as u32).cast_signed()),
        }
    }

    /// A source operand: an immediate, a load used only here, or a register.
    fn operand(&mut self, w: W, user: Value, v: Value) -> Operand {
        if let Some(i) = self.imm(w, v) {
            return Operand::Imm(i);
        }
        match self.folded_load(w, user, v) {
            Some(mem) => Operand::Mem(mem),
            None => Operand::Reg(self.reg(v)),
        }
    }

    fn inst(&mut self, v: Value, inst: &Inst) {
        match *inst {
            Inst::Bin(op, width, a, b) => self.bin(v, op, width, a, b),
            Inst::Neg(width, a) => {
                let dst = self.def(v);
                self.put(dst, a);
                self.emit(MInst::Neg {
                    w: w_of(width),
                    dst,
                });
            }
            Inst::Sext { from, width, value } => self.sext(v, from, width, value),
            Inst::Confine { value, limit } => self.confine(v, value, limit),
            Inst::Bswap(size, a) => self.bswap(v, size, a),
            Inst::Select { cmp, then, other } => self.select(v, cmp, then, other),
            Inst::EnvField(offset) => {
                let dst = self.def(v);
                let env = self.env();
                self.emit(MInst::Load {
                    size: super::asm::Bytes::B8,
                    dst,
                    mem: Mem::reg(env, offset),
                    may_fault: false,
                });
            }
            Inst::Load {
                size,
                extend,
                place,
            } => self.load(v, size, extend, place),
            Inst::Acquire { size, place, old } => self.acquire(v, size, place, old),
            Inst::Store { size, place, value } => self.store(v, size, place, value),
            Inst::Atomic { .. } => self.atomic(v, inst),
            Inst::Call { target, ref args } => self.call(v, target, args),
            Inst::Barrier => self.emit(MInst::Fence),
            Inst::Poll => {
                let (env, tmp) = (self.env(), self.fresh());
                self.emit(MInst::Poll { env, tmp });
            }
            Inst::TestThrown => {
                let env = self.env();
                self.emit(MInst::TestThrown { env });
            }
            Inst::Throw(value) => {
                let (env, value) = (self.env(), self.reg(value));
                self.emit(MInst::Throw { env, value });
            }
            Inst::Sum { .. } | Inst::Copy { .. } | Inst::Mismatch { .. } => {
                self.loop_at_once(v, inst);
            }
            Inst::Nop
            | Inst::Const(_)
            | Inst::Symbol(_)
            | Inst::FuncAddr(_)
            | Inst::FrameAddr(_)
            | Inst::Arg(_)
            | Inst::Phi(_) => {}
        }
    }

    /// What a whole loop became.
    fn loop_at_once(&mut self, v: Value, inst: &Inst) {
        match *inst {
            Inst::Sum {
                size,
                width,
                addr,
                count,
            } => {
                let (dst, addr) = (self.def(v), self.reg(addr));
                let (tmp, tmp2) = (self.fresh(), self.fresh());
                self.emit(MInst::Sum {
                    size,
                    width,
                    dst,
                    addr,
                    tmp,
                    tmp2,
                    count,
                });
            }
            Inst::Copy { dst, src, bytes } => {
                let (dst, src, tmp) = (self.reg(dst), self.reg(src), self.fresh());
                self.emit(MInst::Copy {
                    dst,
                    src,
                    tmp,
                    bytes,
                });
            }
            Inst::Mismatch { a, b, count } => {
                let (dst, tmp) = (self.def(v), self.fresh());
                let (a, b) = (self.reg(a), self.reg(b));
                self.emit(MInst::Mismatch {
                    dst,
                    a,
                    b,
                    tmp,
                    count,
                });
            }
            _ => {}
        }
    }

    /// The run environment.
    fn env(&mut self) -> VReg {
        match self.env {
            Some(r) => r,
            None => {
                let r = self.fresh();
                self.env = Some(r);
                r
            }
        }
    }

    fn call(&mut self, v: Value, target: Target, args: &[Value]) {
        for (&a, r) in args.iter().zip(ARGS) {
            self.put(VReg::fixed(r), a);
        }
        let callee = match target {
            Target::Callee(n) => Callee::Symbol(Symbol::Callee(n)),
            Target::Map { map, op } => Callee::Symbol(Symbol::MapCode { map, op }),
            Target::Runtime(f) => Callee::Symbol(Symbol::Runtime(f)),
            Target::Func(f) => Callee::Func(f),
        };
        let count = u8::try_from(args.len()).unwrap_or(6);
        self.emit(MInst::Call {
            callee,
            args: count,
        });
        if let Some(dst) = self.vregs[v.index()] {
            self.emit(MInst::Mov {
                dst,
                src: VReg::fixed(Gpr::RAX),
            });
        }
    }

    // Comparisons.

    /// Emits the comparison; the condition under which it holds.
    fn compare(&mut self, user: Value, c: Cmp) -> Cond {
        let w = w_of(c.width);
        let zero = self.g.constant(c.b) == Some(0);
        match c.op {
            JmpOp::Set => self.test_bits(w, c),
            JmpOp::Eq | JmpOp::Ne if zero => {
                let masked = match *self.g.inst(c.a) {
                    Inst::Bin(crate::jit::ir::BinOp::And, _, x, y)
                        if self.uses[c.a.index()] == 1 =>
                    {
                        Some((x, y))
                    }
                    _ => None,
                };
                if let Some((a, b)) = masked.filter(|_| {
                    c.width == Width::W64 || self.zeros[c.a.index()] >> 32 == 0xffff_ffff
                }) {
                    let set = self.test_bits(
                        W::Q,
                        Cmp {
                            op: JmpOp::Set,
                            width: Width::W64,
                            a,
                            b,
                        },
                    );
                    return if c.op == JmpOp::Eq { set.not() } else { set };
                }
                let a = self.reg(c.a);
                self.emit(MInst::Test {
                    w,
                    a,
                    b: Operand::Reg(a),
                });
                super::baseline::cond(c.op)
            }
            op => {
                let b = self.operand(w, user, c.b);
                let a = self.reg(c.a);
                self.emit(MInst::Cmp { w, a, b });
                super::baseline::cond(op)
            }
        }
    }

    fn test_bits(&mut self, w: W, c: Cmp) -> Cond {
        if let Some(mask) = self.g.constant(c.b) {
            if let Ok(imm) = i32::try_from(mask) {
                let a = self.reg(c.a);
                self.emit(MInst::Test {
                    w: W::D,
                    a,
                    b: Operand::Imm(imm),
                });
                return Cond::Ne;
            }
            if mask.is_power_of_two() {
                let a = self.reg(c.a);
                self.emit(MInst::Bit {
                    a,
                    bit: mask.trailing_zeros() as u8,
                });
                return Cond::B;
            }
        }
        let (a, b) = (
            self.reg(c.a),
            self.imm(w, c.b)
                .map_or_else(|| Operand::Reg(self.reg(c.b)), Operand::Imm),
        );
        self.emit(MInst::Test { w, a, b });
        Cond::Ne
    }

    fn select(&mut self, v: Value, cmp: Cmp, then: Value, other: Value) {
        let dst = self.def(v);
        // The side that is a constant is moved first, so that it needs no register of its own.
        let swap = is_constant(self.g.inst(then)) && !is_constant(self.g.inst(other));
        let (first, second) = if swap { (then, other) } else { (other, then) };
        let second = self.reg(second);
        self.put(dst, first);
        let cond = self.compare(v, cmp);
        let cond = if swap { cond.not() } else { cond };
        self.emit(MInst::Cmov {
            cond,
            w: W::Q,
            dst,
            src: second,
        });
    }

    // Control.

    fn term(&mut self, term: &Term) {
        match *term {
            Term::Jump(to) => {
                self.phi_copies(to);
                self.emit(MInst::Jmp { target: to });
            }
            Term::Branch { cmp, then, other } => {
                let cond = self.compare(NO_USER, cmp);
                self.emit(MInst::Jcc { cond, target: then });
                self.emit(MInst::Jmp { target: other });
            }
            Term::Switch { value, ref targets } => {
                let (index, table, entry) = (self.reg(value), self.fresh(), self.fresh());
                let (block, dst) = (self.block, table);
                match self.outside_loops() {
                    Some(pre) => self.tables.entry(pre).or_default().push((block, dst)),
                    None => self.emit(MInst::TableAddr { dst, block }),
                }
                self.emit(MInst::Table {
                    index,
                    table,
                    entry,
                    targets: targets.clone(),
                });
            }
            Term::Return(v) => {
                self.put(VReg::fixed(Gpr::RAX), v);
                self.emit(MInst::Ret);
            }
            Term::TailJump { entry, ctx } => {
                let env = self.env();
                self.put(VReg::fixed(Gpr::RAX), entry);
                self.put(VReg::fixed(Gpr::RSI), ctx);
                self.emit(MInst::Mov {
                    dst: VReg::fixed(Gpr::RDI),
                    src: env,
                });
                self.emit(MInst::TailJump);
            }
            Term::Abandon => self.emit(MInst::Abandon),
            Term::Unreachable => self.emit(MInst::Trap),
        }
    }

    /// Copies the operands of the phis of `to` into their registers, as if all at once.
    fn phi_copies(&mut self, to: Block) {
        let at = self.g.block(to).preds.iter().position(|&p| p == self.block);
        let Some(at) = at else { return };
        let mut copies = Vec::new();
        let mut constants = Vec::new();
        for phi in self.g.phis(to) {
            let Inst::Phi(args) = self.g.inst(phi) else {
                continue;
            };
            let Some(dst) = self.phi_register(phi) else {
                continue;
            };
            let arg = args[at];
            if is_constant(self.g.inst(arg)) {
                constants.push((dst, arg));
            } else {
                copies.push((dst, self.reg(arg)));
            }
        }
        copies.retain(|(d, s)| d != s);
        while !copies.is_empty() {
            let free = copies
                .iter()
                .position(|(d, _)| copies.iter().all(|(_, s)| s != d));
            match free {
                Some(i) => {
                    let (dst, src) = copies.swap_remove(i);
                    self.emit(MInst::Mov { dst, src });
                }
                None => {
                    // A cycle: one source moves aside.
                    let tmp = self.fresh();
                    let src = copies[0].1;
                    self.emit(MInst::Mov { dst: tmp, src });
                    for (_, s) in &mut copies {
                        if *s == src {
                            *s = tmp;
                        }
                    }
                }
            }
        }
        for (dst, v) in constants {
            self.make(v, dst);
        }
    }

    /// The register of a phi. Phis without uses are gone, so each has one.
    fn phi_register(&mut self, phi: Value) -> Option<VReg> {
        (self.uses[phi.index()] > 0).then(|| self.def(phi))
    }
}

/// The user of a terminator's operands: loads are not folded there.
const NO_USER: Value = Value(u32::MAX);

/// Values that are made where they are needed.
fn is_constant(inst: &Inst) -> bool {
    matches!(
        inst,
        Inst::Const(_) | Inst::Symbol(_) | Inst::FuncAddr(_) | Inst::FrameAddr(_)
    )
}

const fn w_of(width: Width) -> W {
    super::baseline::width(width)
}
