//! Our answer against the kernel's, row by row.

use super::rows::{CapSet, KernelVerdict, Row};
use super::runner::{Answer, Answers};
use skep::check::Verdict;
use skep_verifier::Class;
use std::collections::BTreeSet;

/// How the two verdicts relate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Relation {
    Agree,
    /// We accept what the kernel finds unsafe.
    FalseAccept,
    /// We reject what the kernel accepts.
    FalseReject,
    /// Only one of the two gave up exploring.
    Complexity,
    /// We have no verdict though the kernel was asked.
    NoVerdict,
    Crash,
    Hang,
}

/// A row for one loader, compared.
#[derive(Clone, Debug)]
pub(super) struct Comparison<'a> {
    pub(super) row: &'a Row,
    pub(super) caps: CapSet,
    pub(super) kernel: &'a KernelVerdict,
    pub(super) relation: Relation,
    /// Part of what the verifier has set out to know.
    pub(super) covered: bool,
    /// Our code, `accept`, or what went wrong.
    pub(super) code: String,
    pub(super) message: String,
    pub(super) insn: Option<u32>,
}

/// Categories whose rows are outside the covered part.
const UNCOVERED_CATEGORIES: &[&str] = &["kfunc", "dynptr", "exc"];
/// Bases with open-coded iterators, by what their names say.
const UNCOVERED_BASES: &[&str] = &[
    "loop__bad_iter_leak",
    "loop__bad_iter_order",
    "loop__iter_num",
];

fn is_covered(row: &Row) -> bool {
    !row.category.starts_with("beyond")
        && !UNCOVERED_CATEGORIES.contains(&row.category.as_str())
        && row.prog_type != "tracing"
        && !UNCOVERED_BASES.contains(&row.base.as_str())
}

/// Compares every row for both loaders.
pub(super) fn compare<'a>(rows: &'a [Row], answers: &Answers) -> Vec<Comparison<'a>> {
    let mut all = Vec::with_capacity(answers.len());
    for ((index, caps), answer) in answers {
        let row = &rows[*index];
        let kernel = row.verdict(*caps);
        let (relation, code, message, insn) = relate(kernel, answer);
        all.push(Comparison {
            row,
            caps: *caps,
            kernel,
            relation,
            covered: is_covered(row),
            code,
            message,
            insn,
        });
    }
    all
}

fn relate(kernel: &KernelVerdict, answer: &Answer) -> (Relation, String, String, Option<u32>) {
    match answer {
        Answer::Crash(text) => (Relation::Crash, "crash".to_owned(), text.clone(), None),
        Answer::Hang => (Relation::Hang, "hang".to_owned(), String::new(), None),
        Answer::Unreadable(text) => {
            let relation = if kernel.accept {
                Relation::FalseReject
            } else {
                Relation::NoVerdict
            };
            (relation, "error".to_owned(), text.clone(), None)
        }
        Answer::Verdict(Verdict::Error(text) | Verdict::Unknown(text)) => {
            let relation = if kernel.accept {
                Relation::FalseReject
            } else {
                Relation::NoVerdict
            };
            (relation, "error".to_owned(), text.clone(), None)
        }
        Answer::Verdict(Verdict::Accept(_)) => {
            let relation = match (kernel.accept, kernel.is_complexity()) {
                (true, _) => Relation::Agree,
                (false, true) => Relation::Complexity,
                (false, false) => Relation::FalseAccept,
            };
            (relation, "accept".to_owned(), String::new(), None)
        }
        Answer::Verdict(Verdict::Reject(rejection)) => {
            let relation = match (kernel.accept, rejection.class) {
                (false, _) => Relation::Agree,
                (true, Class::Complexity) => Relation::Complexity,
                (true, _) => Relation::FalseReject,
            };
            (
                relation,
                rejection.code.to_owned(),
                rejection.message(),
                rejection.insn,
            )
        }
    }
}

/// A message with numbers taken out, so that like refusals group.
pub(crate) fn shape(message: &str) -> String {
    let mut shape = String::with_capacity(message.len());
    let mut in_number = false;
    for c in message.chars() {
        let digit = c.is_ascii_digit();
        if !digit {
            shape.push(c);
        } else if !in_number {
            shape.push('N');
        }
        in_number = digit;
    }
    shape
}

/// Objects that occur in some comparison.
pub(super) fn objects(all: &[Comparison<'_>]) -> usize {
    all.iter()
        .map(|c| c.row.object.as_str())
        .collect::<BTreeSet<_>>()
        .len()
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_do_not_split_groups() {
        assert_eq!(
            super::shape("r12 may reach byte 180"),
            "rN may reach byte N"
        );
    }
}
