//! Cleaning up control flow: unreachable blocks, chains of blocks, empty blocks, small branches turned into selects.

use crate::jit::ir::dom::Shape;
use crate::jit::ir::{BinOp, Block, Graph, Inst, Term, Value};

/// Instructions on one side of a branch that may be computed in any case.
const SPECULATED_INSTS: usize = 3;
/// Selects that one branch may become.
const SELECTS: usize = 2;
/// Blocks of the innermost loop around a branch above which it stays: where there are many branches, the processor predicts
/// each from the others, and a select would make the loop wait for its condition.
const SMALL_LOOP_BLOCKS: usize = 6;

/// Removes unreachable blocks, and joins and threads the others.
pub(crate) fn clean(g: &mut Graph) {
    drop_unreachable(g);
    thread_empty(g);
    drop_unreachable(g);
    merge_chains(g);
}

fn drop_unreachable(g: &mut Graph) {
    let shape = Shape::of(g);
    for b in g.all_blocks() {
        if shape.reachable(b) {
            continue;
        }
        for t in g.block(b).term.targets() {
            g.remove_edge(b, t);
        }
        let data = g.block_mut(b);
        data.insts.clear();
        data.term = Term::Unreachable;
    }
}

/// Lets predecessors of blocks that only jump go to the target at once.
fn thread_empty(g: &mut Graph) {
    for b in g.all_blocks() {
        let Term::Jump(to) = g.block(b).term else {
            continue;
        };
        if b == Block::ENTRY || to == b || !g.block(b).insts.is_empty() {
            continue;
        }
        for p in g.block(b).preds.clone() {
            let has_phis = !g.phis(to).is_empty();
            let twice = g.block(to).preds.contains(&p)
                || g.block(b).preds.iter().filter(|q| **q == p).count() > 1;
            if !(has_phis && twice) {
                redirect(g, p, b, to);
            }
        }
        if g.block(b).preds.is_empty() {
            g.remove_edge(b, to);
            g.block_mut(b).term = Term::Unreachable;
        }
    }
}

/// Makes the edges from `p` to the empty block `b` go to its target `to`.
fn redirect(g: &mut Graph, p: Block, b: Block, to: Block) {
    let Some(at) = g.block(to).preds.iter().position(|&q| q == b) else {
        return;
    };
    let mut edges = 0;
    g.block_mut(p).term.each_target_mut(|t| {
        if *t == b {
            *t = to;
            edges += 1;
        }
    });
    for _ in 0..edges {
        g.remove_edge(p, b);
        g.block_mut(to).preds.push(p);
        for v in g.phis(to) {
            if let Inst::Phi(args) = &mut g.insts[v.index()] {
                let a = args[at];
                args.push(a);
            }
        }
    }
}

/// Appends blocks to their only predecessor, if they are its only successor.
fn merge_chains(g: &mut Graph) {
    let mut with: Vec<Value> = (0..g.insts.len() as u32).map(Value).collect();
    let mut renamed = false;
    for b in g.all_blocks() {
        while let Term::Jump(next) = g.block(b).term {
            if g.block(next).preds.len() != 1 || next == b || next == Block::ENTRY {
                break;
            }
            for v in g.phis(next) {
                if let Inst::Phi(args) = &g.insts[v.index()] {
                    with[v.index()] = args[0];
                    renamed = true;
                }
                g.insts[v.index()] = Inst::Nop;
            }
            let data = g.block_mut(next);
            let insts = std::mem::take(&mut data.insts);
            let term = std::mem::replace(&mut data.term, Term::Unreachable);
            data.preds.clear();
            for t in term.targets() {
                for p in &mut g.block_mut(t).preds {
                    if *p == next {
                        *p = b;
                    }
                }
            }
            let live: Vec<Value> = insts
                .into_iter()
                .filter(|v| *g.inst(*v) != Inst::Nop)
                .collect();
            let data = g.block_mut(b);
            data.insts.extend(live);
            data.term = term;
        }
    }
    if renamed {
        let resolved: Vec<Value> = (0..with.len())
            .map(|i| resolve(&with, Value(i as u32)))
            .collect();
        g.rewrite(&resolved);
    }
}

fn resolve(with: &[Value], mut v: Value) -> Value {
    while with[v.index()] != v {
        v = with[v.index()];
    }
    v
}

/// Turns branches around a few cheap instructions into selects; true if anything changed.
pub(crate) fn if_convert(g: &mut Graph) -> bool {
    let shape = Shape::of(g);
    let fits = |b: Block| {
        let inner = shape.innermost[b.index()];
        inner.is_none_or(|l| shape.loops[l as usize].body.len() <= SMALL_LOOP_BLOCKS)
    };
    let mut changed = false;
    for b in g.all_blocks() {
        if let Term::Branch { then, other, .. } = g.block(b).term
            && then != other
            && fits(b)
        {
            changed |= convert(g, b, then, other);
        }
    }
    changed
}

/// If `side` does nothing but compute a few values and go on, where it goes.
fn cheap_side(g: &Graph, from: Block, side: Block) -> Option<Block> {
    let data = g.block(side);
    let cheap = |v: &Value| match g.inst(*v) {
        Inst::Bin(op, ..) => !matches!(op, BinOp::Div | BinOp::Mod | BinOp::Sdiv | BinOp::Smod),
        other => other.is_pure(),
    };
    match data.term {
        Term::Jump(to)
            if data.preds == [from]
                && data.insts.len() <= SPECULATED_INSTS
                && data.insts.iter().all(cheap) =>
        {
            Some(to)
        }
        _ => None,
    }
}

fn convert(g: &mut Graph, b: Block, then: Block, other: Block) -> bool {
    let (to_then, to_other) = (cheap_side(g, b, then), cheap_side(g, b, other));
    let join = match (to_then, to_other) {
        (Some(j), Some(k)) if j == k => j,
        (Some(j), _) if j == other => j,
        (_, Some(k)) if k == then => k,
        _ => return false,
    };
    if join == b {
        return false;
    }
    // The predecessors of `join` that the two ways come from.
    let then_pred = if then == join { b } else { then };
    let other_pred = if other == join { b } else { other };
    let position = |p| g.block(join).preds.iter().position(|&q| q == p);
    let (Some(at_then), Some(at_other)) = (position(then_pred), position(other_pred)) else {
        return false;
    };
    let phis = g.phis(join);
    let differs =
        |v: &&Value| matches!(g.inst(**v), Inst::Phi(args) if args[at_then] != args[at_other]);
    if phis.iter().filter(differs).count() > SELECTS {
        return false;
    }
    let Term::Branch { cmp, .. } = g.block(b).term else {
        return false;
    };
    for side in [then, other] {
        if side != join {
            let insts = std::mem::take(&mut g.block_mut(side).insts);
            g.block_mut(b).insts.extend(insts);
        }
    }
    let origin = g.block(b).insts.last().map_or(0, |v| g.origin[v.index()]);
    for phi in phis {
        let Inst::Phi(args) = g.inst(phi).clone() else {
            continue;
        };
        let (t, o) = (args[at_then], args[at_other]);
        let v = if t == o {
            t
        } else {
            g.push(
                b,
                Inst::Select {
                    cmp,
                    then: t,
                    other: o,
                },
                origin,
            )
        };
        if let Inst::Phi(args) = &mut g.insts[phi.index()] {
            args.push(v);
        }
    }
    for side in [then, other] {
        if side != join {
            g.block_mut(side).preds.clear();
            g.block_mut(side).term = Term::Unreachable;
        }
    }
    g.block_mut(join).preds.push(b);
    g.remove_edge(then_pred, join);
    g.remove_edge(other_pred, join);
    g.block_mut(b).term = Term::Jump(join);
    true
}

/// Puts a block on every edge from a block with several successors to one with several predecessors.
pub(crate) fn split_critical_edges(g: &mut Graph) {
    for b in g.all_blocks() {
        if g.block(b).term.targets().len() < 2 {
            continue;
        }
        let mut term = std::mem::replace(&mut g.block_mut(b).term, Term::Unreachable);
        let mut used = Vec::new();
        term.each_target_mut(|t| {
            let to = *t;
            if g.block(to).preds.len() < 2 {
                return;
            }
            // Edges of a switch to one target share a block.
            if let Some(&(_, middle)) = used.iter().find(|(target, _)| *target == to) {
                g.remove_edge(b, to);
                g.block_mut(middle).preds.push(b);
                *t = middle;
                return;
            }
            let middle = g.new_block();
            g.block_mut(middle).term = Term::Jump(to);
            g.block_mut(middle).preds.push(b);
            if let Some(p) = g.block_mut(to).preds.iter_mut().find(|p| **p == b) {
                *p = middle;
            }
            used.push((to, middle));
            *t = middle;
        });
        g.block_mut(b).term = term;
    }
}

/// Removes instructions whose value nobody needs.
pub(crate) fn drop_dead(g: &mut Graph) {
    let mut live = vec![false; g.insts.len()];
    let mut todo = Vec::new();
    for b in &g.blocks {
        b.term.each_arg(|v| todo.push(v));
        todo.extend(b.insts.iter().copied().filter(|v| g.inst(*v).has_effect()));
    }
    while let Some(v) = todo.pop() {
        if !std::mem::replace(&mut live[v.index()], true) {
            g.inst(v).each_arg(|a| todo.push(a));
        }
    }
    for b in &mut g.blocks {
        b.insts.retain(|v| live[v.index()]);
    }
}
