//! Merges blocks with the same code and the same ways on.

use super::{Lists, Reducer};
use crate::filter::blocks::{Block, BlockId, Blocks, NOP};
use crate::insn::{Insn, RET};
use alloc::vec::Vec;
use skep_isa::opcode::JMP;

impl Reducer<'_> {
    /// Merges equal blocks: leaves first, so that what equal ways lead to is one block already.
    pub(super) fn merge_same(&mut self) {
        if self.reshaped {
            self.find_levels();
        }
        // All lists but that of the walk are free: what each block is replaced by, the blocks kept, and their keys.
        let Lists {
            walk,
            first: instead,
            numbered: kept,
            stack: keys,
            ..
        } = &mut self.lists;
        let mut count = 0;
        for id in walk[..self.walked].iter().rev() {
            let block = &mut self.blocks.list[*id as usize];
            if !block.is_leaf() {
                block.yes = instead[block.yes as usize];
                block.no = instead[block.no as usize];
            }
            let key = key(block);
            // Blocks with different keys differ.
            let mut alike = (0..count).filter(|at| keys[*at] == key);
            instead[*id as usize] = match alike.find(|at| same(&self.blocks, *id, kept[*at])) {
                Some(at) => kept[at],
                None => {
                    (keys[count], kept[count]) = (key, *id);
                    count += 1;
                    *id
                }
            };
        }
        self.blocks.root = instead[self.blocks.root as usize];
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

fn key(block: &Block) -> u32 {
    let ways = block.yes << 16 ^ block.no;
    ways ^ block.k.wrapping_mul(0x9e37_79b1) ^ u32::from(block.code)
}

fn same(blocks: &Blocks, a: BlockId, b: BlockId) -> bool {
    let (one, other) = (blocks.block(a), blocks.block(b));
    let insns = |id| blocks.insns_of(id).iter().filter(|i| i.code != NOP);
    one.k == other.k
        && one.code == other.code
        && (one.yes, one.no) == (other.yes, other.no)
        && insns(a).eq(insns(b))
}
