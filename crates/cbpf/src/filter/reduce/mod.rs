//! Makes blocks fewer and shorter as libpcap does, with the same result for the same blocks.
//!
//! Why: a load past the end of a packet rejects it, so which loads a filter makes is visible. What is left out here
//! defines what a filter means for packets that are cut; later stages leave out nothing that a packet could tell.
//!
//! The stages of a round, repeated until nothing changes: [`flow`] finds what dominates what and which registers are
//! read later; [`local`] improves the instructions of each block with numbered [`values`]; [`ways`] lets jumps skip
//! comparisons whose outcome is known, and moves comparisons of one value together.

mod flow;
mod local;
mod same;
mod values;
mod ways;

use super::blocks::{BlockId, Blocks, Walker};
use crate::insn::{Insn, Op};
use alloc::vec::Vec;
use core::ops::Range;
use flow::{Atoms, BitRows};
use values::{UNKNOWN, Values};

/// Most rounds in which only ways change; libpcap stops there, too.
const ROUNDS_MAX: u32 = 100;
/// Most rounds of all: for some expressions there is no end to the changes.
const CHANGES_MAX: u32 = 1000;
/// Most blocks that are reduced: the sets kept for each way grow with the square of their number.
pub(crate) const BLOCKS_MAX: usize = 2048;

/// Registers and scratch words: A, X, then `M[0]` to `M[15]`.
pub(super) const ATOMS: usize = 18;
pub(super) const A: usize = 0;
pub(super) const X: usize = 1;

/// A scratch word.
pub(super) fn word(k: u32) -> usize {
    2 + (k as usize & 15)
}

/// Whether statements are changed, or only ways.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Ways,
    Statements,
}

/// What is known of a block in one round.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Place in the order of a walk from the root, at the start.
    number: u32,
    level: u32,
    /// Where the ways into it begin and end.
    into: (u32, u32),
    atoms: Atoms,
    /// Number of the value compared with.
    operand: u32,
    /// There is nothing to change as long as the values at its start are the same, and `atoms.used_after` is this.
    settled: Option<u32>,
    /// Nothing but statements.
    pending: bool,
}

/// A way between two blocks: from which, and whether it is the one taken when the comparison holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Edge {
    from: BlockId,
    yes: bool,
}

/// A division by a constant zero, or a shift too long, found on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReduceError {
    DivisionByZero,
    LongShift,
}

pub(super) struct Reducer<'w> {
    blocks: Blocks,
    known: Vec<Known>,
    /// Blocks by level, the root's first; level 0, the last, has the returns.
    walk: Vec<BlockId>,
    /// Where each level begins in `walk`, and after them where it ends.
    levels: Vec<Range<u32>>,
    /// Blocks in the order of a walk from the root, at the start.
    numbered: Vec<BlockId>,
    /// Ways into all blocks, one block after the other, the latest first.
    ways: Vec<Edge>,
    /// What dominates each way, by the numbers of ways; then what dominates each block, by the numbers of blocks.
    dominators: BitRows,
    values: Values,
    /// Numbers of the values in registers and words, [`UNKNOWN`] or not, at the start of each block, and at its end.
    at_start: Vec<u32>,
    at_end: Vec<u32>,
    /// How many registers and words there are: those past the last word that is used are left out.
    atoms: usize,
    /// Scratch memory of walks.
    walker: &'w mut Walker,
    /// Ways changed since levels, dominators and ways in were found.
    reshaped: bool,
    changed: bool,
    /// Something else than the end of a way changed.
    changed_more: bool,
    /// A statement may be changed for the better.
    pending: bool,
    /// The block at hand was changed, or may be when its ways are.
    altered: bool,
}

/// Reduces blocks.
///
/// # Errors
/// An operation with a constant that has no result.
pub(crate) fn reduce(blocks: Blocks, walker: &mut Walker) -> Result<Blocks, ReduceError> {
    let mut reducer = Reducer::new(blocks, walker);
    reducer.rounds(Depth::Ways)?;
    if reducer.pending || reducer.changed || reducer.reshaped {
        reducer.rounds(Depth::Statements)?;
    }
    reducer.merge_same();
    reducer.settle_root();
    Ok(reducer.blocks)
}

/// The end of the registers and words that an instruction may name.
fn past(insn: Insn) -> usize {
    match insn.op() {
        Some(Op::LoadMem | Op::LoadXMem | Op::Store | Op::StoreX) => word(insn.k) + 1,
        _ => X + 1,
    }
}

impl<'w> Reducer<'w> {
    fn new(blocks: Blocks, walker: &'w mut Walker) -> Self {
        let count = blocks.list.len();
        let nothing = Known {
            number: 0,
            level: 0,
            into: (0, 0),
            atoms: Atoms::default(),
            operand: 0,
            settled: None,
            pending: false,
        };
        let atoms = blocks.insns.iter().map(|i| past(*i)).max().unwrap_or(X + 1);
        let mut reducer = Self {
            known: alloc::vec![nothing; count],
            walk: Vec::with_capacity(count),
            levels: Vec::with_capacity(count.min(16)),
            numbered: Vec::with_capacity(count),
            ways: Vec::with_capacity(2 * count),
            dominators: BitRows::new(3 * count, 2 * count),
            values: Values::new(blocks.insns.len() + count),
            at_start: alloc::vec![UNKNOWN; count * atoms],
            at_end: alloc::vec![UNKNOWN; count * atoms],
            atoms,
            walker,
            reshaped: true,
            changed: false,
            changed_more: false,
            pending: false,
            altered: false,
            blocks,
        };
        reducer.number();
        reducer
    }

    fn rounds(&mut self, depth: Depth) -> Result<(), ReduceError> {
        let mut idle = 0;
        for _ in 0..CHANGES_MAX {
            self.changed = false;
            self.changed_more = false;
            self.pending = false;
            if self.reshaped {
                self.find_levels();
                self.find_ways_in();
            }
            // Statements move no ways, and ask for no dominators.
            if self.reshaped && depth == Depth::Ways {
                self.dominators.fill();
                self.find_dominators();
                self.find_edge_dominators();
            }
            self.reshaped = false;
            self.find_uses();
            self.round(depth)?;
            if !self.changed || idle == ROUNDS_MAX {
                break;
            }
            idle = if self.changed_more { 0 } else { idle + 1 };
        }
        Ok(())
    }

    fn round(&mut self, depth: Depth) -> Result<(), ReduceError> {
        if self.values.is_crowded() {
            self.values.clear();
            for known in &mut self.known {
                known.settled = None;
            }
        }
        for at in 0..self.walk.len() {
            self.improve_block(self.walk[at], depth)?;
        }
        if depth == Depth::Statements {
            return Ok(());
        }
        self.for_each_up(|this, from| {
            this.shorten(Edge { from, yes: true });
            this.shorten(Edge { from, yes: false });
        });
        if self.reshaped {
            self.find_ways_in();
        }
        self.for_each_up(|this, block| {
            this.pull_up(block, true);
            this.pull_up(block, false);
        });
        Ok(())
    }

    /// Calls `act` for every block that does not return, from the lowest level up.
    fn for_each_up(&mut self, mut act: impl FnMut(&mut Self, BlockId)) {
        for level in 1..self.levels.len() {
            for at in self.levels[level].clone() {
                act(self, self.walk[at as usize]);
            }
        }
    }

    /// Where the values of a block stand.
    fn values_of(&self, id: BlockId) -> Range<usize> {
        let start = id as usize * self.atoms;
        start..start + self.atoms
    }

    /// The number of the value in a register or word at the end of a block.
    fn at_end(&self, id: BlockId, atom: usize) -> u32 {
        self.at_end[id as usize * self.atoms + atom]
    }

    fn to(&self, edge: Edge) -> BlockId {
        let block = self.blocks.block(edge.from);
        if edge.yes { block.yes } else { block.no }
    }

    fn set_to(&mut self, edge: Edge, to: BlockId) {
        let block = &mut self.blocks.list[edge.from as usize];
        let way = if edge.yes {
            &mut block.yes
        } else {
            &mut block.no
        };
        self.reshaped |= *way != to;
        *way = to;
    }

    /// Notes a change of instructions or of the shape.
    fn change(&mut self) {
        self.changed = true;
        self.changed_more = true;
        self.altered = true;
    }
}
