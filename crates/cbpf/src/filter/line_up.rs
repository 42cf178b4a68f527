//! Blocks as a program, in libpcap's order.

use super::blocks::{BlockId, Blocks, First, NOP, Note, Walker};
use crate::insn::Insn;
use alloc::vec::Vec;
use skep_isa::opcode::{JA, JMP};

/// Farthest a conditional jump reaches.
const JUMP_MAX: u32 = 255;

/// A block in the program.
#[derive(Clone, Copy, Default)]
struct Line {
    /// Place of the block, and instructions before its jump.
    at: u32,
    length: u32,
    /// Whether its ways are long: none at first, more as the program grows.
    far_yes: bool,
    far_no: bool,
}

/// The order in which blocks stand in the program, the last first.
pub(super) fn order<'w>(blocks: &Blocks, walker: &'w mut Walker) -> &'w [BlockId] {
    walker.walk(blocks, First::No, Note::After)
}

/// The program of blocks in this order. Jumps that are too far go through a `ja` behind the jump.
pub(super) fn line_up(blocks: &Blocks, order: &[BlockId]) -> Vec<Insn> {
    let mut lines = alloc::vec![Line::default(); blocks.list.len()];
    for id in order {
        let kept = blocks.insns_of(*id).iter().filter(|i| i.code != NOP);
        lines[*id as usize].length = kept.count() as u32;
    }
    loop {
        let length = place(order, &mut lines);
        // In a program this short nothing is far.
        if length <= JUMP_MAX || !stretch(blocks, order, &mut lines) {
            return emit(blocks, order, &lines, length as usize);
        }
    }
}

/// Makes ways long that need it; whether there were any.
fn stretch(blocks: &Blocks, order: &[BlockId], lines: &mut [Line]) -> bool {
    let mut again = false;
    for id in order.iter().rev() {
        let block = blocks.block(*id);
        if block.is_leaf() {
            continue;
        }
        let line = lines[*id as usize];
        let is_far = |to: BlockId| lines[to as usize].at - line.at - line.length - 1 > JUMP_MAX;
        let (far_yes, far_no) = (is_far(block.yes), is_far(block.no));
        again |= far_yes && !line.far_yes || far_no && !line.far_no;
        let line = &mut lines[*id as usize];
        line.far_yes |= far_yes;
        line.far_no |= far_no;
    }
    again
}

/// Gives each block its place; the length of the program.
fn place(order: &[BlockId], lines: &mut [Line]) -> u32 {
    let mut at = 0;
    for id in order.iter().rev() {
        let line = &mut lines[*id as usize];
        line.at = at;
        at += line.length + 1 + u32::from(line.far_yes) + u32::from(line.far_no);
    }
    at
}

fn emit(blocks: &Blocks, order: &[BlockId], lines: &[Line], length: usize) -> Vec<Insn> {
    let mut code = Vec::with_capacity(length);
    for id in order.iter().rev() {
        code.extend(blocks.insns_of(*id).iter().filter(|i| i.code != NOP));
        let block = blocks.block(*id);
        if block.is_leaf() {
            code.push(Insn::new(block.code, block.k));
            continue;
        }
        let Line {
            far_yes, far_no, ..
        } = lines[*id as usize];
        let jump = code.len() as u32;
        let distance = |to: BlockId, from: u32| lines[to as usize].at - from - 1;
        // Near distances are at most JUMP_MAX: the others are long.
        let yes = if far_yes {
            0
        } else {
            distance(block.yes, jump)
        };
        let no = match far_no {
            true => u32::from(far_yes),
            false => distance(block.no, jump),
        };
        code.push(Insn::jump(block.code, block.k, yes as u8, no as u8));
        for (far, to) in [(far_yes, block.yes), (far_no, block.no)] {
            if far {
                let distance = distance(to, code.len() as u32);
                code.push(Insn::new(JMP | JA, distance));
            }
        }
    }
    code
}
