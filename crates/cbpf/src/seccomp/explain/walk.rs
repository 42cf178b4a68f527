//! All ways through a filter for one system call, with what holds on each.

use super::condition::{Condition, Kind, Part};
use super::set::Set;
use super::value::{FIELDS, Half, OPERATIONS_MAX, Value};
use super::{Case, Computed, Ending};
use crate::insn::{AluOp, Insn, Op, Relation, Size};
use crate::seccomp::policy::Action;
use alloc::vec::Vec;

/// Most ways followed for one system call.
const WAYS_MAX: usize = 512;
/// Most instructions of all ways of one system call.
const STEPS_MAX: usize = 1 << 15;
/// Bytes of `struct seccomp_data`.
const DATA_BYTES: u32 = 64;
const HALF_MAX: u64 = 0xffff_ffff;
/// Most values of the upper half that are crossed with those of the lower one.
const CROSSED_MAX: u64 = 16;

/// A call whose number and architecture are known.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) audit: u32,
    pub(super) number: u32,
}

/// Bits of a half under a mask that are known to be, or not to be, these.
#[derive(Clone, PartialEq)]
struct Masked {
    half: Half,
    mask: u32,
    bits: u32,
    equal: bool,
}

/// A comparison of values, with its outcome.
#[derive(Clone, PartialEq)]
struct Compared {
    relation: Relation,
    left: Value,
    right: Value,
    holds: bool,
}

/// What holds on a way.
#[derive(Clone)]
struct Known {
    halves: [Set; 2 * FIELDS],
    masked: Vec<Masked>,
    compared: Vec<Compared>,
}

/// The machine on a way.
#[derive(Clone)]
struct Way {
    at: usize,
    a: Value,
    x: Value,
    words: [Value; 16],
    known: Known,
}

/// The cases of a call; `None` if there are too many, or a value takes too many operations.
pub(super) fn cases(code: &[Insn], call: Call) -> Option<Vec<Case>> {
    let start = Way {
        at: 0,
        a: Value::Constant(0),
        x: Value::Constant(0),
        words: core::array::from_fn(|_| Value::Constant(0)),
        known: Known {
            halves: core::array::from_fn(|_| Set::full(HALF_MAX)),
            masked: Vec::new(),
            compared: Vec::new(),
        },
    };
    let mut ways = alloc::vec![start];
    let mut cases = Vec::new();
    let mut steps = 0;
    while let Some(mut way) = ways.pop() {
        if cases.len() + ways.len() > WAYS_MAX {
            return None;
        }
        loop {
            steps += 1;
            if steps > STEPS_MAX || way.a.size().max(way.x.size()) > OPERATIONS_MAX {
                return None;
            }
            let insn = *code.get(way.at)?;
            way.at += 1;
            if let Some(ending) = way.step(insn, call, &mut ways)? {
                cases.push(Case {
                    ending,
                    conditions: way.known.conditions(),
                });
                break;
            }
        }
    }
    Some(cases)
}

impl Way {
    /// One instruction; the way's ending, if it is one. `None` for an instruction that seccomp does not have.
    fn step(&mut self, insn: Insn, call: Call, ways: &mut Vec<Self>) -> Option<Option<Ending>> {
        let (k, slot) = (insn.k, (insn.k & 15) as usize);
        match insn.op()? {
            Op::LoadAbs(Size::W) => self.a = call.word(k),
            Op::LoadImm => self.a = Value::Constant(k),
            Op::LoadXImm => self.x = Value::Constant(k),
            Op::LoadLen => self.a = Value::Constant(DATA_BYTES),
            Op::LoadXLen => self.x = Value::Constant(DATA_BYTES),
            Op::LoadMem => self.a = self.words[slot].clone(),
            Op::LoadXMem => self.x = self.words[slot].clone(),
            Op::Store => self.words[slot] = self.a.clone(),
            Op::StoreX => self.words[slot] = self.x.clone(),
            Op::AluK(op) => return Some(self.operation(op, Value::Constant(k), ways)),
            Op::AluX(op) => return Some(self.operation(op, self.x.clone(), ways)),
            Op::Neg => {
                let value = Value::operation(AluOp::Sub, Value::Constant(0), self.a.clone());
                self.a = value?;
            }
            Op::Tax => self.x = self.a.clone(),
            Op::Txa => self.a = self.x.clone(),
            Op::Jump => self.at += k as usize,
            Op::JumpK(relation) => self.branch(relation, &Value::Constant(k), insn, ways),
            Op::JumpX(relation) => self.branch(relation, &self.x.clone(), insn, ways),
            Op::RetK => return Some(Some(Ending::Action(Action::of_value(k)))),
            Op::RetA => {
                let ending = match self.a.constant() {
                    Some(value) => Ending::Action(Action::of_value(value)),
                    None => Ending::Computed(Computed(self.a.clone())),
                };
                return Some(Some(ending));
            }
            Op::LoadAbs(_) | Op::LoadInd(_) | Op::LoadXMsh => return None,
        }
        Some(None)
    }

    /// A division by zero returns zero, which ends the thread.
    fn operation(&mut self, op: AluOp, right: Value, ways: &mut Vec<Self>) -> Option<Ending> {
        const BY_ZERO: Ending = Ending::Action(Action::KillThread);
        if matches!(op, AluOp::Div | AluOp::Mod) && right.constant().is_none() {
            let mut zero = self.clone();
            let holds = zero
                .known
                .learn(Relation::Eq, &right, &Value::Constant(0), true);
            if holds {
                // Goes on with a division by the constant zero.
                zero.at -= 1;
                zero.x = Value::Constant(0);
                ways.push(zero);
            }
            if !self
                .known
                .learn(Relation::Eq, &right, &Value::Constant(0), false)
            {
                return Some(BY_ZERO);
            }
        }
        match Value::operation(op, self.a.clone(), right) {
            Some(value) => {
                self.a = value;
                None
            }
            None => Some(BY_ZERO),
        }
    }

    fn branch(&mut self, relation: Relation, right: &Value, insn: Insn, ways: &mut Vec<Self>) {
        let (jt, jf) = (usize::from(insn.jt), usize::from(insn.jf));
        if let (Some(a), Some(b)) = (self.a.constant(), right.constant()) {
            self.at += if relation.holds(a, b) { jt } else { jf };
            return;
        }
        let mut other = self.clone();
        let left = self.a.clone();
        if self.known.learn(relation, &left, right, true) {
            self.at += jt;
            if other.known.learn(relation, &left, right, false) {
                other.at += jf;
                ways.push(other);
            }
        } else {
            *self = other;
            self.known.learn(relation, &left, right, false);
            self.at += jf;
        }
    }
}

impl Call {
    fn word(self, offset: u32) -> Value {
        match offset {
            0 => Value::Constant(self.number),
            4 => Value::Constant(self.audit),
            _ => Value::Half(Half::at(offset)),
        }
    }
}

impl Known {
    /// Learns the outcome of a comparison; false if it cannot be this one.
    fn learn(&mut self, relation: Relation, left: &Value, right: &Value, holds: bool) -> bool {
        match (left, right.constant()) {
            (Value::Half(half), Some(k)) if relation != Relation::Set => {
                let set = Set::where_holds(relation, u64::from(k), HALF_MAX);
                let set = if holds { set } else { set.complement() };
                return self.narrow(*half, &set);
            }
            (_, Some(k)) => {
                if let Some((half, mask)) = left.masked() {
                    match relation {
                        Relation::Set => return self.bits(half, mask & k, 0, !holds),
                        Relation::Eq => return self.bits(half, mask, k, holds),
                        Relation::Gt | Relation::Ge => {}
                    }
                }
            }
            (_, None) => match (left.constant(), relation) {
                (Some(_), Relation::Eq | Relation::Set) => {
                    return self.learn(relation, right, left, holds);
                }
                // k > x is not x >= k, k >= x is not x > k.
                (Some(_), Relation::Gt) => return self.learn(Relation::Ge, right, left, !holds),
                (Some(_), Relation::Ge) => return self.learn(Relation::Gt, right, left, !holds),
                (None, _) => {}
            },
        }
        let compared = Compared {
            relation,
            left: left.clone(),
            right: right.clone(),
            holds,
        };
        let opposite = Compared {
            holds: !holds,
            ..compared.clone()
        };
        if self.compared.contains(&opposite) {
            return false;
        }
        if !self.compared.contains(&compared) {
            self.compared.push(compared);
        }
        true
    }

    fn narrow(&mut self, half: Half, set: &Set) -> bool {
        let known = &mut self.halves[half.index()];
        *known = known.intersect(set);
        let known = &self.halves[half.index()];
        let possible = |m: &Masked| match known.single() {
            Some(n) if m.half == half => (n as u32 & m.mask == m.bits) == m.equal,
            _ => true,
        };
        !known.is_empty() && self.masked.iter().all(possible)
    }

    /// Learns that bits under a mask are these, or are not.
    fn bits(&mut self, half: Half, mask: u32, bits: u32, equal: bool) -> bool {
        if bits & !mask != 0 || mask == 0 {
            return (bits == 0) == equal;
        }
        if mask == u32::MAX {
            let set = Set::where_holds(Relation::Eq, u64::from(bits), HALF_MAX);
            return self.narrow(half, &if equal { set } else { set.complement() });
        }
        if let Some(n) = self.halves[half.index()].single() {
            return (n as u32 & mask == bits) == equal;
        }
        let new = Masked {
            half,
            mask,
            bits,
            equal,
        };
        if self
            .masked
            .iter()
            .any(|m| m.excludes(&new) || new.excludes(m))
        {
            return false;
        }
        if !self.masked.contains(&new) {
            self.masked.push(new);
        }
        true
    }

    /// What is known, as conditions of whole fields where they can be.
    fn conditions(&self) -> Vec<Condition> {
        let mut all = Vec::new();
        for field in 0..FIELDS {
            let (low, high) = (&self.halves[2 * field], &self.halves[2 * field + 1]);
            let mut add = |part, set: Set| {
                if !set.is_full() {
                    all.push(Kind::In { field, part, set });
                }
            };
            match whole(low, high) {
                Some(set) => add(Part::Whole, set),
                None => {
                    add(Part::High, high.clone());
                    add(Part::Low, low.clone());
                }
            }
            self.masks_of(field, &mut all);
        }
        all.extend(self.compared.iter().map(|c| Kind::Computed {
            relation: c.relation,
            left: c.left.clone(),
            right: c.right.clone(),
            holds: c.holds,
        }));
        all.into_iter().map(Condition).collect()
    }

    fn masks_of(&self, field: usize, all: &mut Vec<Kind>) {
        let (mut mask, mut bits) = (0, 0);
        for m in self.masked.iter().filter(|m| m.half.field == field) {
            let shift = if m.half.high { 32 } else { 0 };
            let (this_mask, this_bits) = (u64::from(m.mask) << shift, u64::from(m.bits) << shift);
            if m.equal {
                mask |= this_mask;
                bits |= this_bits;
            } else {
                all.push(Kind::Masked {
                    field,
                    mask: this_mask,
                    bits: this_bits,
                    equal: false,
                });
            }
        }
        if mask != 0 {
            all.push(Kind::Masked {
                field,
                mask,
                bits,
                equal: true,
            });
        }
    }
}

impl Masked {
    /// Whether what this says makes the other impossible.
    fn excludes(&self, other: &Self) -> bool {
        let same = self.half == other.half;
        match (self.equal, other.equal) {
            (true, true) => same && (self.bits ^ other.bits) & self.mask & other.mask != 0,
            (true, false) => {
                same && other.mask & !self.mask == 0 && self.bits & other.mask == other.bits
            }
            _ => false,
        }
    }
}

/// The numbers of two halves, if intervals of 64 bits have them.
fn whole(low: &Set, high: &Set) -> Option<Set> {
    let mut all = Set::full(u64::MAX).complement();
    if low.is_full() {
        for (first, last) in high.parts() {
            all = all.union(&Set::of(u64::MAX, first << 32, last << 32 | HALF_MAX));
        }
        return Some(all);
    }
    let count = high.parts().iter().map(|(first, last)| last - first + 1);
    if count.sum::<u64>() > CROSSED_MAX {
        return None;
    }
    for upper in high.parts().iter().flat_map(|(first, last)| *first..=*last) {
        for (first, last) in low.parts() {
            all = all.union(&Set::of(u64::MAX, upper << 32 | first, upper << 32 | last));
        }
    }
    Some(all)
}
