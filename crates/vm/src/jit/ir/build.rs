//! Ops to SSA, inlining subprogs on the way.
//!
//! The construction is that of Braun et al., "Simple and Efficient Construction of Static Single Assignment Form" (CC 2013):
//! a block that is read before all its predecessors are known gets phis without operands, completed when it is sealed.
//! Phis that turn out redundant are left to the simplifier.

mod calls;
mod lookup;
mod shape;

use super::{BinOp, Block, Cmp, Graph, Inst, Place, Target, Term, Value};
use crate::jit::image::{Runtime, Symbol};
use crate::jit::layout;
use crate::jit::source::Source;
use crate::lowered::{ArenaView, Mem, MoveOp, Op, OpIdx, Space, direction};
use shape::{OpBlocks, ends_block};
use skep_abi::limits::BPF_MAX_LOOPS;
use skep_isa::{AluOp, AtomicOp, EndOp, Extend, JmpOp, Reg, Size, Src, Width};
use skep_verifier::PointerLimit;

/// Ops of a function that is inlined wherever it is called.
const INLINE_OPS: usize = 120;
/// Ops of a function that is inlined if it has one call.
const INLINE_ONCE_OPS: usize = 1000;
/// Ops that inlining may add to one function.
const INLINE_TOTAL_OPS: usize = 4000;
/// Bytes that the frame of a function may reach by inlining.
const INLINE_FRAME_BYTES: u32 = 4096;

/// Variables of a function besides the registers `r0`–`r9`: what `may_goto` has left.
const BUDGET: usize = 10;
const VARIABLES: usize = 11;
/// The lower half of a register.
const LOW: u64 = 0xffff_ffff;

/// The functions that stay functions after inlining, the entry first, as graphs.
pub(crate) fn build(src: Source<'_>, func: u32) -> Graph {
    let mut b = Builder {
        src,
        g: Graph {
            insts: Vec::new(),
            origin: Vec::new(),
            blocks: Vec::new(),
            frame_bytes: src.funcs[func as usize].stack_bytes,
            frames: vec![(0, src.funcs[func as usize].stack_bytes.cast_signed())],
        },
        defs: Vec::new(),
        incomplete: Vec::new(),
        pending: Vec::new(),
        sealed: Vec::new(),
        at: 0,
        current: Block::ENTRY,
        inlined_ops: 0,
        program: None,
    };
    b.root(func);
    b.g
}

/// Which functions are called from code that remains, given that `build` inlines: callers emit these.
pub(crate) fn is_inlined(src: Source<'_>, func: u32) -> bool {
    let f = &src.funcs[func as usize];
    let calls = |op: &&Op| matches!(op, Op::CallFunc { func: callee } if *callee == func);
    let ops = (f.end - f.start) as usize;
    let limit = if src.ops.iter().filter(calls).count() == 1 {
        INLINE_ONCE_OPS
    } else {
        INLINE_OPS
    };
    !f.has_tail_call && ops <= limit
}

/// One function being translated: the outermost, or one inlined into it.
struct Instance {
    func: u32,
    /// Lower end of its frame in the outermost function's.
    frame: u32,
    /// Per op, the block that starts there.
    starts: Vec<Option<Block>>,
    /// Where its result goes; `None` returns.
    result: Option<Block>,
    /// Inlined functions around it.
    depth: usize,
}

struct Builder<'a> {
    src: Source<'a>,
    g: Graph,
    /// Per block, the value of each variable at its end, as far as known.
    defs: Vec<[Option<Value>; VARIABLES]>,
    /// Per block that is not sealed, its phis: they wait for operands.
    incomplete: Vec<Vec<(usize, Value)>>,
    /// Phis of sealed blocks that still have no operands. In a list, since a chain of them may be long.
    pending: Vec<(Block, usize, Value)>,
    sealed: Vec<bool>,
    /// The op being translated.
    at: OpIdx,
    /// The block being filled.
    current: Block,
    inlined_ops: usize,
    /// The running program, if it has to be restored.
    program: Option<Value>,
}

impl Builder<'_> {
    fn root(&mut self, func: u32) {
        self.at = self.src.funcs[func as usize].start;
        let entry = self.new_block();
        self.sealed[entry.index()] = true;
        for n in 1..=5 {
            let arg = self.push(Inst::Arg(n));
            self.write(usize::from(n), arg);
        }
        let restores =
            |op: &Op| matches!(op, Op::CallFunc { func } if self.src.may_tail_call(*func));
        if self.src.ops.iter().any(restores) {
            self.program = Some(self.push(Inst::EnvField(layout::ENV_PROGRAM)));
        }
        let mut instance = Instance {
            func,
            frame: 0,
            starts: Vec::new(),
            result: None,
            depth: 0,
        };
        self.function(&mut instance);
    }

    fn new_block(&mut self) -> Block {
        self.defs.push([None; VARIABLES]);
        self.incomplete.push(Vec::new());
        self.sealed.push(false);
        self.g.new_block()
    }

    fn push(&mut self, inst: Inst) -> Value {
        self.g.push(self.current, inst, self.at)
    }

    fn constant(&mut self, value: u64) -> Value {
        self.push(Inst::Const(value))
    }

    fn env(&mut self) -> Value {
        self.push(Inst::Arg(0))
    }

    fn bin(&mut self, op: BinOp, width: Width, a: Value, b: Value) -> Value {
        self.push(Inst::Bin(op, width, a, b))
    }

    fn and(&mut self, v: Value, mask: u64) -> Value {
        let mask = self.constant(mask);
        self.bin(BinOp::And, Width::W64, v, mask)
    }

    /// Ends the current block; the targets get it as predecessor.
    fn end(&mut self, term: Term) {
        for t in term.targets() {
            self.g.block_mut(t).preds.push(self.current);
        }
        self.g.block_mut(self.current).term = term;
    }

    // Variables.

    fn write(&mut self, variable: usize, v: Value) {
        self.defs[self.current.index()][variable] = Some(v);
    }

    fn set(&mut self, r: Reg, v: Value) {
        self.write(r.index(), v);
    }

    fn read(&mut self, block: Block, variable: usize) -> Value {
        let v = self.look_up(block, variable);
        self.complete_phis();
        v
    }

    /// The value of a variable at the end of a block; leaves phis pending.
    fn look_up(&mut self, block: Block, variable: usize) -> Value {
        let mut b = block;
        loop {
            if let Some(v) = self.defs[b.index()][variable] {
                self.defs[block.index()][variable] = Some(v);
                return v;
            }
            match *self.g.block(b).preds {
                [only] if self.sealed[b.index()] => b = only,
                _ => break,
            }
        }
        let v = self.read_join(b, variable);
        self.defs[block.index()][variable] = Some(v);
        v
    }

    fn read_join(&mut self, b: Block, variable: usize) -> Value {
        if b == Block::ENTRY {
            // Never written: no verified program depends on it.
            let zero = self.g.add(Inst::Const(0), self.at);
            self.g.block_mut(b).insts.push(zero);
            self.defs[b.index()][variable] = Some(zero);
            return zero;
        }
        let phi = self.g.add(Inst::Phi(Vec::new()), self.at);
        self.g.block_mut(b).insts.insert(0, phi);
        self.defs[b.index()][variable] = Some(phi);
        if self.sealed[b.index()] {
            self.pending.push((b, variable, phi));
        } else {
            self.incomplete[b.index()].push((variable, phi));
        }
        phi
    }

    fn complete_phis(&mut self) {
        while let Some((b, variable, phi)) = self.pending.pop() {
            let preds = self.g.block(b).preds.clone();
            let args = preds.into_iter().map(|p| self.look_up(p, variable));
            self.g.insts[phi.index()] = Inst::Phi(args.collect());
        }
    }

    /// All predecessors of `b` are known and filled.
    fn seal(&mut self, b: Block) {
        if std::mem::replace(&mut self.sealed[b.index()], true) {
            return;
        }
        let waiting = std::mem::take(&mut self.incomplete[b.index()]);
        let with_block = waiting
            .into_iter()
            .map(|(variable, phi)| (b, variable, phi));
        self.pending.extend(with_block);
        self.complete_phis();
    }

    fn reg(&mut self, i: &Instance, r: Reg) -> Value {
        if r == Reg::R10 {
            let bytes = self.src.funcs[i.func as usize].stack_bytes;
            return self.push(Inst::FrameAddr((i.frame + bytes).cast_signed()));
        }
        self.read(self.current, r.index())
    }

    fn operand(&mut self, i: &Instance, width: Width, src: Src) -> Value {
        match (src, width) {
            (Src::Reg(r), _) => self.reg(i, r),
            (Src::Imm(v), Width::W64) => self.constant(i64::from(v).cast_unsigned()),
            (Src::Imm(v), Width::W32) => self.constant(u64::from(v.cast_unsigned())),
        }
    }

    // Control.

    /// Translates a whole function; the current block leads to it.
    fn function(&mut self, i: &mut Instance) {
        let shape = OpBlocks::of(self.src, i.func);
        i.starts = shape
            .starts
            .iter()
            .map(|s| s.then(|| self.new_block()))
            .collect();
        if self.src.funcs[i.func as usize].has_may_goto {
            let budget = self.constant(u64::from(BPF_MAX_LOOPS));
            self.write(BUDGET, budget);
        }
        let first = self.start_of(i, shape.first);
        self.end(Term::Jump(first));
        let mut missing = shape.preds.clone();
        missing[0] -= 1;
        if missing[0] == 0 {
            self.seal(first);
        }
        for &start in &shape.order {
            self.current = self.start_of(i, start);
            self.fill(i, &shape, start);
            for t in shape.successors(self.src, start) {
                let t_at = (t - shape.first) as usize;
                missing[t_at] -= 1;
                if missing[t_at] == 0 {
                    let b = self.start_of(i, t);
                    self.seal(b);
                }
            }
        }
    }

    fn start_of(&self, i: &Instance, op: OpIdx) -> Block {
        let first = self.src.funcs[i.func as usize].start;
        i.starts[(op - first) as usize].unwrap_or(Block::ENTRY)
    }

    /// Translates the ops from `start` to the end of their block.
    fn fill(&mut self, i: &Instance, shape: &OpBlocks, start: OpIdx) {
        let mut at = start;
        loop {
            self.at = at;
            let op = self.src.ops[at as usize];
            if ends_block(&op) {
                return self.terminator(i, at, op);
            }
            self.op(i, op);
            at += 1;
            if shape.is_start(at) {
                let next = self.start_of(i, at);
                return self.end(Term::Jump(next));
            }
        }
    }

    fn terminator(&mut self, i: &Instance, at: OpIdx, op: Op) {
        match op {
            Op::Jump { target } => {
                self.poll(at, target);
                let to = self.start_of(i, target);
                self.end(Term::Jump(to));
            }
            Op::JumpIf {
                width,
                op,
                dst,
                src,
                target,
            } => {
                self.poll(at, target);
                let a = self.reg(i, dst);
                let b = self.operand(i, width, src);
                let (then, other) = (self.start_of(i, target), self.start_of(i, at + 1));
                let cmp = Cmp { op, width, a, b };
                self.end(Term::Branch { cmp, then, other });
            }
            Op::MayGoto { target } => self.may_goto(i, at, target),
            Op::Exit => {
                let r0 = self.reg(i, Reg::R0);
                self.leave(i, r0);
            }
            Op::Throw => {
                let value = self.reg(i, Reg::R1);
                self.push(Inst::Throw(value));
                self.end(Term::Abandon);
            }
            _ => self.end(Term::Unreachable),
        }
    }

    /// Returns `value` from the instance.
    fn leave(&mut self, i: &Instance, value: Value) {
        match i.result {
            None => self.end(Term::Return(value)),
            Some(after) => {
                self.write(Reg::R0.index(), value);
                self.end(Term::Jump(after));
            }
        }
    }

    fn poll(&mut self, at: OpIdx, target: OpIdx) {
        if self.src.polls(at, target) {
            self.push(Inst::Poll);
        }
    }

    fn may_goto(&mut self, i: &Instance, at: OpIdx, target: OpIdx) {
        self.push(Inst::Poll);
        let budget = self.read(self.current, BUDGET);
        let zero = self.constant(0);
        let go_on = self.new_block();
        let cmp = Cmp {
            op: JmpOp::Eq,
            width: Width::W64,
            a: budget,
            b: zero,
        };
        let spent = self.start_of(i, target);
        self.end(Term::Branch {
            cmp,
            then: spent,
            other: go_on,
        });
        self.continue_in(go_on);
        let minus_one = self.constant(u64::MAX);
        let left = self.bin(BinOp::Add, Width::W64, budget, minus_one);
        self.write(BUDGET, left);
        let next = self.start_of(i, at + 1);
        self.end(Term::Jump(next));
    }

    /// Goes on in a block whose only predecessor is already there.
    fn continue_in(&mut self, b: Block) {
        self.seal(b);
        self.current = b;
    }

    /// Goes on in a new block if `cmp` does not hold; the block for the other case is returned.
    fn branch_away(&mut self, cmp: Cmp) -> Block {
        let (away, go_on) = (self.new_block(), self.new_block());
        self.end(Term::Branch {
            cmp,
            then: away,
            other: go_on,
        });
        self.seal(away);
        self.continue_in(go_on);
        away
    }

    // Ops.

    fn op(&mut self, i: &Instance, op: Op) {
        match op {
            Op::Alu {
                width,
                op,
                dst,
                src,
            } => {
                let a = self.reg(i, dst);
                let b = self.operand(i, width, src);
                let v = self.bin(bin_op(op), width, a, b);
                self.set(dst, v);
            }
            Op::MovePointer {
                op,
                dst,
                src,
                limit,
            } => self.move_pointer(i, op, dst, src, limit),
            Op::Neg { .. } | Op::Mov { .. } | Op::Movsx { .. } => self.unary(i, op),
            Op::End { op, size, dst } => self.byte_order(i, op, size, dst),
            Op::Const { dst, value } => {
                let v = self.constant(value);
                self.set(dst, v);
            }
            Op::MapAddr { dst, map } => {
                let v = self.push(Inst::Symbol(Symbol::Map(map)));
                self.set(dst, v);
            }
            Op::MapValueAddr { dst, map, offset } => self.map_value(dst, map, offset),
            Op::FuncAddr { dst, func } => {
                let v = self.push(Inst::FuncAddr(func));
                self.set(dst, v);
            }
            Op::ArenaCast { view, dst, src } => self.arena_cast(i, view, dst, src),
            Op::Load { .. }
            | Op::LoadAcquire { .. }
            | Op::Store { .. }
            | Op::StoreRelease { .. }
            | Op::Atomic { .. } => self.access(i, op),
            Op::LoadPacket { size, index, imm } => self.load_packet(i, size, index, imm),
            Op::Call { callee } => self.call(i, callee),
            Op::CallFunc { func } => self.call_func(i, func),
            Op::TailCall => self.tail_call(i),
            Op::Barrier => {
                self.push(Inst::Barrier);
            }
            Op::Jump { .. }
            | Op::JumpIf { .. }
            | Op::MayGoto { .. }
            | Op::Throw
            | Op::Exit
            | Op::Unreachable => {}
        }
    }

    /// Operations on one register.
    fn unary(&mut self, i: &Instance, op: Op) {
        match op {
            Op::Neg { width, dst } => {
                let v = self.reg(i, dst);
                let v = self.push(Inst::Neg(width, v));
                self.set(dst, v);
            }
            Op::Mov { width, dst, src } => {
                let mut v = self.reg(i, src);
                if width == Width::W32 {
                    v = self.and(v, LOW);
                }
                self.set(dst, v);
            }
            Op::Movsx {
                width,
                from,
                dst,
                src,
            } => {
                let value = self.reg(i, src);
                let v = self.push(Inst::Sext { from, width, value });
                self.set(dst, v);
            }
            _ => {}
        }
    }

    fn move_pointer(&mut self, i: &Instance, op: MoveOp, dst: Reg, src: Reg, limit: PointerLimit) {
        let (d, s) = (self.reg(i, dst), self.reg(i, src));
        let (pointer, offset) = if limit.pointer_is_dst { (d, s) } else { (s, d) };
        let value = if limit.negative {
            self.push(Inst::Neg(Width::W64, offset))
        } else {
            offset
        };
        let distance = self.push(Inst::Confine {
            value,
            limit: limit.limit,
        });
        let op = match direction(op, limit) {
            MoveOp::Add => BinOp::Add,
            MoveOp::Sub => BinOp::Sub,
        };
        let v = self.bin(op, Width::W64, pointer, distance);
        self.set(dst, v);
    }

    fn byte_order(&mut self, i: &Instance, op: EndOp, size: Size, dst: Reg) {
        let v = self.reg(i, dst);
        let v = match (op, size) {
            (EndOp::ToLe, Size::DW) => v,
            (EndOp::ToLe, _) => self.and(v, (1 << size.bits()) - 1),
            _ => self.push(Inst::Bswap(size, v)),
        };
        self.set(dst, v);
    }

    fn map_value(&mut self, dst: Reg, map: u32, offset: u32) {
        let base = self.push(Inst::Symbol(Symbol::MapValue { map, offset: 0 }));
        let offset = self.constant(u64::from(offset));
        let v = self.bin(BinOp::Add, Width::W64, base, offset);
        self.set(dst, v);
    }

    fn arena_cast(&mut self, i: &Instance, view: ArenaView, dst: Reg, src: Reg) {
        let v = self.reg(i, src);
        let mut v = self.and(v, LOW);
        if view == ArenaView::User {
            let base = self.push(Inst::EnvField(layout::ENV_ARENA_USER_BASE));
            let user = self.bin(BinOp::Or, Width::W64, v, base);
            let zero = self.constant(0);
            let cmp = Cmp {
                op: JmpOp::Eq,
                width: Width::W64,
                a: v,
                b: zero,
            };
            v = self.push(Inst::Select {
                cmp,
                then: v,
                other: user,
            });
        }
        self.set(dst, v);
    }

    /// What the proof says that an access of this size leaves at most: a fault must not leave more.
    fn cut(&mut self, size: Size, v: Value) -> Value {
        match size {
            Size::DW => v,
            _ => self.and(v, (1 << size.bits()) - 1),
        }
    }

    fn place(&mut self, i: &Instance, mem: Mem, ordered: bool) -> Place {
        let mut base = self.reg(i, mem.base);
        if mem.space == Space::Arena {
            let low = self.and(base, LOW);
            let arena = self.push(Inst::EnvField(layout::ENV_ARENA_BASE));
            base = self.bin(BinOp::Add, Width::W64, low, arena);
        }
        Place {
            base,
            offset: mem.offset,
            may_fault: mem.space != Space::Plain,
            ordered,
        }
    }

    fn access(&mut self, i: &Instance, op: Op) {
        match op {
            Op::Load {
                size,
                extend,
                dst,
                mem,
            } => {
                let place = self.place(i, mem, false);
                let v = self.push(Inst::Load {
                    size,
                    extend,
                    place,
                });
                self.set(dst, v);
            }
            Op::LoadAcquire { size, dst, mem } => {
                let place = self.place(i, mem, true);
                let v = if place.may_fault {
                    let old = self.reg(i, dst);
                    let old = self.cut(size, old);
                    self.push(Inst::Acquire { size, place, old })
                } else {
                    self.push(Inst::Load {
                        size,
                        extend: Extend::Zero,
                        place,
                    })
                };
                self.set(dst, v);
            }
            Op::Store { size, src, mem } => {
                let place = self.place(i, mem, false);
                let value = self.operand(i, Width::W64, src);
                self.push(Inst::Store { size, place, value });
            }
            Op::StoreRelease { size, src, mem } => {
                let place = self.place(i, mem, true);
                let value = self.reg(i, src);
                self.push(Inst::Store { size, place, value });
            }
            Op::Atomic { size, op, src, mem } => {
                let place = self.place(i, mem, true);
                let mut value = self.reg(i, src);
                let mut expected = if op == AtomicOp::Cmpxchg {
                    self.reg(i, Reg::R0)
                } else {
                    value
                };
                if place.may_fault {
                    value = self.cut(size, value);
                    expected = self.cut(size, expected);
                }
                let v = self.push(Inst::Atomic {
                    size,
                    op,
                    place,
                    value,
                    expected,
                });
                if op == AtomicOp::Cmpxchg {
                    self.set(Reg::R0, v);
                } else if op.fetches() {
                    self.set(src, v);
                }
            }
            _ => {}
        }
    }

    fn load_packet(&mut self, i: &Instance, size: Size, index: Option<Reg>, imm: i32) {
        let at = match index {
            None => self.constant(i64::from(imm).cast_unsigned()),
            Some(r) => {
                let r = self.reg(i, r);
                let imm = self.constant(u64::from(imm.cast_unsigned()));
                let value = self.bin(BinOp::Add, Width::W32, r, imm);
                self.push(Inst::Sext {
                    from: Size::W,
                    width: Width::W64,
                    value,
                })
            }
        };
        let env = self.env();
        let ctx = self.reg(i, Reg::R6);
        let bytes = self.constant(u64::from(size.bytes()));
        let target = Target::Runtime(Runtime::LoadPacket);
        let value = self.push(Inst::Call {
            target,
            args: vec![env, ctx, at, bytes],
        });
        let zero = self.constant(0);
        let cmp = Cmp {
            op: JmpOp::Slt,
            width: Width::W64,
            a: value,
            b: zero,
        };
        let outside = self.branch_away(cmp);
        let inside = std::mem::replace(&mut self.current, outside);
        let zero = self.constant(0);
        self.leave(i, zero);
        self.current = inside;
        self.set(Reg::R0, value);
    }
}

fn bin_op(op: AluOp) -> BinOp {
    match op {
        AluOp::Add => BinOp::Add,
        AluOp::Sub => BinOp::Sub,
        AluOp::Mul => BinOp::Mul,
        AluOp::Div => BinOp::Div,
        AluOp::Sdiv => BinOp::Sdiv,
        AluOp::Or => BinOp::Or,
        AluOp::And => BinOp::And,
        AluOp::Lsh => BinOp::Shl,
        AluOp::Rsh => BinOp::Shr,
        AluOp::Mod => BinOp::Mod,
        AluOp::Smod => BinOp::Smod,
        AluOp::Xor => BinOp::Xor,
        AluOp::Arsh => BinOp::Sar,
    }
}
