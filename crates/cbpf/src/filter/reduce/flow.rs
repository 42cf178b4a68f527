//! What leads to what: levels, dominators of blocks and of ways, and which registers are read later.

use super::{A, Edge, Reducer, X, word};
use crate::filter::blocks::{Block, BlockId, First, NONE, NOP, Note};
use crate::insn::{Insn, MISC, RET, TXA};
use alloc::vec::Vec;
use skep_isa::opcode::{ALU, IND, JMP, LD, LDX, MEM, ST, STX};

/// Sets of registers and words of a block, a bit each.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Atoms {
    /// Read in the block, before they are written.
    pub(super) own: u32,
    /// Read in the block or later, before they are written.
    pub(super) used: u32,
    /// Written before they are read.
    pub(super) killed: u32,
    /// Read after the block.
    pub(super) used_after: u32,
}

/// What an instruction reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reads {
    Nothing,
    One(usize),
    Both,
}

/// Rows of bits.
#[derive(Debug)]
pub(super) struct BitRows {
    words: usize,
    bits: Vec<u64>,
}

impl BitRows {
    pub(super) fn new(rows: usize, columns: usize) -> Self {
        let words = columns.div_ceil(64);
        Self {
            words,
            bits: alloc::vec![0; rows * words],
        }
    }

    pub(super) fn fill(&mut self) {
        self.bits.fill(u64::MAX);
    }

    fn row(&self, row: usize) -> &[u64] {
        &self.bits[row * self.words..(row + 1) * self.words]
    }

    fn clear(&mut self, row: usize) {
        self.bits[row * self.words..(row + 1) * self.words].fill(0);
    }

    fn insert(&mut self, row: usize, bit: usize) {
        self.bits[row * self.words + bit / 64] |= 1 << (bit % 64);
    }

    fn has(&self, row: usize, bit: usize) -> bool {
        self.bits[row * self.words + bit / 64] & (1 << (bit % 64)) != 0
    }

    fn intersect(&mut self, row: usize, with: usize) {
        if self.words == 1 {
            self.bits[row] &= self.bits[with];
            return;
        }
        for word in 0..self.words {
            self.bits[row * self.words + word] &= self.bits[with * self.words + word];
        }
    }
}

const CLASS: u16 = 0x07;
const MODE: u16 = 0xe0;
/// The operand is X.
const SOURCE_X: u16 = 0x08;

/// What an instruction reads.
pub(super) fn reads(insn: Insn) -> Reads {
    if insn.code == NOP {
        return Reads::Nothing;
    }
    let class = (insn.code & CLASS) as u8;
    let mode = (insn.code & MODE) as u8;
    match class {
        LD | LDX if mode == IND => Reads::One(X),
        LD | LDX if mode == MEM => Reads::One(word(insn.k)),
        LD | LDX | RET => Reads::Nothing,
        ST => Reads::One(A),
        STX => Reads::One(X),
        JMP | ALU if insn.code & SOURCE_X != 0 => Reads::Both,
        MISC if insn.code & 0xf8 == u16::from(TXA) => Reads::One(X),
        _ => Reads::One(A),
    }
}

/// What an instruction writes.
pub(super) fn writes(insn: Insn) -> Option<usize> {
    if insn.code == NOP {
        return None;
    }
    match (insn.code & CLASS) as u8 {
        LD | ALU => Some(A),
        LDX => Some(X),
        ST | STX => Some(word(insn.k)),
        MISC if insn.code & 0xf8 == u16::from(TXA) => Some(A),
        MISC => Some(X),
        _ => None,
    }
}

impl Reducer<'_> {
    /// Numbers the blocks in the order of a walk from the root that goes to `yes` first.
    pub(super) fn number(&mut self) {
        let order = self.walker.walk(&self.blocks, First::Yes, Note::Before);
        self.numbered.extend_from_slice(order);
        for (number, id) in order.iter().enumerate() {
            self.known[*id as usize].number = number as u32;
        }
    }

    pub(super) fn find_levels(&mut self) {
        self.levels.clear();
        let order = self.walker.leaves_up(&self.blocks);
        for id in order {
            let block = self.blocks.block(*id);
            let level = if block.is_leaf() {
                0
            } else {
                let of = |to: BlockId| self.known[to as usize].level;
                1 + of(block.yes).max(of(block.no))
            };
            self.known[*id as usize].level = level;
            // A level has its block's successors below it: it is at most one more than there are.
            if self.levels.len() <= level as usize {
                self.levels.push(0..0);
            }
            self.levels[level as usize].end += 1;
        }
        let mut start = 0;
        for level in self.levels.iter_mut().rev() {
            let count = level.end;
            // The end goes back to where it belongs as blocks are put in their places, the last found first.
            *level = start..start;
            start += count;
        }
        self.walk.clear();
        self.walk.resize(order.len(), NONE);
        for id in order.iter().rev() {
            let level = &mut self.levels[self.known[*id as usize].level as usize];
            self.walk[level.end as usize] = *id;
            level.end += 1;
        }
    }

    pub(super) fn find_dominators(&mut self) {
        let first = self.first_block_row();
        let row = |id: BlockId| first + self.known[id as usize].number as usize;
        self.dominators.clear(row(self.blocks.root));
        for id in &self.walk {
            let this = row(*id);
            self.dominators.insert(this, this - first);
            let block = self.blocks.block(*id);
            if !block.is_leaf() {
                self.dominators.intersect(row(block.yes), this);
                self.dominators.intersect(row(block.no), this);
            }
        }
    }

    /// Where the rows of blocks begin: after those of ways.
    fn first_block_row(&self) -> usize {
        2 * self.numbered.len()
    }

    /// Whether all ways from the root to a block pass another.
    pub(super) fn dominates(&self, by: BlockId, id: BlockId) -> bool {
        let number = |id: BlockId| self.known[id as usize].number as usize;
        let row = self.first_block_row() + number(id);
        self.dominators.has(row, number(by))
    }

    /// The numbers of the ways that dominate a way, a bit each.
    pub(super) fn way_dominators(&self, row: usize) -> &[u64] {
        self.dominators.row(row)
    }

    /// The number of a way: those taken when a comparison holds come first.
    pub(super) fn edge_number(&self, edge: Edge) -> usize {
        let number = self.known[edge.from as usize].number as usize;
        if edge.yes {
            number
        } else {
            self.numbered.len() + number
        }
    }

    pub(super) fn numbered_edge(&self, number: usize) -> Edge {
        let yes = number < self.numbered.len();
        let at = if yes {
            number
        } else {
            number - self.numbered.len()
        };
        Edge {
            from: self.numbered[at],
            yes,
        }
    }

    pub(super) fn find_edge_dominators(&mut self) {
        for yes in [true, false] {
            let from = self.blocks.root;
            let row = self.edge_number(Edge { from, yes });
            self.dominators.clear(row);
        }
        let count = self.numbered.len();
        for from in &self.walk {
            let block = self.blocks.block(*from);
            let number = self.known[*from as usize].number as usize;
            for (row, to) in [(number, block.yes), (count + number, block.no)] {
                self.dominators.insert(row, row);
                if to != NONE {
                    let next = self.known[to as usize].number as usize;
                    self.dominators.intersect(next, row);
                    self.dominators.intersect(count + next, row);
                }
            }
        }
    }

    /// Finds which registers and words are read after each block.
    pub(super) fn find_uses(&mut self) {
        for at in (0..self.walk.len()).rev() {
            let id = self.walk[at];
            // Nothing was changed in a settled block since its own uses were found.
            let mut atoms = match self.known[id as usize].settled {
                Some(_) => self.known[id as usize].atoms,
                None => self.own_uses(id),
            };
            let block = self.blocks.block(id);
            if !block.is_leaf() {
                let of = |to: BlockId| self.known[to as usize].atoms.used;
                atoms.used_after = of(block.yes) | of(block.no);
                atoms.used = atoms.own | atoms.used_after & !atoms.killed;
            }
            self.known[id as usize].atoms = atoms;
        }
    }

    fn own_uses(&self, id: BlockId) -> Atoms {
        let (mut used, mut killed, mut written) = (0u32, 0u32, 0u32);
        let mut read = |insn: Insn, written: u32| match reads(insn) {
            Reads::Nothing => used,
            Reads::One(atom) => {
                used |= (1 << atom) & !written;
                used
            }
            Reads::Both => {
                used |= (1 << A | 1 << X) & !written;
                used
            }
        };
        for insn in self.blocks.insns_of(id) {
            let used = read(*insn, written);
            if let Some(atom) = writes(*insn) {
                killed |= (1 << atom) & !used;
                written |= 1 << atom;
            }
        }
        let block = self.blocks.block(id);
        if !block.is_leaf() {
            read(Insn::new(block.code, block.k), written);
        }
        Atoms {
            own: used,
            used,
            killed,
            used_after: 0,
        }
    }

    pub(super) fn find_ways_in(&mut self) {
        for known in &mut self.known {
            known.into = (0, 0);
        }
        let ends = |block: &Block| [(true, block.yes), (false, block.no)];
        for from in &self.walk {
            for (_, to) in ends(self.blocks.block(*from)) {
                if to != NONE {
                    self.known[to as usize].into.1 += 1;
                }
            }
        }
        let mut start = 0;
        for known in &mut self.known {
            start += known.into.1;
            // The start goes back to where it belongs as ways are put in their places: the latest is the first.
            known.into = (start, start);
        }
        let nowhere = Edge {
            from: NONE,
            yes: false,
        };
        self.ways.clear();
        self.ways.resize(start as usize, nowhere);
        for from in &self.walk {
            for (yes, to) in ends(self.blocks.block(*from)) {
                if to != NONE {
                    let (start, _) = &mut self.known[to as usize].into;
                    *start -= 1;
                    self.ways[*start as usize] = Edge { from: *from, yes };
                }
            }
        }
    }

    /// The ways into a block, the latest first.
    pub(super) fn ways_into(&self, id: BlockId) -> &[Edge] {
        let (start, end) = self.known[id as usize].into;
        &self.ways[start as usize..end as usize]
    }
}
