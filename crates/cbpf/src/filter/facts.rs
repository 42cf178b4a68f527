//! What is known on a way through the graph: the outcomes of the tests passed.
//!
//! Facts form a tree; each names the one before it. Where ways meet, what is known is what they have in common.

use super::expr::{Arena, Expr, Test, Value};
use super::graph::Step;
use crate::insn::{AluOp, Relation};
use alloc::vec::Vec;

/// A fact, by index; all before it on the way hold as well.
pub(crate) type FactId = u32;
/// The start, where nothing is known.
pub(crate) const NOTHING: FactId = 0;

#[derive(Clone, Copy)]
struct Fact {
    before: FactId,
    depth: u32,
    step: Step,
    outcome: bool,
}

/// All facts of one pass over the graph.
pub(crate) struct Facts {
    all: Vec<Fact>,
}

/// What is known of a value.
#[derive(Clone, Copy)]
struct Bounds {
    min: u32,
    max: u32,
    ones: u32,
    zeros: u32,
    /// Whether anything is: if not, the value has not been computed on this way.
    any: bool,
}

impl Bounds {
    fn of_max(max: u32) -> Self {
        let zeros = match max.leading_zeros() {
            0 => 0,
            n => !(u32::MAX >> n),
        };
        Self {
            min: 0,
            max,
            ones: 0,
            zeros,
            any: false,
        }
    }

    fn learn(&mut self, relation: Relation, k: u32, outcome: bool) {
        self.any = true;
        match (relation, outcome) {
            (Relation::Eq, true) => {
                self.min = k;
                self.max = k;
                self.ones = k;
                self.zeros = !k;
            }
            (Relation::Eq, false) => {
                if k == self.min && self.min < self.max {
                    self.min += 1;
                } else if k == self.max && self.min < self.max {
                    self.max -= 1;
                }
            }
            (Relation::Ge, true) => self.min = self.min.max(k),
            (Relation::Ge, false) => self.max = self.max.min(k.saturating_sub(1)),
            (Relation::Set, true) if k.is_power_of_two() => self.ones |= k,
            (Relation::Set, false) => self.zeros |= k,
            (Relation::Set, true) => self.min = self.min.max(1),
            (Relation::Gt, _) => {}
        }
    }

    fn decide(&self, relation: Relation, k: u32) -> Option<bool> {
        let min = self.min.max(self.ones);
        let max = self.max.min(!self.zeros);
        match relation {
            Relation::Eq if k < min || k > max => Some(false),
            Relation::Eq if k & self.zeros != 0 || self.ones & !k != 0 => Some(false),
            Relation::Eq if min == max => Some(true),
            Relation::Ge if min >= k => Some(true),
            Relation::Ge if max < k => Some(false),
            Relation::Set if self.ones & k != 0 => Some(true),
            Relation::Set if k & !self.zeros == 0 => Some(false),
            Relation::Set if min == max => Some(min & k != 0),
            _ => None,
        }
    }
}

impl Facts {
    /// No facts yet, with room for those of so many nodes.
    pub(crate) fn with_capacity(nodes: usize) -> Self {
        let start = Fact {
            before: NOTHING,
            depth: 0,
            step: Step::Leaf,
            outcome: false,
        };
        let mut all = Vec::with_capacity(2 * nodes + 1);
        all.push(start);
        Self { all }
    }

    pub(crate) fn learn(&mut self, before: FactId, step: Step, outcome: bool) -> FactId {
        self.all.push(Fact {
            before,
            depth: self.all[before as usize].depth + 1,
            step,
            outcome,
        });
        self.all.len() as u32 - 1
    }

    /// What two ways have in common.
    pub(crate) fn meet(&self, a: FactId, b: FactId) -> FactId {
        let (mut a, mut b) = (a, b);
        while a != b {
            let (fa, fb) = (self.all[a as usize], self.all[b as usize]);
            if fa.depth >= fb.depth {
                a = fa.before;
            }
            if fb.depth >= fa.depth {
                b = fb.before;
            }
        }
        a
    }

    fn way(&self, from: FactId) -> impl Iterator<Item = &Fact> {
        let mut at = from;
        core::iter::from_fn(move || {
            let fact = &self.all[at as usize];
            at = fact.before;
            (fact.depth > 0).then_some(fact)
        })
    }

    /// The outcome of a test, if what is known decides it.
    pub(crate) fn decide(&self, arena: &Arena, known: FactId, test: Test) -> Option<bool> {
        if let (Some(a), Some(b)) = (arena.as_const(test.left), arena.as_const(test.right)) {
            return Some(test.relation.holds(a, b));
        }
        let Some(k) = arena.as_const(test.right) else {
            return self
                .way(known)
                .find(|f| f.step == Step::Test(test))
                .map(|f| f.outcome);
        };
        let mut bounds = Bounds::of_max(arena.max(test.left));
        let masked = match arena.get(test.left) {
            Expr::Bin(AluOp::And, inner, mask) => arena.as_const(mask).map(|m| (inner, m)),
            _ => None,
        };
        let mut inner = masked.map(|(v, _)| Bounds::of_max(arena.max(v)));
        for fact in self.way(known) {
            let Step::Test(t) = fact.step else { continue };
            if t == test {
                return Some(fact.outcome);
            }
            let Some(value) = arena.as_const(t.right) else {
                continue;
            };
            if t.left == test.left {
                bounds.learn(t.relation, value, fact.outcome);
            } else if let (Some((v, _)), Some(inner)) = (masked, &mut inner)
                && v == t.left
            {
                inner.learn(t.relation, value, fact.outcome);
            } else if t.relation == Relation::Eq
                && fact.outcome
                && let Some(mask) = mask_of(arena, t.left, test.left)
            {
                bounds.any = true;
                bounds.ones |= value;
                bounds.zeros |= mask & !value;
            }
        }
        if let (Some((_, mask)), Some(inner)) = (masked, inner)
            && inner.any
        {
            bounds.any = true;
            bounds.ones |= inner.ones & mask;
            bounds.zeros |= inner.zeros & mask;
            if inner.min == inner.max {
                bounds.learn(Relation::Eq, inner.min & mask, true);
            }
        }
        bounds.decide(test.relation, k)
    }

    /// Whether whatever may reject a packet when a value is computed has been done on this way.
    pub(crate) fn covers(&self, arena: &Arena, known: FactId, value: Value) -> bool {
        let mut all = true;
        needs(arena, value, &mut |need| {
            all &= self.way(known).any(|f| step_covers(arena, f.step, need));
        });
        all
    }
}

/// The mask, if `value` is `inner & mask`.
fn mask_of(arena: &Arena, value: Value, inner: Value) -> Option<u32> {
    match arena.get(value) {
        Expr::Bin(AluOp::And, v, mask) if v == inner => arena.as_const(mask),
        _ => None,
    }
}

/// What must go well for a packet not to be rejected when a value is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// The packet has bytes from a base up to before an offset.
    Bytes(Option<Value>, u32),
    /// A value is computed that needs what bytes do not tell: a divisor that is not zero.
    Value(Value),
}

/// Whether a step does what is needed.
pub(crate) fn step_covers(arena: &Arena, step: Step, need: Need) -> bool {
    let mut covers = false;
    let mut see = |value| {
        needs(arena, value, &mut |done| {
            covers |= match (done, need) {
                (Need::Bytes(base, end), Need::Bytes(wanted, least)) => {
                    base == wanted && end >= least
                }
                (done, need) => done == need,
            };
        });
    };
    match step {
        Step::Test(t) => {
            see(t.left);
            see(t.right);
        }
        Step::Touch(value) => see(value),
        // A variable that nobody reads is not computed.
        Step::Assign(..) | Step::Leaf | Step::Chain(_) => {}
    }
    covers
}

/// Calls `see` with all that a value needs.
pub(crate) fn needs(arena: &Arena, value: Value, see: &mut impl FnMut(Need)) {
    match arena.get(value) {
        Expr::Load { size, base, offset } => {
            see(Need::Bytes(base, offset.saturating_add(size.bytes())));
            if let Some(base) = base {
                needs(arena, base, see);
            }
        }
        Expr::Msh(offset) => see(Need::Bytes(None, offset.saturating_add(1))),
        Expr::Bin(op, a, b) => {
            if matches!(op, AluOp::Div | AluOp::Mod) && arena.as_const(b).is_none() {
                see(Need::Value(value));
            }
            needs(arena, a, see);
            needs(arena, b, see);
        }
        Expr::RadiotapPayload(header) => {
            see(Need::Value(value));
            see(Need::Bytes(Some(header), 1));
            needs(arena, header, see);
        }
        Expr::Const(_) | Expr::Len | Expr::Ancillary(..) | Expr::Var(_) => {}
    }
}
