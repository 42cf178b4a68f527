//! Copies of what leads to a jump table, in the place of jumps to it.
//!
//! In a loop around a `switch` every case would jump to the one place that fetches the next value and goes on by the table. With
//! a copy of that place at its end each case goes on at once, and by an indirect jump of its own, which the processor predicts
//! from the cases it saw before.

use super::emit::Emitter;
use super::mach::MInst;
use crate::jit::ir::Block;

/// Blocks and instructions of a copy.
const MAX_BLOCKS: usize = 4;
const MAX_INSTS: usize = 16;
/// Instructions of all copies in a function.
const MAX_COPIED: usize = 1024;

impl Emitter<'_> {
    /// Emits a copy of what leads from `target` to a jump table instead of a jump to it; false if there is none or it is long.
    pub(super) fn go_on_by_table(&mut self, target: Block) -> bool {
        let Some(way) = self.way_to_table(target, MAX_BLOCKS) else {
            return false;
        };
        let count: usize = way.iter().map(|b| self.code_of(*b).len()).sum();
        if count > MAX_INSTS || self.copied + count > MAX_COPIED {
            return false;
        }
        self.copied += count;
        for (i, &b) in way.iter().enumerate() {
            self.block(b, way.get(i + 1).copied());
        }
        true
    }

    /// The blocks from `b` to a jump table.
    fn way_to_table(&self, b: Block, limit: usize) -> Option<Vec<Block>> {
        let next = |target: Block| self.way_to_table(self.target(target), limit.checked_sub(1)?);
        let mut way = match self.code_of(b) {
            [.., MInst::Table { .. }] => Vec::new(),
            [.., MInst::Jcc { target, .. }, MInst::Jmp { target: other }] => {
                next(*other).or_else(|| next(*target))?
            }
            [.., MInst::Jmp { target }] => next(*target)?,
            _ => return None,
        };
        way.insert(0, b);
        Some(way)
    }
}
