//! What leads to what: levels, dominators of blocks and of ways, and which registers are read later.

use super::{A, Edge, Reducer, X};
use crate::filter::blocks::{BlockId, NONE, NOP};
use crate::insn::{Insn, MISC, RET, TXA};
use alloc::vec::Vec;
use skep_isa::opcode::{ALU, IND, JMP, LD, LDX, MEM, ST, STX};

/// Sets of registers and words of a block, a bit each.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Atoms {
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

    fn fill(&mut self) {
        self.bits.fill(u64::MAX);
    }

    pub(super) fn row(&self, row: usize) -> &[u64] {
        &self.bits[row * self.words..(row + 1) * self.words]
    }

    fn clear(&mut self, row: usize) {
        self.bits[row * self.words..(row + 1) * self.words].fill(0);
    }

    fn insert(&mut self, row: usize, bit: usize) {
        self.bits[row * self.words + bit / 64] |= 1 << (bit % 64);
    }

    pub(super) fn has(&self, row: usize, bit: usize) -> bool {
        self.bits[row * self.words + bit / 64] & (1 << (bit % 64)) != 0
    }

    fn intersect(&mut self, row: usize, with: usize) {
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
        LD | LDX if mode == MEM => Reads::One(insn.k as usize & 15),
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
        ST | STX => Some(insn.k as usize & 15),
        MISC if insn.code & 0xf8 == u16::from(TXA) => Some(A),
        MISC => Some(X),
        _ => None,
    }
}

impl Reducer {
    /// Numbers the blocks in the order of a walk from the root that goes to `yes` first.
    pub(super) fn number(&mut self) {
        let mut seen = alloc::vec![false; self.blocks.list.len()];
        let mut stack = alloc::vec![self.blocks.root];
        while let Some(id) = stack.pop() {
            if id == NONE || seen[id as usize] {
                continue;
            }
            seen[id as usize] = true;
            self.numbers[id as usize] = self.numbered.len() as u32;
            self.numbered.push(id);
            let block = self.blocks.block(id);
            stack.push(block.no);
            stack.push(block.yes);
        }
    }

    pub(super) fn find_levels(&mut self) {
        for level in &mut self.levels {
            level.clear();
        }
        let mut top = 0;
        for id in self.blocks.leaves_up() {
            let block = self.blocks.block(id);
            let level = if block.is_leaf() {
                0
            } else {
                let of = |to: BlockId| self.known[to as usize].level;
                1 + of(block.yes).max(of(block.no))
            };
            self.known[id as usize].level = level;
            if self.levels.len() <= level as usize {
                self.levels.resize_with(level as usize + 1, Vec::new);
            }
            self.levels[level as usize].push(id);
            top = top.max(level as usize);
        }
        self.levels.truncate(top + 1);
        for level in &mut self.levels {
            level.reverse();
        }
    }

    pub(super) fn find_dominators(&mut self) {
        let number = |this: &Self, id: BlockId| this.numbers[id as usize] as usize;
        self.dominators.fill();
        let root = number(self, self.blocks.root);
        self.dominators.clear(root);
        for level in (0..self.levels.len()).rev() {
            for at in 0..self.levels[level].len() {
                let id = self.levels[level][at];
                let this = number(self, id);
                self.dominators.insert(this, this);
                let block = self.blocks.block(id);
                if !block.is_leaf() {
                    let (yes, no) = (number(self, block.yes), number(self, block.no));
                    self.dominators.intersect(yes, this);
                    self.dominators.intersect(no, this);
                }
            }
        }
    }

    /// The number of a way: those taken when a comparison holds come first.
    pub(super) fn edge_number(&self, edge: Edge) -> usize {
        let number = self.numbers[edge.from as usize] as usize;
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
        self.edge_dominators.fill();
        for yes in [true, false] {
            let from = self.blocks.root;
            let row = self.edge_number(Edge { from, yes });
            self.edge_dominators.clear(row);
        }
        for level in (0..self.levels.len()).rev() {
            for at in 0..self.levels[level].len() {
                let from = self.levels[level][at];
                for yes in [true, false] {
                    let edge = Edge { from, yes };
                    let row = self.edge_number(edge);
                    self.edge_dominators.insert(row, row);
                    let to = self.to(edge);
                    if to != NONE {
                        for next in [true, false] {
                            let next = self.edge_number(Edge {
                                from: to,
                                yes: next,
                            });
                            self.edge_dominators.intersect(next, row);
                        }
                    }
                }
            }
        }
    }

    /// Finds which registers and words are read after each block.
    pub(super) fn find_uses(&mut self) {
        for level in 0..self.levels.len() {
            for at in 0..self.levels[level].len() {
                let id = self.levels[level][at];
                let mut atoms = self.own_uses(id);
                let block = self.blocks.block(id);
                if !block.is_leaf() {
                    let of = |to: BlockId| self.known[to as usize].atoms.used;
                    atoms.used_after = of(block.yes) | of(block.no);
                    atoms.used |= atoms.used_after & !atoms.killed;
                }
                self.known[id as usize].atoms = atoms;
            }
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
            used,
            killed,
            used_after: 0,
        }
    }

    pub(super) fn find_ways_in(&mut self) {
        for ways in &mut self.into {
            ways.clear();
        }
        for level in (1..self.levels.len()).rev() {
            for at in 0..self.levels[level].len() {
                let from = self.levels[level][at];
                for yes in [true, false] {
                    let edge = Edge { from, yes };
                    let to = self.to(edge);
                    self.into[to as usize].push(edge);
                }
            }
        }
        // The latest first.
        for ways in &mut self.into {
            ways.reverse();
        }
    }
}
