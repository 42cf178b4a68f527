//! Blocks as a program, in libpcap's order.

use super::blocks::{BlockId, Blocks, NONE, NOP};
use crate::insn::Insn;
use alloc::vec::Vec;
use skep_isa::opcode::{JA, JMP};

/// Farthest a conditional jump reaches.
const JUMP_MAX: usize = 255;

/// The program of all blocks. Jumps that are too far go through a `ja` behind the jump.
pub(super) fn line_up(blocks: &Blocks) -> Vec<Insn> {
    let order = order(blocks);
    // Whether the ways of a block are long: none at first, more as the program grows.
    let mut long = alloc::vec![(false, false); blocks.list.len()];
    loop {
        let places = places(blocks, &order, &long);
        let mut again = false;
        for id in &order {
            let block = blocks.block(*id);
            if block.is_leaf() {
                continue;
            }
            let (start, length) = places[*id as usize];
            let jump = start + length;
            let distance = |to: BlockId| places[to as usize].0 - jump - 1;
            let (far_yes, far_no) = &mut long[*id as usize];
            for (to, far) in [(block.yes, far_yes), (block.no, far_no)] {
                if distance(to) > JUMP_MAX && !*far {
                    *far = true;
                    again = true;
                }
            }
        }
        if !again {
            return emit(blocks, &order, &long, &places);
        }
    }
}

/// Blocks from the root on, as a walk that goes to `no` first leaves them, reversed.
fn order(blocks: &Blocks) -> Vec<BlockId> {
    let mut order = Vec::with_capacity(blocks.list.len());
    let mut seen = alloc::vec![false; blocks.list.len()];
    let mut stack = alloc::vec![(blocks.root, 0u8)];
    seen[blocks.root as usize] = true;
    while let Some((id, stage)) = stack.pop() {
        let block = blocks.block(id);
        let next = match stage {
            0 => block.no,
            1 => block.yes,
            _ => NONE,
        };
        if next == NONE {
            order.push(id);
            continue;
        }
        stack.push((id, stage + 1));
        if !seen[next as usize] {
            seen[next as usize] = true;
            stack.push((next, 0));
        }
    }
    order.reverse();
    order
}

/// Place of each block, and instructions before its jump.
fn places(blocks: &Blocks, order: &[BlockId], long: &[(bool, bool)]) -> Vec<(usize, usize)> {
    let mut places = alloc::vec![(0, 0); blocks.list.len()];
    let mut at = 0;
    for id in order {
        let insns = blocks.insns_of(*id);
        let length = insns.iter().filter(|i| i.code != NOP).count();
        places[*id as usize] = (at, length);
        let (yes, no) = long[*id as usize];
        at += length + 1 + usize::from(yes) + usize::from(no);
    }
    places
}

fn emit(
    blocks: &Blocks,
    order: &[BlockId],
    long: &[(bool, bool)],
    places: &[(usize, usize)],
) -> Vec<Insn> {
    let mut code = Vec::with_capacity(blocks.insns.len() + order.len());
    for id in order {
        code.extend(blocks.insns_of(*id).iter().filter(|i| i.code != NOP));
        let block = blocks.block(*id);
        if block.is_leaf() {
            code.push(Insn::new(block.code, block.k));
            continue;
        }
        let (far_yes, far_no) = long[*id as usize];
        let jump = code.len();
        let distance = |to: BlockId, from: usize| places[to as usize].0 - from - 1;
        // Near distances are at most JUMP_MAX: `long` says so of all others.
        let yes = if far_yes {
            0
        } else {
            distance(block.yes, jump)
        };
        let no = match far_no {
            true => usize::from(far_yes),
            false => distance(block.no, jump),
        };
        code.push(Insn::jump(block.code, block.k, yes as u8, no as u8));
        for (far, to) in [(far_yes, block.yes), (far_no, block.no)] {
            if far {
                let distance = distance(to, code.len()) as u32;
                code.push(Insn::new(JMP | JA, distance));
            }
        }
    }
    code
}
