//! The optimising compiler's middle: a control-flow graph in SSA form, the same for every machine.
//!
//! A [`Graph`] is one function after inlining. Values are 64 bits wide; operations of 32 bits look at the lower halves of
//! their operands and clear the upper half of the result, as in BPF. [`build`] makes a graph from ops; [`super::opt`]
//! improves it; `x64::select` turns it into machine instructions.

pub(crate) mod build;
pub(crate) mod dom;

use super::image::{MapOp, Runtime, Symbol};
use crate::lowered::OpIdx;
use skep_isa::{AtomicOp, Extend, JmpOp, Size, Width};

/// An instruction, and the value it yields.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Value(pub(crate) u32);

impl Value {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A basic block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Block(pub(crate) u32);

impl Block {
    pub(crate) const ENTRY: Self = Self(0);

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Two-operand arithmetic, with BPF's rules for division by zero; shift counts are masked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum BinOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Sdiv,
    Smod,
    And,
    Or,
    Xor,
    Shl,
    Shr,
    Sar,
    /// Rotation to the left.
    Rotl,
}

impl BinOp {
    pub(crate) const fn commutes(self) -> bool {
        matches!(
            self,
            Self::Add | Self::Mul | Self::And | Self::Or | Self::Xor
        )
    }
}

/// A comparison.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Cmp {
    pub(crate) op: JmpOp,
    pub(crate) width: Width,
    pub(crate) a: Value,
    pub(crate) b: Value,
}

/// What a call calls.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Target {
    /// `callees[n]`
    Callee(u32),
    /// A function of the program.
    Func(u32),
    /// A map's own code for an operation.
    Map { map: u32, op: MapOp },
    /// A function of the engine.
    Runtime(Runtime),
}

/// An address: `base + offset`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Place {
    pub(crate) base: Value,
    pub(crate) offset: i32,
    /// A fault at this access is tolerated: loads yield zero, stores are dropped.
    pub(crate) may_fault: bool,
    /// The access is an acquire, a release or atomic: others stay on their side of it.
    pub(crate) ordered: bool,
}

/// An instruction.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Inst {
    /// Removed.
    Nop,
    Const(u64),
    Symbol(Symbol),
    /// Address of a function's code.
    FuncAddr(u32),
    /// Address of a byte of the stack frame, counted from its lower end.
    FrameAddr(i32),
    /// An argument of the function: 0 is the run environment, 1–5 are `r1`–`r5`.
    Arg(u8),
    /// One value for each predecessor, in their order.
    Phi(Vec<Value>),
    Bin(BinOp, Width, Value, Value),
    Neg(Width, Value),
    Sext {
        from: Size,
        width: Width,
        value: Value,
    },
    /// `value` if it is `0..=limit`, else 0: see [`confined`](crate::lowered::confined). What is known of `value` on the way
    /// to it must not make this go away, since a mispredicted way may have led here.
    Confine {
        value: Value,
        limit: u32,
    },
    /// Byte swap of the lower bytes; the upper ones become zero.
    Bswap(Size, Value),
    Select {
        cmp: Cmp,
        then: Value,
        other: Value,
    },
    /// A field of the run environment that does not change while the function runs.
    EnvField(i32),
    Load {
        size: Size,
        extend: Extend,
        place: Place,
    },
    /// An acquiring load that may fault; then it yields `old`, which has no more bits than the access.
    Acquire {
        size: Size,
        place: Place,
        old: Value,
    },
    Store {
        size: Size,
        place: Place,
        value: Value,
    },
    /// Yields what memory held, or `value` (`expected` of `cmpxchg`) if it faults, which has no more bits than the access.
    Atomic {
        size: Size,
        op: AtomicOp,
        place: Place,
        value: Value,
        /// `r0` of `cmpxchg`, else the same as `value`.
        expected: Value,
    },
    Call {
        target: Target,
        args: Vec<Value>,
    },
    /// Stops speculation.
    Barrier,
    /// Returns from the function if the run has to stop.
    Poll,
    /// Returns from the function if a callee has thrown.
    TestThrown,
    /// Marks a value as thrown.
    Throw(Value),
    /// Sum of `count` unsigned elements at `addr`, modulo 2³² if `width` says so.
    Sum {
        size: Size,
        width: Width,
        addr: Value,
        count: u32,
    },
    /// Copies `bytes` bytes between memory that does not overlap.
    Copy {
        dst: Value,
        src: Value,
        bytes: u32,
    },
    /// Index of the first of `count` bytes at `a` and `b` that differ, or `count`.
    Mismatch {
        a: Value,
        b: Value,
        count: u32,
    },
}

impl Inst {
    /// Calls `f` for each operand.
    pub(crate) fn each_arg(&self, mut f: impl FnMut(Value)) {
        match self {
            // Copies of these would take memory.
            Self::Phi(args) | Self::Call { args, .. } => args.iter().copied().for_each(f),
            small => small.clone().each_arg_mut(|v| f(*v)),
        }
    }

    /// Calls `f` for each operand, which it may change.
    pub(crate) fn each_arg_mut(&mut self, mut f: impl FnMut(&mut Value)) {
        match self {
            Self::Nop
            | Self::Const(_)
            | Self::Symbol(_)
            | Self::FuncAddr(_)
            | Self::FrameAddr(_)
            | Self::Arg(_)
            | Self::EnvField(_)
            | Self::Barrier
            | Self::Poll
            | Self::TestThrown => {}
            Self::Phi(args) | Self::Call { args, .. } => args.iter_mut().for_each(f),
            Self::Bin(_, _, a, b) => {
                f(a);
                f(b);
            }
            Self::Neg(_, v)
            | Self::Sext { value: v, .. }
            | Self::Confine { value: v, .. }
            | Self::Bswap(_, v)
            | Self::Throw(v)
            | Self::Sum { addr: v, .. } => f(v),
            Self::Select { cmp, then, other } => {
                f(&mut cmp.a);
                f(&mut cmp.b);
                f(then);
                f(other);
            }
            Self::Load { place, .. } => f(&mut place.base),
            Self::Acquire {
                place, old: value, ..
            }
            | Self::Store { place, value, .. } => {
                f(&mut place.base);
                f(value);
            }
            Self::Atomic {
                place,
                value,
                expected,
                ..
            } => {
                f(&mut place.base);
                f(value);
                f(expected);
            }
            Self::Copy { dst, src, .. } => {
                f(dst);
                f(src);
            }
            Self::Mismatch { a, b, .. } => {
                f(a);
                f(b);
            }
        }
    }

    /// True if the instruction must stay even when nobody uses its value.
    pub(crate) fn has_effect(&self) -> bool {
        matches!(
            self,
            Self::Store { .. }
                | Self::Atomic { .. }
                | Self::Call { .. }
                | Self::Barrier
                | Self::Poll
                | Self::TestThrown
                | Self::Throw(_)
                | Self::Copy { .. }
        )
    }

    /// True if the value depends on the operands alone, so that equal instructions are one, and may be computed anywhere.
    pub(crate) fn is_pure(&self) -> bool {
        matches!(
            self,
            Self::Const(_)
                | Self::Symbol(_)
                | Self::FuncAddr(_)
                | Self::FrameAddr(_)
                | Self::Bin(..)
                | Self::Neg(..)
                | Self::Sext { .. }
                | Self::Confine { .. }
                | Self::Bswap(..)
                | Self::Select { .. }
                | Self::EnvField(_)
        )
    }
}

/// How a block ends.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Term {
    Jump(Block),
    Branch {
        cmp: Cmp,
        then: Block,
        other: Block,
    },
    /// Goes to `targets[value]`; `value` is below their number.
    Switch {
        value: Value,
        targets: Vec<Block>,
    },
    Return(Value),
    /// Jumps to the entry of another program.
    TailJump {
        entry: Value,
        ctx: Value,
    },
    /// Returns at once: a value was thrown.
    Abandon,
    Unreachable,
}

impl Term {
    /// The blocks it may go to; a block may come more than once.
    pub(crate) fn targets(&self) -> Vec<Block> {
        match self {
            Self::Jump(b) => vec![*b],
            Self::Branch { then, other, .. } => vec![*then, *other],
            Self::Switch { targets, .. } => targets.clone(),
            _ => Vec::new(),
        }
    }

    /// Calls `f` for each block it may go to.
    pub(crate) fn each_target_mut(&mut self, mut f: impl FnMut(&mut Block)) {
        match self {
            Self::Jump(b) => f(b),
            Self::Branch { then, other, .. } => {
                f(then);
                f(other);
            }
            Self::Switch { targets, .. } => targets.iter_mut().for_each(f),
            _ => {}
        }
    }

    /// Calls `f` for each value it reads.
    pub(crate) fn each_arg_mut(&mut self, mut f: impl FnMut(&mut Value)) {
        match self {
            Self::Branch { cmp, .. } => {
                f(&mut cmp.a);
                f(&mut cmp.b);
            }
            Self::Switch { value, .. } | Self::Return(value) => f(value),
            Self::TailJump { entry, ctx } => {
                f(entry);
                f(ctx);
            }
            _ => {}
        }
    }

    /// Calls `f` for each value it reads.
    pub(crate) fn each_arg(&self, mut f: impl FnMut(Value)) {
        match self {
            // A copy would take memory.
            Self::Switch { value, .. } => f(*value),
            small => small.clone().each_arg_mut(|v| f(*v)),
        }
    }
}

/// A block's contents.
#[derive(Clone, Debug)]
pub(crate) struct BlockData {
    /// In order; phis come first.
    pub(crate) insts: Vec<Value>,
    pub(crate) term: Term,
    /// Where control comes from; a predecessor that comes by two edges is listed twice.
    pub(crate) preds: Vec<Block>,
}

/// A function.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    pub(crate) insts: Vec<Inst>,
    /// Per instruction, the op it came from.
    pub(crate) origin: Vec<OpIdx>,
    pub(crate) blocks: Vec<BlockData>,
    /// Bytes of the stack frame, inlined functions included.
    pub(crate) frame_bytes: u32,
    /// The frames in it, as start and end: a pointer into one never reaches another.
    pub(crate) frames: Vec<(i32, i32)>,
}

impl Graph {
    pub(crate) fn inst(&self, v: Value) -> &Inst {
        &self.insts[v.index()]
    }

    pub(crate) fn block(&self, b: Block) -> &BlockData {
        &self.blocks[b.index()]
    }

    pub(crate) fn block_mut(&mut self, b: Block) -> &mut BlockData {
        &mut self.blocks[b.index()]
    }

    /// A new instruction that is in no block yet.
    pub(crate) fn add(&mut self, inst: Inst, origin: OpIdx) -> Value {
        let v = Value(u32::try_from(self.insts.len()).unwrap_or(u32::MAX));
        self.insts.push(inst);
        self.origin.push(origin);
        v
    }

    /// A new instruction at the end of `block`.
    pub(crate) fn push(&mut self, block: Block, inst: Inst, origin: OpIdx) -> Value {
        let v = self.add(inst, origin);
        self.block_mut(block).insts.push(v);
        v
    }

    pub(crate) fn new_block(&mut self) -> Block {
        let b = Block(u32::try_from(self.blocks.len()).unwrap_or(u32::MAX));
        self.blocks.push(BlockData {
            insts: Vec::new(),
            term: Term::Unreachable,
            preds: Vec::new(),
        });
        b
    }

    /// The constant that a value is.
    pub(crate) fn constant(&self, v: Value) -> Option<u64> {
        match self.inst(v) {
            Inst::Const(c) => Some(*c),
            _ => None,
        }
    }

    pub(crate) fn all_blocks(&self) -> impl Iterator<Item = Block> + use<> {
        (0..u32::try_from(self.blocks.len()).unwrap_or(u32::MAX)).map(Block)
    }

    /// The phis of a block.
    pub(crate) fn phis(&self, b: Block) -> Vec<Value> {
        let is_phi = |v: &&Value| matches!(self.inst(**v), Inst::Phi(_));
        self.block(b)
            .insts
            .iter()
            .take_while(is_phi)
            .copied()
            .collect()
    }

    /// Removes one edge from `from` to `to`, with its phi operands.
    pub(crate) fn remove_edge(&mut self, from: Block, to: Block) {
        let Some(at) = self.block(to).preds.iter().position(|&p| p == from) else {
            return;
        };
        self.block_mut(to).preds.remove(at);
        for v in self.phis(to) {
            if let Inst::Phi(args) = &mut self.insts[v.index()] {
                args.remove(at);
            }
        }
    }

    /// Replaces every operand by what `with` says of it.
    pub(crate) fn rewrite(&mut self, with: &[Value]) {
        for inst in &mut self.insts {
            inst.each_arg_mut(|v| *v = with[v.index()]);
        }
        for b in &mut self.blocks {
            b.term.each_arg_mut(|v| *v = with[v.index()]);
        }
    }

    /// How often each value is used.
    pub(crate) fn use_counts(&self) -> Vec<u32> {
        let mut uses = vec![0; self.insts.len()];
        for b in &self.blocks {
            for &v in &b.insts {
                self.inst(v).each_arg(|a| uses[a.index()] += 1);
            }
            b.term.each_arg(|a| uses[a.index()] += 1);
        }
        uses
    }

    /// Per value, the block it is in.
    pub(crate) fn homes(&self) -> Vec<Block> {
        let mut homes = vec![Block::ENTRY; self.insts.len()];
        for b in self.all_blocks() {
            for v in &self.block(b).insts {
                homes[v.index()] = b;
            }
        }
        homes
    }
}
