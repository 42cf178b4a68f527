//! Order, dominators and loops of a graph.

use super::{Block, Graph};

/// A natural loop.
#[derive(Clone, Debug)]
pub(crate) struct Loop {
    pub(crate) header: Block,
    /// All blocks, the header included.
    pub(crate) body: Vec<Block>,
    /// Loops around this one.
    pub(crate) depth: u32,
}

/// What is known of a graph's shape; invalid once edges change.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Reachable blocks in reverse postorder.
    pub(crate) order: Vec<Block>,
    /// Per block, its place in `order`; `u32::MAX` if unreachable.
    pub(crate) place: Vec<u32>,
    /// Per block, its immediate dominator (the entry's is itself).
    pub(crate) idom: Vec<Block>,
    /// Inner loops come before the loops around them.
    pub(crate) loops: Vec<Loop>,
    /// Per block, how many loops it is in.
    pub(crate) depth: Vec<u32>,
    /// Per block, the innermost loop it is in.
    pub(crate) innermost: Vec<Option<u32>>,
}

impl Shape {
    pub(crate) fn of(g: &Graph) -> Self {
        let order = reverse_postorder(g);
        let mut place = vec![u32::MAX; g.blocks.len()];
        for (i, b) in order.iter().enumerate() {
            place[b.index()] = i as u32;
        }
        let idom = dominators(g, &order, &place);
        let mut s = Self {
            order,
            place,
            idom,
            loops: Vec::new(),
            depth: vec![0; g.blocks.len()],
            innermost: vec![None; g.blocks.len()],
        };
        s.find_loops(g);
        s
    }

    pub(crate) fn reachable(&self, b: Block) -> bool {
        self.place[b.index()] != u32::MAX
    }

    /// True if every path to `b` goes through `a`.
    pub(crate) fn dominates(&self, a: Block, mut b: Block) -> bool {
        while self.place[b.index()] > self.place[a.index()] {
            b = self.idom[b.index()];
        }
        a == b
    }

    fn find_loops(&mut self, g: &Graph) {
        let mut loops = Vec::new();
        for &header in &self.order {
            let latches: Vec<Block> = g
                .block(header)
                .preds
                .iter()
                .copied()
                .filter(|&p| self.reachable(p) && self.dominates(header, p))
                .collect();
            if !latches.is_empty() {
                loops.push(Loop {
                    header,
                    body: loop_body(g, header, latches),
                    depth: 0,
                });
            }
        }
        loops.sort_by_key(|l| l.body.len());
        for (i, l) in loops.iter().enumerate() {
            for b in &l.body {
                self.depth[b.index()] += 1;
                self.innermost[b.index()].get_or_insert(i as u32);
            }
        }
        for l in &mut loops {
            l.depth = self.depth[l.header.index()];
        }
        self.loops = loops;
    }

    /// Per loop, its blocks as a set.
    pub(crate) fn contains(&self, l: &Loop, b: Block) -> bool {
        l.body.binary_search(&b).is_ok()
    }
}

/// The blocks from which a latch is reached without leaving through the header, sorted.
fn loop_body(g: &Graph, header: Block, latches: Vec<Block>) -> Vec<Block> {
    let mut inside = vec![false; g.blocks.len()];
    inside[header.index()] = true;
    let mut todo = latches;
    let mut body = vec![header];
    while let Some(b) = todo.pop() {
        if !inside[b.index()] {
            inside[b.index()] = true;
            body.push(b);
            todo.extend(&g.block(b).preds);
        }
    }
    body.sort();
    body
}

fn reverse_postorder(g: &Graph) -> Vec<Block> {
    let mut seen = vec![false; g.blocks.len()];
    let mut order = Vec::with_capacity(g.blocks.len());
    let mut stack = vec![(Block::ENTRY, g.block(Block::ENTRY).term.targets(), 0)];
    seen[0] = true;
    while let Some((b, targets, next)) = stack.last_mut() {
        if let Some(&t) = targets.get(*next) {
            *next += 1;
            if !std::mem::replace(&mut seen[t.index()], true) {
                stack.push((t, g.block(t).term.targets(), 0));
            }
        } else {
            order.push(*b);
            stack.pop();
        }
    }
    order.reverse();
    order
}

/// Immediate dominators by the iteration of Cooper, Harvey and Kennedy.
fn dominators(g: &Graph, order: &[Block], place: &[u32]) -> Vec<Block> {
    let mut idom: Vec<Option<Block>> = vec![None; g.blocks.len()];
    idom[0] = Some(Block::ENTRY);
    let mut changed = true;
    while changed {
        changed = false;
        for &b in &order[1..] {
            let mut new = None;
            for &p in &g.block(b).preds {
                if place[p.index()] == u32::MAX || idom[p.index()].is_none() {
                    continue;
                }
                new = Some(new.map_or(p, |n| common(&idom, place, n, p)));
            }
            if new.is_some() && idom[b.index()] != new {
                idom[b.index()] = new;
                changed = true;
            }
        }
    }
    idom.into_iter()
        .map(|d| d.unwrap_or(Block::ENTRY))
        .collect()
}

fn common(idom: &[Option<Block>], place: &[u32], mut a: Block, mut b: Block) -> Block {
    while a != b {
        while place[a.index()] > place[b.index()] {
            a = idom[a.index()].unwrap_or(Block::ENTRY);
        }
        while place[b.index()] > place[a.index()] {
            b = idom[b.index()].unwrap_or(Block::ENTRY);
        }
    }
    a
}
