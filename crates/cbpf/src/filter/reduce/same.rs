//! Merges blocks with the same code and the same ways on.

use super::Reducer;
use crate::filter::blocks::{Block, BlockId, Blocks, NONE, NOP};
use crate::insn::{Insn, RET};
use alloc::vec::Vec;
use skep_isa::opcode::JMP;

impl Reducer<'_> {
    /// Merges equal blocks: leaves first, so that what equal ways lead to is one block already.
    pub(super) fn merge_same(&mut self) {
        let Self { blocks, walker, .. } = self;
        let order = walker.leaves_up(blocks);
        let mut instead: Vec<BlockId> = alloc::vec![NONE; blocks.list.len()];
        // Blocks with different keys differ.
        let mut kept: Vec<(u64, BlockId)> = Vec::with_capacity(order.len());
        for id in order {
            let block = &mut blocks.list[*id as usize];
            for to in [&mut block.yes, &mut block.no] {
                if *to != NONE {
                    *to = instead[*to as usize];
                }
            }
            let key = key(block);
            let mut alike = kept.iter().filter(|(other, _)| *other == key);
            let same = alike.find(|(_, other)| same(blocks, *id, *other));
            instead[*id as usize] = match same {
                Some((_, other)) => *other,
                None => {
                    kept.push((key, *id));
                    *id
                }
            };
        }
        blocks.root = instead[blocks.root as usize];
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

fn key(block: &Block) -> u64 {
    let ways = u64::from(block.yes) << 32 | u64::from(block.no);
    let comparison = u64::from(block.code) << 32 | u64::from(block.k);
    ways ^ comparison.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn same(blocks: &Blocks, a: BlockId, b: BlockId) -> bool {
    let (one, other) = (blocks.block(a), blocks.block(b));
    let insns = |id| blocks.insns_of(id).iter().filter(|i| i.code != NOP);
    one.k == other.k
        && one.code == other.code
        && (one.yes, one.no) == (other.yes, other.no)
        && insns(a).eq(insns(b))
}
