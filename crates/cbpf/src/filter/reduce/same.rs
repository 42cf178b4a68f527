//! Merges blocks with the same code and the same ways on.

use super::Reducer;
use crate::filter::blocks::{BlockId, Blocks, NONE, NOP};
use crate::insn::{Insn, RET};
use alloc::vec::Vec;
use skep_isa::opcode::JMP;

impl Reducer<'_> {
    /// Merges equal blocks until none are.
    pub(super) fn merge_same(&mut self) {
        // Order and numbers of the rounds are done with.
        let mut kept = core::mem::take(&mut self.walk);
        let mut instead = core::mem::take(&mut self.numbered);
        instead.clear();
        instead.resize(self.blocks.list.len(), NONE);
        loop {
            // Leaves first, so that what equal ways lead to is one block already.
            kept.clear();
            let mut merged = false;
            for id in self.walker.leaves_up(&self.blocks) {
                match kept.iter().find(|other| same(&self.blocks, *id, **other)) {
                    Some(other) => {
                        instead[*id as usize] = *other;
                        merged = true;
                    }
                    None => kept.push(*id),
                }
            }
            if !merged {
                return;
            }
            for block in &mut self.blocks.list {
                for to in [&mut block.yes, &mut block.no] {
                    if *to != NONE && instead[*to as usize] != NONE {
                        *to = instead[*to as usize];
                    }
                }
            }
        }
    }

    /// The root, if it decides nothing, is left out; its instructions move to the block that is the root then.
    pub(super) fn settle_root(&mut self) {
        let first = self.blocks.root;
        loop {
            let root = self.blocks.block(self.blocks.root);
            if root.code & 7 != JMP || root.yes != root.no {
                break;
            }
            self.blocks.root = root.yes;
        }
        let root = self.blocks.root;
        if root == first {
            return;
        }
        let mut insns: Vec<Insn> = self.blocks.insns_of(first).to_vec();
        if self.blocks.block(root).code & 7 == RET {
            insns.clear();
        } else {
            insns.extend_from_slice(self.blocks.insns_of(root));
        }
        let start = self.blocks.insns.len() as u32;
        self.blocks.insns.extend(insns);
        self.blocks.list[root as usize].insns = start..self.blocks.insns.len() as u32;
    }
}

fn same(blocks: &Blocks, a: BlockId, b: BlockId) -> bool {
    let (one, other) = (blocks.block(a), blocks.block(b));
    let insns = |id| blocks.insns_of(id).iter().filter(|i| i.code != NOP);
    one.k == other.k
        && one.code == other.code
        && (one.yes, one.no) == (other.yes, other.no)
        && insns(a).eq(insns(b))
}
