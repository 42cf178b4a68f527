//! Chains and trees of comparisons of one small value become a jump table.

use super::bits;
use super::constants::holds;
use crate::jit::ir::dom::Shape;
use crate::jit::ir::{Block, Cmp, Graph, Inst, Term, Value};
use skep_isa::{JmpOp, Width};

/// Values that a table may distinguish.
const TABLE_ENTRIES: u64 = 256;
/// Comparisons below which branches are better.
const MIN_COMPARISONS: usize = 4;
/// Comparisons that one chain may have.
const MAX_COMPARISONS: usize = 64;

/// The part of the values, one in so many, that is worth a comparison of its own.
const TOP_SHARE: usize = 8;

/// Forms switches.
pub(crate) fn form(g: &mut Graph) {
    let shape = Shape::of(g);
    let zeros = bits::known_zero(g, &shape);
    for &b in &shape.order {
        let Some(value) = compared(g, b) else {
            continue;
        };
        let limit = (!zeros[value.index()]).saturating_add(1);
        if limit <= TABLE_ENTRIES {
            try_form(g, b, value, limit);
        }
    }
}

/// The value that a block's branch compares with a constant.
fn compared(g: &Graph, b: Block) -> Option<Value> {
    match g.block(b).term {
        Term::Branch { cmp, .. } => g.constant(cmp.b).map(|_| cmp.a),
        _ => None,
    }
}

fn try_form(g: &mut Graph, b: Block, value: Value, limit: u64) {
    // The blocks that only compare the value, entered from `b` alone.
    let mut tree = vec![b];
    let mut next = 0;
    while let Some(&at) = tree.get(next) {
        next += 1;
        for t in g.block(at).term.targets() {
            let data = g.block(t);
            let inside =
                data.insts.is_empty() && compared(g, t) == Some(value) && data.preds == [at];
            if inside && tree.len() < MAX_COMPARISONS {
                tree.push(t);
            }
        }
    }
    if tree.len() < MIN_COMPARISONS {
        return;
    }
    let mut leaves = Vec::new();
    for v in 0..limit {
        match leaf(g, &tree, b, v) {
            Some(edge) => leaves.push(edge),
            None => return,
        }
    }
    replace(g, b, value, &tree, &leaves);
}

/// The edge by which `v` leaves the tree.
fn leaf(g: &Graph, tree: &[Block], root: Block, v: u64) -> Option<(Block, Block)> {
    let mut at = root;
    for _ in 0..=tree.len() {
        let Term::Branch { cmp, then, other } = g.block(at).term else {
            return None;
        };
        let to = if holds(cmp.op, cmp.width, v, g.constant(cmp.b)?) {
            then
        } else {
            other
        };
        if !tree.contains(&to) {
            return Some((at, to));
        }
        at = to;
    }
    None
}

fn replace(g: &mut Graph, b: Block, value: Value, tree: &[Block], leaves: &[(Block, Block)]) {
    // Operands that the phis of each leaf get from the tree.
    let mut edges: Vec<Edge> = Vec::new();
    for &(from, to) in leaves {
        let at = g.block(to).preds.iter().position(|&p| p == from);
        let args: Vec<Value> = g
            .phis(to)
            .into_iter()
            .filter_map(|phi| match g.inst(phi) {
                Inst::Phi(args) => at.map(|at| args[at]),
                _ => None,
            })
            .collect();
        edges.push((to, args));
    }
    for &t in tree {
        for target in g.block(t).term.targets() {
            g.remove_edge(t, target);
        }
        g.block_mut(t).term = Term::Unreachable;
    }
    let mut m = Middles { known: Vec::new() };
    let from = split_top(g, b, value, &mut edges, &mut m);
    let targets = edges
        .into_iter()
        .map(|(to, args)| m.enter(g, from, to, args))
        .collect();
    g.block_mut(from).term = Term::Switch { value, targets };
}

/// Where a good share of the values, those at the top, go one way, they are told apart by a comparison: the table is smaller,
/// and a jump to fewer places is predicted better. Otherwise it would be one more branch. Returns the block that the switch
/// ends.
fn split_top(
    g: &mut Graph,
    b: Block,
    value: Value,
    edges: &mut Vec<Edge>,
    m: &mut Middles,
) -> Block {
    let last = edges.last().cloned();
    let same = edges
        .iter()
        .rev()
        .take_while(|e| Some(*e) == last.as_ref())
        .count();
    let Some((to, args)) =
        last.filter(|_| same * TOP_SHARE >= edges.len() && (2..edges.len()).contains(&same))
    else {
        return b;
    };
    edges.truncate(edges.len() - same);
    let origin = g.origin[value.index()];
    let bound = g.add(Inst::Const(edges.len() as u64 - 1), origin);
    g.block_mut(Block::ENTRY).insts.insert(0, bound);
    let from = g.new_block();
    let other = m.enter(g, b, to, args);
    let cmp = Cmp {
        op: JmpOp::Le,
        width: Width::W32,
        a: value,
        b: bound,
    };
    g.block_mut(b).term = Term::Branch {
        cmp,
        then: from,
        other,
    };
    g.block_mut(from).preds.push(b);
    from
}

/// An edge: where it goes, and what it gives to the phis there.
type Edge = (Block, Vec<Value>);

/// Blocks on the edges of a switch, one for each source and set of phi operands.
struct Middles {
    known: Vec<((Block, Edge), Block)>,
}

impl Middles {
    /// Adds an edge from `from`; the block to which it goes first.
    fn enter(&mut self, g: &mut Graph, from: Block, to: Block, args: Vec<Value>) -> Block {
        if args.is_empty() {
            g.block_mut(to).preds.push(from);
            return to;
        }
        let key = (from, (to, args));
        let known = self.known.iter().find(|(k, _)| *k == key).map(|(_, m)| *m);
        let middle = known.unwrap_or_else(|| {
            let m = middle_block(g, to, &key.1.1);
            self.known.push((key, m));
            m
        });
        g.block_mut(middle).preds.push(from);
        middle
    }
}

/// A block that goes to `to` and gives its phis `args`.
fn middle_block(g: &mut Graph, to: Block, args: &[Value]) -> Block {
    let m = g.new_block();
    g.block_mut(m).term = Term::Jump(to);
    g.block_mut(to).preds.push(m);
    for (phi, arg) in g.phis(to).into_iter().zip(args) {
        if let Inst::Phi(operands) = &mut g.insts[phi.index()] {
            operands.push(*arg);
        }
    }
    m
}
