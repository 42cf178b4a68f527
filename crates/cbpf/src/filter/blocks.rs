//! Blocks joined by jumps: the draft with its conditions resolved.

use super::draft::{Cond, CondKind, Draft};
use crate::insn::Insn;
use alloc::vec::Vec;
use core::ops::Range;

/// A block, by index.
pub(crate) type BlockId = u32;
/// No block.
pub(crate) const NONE: BlockId = u32::MAX;
/// The block that accepts.
pub(crate) const ACCEPT: BlockId = 0;
/// The block that rejects.
pub(crate) const REJECT: BlockId = 1;

/// Code of an instruction that was taken out.
pub(crate) const NOP: u16 = u16::MAX;

/// Instructions, then a comparison with two ways on; or a return.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) insns: Range<u32>,
    pub(crate) code: u8,
    pub(crate) k: u32,
    pub(crate) yes: BlockId,
    pub(crate) no: BlockId,
}

impl Block {
    pub(crate) fn is_leaf(&self) -> bool {
        self.yes == NONE
    }
}

/// All blocks of a filter.
#[derive(Clone, Debug)]
pub(crate) struct Blocks {
    pub(crate) insns: Vec<Insn>,
    pub(crate) list: Vec<Block>,
    pub(crate) root: BlockId,
}

impl Blocks {
    /// The blocks of a condition, with instructions to run before them, and a condition before those.
    pub(crate) fn of_cond(
        draft: &mut Draft,
        gate: Option<Cond>,
        cond: Cond,
        prologue: &[Insn],
        snaplen: u32,
    ) -> Self {
        let (list, insns) = draft.take();
        let mut blocks = Self {
            insns,
            list,
            root: ACCEPT,
        };
        blocks.list[ACCEPT as usize].k = snaplen;
        blocks.root = blocks.join(draft, cond, ACCEPT, REJECT);
        if !prologue.is_empty() {
            let start = blocks.insns.len() as u32;
            let range = blocks.list[blocks.root as usize].insns.clone();
            blocks.insns.extend_from_slice(prologue);
            blocks
                .insns
                .extend_from_within(range.start as usize..range.end as usize);
            blocks.list[blocks.root as usize].insns = start..blocks.insns.len() as u32;
        }
        if let Some(gate) = gate {
            blocks.root = blocks.join(draft, gate, blocks.root, REJECT);
        }
        blocks
    }

    /// Joins the blocks of a condition; the first of them.
    fn join(&mut self, draft: &Draft, cond: Cond, yes: BlockId, no: BlockId) -> BlockId {
        let (mut cond, mut yes, mut no) = (cond, yes, no);
        loop {
            // Lists lean to the left: recursion is only into parentheses, whose depth the parser limits.
            match draft.kind(cond) {
                CondKind::Leaf(id) => {
                    // A condition is used once, and so is its block.
                    let block = &mut self.list[id as usize];
                    (block.yes, block.no) = (yes, no);
                    return id;
                }
                CondKind::Not(inner) => {
                    cond = inner;
                    core::mem::swap(&mut yes, &mut no);
                }
                CondKind::And(a, b) => {
                    yes = self.join(draft, b, yes, no);
                    cond = a;
                }
                CondKind::Or(a, b) => {
                    no = self.join(draft, b, yes, no);
                    cond = a;
                }
            }
        }
    }

    pub(crate) fn block(&self, id: BlockId) -> &Block {
        &self.list[id as usize]
    }

    /// The instructions of a block, with those taken out.
    pub(crate) fn insns_of(&self, id: BlockId) -> &[Insn] {
        let range = self.block(id).insns.clone();
        &self.insns[range.start as usize..range.end as usize]
    }
}

/// Which way a walk takes first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    Yes,
    No,
}

/// When a walk notes a block: before those it leads to, or after them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    Before,
    After,
}

/// Walks blocks, with memory that is used again.
#[derive(Debug, Default)]
pub(super) struct Walker {
    /// In a walk the blocks found, then the stack, then whether each block was seen: each as long as there are blocks.
    memory: Vec<u32>,
}

impl Walker {
    /// So many zeros.
    pub(super) fn memory(&mut self, length: usize) -> &mut [u32] {
        self.memory.clear();
        self.memory.resize(length, 0);
        &mut self.memory
    }

    /// The blocks that the root leads to, in the order of a depth-first walk.
    pub(super) fn walk(&mut self, blocks: &Blocks, first: First, note: Note) -> &[BlockId] {
        let count = blocks.list.len();
        let (order, rest) = self.memory(3 * count).split_at_mut(count);
        let (stack, seen) = rest.split_at_mut(count);
        let (mut found, mut depth) = (0, 1);
        // A block with the number of ways that were taken already, in the lower two bits.
        stack[0] = blocks.root << 2;
        seen[blocks.root as usize] = 1;
        while depth > 0 {
            let top = &mut stack[depth - 1];
            let (id, taken) = (*top >> 2, *top & 3);
            *top += 1;
            if note == Note::Before && taken == 0 {
                order[found] = id;
                found += 1;
            }
            let block = &blocks.list[id as usize];
            let next = match (taken, first) {
                (0, First::Yes) | (1, First::No) => block.yes,
                (0, First::No) | (1, First::Yes) => block.no,
                _ => NONE,
            };
            if next == NONE {
                depth -= 1;
                if note == Note::After {
                    order[found] = id;
                    found += 1;
                }
            } else if seen[next as usize] == 0 {
                seen[next as usize] = 1;
                stack[depth] = next << 2;
                depth += 1;
            }
        }
        &order[..found]
    }

    /// The blocks that the root leads to: each after those it leads to.
    pub(super) fn leaves_up(&mut self, blocks: &Blocks) -> &[BlockId] {
        self.walk(blocks, First::Yes, Note::After)
    }
}
