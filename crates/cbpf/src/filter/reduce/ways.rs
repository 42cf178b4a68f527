//! Lets ways skip comparisons whose outcome is known, and moves comparisons of one value together.

use super::{A, Edge, Reducer};
use crate::filter::blocks::{BlockId, NONE};
use crate::insn::Relation;
use skep_isa::opcode::{JMP, K};

impl Reducer<'_> {
    /// Whether a register or word that is read after `to` would have another value if `from` went on there.
    fn conflict(&self, from: BlockId, to: BlockId) -> bool {
        let mut used = self.known[to as usize].atoms.used_after;
        while used != 0 {
            let atom = used.trailing_zeros() as usize;
            used &= used - 1;
            if self.at_end(from, atom) != self.at_end(to, atom) {
                return true;
            }
        }
        false
    }

    /// Moves the end of a way past comparisons that it decides.
    pub(super) fn shorten(&mut self, edge: Edge) {
        let to = self.to(edge);
        let block = self.blocks.block(to);
        if block.is_leaf() {
            return;
        }
        if block.yes == block.no && !self.conflict(edge.from(), block.yes) {
            let next = block.yes;
            self.know_dominators();
            self.set_to(edge, next);
            self.change();
        }
        let row = self.edge_number(edge);
        'top: loop {
            // A comparison of a value that no other block compares is not decided.
            if !self.values.is_shared(self.at_end(self.to(edge), A)) {
                return;
            }
            self.know_dominators();
            for word in 0..self.way_dominators(row).len() {
                let mut bits = self.way_dominators(row)[word];
                while bits != 0 {
                    let number = word * 64 + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    if number >= 2 * self.count {
                        break;
                    }
                    let Some(next) = self.decided(self.to(edge), self.numbered_edge(number)) else {
                        continue;
                    };
                    if self.conflict(edge.from(), next) {
                        continue;
                    }
                    self.set_to(edge, next);
                    self.changed = true;
                    if self.blocks.block(next).is_leaf() {
                        return;
                    }
                    continue 'top;
                }
            }
            return;
        }
    }

    /// Where a block goes after a way that was taken, if that way decides it.
    fn decided(&self, id: BlockId, taken: Edge) -> Option<BlockId> {
        let (block, other) = (self.blocks.block(id), self.blocks.block(taken.from()));
        if block.code != other.code || self.at_end(id, A) != self.at_end(taken.from(), A) {
            return None;
        }
        if self.known[id as usize].operand == self.known[taken.from() as usize].operand {
            return Some(if taken.yes() { block.yes } else { block.no });
        }
        let equality = block.code == JMP | Relation::Eq.code() | K;
        (taken.yes() && equality).then_some(block.no)
    }

    /// In a chain of alternatives (those that leave when they hold, or else those that leave when they do not), moves
    /// a comparison of the value that is at hand up to where that value is.
    pub(super) fn pull_up(&mut self, id: BlockId, when_holds: bool) {
        let Some(first) = self.ways_into(id).next() else {
            return;
        };
        let at_hand = self.at_end(first.from(), A);
        if !self.values.is_shared(at_hand)
            || (self.ways_into(id)).any(|way| self.at_end(way.from(), A) != at_hand)
        {
            return;
        }
        let leaves = |this: &Self, b: BlockId| {
            let block = this.blocks.block(b);
            if when_holds { block.yes } else { block.no }
        };
        let exit = leaves(self, id);
        if exit == NONE {
            return;
        }
        let in_chain =
            |this: &Self, b: BlockId| b != NONE && leaves(this, b) == exit && this.dominates(id, b);
        self.know_dominators();
        let goes_on = |from: BlockId| Edge::new(from, !when_holds);
        let yes = self.blocks.block(first.from()).yes == id;
        let mut other = Edge::new(first.from(), yes);
        let mut at_top = true;
        loop {
            let at = self.to(other);
            if !in_chain(self, at) {
                return;
            }
            if self.at_end(at, A) != at_hand {
                break;
            }
            other = goes_on(at);
            at_top = false;
        }
        let mut same = goes_on(self.to(other));
        loop {
            let at = self.to(same);
            if !in_chain(self, at) {
                return;
            }
            if self.at_end(at, A) == at_hand {
                break;
            }
            same = goes_on(at);
        }
        let pulled = self.to(same);
        let after = self.to(goes_on(pulled));
        let below = self.to(other);
        self.set_to(same, after);
        self.set_to(goes_on(pulled), below);
        if at_top {
            let mut way = first;
            while way != Edge::NONE {
                let yes = self.blocks.block(way.from()).yes == id;
                self.set_to(Edge::new(way.from(), yes), pulled);
                way = Edge(self.lists.earlier[way.0 as usize]);
            }
        } else {
            self.set_to(other, pulled);
        }
        self.changed = true;
    }
}
