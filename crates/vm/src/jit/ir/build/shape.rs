//! The basic blocks of a function's ops.

use crate::jit::source::Source;
use crate::lowered::{Op, OpIdx};

/// The blocks of a function's ops.
pub(super) struct OpBlocks {
    pub(super) first: OpIdx,
    /// Per op, whether a reachable block starts there.
    pub(super) starts: Vec<bool>,
    /// Per op that starts a block, how many edges lead to it (one more for the first).
    pub(super) preds: Vec<u32>,
    /// Starts in reverse postorder.
    pub(super) order: Vec<OpIdx>,
}

impl OpBlocks {
    pub(super) fn of(src: Source<'_>, func: u32) -> Self {
        let f = &src.funcs[func as usize];
        let n = (f.end - f.start) as usize;
        let mut s = Self {
            first: f.start,
            starts: vec![false; n],
            preds: vec![0; n],
            order: Vec::new(),
        };
        s.starts[0] = true;
        for at in f.start..f.end {
            let op = &src.ops[at as usize];
            if let Op::Jump { target } | Op::JumpIf { target, .. } | Op::MayGoto { target } = op {
                s.starts[(*target - f.start) as usize] = true;
            }
            if ends_block(op) && at + 1 < f.end {
                s.starts[(at + 1 - f.start) as usize] = true;
            }
        }
        s.visit(src);
        s
    }

    /// Finds what is reachable, in which order.
    fn visit(&mut self, src: Source<'_>) {
        let mut seen = vec![false; self.starts.len()];
        seen[0] = true;
        self.preds[0] = 1;
        let mut stack = vec![(self.first, self.successors(src, self.first), 0)];
        while let Some((start, next, n)) = stack.last_mut() {
            let Some(&t) = next.get(*n) else {
                self.order.push(*start);
                stack.pop();
                continue;
            };
            *n += 1;
            let at = (t - self.first) as usize;
            self.preds[at] += 1;
            if !std::mem::replace(&mut seen[at], true) {
                let next = self.successors(src, t);
                stack.push((t, next, 0));
            }
        }
        self.order.reverse();
        for (start, seen) in self.starts.iter_mut().zip(seen) {
            *start &= seen;
        }
    }

    pub(super) fn is_start(&self, op: OpIdx) -> bool {
        self.starts
            .get((op - self.first) as usize)
            .copied()
            .unwrap_or(false)
    }

    /// Where control goes from the block that starts at `start`.
    pub(super) fn successors(&self, src: Source<'_>, start: OpIdx) -> Vec<OpIdx> {
        let mut at = start;
        loop {
            match src.ops[at as usize] {
                Op::Jump { target } => return vec![target],
                Op::JumpIf { target, .. } | Op::MayGoto { target } => return vec![target, at + 1],
                Op::Exit | Op::Throw | Op::Unreachable => return Vec::new(),
                _ => {}
            }
            at += 1;
            if self.is_start(at) {
                return vec![at];
            }
        }
    }
}

pub(super) fn ends_block(op: &Op) -> bool {
    matches!(
        op,
        Op::Jump { .. }
            | Op::JumpIf { .. }
            | Op::MayGoto { .. }
            | Op::Exit
            | Op::Throw
            | Op::Unreachable
    )
}
