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

use super::blocks::{BlockId, Blocks, NONE, Walker};
use crate::insn::{Insn, Op};
use alloc::vec::Vec;
use core::ops::Range;
use flow::{Atoms, BitRows};
use values::Values;

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
    /// The next block of the same level.
    next: BlockId,
    /// The latest way into it.
    into: Edge,
    atoms: Atoms,
    /// Number of the value compared with.
    operand: u32,
    /// There is nothing to change as long as the values at its start are the same, and `atoms.used_after` is this.
    settled: Option<u32>,
    /// Nothing but statements.
    pending: bool,
}

/// A way between two blocks: from which, and in the lowest bit whether it is the one taken when the comparison holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Edge(u32);

impl Edge {
    /// No way.
    const NONE: Self = Self(NONE);

    const fn new(from: BlockId, yes: bool) -> Self {
        Self(from << 1 | yes as u32)
    }

    const fn from(self) -> BlockId {
        self.0 >> 1
    }

    const fn yes(self) -> bool {
        self.0 & 1 != 0
    }
}

/// A division by a constant zero, or a shift too long, found on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReduceError {
    DivisionByZero,
    LongShift,
}

pub(super) struct Reducer<'m> {
    blocks: Blocks,
    known: Vec<Known>,
    lists: Lists<'m>,
    /// Levels there are; the root is alone in the last, level 0 has the returns.
    levels: usize,
    /// Blocks in [`Lists::walk`].
    walked: usize,
    /// Blocks in [`Lists::numbered`].
    count: usize,
    /// What dominates each way, by the numbers of ways; then what dominates each block, by the numbers of blocks.
    dominators: BitRows,
    /// Whether `dominators` are those of the present levels.
    dominated: bool,
    values: Values,
    /// Numbers of the values in registers and words at the place at hand.
    here: [u32; ATOMS],
    /// Where in the block at hand each register and word was written last.
    last: [usize; ATOMS],
    /// How many registers and words there are: those past the last word that is used are left out.
    atoms: usize,
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

/// Lists of blocks, of ways and of values, in one piece of memory.
struct Lists<'m> {
    /// Blocks by level, the root's first.
    walk: &'m mut [BlockId],
    /// The first block of each level.
    first: &'m mut [BlockId],
    /// Blocks in the order of a walk from the root, at the start.
    numbered: &'m mut [BlockId],
    /// The stack of a walk.
    stack: &'m mut [u32],
    /// After each way, by its number: an earlier one into the same block.
    earlier: &'m mut [u32],
    /// Numbers of the values in registers and words, [`UNKNOWN`] or not, at the start of each block, and at its end.
    at_start: &'m mut [u32],
    at_end: &'m mut [u32],
}

/// Reduces blocks.
///
/// # Errors
/// An operation with a constant that has no result.
pub(crate) fn reduce(blocks: Blocks, walker: &mut Walker) -> Result<Blocks, ReduceError> {
    let count = blocks.list.len();
    let atoms = blocks.insns.iter().map(|i| past(*i)).max().unwrap_or(X + 1);
    let memory = walker.memory(count * (6 + 2 * atoms));
    let mut reducer = Reducer::new(blocks, atoms, memory);
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

impl<'m> Lists<'m> {
    /// Lists for so many blocks, of memory for `6 + 2 * atoms` numbers a block, all zero.
    fn new(memory: &'m mut [u32], blocks: usize, atoms: usize) -> Self {
        let (walk, rest) = memory.split_at_mut(blocks);
        let (first, rest) = rest.split_at_mut(blocks);
        let (numbered, rest) = rest.split_at_mut(blocks);
        let (stack, rest) = rest.split_at_mut(blocks);
        let (earlier, rest) = rest.split_at_mut(2 * blocks);
        let (at_start, at_end) = rest.split_at_mut(atoms * blocks);
        Self {
            walk,
            first,
            numbered,
            stack,
            earlier,
            at_start,
            at_end,
        }
    }
}

impl<'m> Reducer<'m> {
    fn new(blocks: Blocks, atoms: usize, memory: &'m mut [u32]) -> Self {
        let count = blocks.list.len();
        let nothing = Known {
            number: NONE,
            level: 0,
            next: NONE,
            into: Edge::NONE,
            atoms: Atoms::default(),
            operand: 0,
            settled: None,
            pending: false,
        };
        let mut reducer = Self {
            known: alloc::vec![nothing; count],
            lists: Lists::new(memory, count, atoms),
            levels: 0,
            walked: 0,
            count: 0,
            dominators: BitRows::default(),
            dominated: false,
            values: Values::new(blocks.insns.len() + count),
            here: [0; ATOMS],
            last: [0; ATOMS],
            atoms,
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
                self.dominated = false;
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
        for at in 0..self.walked {
            self.improve_block(self.lists.walk[at], depth)?;
        }
        // Statements move no ways.
        if depth == Depth::Statements {
            return Ok(());
        }
        self.find_shared();
        self.for_each_up(|this, from| {
            this.shorten(Edge::new(from, true));
            this.shorten(Edge::new(from, false));
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
        for level in 1..self.levels {
            let mut id = self.lists.first[level];
            while id != NONE {
                act(self, id);
                id = self.known[id as usize].next;
            }
        }
    }

    /// Notes which values are in A at the end of several blocks.
    fn find_shared(&mut self) {
        self.values.forget_holders();
        for at in 0..self.walked {
            let id = self.lists.walk[at];
            if !self.blocks.block(id).is_leaf() {
                let value = self.at_end(id, A);
                self.values.hold(value);
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
        self.lists.at_end[id as usize * self.atoms + atom]
    }

    fn to(&self, edge: Edge) -> BlockId {
        let block = self.blocks.block(edge.from());
        if edge.yes() { block.yes } else { block.no }
    }

    fn set_to(&mut self, edge: Edge, to: BlockId) {
        let block = &mut self.blocks.list[edge.from() as usize];
        let way = if edge.yes() {
            &mut block.yes
        } else {
            &mut block.no
        };
        self.reshaped |= *way != to;
        *way = to;
    }

    /// The ways into a block, the latest first.
    fn ways_into(&self, id: BlockId) -> impl Iterator<Item = Edge> {
        let mut edge = self.known[id as usize].into;
        core::iter::from_fn(move || {
            let this = edge;
            if this == Edge::NONE {
                return None;
            }
            edge = Edge(self.lists.earlier[this.0 as usize]);
            Some(this)
        })
    }

    /// Notes a change of instructions or of the shape.
    fn change(&mut self) {
        self.changed = true;
        self.changed_more = true;
        self.altered = true;
    }
}
