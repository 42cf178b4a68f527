//! What a raw filter does with each system call: all ways through it, with the conditions of each.
//!
//! [`walk`] follows the ways with the values they compute, which are constants or made of the arguments' halves. The
//! conditions of a way are exact, and no two ways of a call hold for the same arguments; ways with one ending whose
//! conditions differ in one argument are put together.

mod condition;
mod set;
#[cfg(test)]
mod tests;
mod value;
mod walk;

pub use condition::Condition;

use super::policy::{Action, Arch};
use crate::insn::Insn;
#[cfg(test)]
use crate::{insn::Op, interp::LongShift};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use value::Value;
use walk::{Call, cases};

/// How a call ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// In an action.
    Action(Action),
    /// In the action that a computed value stands for.
    Computed(Computed),
}

/// A value that a filter computes of arguments and returns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Computed(Value);

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Action(action) => action.fmt(f),
            Self::Computed(Computed(value)) => write!(f, "return {value}"),
        }
    }
}

/// One thing that may happen to a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    /// What happens.
    pub ending: Ending,
    /// When: all of these hold.
    pub conditions: Vec<Condition>,
}

/// What a filter does with a system call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explained {
    /// Number of the system call.
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// What may happen: the first case whose conditions hold does. The last one has no conditions. Empty if the filter
    /// computes too much to tell.
    pub cases: Vec<Case>,
}

/// Most cases that are compared pair by pair.
const MERGED_MAX: usize = 64;
/// Most ways to meet the conditions of a case that are written out.
const WRITTEN_MAX: usize = 8;

/// What a filter that the kernel takes does with each system call of an architecture.
#[must_use]
pub fn explain(code: &[Insn], arch: Arch) -> Vec<Explained> {
    let mut all: Vec<Explained> = arch
        .syscalls()
        .map(|(number, name)| explain_call(code, arch, number, name))
        .collect();
    let usual = usual(&all);
    for call in &mut all {
        let cases = core::mem::take(&mut call.cases);
        call.cases = in_order(cases, usual.as_ref());
    }
    all
}

/// The cases of one call, no two of which hold for the same arguments.
fn explain_call(code: &[Insn], arch: Arch, number: u32, name: &'static str) -> Explained {
    let audit = arch.audit();
    let cases = cases(code, Call { audit, number }).map(merged);
    Explained {
        number,
        name,
        cases: cases.unwrap_or_default(),
    }
}

/// The ending of most calls: what a policy calls the default.
fn usual(all: &[Explained]) -> Option<Ending> {
    let mut counts: Vec<(&Ending, usize)> = Vec::new();
    for call in all {
        if let [only] = &call.cases[..] {
            match counts
                .iter_mut()
                .find(|(ending, _)| **ending == only.ending)
            {
                Some((_, count)) => *count += 1,
                None => counts.push((&only.ending, 1)),
            }
        }
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(ending, _)| ending.clone())
}

impl Explained {
    /// The cases in words: `errno EACCES if arg0 == 0x9; else allow`, with the conditions as a policy has them.
    #[must_use]
    pub fn text(&self) -> String {
        let Some((last, others)) = self.cases.split_last() else {
            return "too much depends on the arguments to tell".into();
        };
        let mut parts: Vec<String> = Vec::new();
        for case in others {
            let conditions = case.texts();
            parts.extend(conditions.iter().map(|c| format!("{} if {c}", case.ending)));
        }
        let ending = &last.ending;
        parts.push(if parts.is_empty() {
            format!("{ending}")
        } else {
            format!("else {ending}")
        });
        parts.join("; ")
    }
}

impl Case {
    /// The ways to meet its conditions, each in the words of a policy where it has them.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = alloc::vec![String::new()];
        for condition in &self.conditions {
            let joined = |before: &String, text: &String| match before.is_empty() {
                true => text.clone(),
                false => format!("{before} and {text}"),
            };
            let mut ways = condition.alternatives();
            if ways.len() > 1 && texts.len() * ways.len() > WRITTEN_MAX {
                ways = alloc::vec![format!("({})", ways.join(" or "))];
            }
            texts = texts
                .iter()
                .flat_map(|before| ways.iter().map(move |text| joined(before, text)))
                .collect();
        }
        texts
    }

    /// Leaves out conditions without which the case holds only where an earlier one does as well.
    fn shorten_after(&mut self, earlier: &[Self]) {
        let mut at = 0;
        while at < self.conditions.len() {
            let mut without = self.conditions.clone();
            let opposite = without[at].opposite();
            without[at] = opposite;
            let implied = |c: &Condition| without.iter().any(|known| known.implies(c));
            if earlier.iter().any(|e| e.conditions.iter().all(implied)) {
                self.conditions.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// The case that holds where this or another one of the same ending does, if conditions can say so.
    fn with(&self, other: &Self) -> Option<Self> {
        if self.ending != other.ending {
            return None;
        }
        let differ = |a: &Self, b: &Self| {
            let own = a.conditions.iter().filter(|c| !b.conditions.contains(c));
            own.cloned().collect::<Vec<_>>()
        };
        let (only_self, only_other) = (differ(self, other), differ(other, self));
        let mut conditions = self.conditions.clone();
        match (&only_self[..], &only_other[..]) {
            ([], _) => {}
            (_, []) => conditions.clone_from(&other.conditions),
            ([one], [two]) => {
                let at = conditions.iter().position(|c| c == one)?;
                match one.or(two)? {
                    Some(either) => conditions[at] = either,
                    None => {
                        conditions.remove(at);
                    }
                }
            }
            _ => return None,
        }
        let ending = self.ending.clone();
        Some(Self { ending, conditions })
    }
}

/// Cases put together as far as conditions can say so.
fn merged(cases: Vec<Case>) -> Vec<Case> {
    let mut cases = cases;
    let mut at = 0;
    while at < cases.len() && cases.len() <= MERGED_MAX {
        let found = (0..at).find_map(|i| cases[i].with(&cases[at]).map(|both| (i, both)));
        match found {
            Some((i, both)) => {
                cases.remove(at);
                cases[i] = both;
                // What was compared with it before may go with it now.
                at = i.max(1);
            }
            None => at += 1,
        }
    }
    cases
}

/// Cases of which none holds where another does, as a list of which the first that holds counts. What happens if no
/// other does is the usual ending, or else that with the most conditions.
fn in_order(cases: Vec<Case>, usual: Option<&Ending>) -> Vec<Case> {
    let complexity = |ending: &Ending| {
        let of = cases.iter().filter(|c| c.ending == *ending);
        let conditions = of.map(|c| 1 + c.conditions.len()).sum::<usize>();
        (usual == Some(ending), conditions)
    };
    let most = cases
        .iter()
        .map(|c| &c.ending)
        .max_by_key(|e| complexity(e));
    let Some(last) = most.cloned() else {
        return cases;
    };
    let mut others: Vec<Case> = cases.into_iter().filter(|c| c.ending != last).collect();
    if others.len() <= MERGED_MAX {
        for at in 1..others.len() {
            let (earlier, later) = others.split_at_mut(at);
            later[0].shorten_after(earlier);
        }
        others = merged(others);
    }
    others.push(Case {
        ending: last,
        conditions: Vec::new(),
    });
    others
}

/// Runs a filter for one call, on a little-endian machine.
#[cfg(test)]
pub(super) fn run(code: &[Insn], audit: u32, number: u32, args: [u64; 6]) -> Action {
    use crate::interp::{Packet, Program};
    // The interpreter loads big-endian words, so the structure is made of those.
    let mut bytes = Vec::new();
    bytes.extend(number.to_be_bytes());
    bytes.extend(audit.to_be_bytes());
    bytes.extend([0; 8]);
    for arg in args {
        bytes.extend((arg as u32).to_be_bytes());
        bytes.extend(((arg >> 32) as u32).to_be_bytes());
    }
    let program = Program::new(code, LongShift::Modulo).unwrap();
    Action::of_value(program.run(&Packet::of_file(&bytes, 64)))
}

/// Instructions that a filter executes for a call whose arguments do not matter.
#[cfg(test)]
pub(super) fn steps(code: &[Insn], audit: u32, number: u32) -> usize {
    let (mut at, mut a, mut steps) = (0, 0, 0);
    loop {
        let insn = code[at];
        at += 1;
        steps += 1;
        match insn.op() {
            Some(Op::LoadAbs(_)) => a = if insn.k == 0 { number } else { audit },
            Some(Op::JumpK(r)) => {
                at += usize::from(if r.holds(a, insn.k) { insn.jt } else { insn.jf });
            }
            Some(Op::Jump) => at += insn.k as usize,
            _ => return steps,
        }
    }
}
