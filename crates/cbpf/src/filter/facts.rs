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
    pub(crate) fn covers(&self, needs: &Needs, known: FactId, value: Value) -> bool {
        let all = needs.of(value);
        // Most often a step has computed this very value.
        all.is_empty()
            || self.way(known).any(|f| computes(f.step, value))
            || all
                .iter()
                .all(|need| self.way(known).any(|f| needs.met_by(f.step, *need)))
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

/// Whether a step computes a value.
fn computes(step: Step, value: Value) -> bool {
    match step {
        Step::Test(t) => t.left == value || t.right == value,
        Step::Touch(v) => v == value,
        Step::Leaf => false,
    }
}

/// What each value needs.
pub(crate) struct Needs {
    /// By value: where its needs begin and end.
    ends: Vec<(u32, u32)>,
    all: Vec<Need>,
}

/// Most needs of all values together. The sums and masks of real filters have a few each.
const NEEDS_MAX: usize = 1 << 16;

impl Needs {
    /// What all values need; `None` if that is too much to keep.
    pub(crate) fn of_all(arena: &Arena) -> Option<Self> {
        let mut needs = Self {
            ends: Vec::with_capacity(arena.values()),
            all: Vec::with_capacity(2 * arena.values()),
        };
        for index in 0..arena.values() {
            let start = needs.all.len();
            needs.add_value(arena, arena.at(index), start);
            needs.ends.push((start as u32, needs.all.len() as u32));
            if needs.all.len() > NEEDS_MAX {
                return None;
            }
        }
        Some(needs)
    }

    /// What a value needs.
    pub(crate) fn of(&self, value: Value) -> &[Need] {
        let (start, end) = self.ends[Arena::index(value)];
        &self.all[start as usize..end as usize]
    }

    /// Adds what a value needs to the list from `start` on. What it is made of comes before it in the arena.
    fn add_value(&mut self, arena: &Arena, value: Value, start: usize) {
        match arena.get(value) {
            Expr::Load { size, base, offset } => {
                self.add(
                    Need::Bytes(base, offset.saturating_add(size.bytes())),
                    start,
                );
                if let Some(base) = base {
                    self.add_all(base, start);
                }
            }
            Expr::Msh(offset) => self.add(Need::Bytes(None, offset.saturating_add(1)), start),
            Expr::Bin(op, a, b) => {
                if matches!(op, AluOp::Div | AluOp::Mod) && arena.as_const(b).is_none() {
                    self.add(Need::Value(value), start);
                }
                self.add_all(a, start);
                self.add_all(b, start);
            }
            Expr::RadiotapPayload(header) => {
                self.add(Need::Value(value), start);
                self.add(Need::Bytes(Some(header), 1), start);
                self.add_all(header, start);
            }
            Expr::Const(_) | Expr::Len | Expr::Ancillary(..) => {}
        }
    }

    fn add_all(&mut self, of: Value, start: usize) {
        let (from, to) = self.ends[Arena::index(of)];
        for at in from..to {
            self.add(self.all[at as usize], start);
        }
    }

    fn add(&mut self, need: Need, start: usize) {
        if !self.all[start..].iter().any(|done| meets(*done, need)) {
            self.all.push(need);
        }
    }

    /// Whether a step does what is needed.
    pub(crate) fn met_by(&self, step: Step, need: Need) -> bool {
        let by = |value: Value| self.of(value).iter().any(|done| meets(*done, need));
        match step {
            Step::Test(t) => by(t.left) || by(t.right),
            Step::Touch(value) => by(value),
            Step::Leaf => false,
        }
    }
}

fn meets(done: Need, need: Need) -> bool {
    match (done, need) {
        (Need::Bytes(base, end), Need::Bytes(wanted, least)) => base == wanted && end >= least,
        (done, need) => done == need,
    }
}
