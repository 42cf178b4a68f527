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

use super::blocks::{BlockId, Blocks};
use alloc::vec::Vec;
use flow::{Atoms, BitRows};
use values::Values;

/// Most rounds in which only ways change; libpcap stops there, too.
const ROUNDS_MAX: u32 = 100;
/// Most rounds of all: for some expressions there is no end to the changes.
const CHANGES_MAX: u32 = 1000;
/// Most blocks that are reduced: the sets kept for each way grow with the square of their number.
pub(crate) const BLOCKS_MAX: usize = 2048;

/// Registers and scratch words: `M[0]` to `M[15]`, then A, then X.
pub(super) const ATOMS: usize = 18;
pub(super) const A: usize = 16;
pub(super) const X: usize = 17;

/// Whether statements are changed, or only ways.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Ways,
    Statements,
}

/// What is known of a block in one round.
#[derive(Clone, Copy, Debug)]
struct Known {
    level: u32,
    atoms: Atoms,
    /// Numbers of the values in registers and words at the end; 0 is unknown.
    values: [u32; ATOMS],
    /// Number of the value compared with.
    operand: u32,
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

pub(super) struct Reducer {
    blocks: Blocks,
    known: Vec<Known>,
    /// Blocks by level: 0 has the returns.
    levels: Vec<Vec<BlockId>>,
    /// Blocks in the order of a walk from the root, at the start.
    numbered: Vec<BlockId>,
    numbers: Vec<u32>,
    into: Vec<Vec<Edge>>,
    dominators: BitRows,
    edge_dominators: BitRows,
    values: Values,
    changed: bool,
    /// Something else than the end of a way changed.
    changed_more: bool,
}

/// Reduces blocks.
///
/// # Errors
/// An operation with a constant that has no result.
pub(crate) fn reduce(blocks: Blocks) -> Result<Blocks, ReduceError> {
    let mut reducer = Reducer::new(blocks);
    reducer.rounds(Depth::Ways)?;
    reducer.rounds(Depth::Statements)?;
    reducer.merge_same();
    reducer.settle_root();
    Ok(reducer.blocks)
}

impl Reducer {
    fn new(blocks: Blocks) -> Self {
        let count = blocks.list.len();
        let nothing = Known {
            level: 0,
            atoms: Atoms::default(),
            values: [0; ATOMS],
            operand: 0,
        };
        let mut reducer = Self {
            known: alloc::vec![nothing; count],
            levels: Vec::new(),
            numbered: Vec::new(),
            numbers: alloc::vec![0; count],
            into: alloc::vec![Vec::new(); count],
            dominators: BitRows::new(count, count),
            edge_dominators: BitRows::new(2 * count, 2 * count),
            values: Values::new(blocks.insns.len() + count),
            changed: false,
            changed_more: false,
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
            self.find_levels();
            self.find_dominators();
            self.find_uses();
            self.find_edge_dominators();
            self.round(depth)?;
            if !self.changed || idle == ROUNDS_MAX {
                break;
            }
            idle = if self.changed_more { 0 } else { idle + 1 };
        }
        Ok(())
    }

    fn round(&mut self, depth: Depth) -> Result<(), ReduceError> {
        self.values.clear();
        self.find_ways_in();
        for level in (0..self.levels.len()).rev() {
            for at in 0..self.levels[level].len() {
                self.improve_block(self.levels[level][at], depth)?;
            }
        }
        if depth == Depth::Statements {
            return Ok(());
        }
        for level in 1..self.levels.len() {
            for at in 0..self.levels[level].len() {
                let from = self.levels[level][at];
                self.shorten(Edge { from, yes: true });
                self.shorten(Edge { from, yes: false });
            }
        }
        self.find_ways_in();
        for level in 1..self.levels.len() {
            for at in 0..self.levels[level].len() {
                let block = self.levels[level][at];
                self.pull_up(block, true);
                self.pull_up(block, false);
            }
        }
        Ok(())
    }

    fn to(&self, edge: Edge) -> BlockId {
        let block = self.blocks.block(edge.from);
        if edge.yes { block.yes } else { block.no }
    }

    fn set_to(&mut self, edge: Edge, to: BlockId) {
        let block = &mut self.blocks.list[edge.from as usize];
        if edge.yes {
            block.yes = to;
        } else {
            block.no = to;
        }
    }

    /// Notes a change of instructions or of the shape.
    fn change(&mut self) {
        self.changed = true;
        self.changed_more = true;
    }
}
