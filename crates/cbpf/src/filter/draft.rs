//! The first code of a filter: small blocks, each some instructions and one comparison, joined by `and`, `or`, `not`.
//!
//! This is what an expression means: which loads are made, in which order, before each decision. A load past the end of
//! a packet rejects it, so the order is part of the language; it is libpcap's.

use super::blocks::{ACCEPT, Block, BlockId, NONE, REJECT};
use crate::insn::{Insn, RET, Relation};
use alloc::vec::Vec;
use skep_isa::opcode::{IMM, JMP, K, LD};

/// A condition, by index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cond(u32);

/// What a condition is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CondKind {
    /// A block, whose ways are not joined yet.
    Leaf(BlockId),
    Not(Cond),
    And(Cond, Cond),
    Or(Cond, Cond),
}

/// All blocks and conditions of one expression.
#[derive(Debug)]
pub(crate) struct Draft {
    insns: Vec<Insn>,
    blocks: Vec<Block>,
    conds: Vec<CondKind>,
    /// Start of the block under construction.
    start: u32,
}

impl Draft {
    /// A draft of the two blocks that return; what an accepted packet returns comes later.
    pub(crate) fn new() -> Self {
        let mut draft = Self {
            insns: Vec::with_capacity(32),
            blocks: Vec::with_capacity(16),
            conds: Vec::with_capacity(32),
            start: 0,
        };
        for id in [ACCEPT, REJECT] {
            debug_assert_eq!(
                draft.blocks.len(),
                id as usize,
                "blocks that return come first"
            );
            draft.blocks.push(Block {
                insns: 0..0,
                code: RET | K,
                k: 0,
                yes: NONE,
                no: NONE,
            });
        }
        draft
    }

    pub(crate) fn kind(&self, cond: Cond) -> CondKind {
        self.conds[cond.0 as usize]
    }

    /// The blocks and their instructions; the draft is given up.
    pub(crate) fn take(&mut self) -> (Vec<Block>, Vec<Insn>) {
        (
            core::mem::take(&mut self.blocks),
            core::mem::take(&mut self.insns),
        )
    }

    /// Adds an instruction to the block under construction.
    pub(crate) fn op(&mut self, code: u8, k: u32) {
        self.insns.push(Insn::new(code, k));
    }

    pub(crate) fn extend(&mut self, insns: &[Insn]) {
        self.insns.extend_from_slice(insns);
    }

    /// Ends the block under construction with a comparison.
    pub(crate) fn end(&mut self, code: u8, k: u32) -> Cond {
        let end = self.insns.len() as u32;
        let block = self.blocks.len() as u32;
        self.blocks.push(Block {
            insns: self.start..end,
            code: JMP | code,
            k,
            yes: NONE,
            no: NONE,
        });
        self.start = end;
        self.cond(CondKind::Leaf(block))
    }

    /// Ends the block under construction with a comparison of A with a constant.
    pub(crate) fn compare(&mut self, relation: Relation, k: u32) -> Cond {
        self.end(relation.code() | K, k)
    }

    fn cond(&mut self, kind: CondKind) -> Cond {
        self.conds.push(kind);
        Cond(self.conds.len() as u32 - 1)
    }

    /// A condition that always holds, or never; code all the same.
    pub(crate) fn truth(&mut self, value: bool) -> Cond {
        self.op(LD | IMM, u32::from(!value));
        self.compare(Relation::Eq, 0)
    }

    pub(crate) fn not(&mut self, c: Cond) -> Cond {
        match self.kind(c) {
            CondKind::Not(inner) => inner,
            _ => self.cond(CondKind::Not(c)),
        }
    }

    /// Both, in this order.
    pub(crate) fn and(&mut self, a: Cond, b: Cond) -> Cond {
        self.cond(CondKind::And(a, b))
    }

    /// Either; the second is evaluated only if the first does not hold.
    pub(crate) fn or(&mut self, a: Cond, b: Cond) -> Cond {
        self.cond(CondKind::Or(a, b))
    }

    /// `cond`, after what else must hold, if anything must.
    pub(crate) fn and_after(&mut self, before: Option<Cond>, cond: Cond) -> Cond {
        match before {
            Some(before) => self.and(before, cond),
            None => cond,
        }
    }

    /// `cond`, or what may hold before it, if anything may.
    pub(crate) fn or_after(&mut self, before: Option<Cond>, cond: Cond) -> Cond {
        match before {
            Some(before) => self.or(before, cond),
            None => cond,
        }
    }
}

/// Scratch words, given out in a circle.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Words {
    used: u16,
    next: u32,
    /// Words that held something else before.
    reused: u16,
}

impl Words {
    /// A free word; `None` if all are in use.
    pub(crate) fn take(&mut self) -> Option<u32> {
        for _ in 0..crate::insn::BPF_MEMWORDS {
            if self.used & (1 << self.next) == 0 {
                self.used |= 1 << self.next;
                return Some(self.next);
            }
            self.next = (self.next + 1) % crate::insn::BPF_MEMWORDS;
        }
        None
    }

    pub(crate) fn give_back(&mut self, word: u32) {
        self.used &= !(1 << word);
        self.reused |= 1 << word;
    }

    /// Whether a word held something else before.
    pub(crate) fn is_reused(&self, word: u32) -> bool {
        self.reused & (1 << word) != 0
    }
}

/// Common instructions.
pub(crate) mod code {
    use crate::insn::{AluOp, Insn, LEN, MISC, MSH, Relation, Size, TAX, TXA};
    use skep_isa::opcode::{ABS, ALU, IMM, IND, JMP, K, LD, LDX, MEM, ST, X};

    pub(crate) const fn load(size: Size, k: u32) -> Insn {
        Insn::new(LD | ABS | size.code(), k)
    }
    pub(crate) const fn load_at_x(size: Size, k: u32) -> Insn {
        Insn::new(LD | IND | size.code(), k)
    }
    pub(crate) const fn constant(k: u32) -> Insn {
        Insn::new(LD | IMM, k)
    }
    pub(crate) const fn len() -> Insn {
        Insn::new(LD | LEN, 0)
    }
    pub(crate) const fn word(word: u32) -> Insn {
        Insn::new(LD | MEM, word)
    }
    pub(crate) const fn x_word(word: u32) -> Insn {
        Insn::new(LDX | MEM, word)
    }
    pub(crate) const fn x_header(k: u32) -> Insn {
        Insn::new(LDX | MSH | Size::B.code(), k)
    }
    pub(crate) const fn store(word: u32) -> Insn {
        Insn::new(ST, word)
    }
    pub(crate) const fn alu(op: AluOp, k: u32) -> Insn {
        Insn::new(ALU | op.code() | K, k)
    }
    pub(crate) const fn alu_x(op: AluOp) -> Insn {
        Insn::new(ALU | op.code() | X, 0)
    }
    pub(crate) const fn tax() -> Insn {
        Insn::new(MISC | TAX, 0)
    }
    pub(crate) const fn txa() -> Insn {
        Insn::new(MISC | TXA, 0)
    }
    /// A jump inside a block.
    pub(crate) const fn jump(relation: Relation, k: u32, jt: u8, jf: u8) -> Insn {
        Insn::jump(JMP | relation.code() | K, k, jt, jf)
    }
}
