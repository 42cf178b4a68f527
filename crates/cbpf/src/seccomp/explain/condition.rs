//! Conditions of system calls' arguments.

use super::set::Set;
use super::value::{FIELDS, Value, name};
use crate::insn::Relation;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// What a condition is about: a field, or one half of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Whole,
    Low,
    High,
}

impl Part {
    fn of(self, number: u64) -> u64 {
        match self {
            Self::Whole => number,
            Self::Low => number & 0xffff_ffff,
            Self::High => number >> 32,
        }
    }
}

/// A condition of a call's arguments; all numbers are unsigned.
///
/// ```
/// use skep_cbpf::seccomp::{Arch, Policy, compile, explain};
///
/// let code = compile(&Policy::parse("allow kill if arg1 == 0", Arch::X86_64)?)?;
/// let calls = explain(&code, Arch::X86_64);
/// let kill = calls.iter().find(|call| call.name == "kill").ok_or("no such call")?;
/// let condition = &kill.cases[0].conditions[0];
/// assert!(condition.holds(0, [1234, 0, 0, 0, 0, 0]));
/// assert!(!condition.holds(0, [1234, 9, 0, 0, 0, 0]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition(pub(super) Kind);

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A number is in a set.
    In { field: usize, part: Part, set: Set },
    /// The bits under a mask are these, or are not.
    Masked {
        field: usize,
        mask: u64,
        bits: u64,
        equal: bool,
    },
    /// A comparison of what the filter computes holds, or does not.
    Computed {
        relation: Relation,
        left: Value,
        right: Value,
        holds: bool,
    },
}

/// A set is written as what it leaves out if that is at most so many numbers.
const LEFT_OUT_MAX: usize = 4;

impl Condition {
    /// Whether it holds for a call from an address, with these arguments.
    #[must_use]
    pub fn holds(&self, ip: u64, args: [u64; 6]) -> bool {
        let [a, b, c, d, e, f] = args;
        let fields: [u64; FIELDS] = [ip, a, b, c, d, e, f];
        match &self.0 {
            Kind::In { field, part, set } => set.contains(part.of(fields[*field])),
            Kind::Masked {
                field,
                mask,
                bits,
                equal,
            } => (fields[*field] & mask == *bits) == *equal,
            Kind::Computed {
                relation,
                left,
                right,
                holds,
            } => {
                let both = left.of(&fields).zip(right.of(&fields));
                both.is_some_and(|(a, b)| relation.holds(a, b) == *holds)
            }
        }
    }

    /// The condition that holds where this one does not.
    pub(super) fn opposite(&self) -> Self {
        let mut opposite = self.0.clone();
        match &mut opposite {
            Kind::In { set, .. } => *set = set.complement(),
            Kind::Masked { equal, .. } => *equal = !*equal,
            Kind::Computed { holds, .. } => *holds = !*holds,
        }
        Self(opposite)
    }

    /// Whether another condition holds wherever this one does, as far as their forms tell.
    pub(super) fn implies(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (
                Kind::In { field, part, set },
                Kind::In {
                    field: f,
                    part: p,
                    set: s,
                },
            ) => (field, part) == (f, p) && set.intersect(s) == *set,
            (one, other) => one == other,
        }
    }

    /// The condition that holds where this or another one does, which may be none at all; `None` if no one condition does.
    #[expect(
        clippy::option_option,
        reason = "a condition, no condition, or no answer"
    )]
    pub(super) fn or(&self, other: &Self) -> Option<Option<Self>> {
        let (
            Kind::In { field, part, set },
            Kind::In {
                field: f,
                part: p,
                set: s,
            },
        ) = (&self.0, &other.0)
        else {
            return (*self == other.opposite()).then_some(None);
        };
        if (field, part) != (f, p) {
            return None;
        }
        let set = set.union(s);
        let (field, part) = (*field, *part);
        Some((!set.is_full()).then_some(Self(Kind::In { field, part, set })))
    }

    /// The ways to meet it, each a list of comparisons as a policy has them where it can.
    pub(super) fn alternatives(&self) -> Vec<String> {
        let Kind::In { field, part, set } = &self.0 else {
            return alloc::vec![self.to_string()];
        };
        let subject = match part {
            Part::Whole => name(*field).to_string(),
            Part::Low => format!("low({})", name(*field)),
            Part::High => format!("high({})", name(*field)),
        };
        let outside = set.complement();
        let only_numbers = outside.parts().iter().all(|(first, last)| first == last);
        if outside.parts().len() <= LEFT_OUT_MAX && only_numbers {
            let others = outside.parts().iter();
            let all: Vec<String> = others
                .map(|(n, _)| format!("{subject} != {n:#x}"))
                .collect();
            return alloc::vec![all.join(" and ")];
        }
        let one = |(first, last): &(u64, u64)| match (*first, *last) {
            (first, last) if first == last && *part == Part::Low => {
                format!("{} & 0xffffffff == {first:#x}", name(*field))
            }
            (first, last) if first == last => format!("{subject} == {first:#x}"),
            (0, last) => format!("{subject} <= {last:#x}"),
            (first, last) if last == set.most() => format!("{subject} >= {first:#x}"),
            (first, last) => format!("{subject} >= {first:#x} and {subject} <= {last:#x}"),
        };
        set.parts().iter().map(one).collect()
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::In { .. } => f.write_str(&self.alternatives().join(" or ")),
            Kind::Masked {
                field,
                mask,
                bits,
                equal,
            } => {
                let sign = if *equal { "==" } else { "!=" };
                write!(f, "{} & {mask:#x} {sign} {bits:#x}", name(*field))
            }
            Kind::Computed {
                relation,
                left,
                right,
                holds,
            } => {
                let sign = match (relation, holds) {
                    (Relation::Eq, true) => "==",
                    (Relation::Eq, false) => "!=",
                    (Relation::Gt, true) => ">",
                    (Relation::Gt, false) => "<=",
                    (Relation::Ge, true) => ">=",
                    (Relation::Ge, false) => "<",
                    (Relation::Set, true) => return write!(f, "{left} & {right} != 0"),
                    (Relation::Set, false) => return write!(f, "{left} & {right} == 0"),
                };
                write!(f, "{left} {sign} {right}")
            }
        }
    }
}
