//! What leads to what: levels, dominators of blocks and of ways, and which registers are read later.

use super::{A, Edge, Reducer, X, word};
use crate::filter::blocks::{BlockId, NONE, NOP};
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
#[derive(Debug, Default)]
pub(super) struct BitRows {
    words: usize,
    bits: Vec<u64>,
}

impl BitRows {
    /// Makes so many rows, with all bits set.
    fn fill(&mut self, rows: usize, columns: usize) {
        self.words = columns.div_ceil(64);
        self.bits.clear();
        self.bits.resize(rows * self.words, u64::MAX);
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

/// The level of a block that the walk has not reached, and of one whose level is not known yet.
const UNSEEN: u32 = u32::MAX;
const OPEN: u32 = u32::MAX - 1;

impl Reducer<'_> {
    /// Numbers the blocks in the order of a walk from the root that goes to `yes` first.
    pub(super) fn number(&mut self) {
        // Only the `no` ways wait on the stack, once for each block.
        let (mut depth, mut count) = (0, 0);
        let mut id = self.blocks.root;
        loop {
            let known = &mut self.known[id as usize];
            let block = &self.blocks.list[id as usize];
            if known.number == NONE {
                known.number = count as u32;
                self.lists.numbered[count] = id;
                count += 1;
                if !block.is_leaf() {
                    self.lists.stack[depth] = block.no;
                    depth += 1;
                    id = block.yes;
                    continue;
                }
            }
            if depth == 0 {
                break;
            }
            depth -= 1;
            id = self.lists.stack[depth];
        }
        self.count = count;
    }

    /// Finds the levels of blocks: a block is one above the higher of those that it leads to.
    pub(super) fn find_levels(&mut self) {
        for known in &mut self.known {
            known.level = UNSEEN;
        }
        self.levels = 0;
        let (mut id, mut depth) = (self.blocks.root, 0);
        loop {
            // Down along `yes`, to a block whose level can be told.
            while self.known[id as usize].level == UNSEEN {
                let yes = self.blocks.list[id as usize].yes;
                if yes == NONE {
                    self.set_level(id, 0);
                    break;
                }
                self.known[id as usize].level = OPEN;
                self.lists.stack[depth] = id << 1;
                depth += 1;
                id = yes;
            }
            // Up, past blocks of which both ways were gone, to one whose `no` was not.
            loop {
                if depth == 0 {
                    self.list_walk();
                    return;
                }
                let top = self.lists.stack[depth - 1];
                let block = &self.blocks.list[top as usize >> 1];
                if top & 1 == 0 {
                    self.lists.stack[depth - 1] = top | 1;
                    id = block.no;
                    break;
                }
                let of = |to: BlockId| self.known[to as usize].level;
                let level = 1 + of(block.yes).max(of(block.no));
                self.set_level(top >> 1, level);
                depth -= 1;
            }
        }
    }

    fn set_level(&mut self, id: BlockId, level: u32) {
        let known = &mut self.known[id as usize];
        known.level = level;
        // A level has its blocks' successors below it: it is at most one more than there are.
        if self.levels <= level as usize {
            self.levels += 1;
            self.lists.first[level as usize] = NONE;
        }
        let first = &mut self.lists.first[level as usize];
        known.next = core::mem::replace(first, id);
    }

    /// Lists the blocks by level, the root's first.
    fn list_walk(&mut self) {
        self.walked = 0;
        for level in (0..self.levels).rev() {
            let mut id = self.lists.first[level];
            while id != NONE {
                self.lists.walk[self.walked] = id;
                self.walked += 1;
                id = self.known[id as usize].next;
            }
        }
    }

    /// Finds what dominates what in the shape as it is, unless that is known.
    pub(super) fn know_dominators(&mut self) {
        if !self.dominated {
            self.dominators.fill(3 * self.count, 2 * self.count);
            if self.count <= 32 {
                self.find_few_dominators();
            } else {
                self.find_dominators();
                self.find_edge_dominators();
            }
            self.dominated = true;
        }
    }

    /// The same as [`Self::find_dominators`] and [`Self::find_edge_dominators`], where a row is one word.
    fn find_few_dominators(&mut self) {
        let count = self.count;
        let rows = &mut self.dominators.bits[..3 * count];
        let root = self.known[self.blocks.root as usize].number as usize;
        for row in [root, count + root, 2 * count + root] {
            rows[row] = 0;
        }
        for from in &self.lists.walk[..self.walked] {
            let block = self.blocks.block(*from);
            let number = self.known[*from as usize].number as usize;
            rows[2 * count + number] |= 1 << number;
            if block.is_leaf() {
                continue;
            }
            for (row, to) in [(number, block.yes), (count + number, block.no)] {
                rows[row] |= 1 << row;
                let next = self.known[to as usize].number as usize;
                let (way, block) = (rows[row], rows[2 * count + number]);
                rows[next] &= way;
                rows[count + next] &= way;
                rows[2 * count + next] &= block;
            }
        }
    }

    fn find_dominators(&mut self) {
        let first = self.first_block_row();
        let row = |id: BlockId| first + self.known[id as usize].number as usize;
        self.dominators.clear(row(self.blocks.root));
        for id in &self.lists.walk[..self.walked] {
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
        2 * self.count
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
        let number = self.known[edge.from() as usize].number as usize;
        if edge.yes() {
            number
        } else {
            self.count + number
        }
    }

    pub(super) fn numbered_edge(&self, number: usize) -> Edge {
        if number < self.count {
            Edge::new(self.lists.numbered[number], true)
        } else {
            Edge::new(self.lists.numbered[number - self.count], false)
        }
    }

    fn find_edge_dominators(&mut self) {
        for yes in [true, false] {
            let row = self.edge_number(Edge::new(self.blocks.root, yes));
            self.dominators.clear(row);
        }
        let count = self.count;
        for from in &self.lists.walk[..self.walked] {
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
        for at in (0..self.walked).rev() {
            let id = self.lists.walk[at];
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

    /// Lists the ways into each block.
    pub(super) fn find_ways_in(&mut self) {
        for known in &mut self.known {
            known.into = Edge::NONE;
        }
        for from in &self.lists.walk[..self.walked] {
            let block = self.blocks.block(*from);
            if block.is_leaf() {
                continue;
            }
            for (yes, to) in [(true, block.yes), (false, block.no)] {
                let edge = Edge::new(*from, yes);
                let latest = &mut self.known[to as usize].into;
                self.lists.earlier[edge.0 as usize] = core::mem::replace(latest, edge).0;
            }
        }
    }
}
