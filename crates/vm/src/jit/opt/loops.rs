//! Loops: preheaders, induction variables, how often a loop runs.

use super::constants::holds;
use crate::jit::ir::dom::{Loop, Shape};
use crate::jit::ir::{BinOp, Block, Cmp, Graph, Inst, Term, Value};
use skep_isa::{JmpOp, Width};

/// Iterations up to which a count is worked out.
const MAX_COUNT: u64 = 1 << 16;

/// Gives every loop one block outside that leads to its header and nowhere else.
pub(crate) fn make_preheaders(g: &mut Graph) {
    let shape = Shape::of(g);
    for l in &shape.loops {
        let outside: Vec<Block> = g
            .block(l.header)
            .preds
            .iter()
            .copied()
            .filter(|p| !shape.contains(l, *p))
            .collect();
        let simple = matches!(outside[..], [p] if matches!(g.block(p).term, Term::Jump(_)));
        if !simple && !outside.is_empty() {
            add_preheader(g, l.header, &outside);
        }
    }
}

fn add_preheader(g: &mut Graph, header: Block, outside: &[Block]) {
    let pre = g.new_block();
    let phis = g.phis(header);
    let mut merged = vec![Vec::new(); phis.len()];
    for &p in outside {
        // Each edge separately: a block may come by two.
        let Some(at) = g.block(header).preds.iter().position(|&q| q == p) else {
            continue;
        };
        for (phi, args) in phis.iter().zip(&mut merged) {
            if let Inst::Phi(operands) = g.inst(*phi) {
                args.push(operands[at]);
            }
        }
        g.remove_edge(p, header);
        g.block_mut(pre).preds.push(p);
        let mut done = false;
        g.block_mut(p).term.each_target_mut(|t| {
            if *t == header && !done {
                *t = pre;
                done = true;
            }
        });
    }
    g.block_mut(pre).term = Term::Jump(header);
    g.block_mut(header).preds.push(pre);
    for (phi, args) in phis.into_iter().zip(merged) {
        let origin = g.origin[phi.index()];
        let v = if args.windows(2).all(|w| w[0] == w[1]) {
            args[0]
        } else {
            g.push(pre, Inst::Phi(args), origin)
        };
        if let Inst::Phi(operands) = &mut g.insts[phi.index()] {
            operands.push(v);
        }
    }
}

/// A variable that grows by the same amount each iteration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Induction {
    pub(crate) phi: Value,
    /// Its value in the next iteration.
    pub(crate) next: Value,
    pub(crate) init: Value,
    pub(crate) step: i64,
    pub(crate) width: Width,
}

/// A loop with one preheader and one latch.
#[derive(Clone, Debug)]
pub(crate) struct SimpleLoop {
    pub(crate) header: Block,
    pub(crate) latch: Block,
    pub(crate) preheader: Block,
    pub(crate) body: Vec<Block>,
    /// Places of preheader and latch among the header's predecessors.
    pub(crate) at_init: usize,
    pub(crate) at_next: usize,
}

impl SimpleLoop {
    pub(crate) fn of(g: &Graph, shape: &Shape, l: &Loop) -> Option<Self> {
        let [a, b] = g.block(l.header).preds[..] else {
            return None;
        };
        let (at_init, preheader, latch) = match (shape.contains(l, a), shape.contains(l, b)) {
            (false, true) => (0, a, b),
            (true, false) => (1, b, a),
            _ => return None,
        };
        matches!(g.block(preheader).term, Term::Jump(_)).then(|| Self {
            header: l.header,
            latch,
            preheader,
            body: l.body.clone(),
            at_init,
            at_next: 1 - at_init,
        })
    }

    pub(crate) fn contains(&self, b: Block) -> bool {
        self.body.binary_search(&b).is_ok()
    }

    /// Initial value and next value of a phi of the header.
    pub(crate) fn phi_ends(&self, g: &Graph, phi: Value) -> Option<(Value, Value)> {
        match g.inst(phi) {
            Inst::Phi(args) => Some((args[self.at_init], args[self.at_next])),
            _ => None,
        }
    }

    /// `phi` as an induction variable.
    pub(crate) fn induction(&self, g: &Graph, phi: Value) -> Option<Induction> {
        let (init, next) = self.phi_ends(g, phi)?;
        match *g.inst(next) {
            Inst::Bin(BinOp::Add, width, a, c) if a == phi => {
                let c = g.constant(c)?;
                let step = match width {
                    Width::W64 => c.cast_signed(),
                    Width::W32 => i64::from((c as u32).cast_signed()),
                };
                Some(Induction {
                    phi,
                    next,
                    init,
                    step,
                    width,
                })
            }
            _ => None,
        }
    }

    /// The branch by which the latch goes on or leaves: comparison under which it goes on, and where it leaves to.
    pub(crate) fn exit(&self, g: &Graph) -> Option<(Cmp, bool, Block)> {
        match g.block(self.latch).term {
            Term::Branch { cmp, then, other } if then == self.header && !self.contains(other) => {
                Some((cmp, true, other))
            }
            Term::Branch { cmp, then, other } if other == self.header && !self.contains(then) => {
                Some((cmp, false, then))
            }
            _ => None,
        }
    }

    /// True if `v` is what a phi of the header becomes.
    fn is_next(&self, g: &Graph, v: Value) -> bool {
        g.phis(self.header)
            .into_iter()
            .any(|p| self.phi_ends(g, p).is_some_and(|e| e.1 == v))
    }

    /// A tested value as an induction variable, how many steps it is ahead of its phi, and a constant added.
    pub(crate) fn tested(&self, g: &Graph, v: Value) -> Option<(Induction, u64, u64)> {
        let find = |v: Value| {
            let ivs = g
                .phis(self.header)
                .into_iter()
                .filter_map(|phi| self.induction(g, phi));
            let place = |iv: Induction| match v {
                _ if v == iv.next => Some((iv, 1)),
                _ if v == iv.phi => Some((iv, 0)),
                _ => None,
            };
            ivs.into_iter().find_map(place)
        };
        if let Some((iv, ahead)) = find(v) {
            return Some((iv, ahead, 0));
        }
        match *g.inst(v) {
            Inst::Bin(BinOp::Add, Width::W64, x, c) => {
                let (c, (iv, ahead)) = (g.constant(c)?, find(x)?);
                (iv.width == Width::W64).then_some((iv, ahead, c))
            }
            _ => None,
        }
    }

    /// How often the latch's branch is reached if nothing else leaves the loop.
    pub(crate) fn count(&self, g: &Graph) -> Option<u64> {
        let (cmp, stays_if, _) = self.exit(g)?;
        let bound = g.constant(cmp.b)?;
        let (iv, ahead, plus) = self.tested(g, cmp.a)?;
        let init = g.constant(iv.init)?;
        let step = iv.step.cast_unsigned();
        let first = init
            .wrapping_add(step.wrapping_mul(ahead))
            .wrapping_add(plus);
        let count = iterations(cmp, stays_if, first, step, bound, iv.width)?;
        (iv.width == Width::W64 || stays_in_low_half(init, iv.step, count)).then_some(count)
    }
}

/// True if a 32-bit variable never wraps, so that 64-bit arithmetic describes it.
pub(crate) fn stays_in_low_half(init: u64, step: i64, count: u64) -> bool {
    let last = i128::from(init) + i128::from(step) * i128::from(count);
    init <= u64::from(u32::MAX) && (0..=i128::from(u32::MAX)).contains(&last)
}

/// The first `n ≥ 1` for which the test of the `n`th value leaves the loop.
fn iterations(
    cmp: Cmp,
    stays_if: bool,
    first: u64,
    step: u64,
    bound: u64,
    width: Width,
) -> Option<u64> {
    let mut value = first;
    for n in 1..=MAX_COUNT {
        let seen = if width == Width::W32 {
            value & 0xffff_ffff
        } else {
            value
        };
        if holds(cmp.op, cmp.width, seen, bound) != stays_if {
            return Some(n);
        }
        value = value.wrapping_add(step);
    }
    None
}

/// Lets latches test the next value of a counter instead of the current one, so that only one of them is alive.
pub(crate) fn normalise_exits(g: &mut Graph) {
    let shape = Shape::of(g);
    for l in &shape.loops {
        let Some(l) = SimpleLoop::of(g, &shape, l) else {
            continue;
        };
        let Some((cmp, stays_if, _)) = l.exit(g) else {
            continue;
        };
        let Some((iv, ..)) = l.tested(g, cmp.a).filter(|_| !l.is_next(g, cmp.a)) else {
            continue;
        };
        let (Some(init), Some(count)) = (g.constant(iv.init), l.count(g)) else {
            continue;
        };
        // Unless it wraps to a value it had before, the last value is seen only once.
        let last = init.wrapping_add(iv.step.cast_unsigned().wrapping_mul(count));
        if iv.step == 0
            || i32::try_from(last.cast_signed()).is_err()
            || iv.step.unsigned_abs().checked_mul(count).is_none()
        {
            continue;
        }
        let origin = g.origin[cmp.a.index()];
        let bound = g.add(Inst::Const(last), origin);
        g.block_mut(Block::ENTRY).insts.insert(0, bound);
        let op = if stays_if { JmpOp::Ne } else { JmpOp::Eq };
        let new = Cmp {
            op,
            width: Width::W64,
            a: iv.next,
            b: bound,
        };
        if let Term::Branch { cmp, .. } = &mut g.block_mut(l.latch).term {
            *cmp = new;
        }
    }
}
