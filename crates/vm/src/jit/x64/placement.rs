//! The order of blocks in the code, and which of them are aligned.

use crate::jit::ir::dom::{Loop, Shape};
use crate::jit::ir::{Block, Graph};

/// Ways back to the header for which a loop begins with what they share. One of fewer ways can do without a jump where the
/// shared part stands at the loop's end.
const MIN_WAYS: usize = 3;

/// Alignment of loops: a cache line, within which the processor finds branches at once. Half of one is enough for a single
/// block.
const LOOP_ALIGN: usize = 64;
const ONE_BLOCK_ALIGN: usize = 32;

/// Where blocks stand.
pub(super) struct Placement {
    /// All reachable blocks, the entry first.
    pub(super) order: Vec<Block>,
    /// Per block, its alignment if it is the first of a loop.
    pub(super) align: Vec<Option<usize>>,
}

impl Placement {
    /// Loops stay together, because ways that leave a loop are visited first and so placed last.
    pub(super) fn of(g: &Graph, shape: &Shape) -> Self {
        let mut p = Self {
            order: depth_first(g, shape),
            align: vec![None; g.blocks.len()],
        };
        for (i, l) in shape.loops.iter().enumerate() {
            let top = shared_way_back(g, shape, i as u32, l);
            let first = top.first().copied().unwrap_or(l.header);
            let align = if l.body.len() == 1 {
                ONE_BLOCK_ALIGN
            } else {
                LOOP_ALIGN
            };
            p.align[first.index()] = Some(align);
            p.move_before(l.header, &top);
        }
        p
    }

    /// Places `blocks` in front of `before`.
    fn move_before(&mut self, before: Block, blocks: &[Block]) {
        if blocks.is_empty() {
            return;
        }
        self.order.retain(|b| !blocks.contains(b));
        let at = self.order.iter().position(|b| *b == before);
        let at = at.unwrap_or(self.order.len());
        self.order.splice(at..at, blocks.iter().copied());
    }
}

/// The blocks through which many ways of a loop go back to its header, in order; empty if there are none such. In front of the
/// header they take one jump from each way; at the end of the loop they would take two.
fn shared_way_back(g: &Graph, shape: &Shape, number: u32, l: &Loop) -> Vec<Block> {
    let inside = |p: &&Block| shape.contains(l, **p);
    let mut latches = g.block(l.header).preds.iter().filter(inside);
    let (Some(&latch), None) = (latches.next(), latches.next()) else {
        return Vec::new();
    };
    let mut way = vec![latch];
    let mut at = latch;
    loop {
        if at == l.header || shape.innermost[at.index()] != Some(number) {
            return Vec::new();
        }
        match g.block(at).preds[..] {
            [one] => {
                way.push(one);
                at = one;
            }
            ref ways if ways.len() >= MIN_WAYS => break,
            _ => return Vec::new(),
        }
    }
    way.reverse();
    way
}

fn depth_first(g: &Graph, shape: &Shape) -> Vec<Block> {
    let by_depth = |b: Block| {
        let mut t = g.block(b).term.targets();
        t.reverse();
        t.sort_by_key(|t| shape.depth[t.index()]);
        t
    };
    let mut seen = vec![false; g.blocks.len()];
    let mut order = Vec::new();
    let mut stack = vec![(Block::ENTRY, by_depth(Block::ENTRY), 0)];
    seen[0] = true;
    while let Some((b, targets, next)) = stack.last_mut() {
        if let Some(&t) = targets.get(*next) {
            *next += 1;
            if !std::mem::replace(&mut seen[t.index()], true) {
                stack.push((t, by_depth(t), 0));
            }
        } else {
            order.push(*b);
            stack.pop();
        }
    }
    order.reverse();
    order
}
