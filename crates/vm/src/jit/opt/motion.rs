//! Code motion: out of loops to their preheaders, and down to where values are used.

use crate::jit::ir::dom::Shape;
use crate::jit::ir::{BinOp, Block, Graph, Inst, Value};

/// Moves what does not change in a loop in front of it. Loops must have preheaders.
pub(crate) fn hoist(g: &mut Graph) {
    let shape = Shape::of(g);
    let mut homes = g.homes();
    for l in &shape.loops {
        let outside = |p: &&Block| !shape.contains(l, **p);
        let Some(&pre) = g.block(l.header).preds.iter().find(outside) else {
            continue;
        };
        let body: Vec<Block> = shape
            .order
            .iter()
            .copied()
            .filter(|b| shape.contains(l, *b))
            .collect();
        for b in body {
            let insts = std::mem::take(&mut g.block_mut(b).insts);
            let (mut stay, mut go) = (Vec::with_capacity(insts.len()), Vec::new());
            for v in insts {
                let mut invariant = worth_moving(g.inst(v));
                g.inst(v)
                    .each_arg(|a| invariant &= !shape.contains(l, homes[a.index()]));
                if invariant {
                    homes[v.index()] = pre;
                    go.push(v);
                } else {
                    stay.push(v);
                }
            }
            g.block_mut(b).insts = stay;
            g.block_mut(pre).insts.extend(go);
        }
    }
}

fn worth_moving(inst: &Inst) -> bool {
    match inst {
        Inst::Bin(op, ..) => !matches!(op, BinOp::Div | BinOp::Mod | BinOp::Sdiv | BinOp::Smod),
        other => other.is_pure(),
    }
}

/// Moves values that are used only outside their loop out of it.
pub(crate) fn sink(g: &mut Graph) {
    let shape = Shape::of(g);
    let homes = g.homes();
    let mut at = use_blocks(g, &shape);
    // Users come before what they use, so that chains move together.
    for &b in shape.order.iter().rev() {
        if shape.depth[b.index()] == 0 {
            continue;
        }
        for v in g.block(b).insts.clone().into_iter().rev() {
            let Some(to) = at[v.index()] else { continue };
            if !g.inst(v).is_pure()
                || shape.depth[to.index()] >= shape.depth[homes[v.index()].index()]
            {
                continue;
            }
            g.block_mut(b).insts.retain(|i| *i != v);
            let first = g.phis(to).len();
            g.block_mut(to).insts.insert(first, v);
            let mut args = Vec::new();
            g.inst(v).each_arg(|a| args.push(a));
            refresh(g, &shape, &mut at, &args);
        }
    }
}

/// Per value, the deepest block that dominates all its uses.
fn use_blocks(g: &Graph, shape: &Shape) -> Vec<Option<Block>> {
    let mut at: Vec<Option<Block>> = vec![None; g.insts.len()];
    each_use(g, shape, |v, b| {
        at[v.index()] = Some(at[v.index()].map_or(b, |a| common(shape, a, b)));
    });
    at
}

/// Works out again where `values` are used.
fn refresh(g: &Graph, shape: &Shape, at: &mut [Option<Block>], values: &[Value]) {
    for v in values {
        at[v.index()] = None;
    }
    each_use(g, shape, |v, b| {
        if values.contains(&v) {
            at[v.index()] = Some(at[v.index()].map_or(b, |a| common(shape, a, b)));
        }
    });
}

/// Calls `f` with each use; a phi uses its operands at the end of the predecessors.
fn each_use(g: &Graph, shape: &Shape, mut f: impl FnMut(Value, Block)) {
    for &b in &shape.order {
        let data = g.block(b);
        for &v in &data.insts {
            match g.inst(v) {
                Inst::Phi(args) => {
                    for (a, p) in args.iter().zip(&data.preds) {
                        f(*a, *p);
                    }
                }
                other => other.each_arg(|a| f(a, b)),
            }
        }
        data.term.each_arg(|a| f(a, b));
    }
}

fn common(shape: &Shape, mut a: Block, mut b: Block) -> Block {
    while a != b {
        if shape.place[a.index()] > shape.place[b.index()] {
            a = shape.idom[a.index()];
        } else {
            b = shape.idom[b.index()];
        }
    }
    a
}
