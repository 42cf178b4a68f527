//! A rejection with everything that helps to understand it: in terms of the source, with what led to it and what to do.

use crate::check::{Checker, Source, Verdict};
use skep_abi::ProgType;
use skep_verifier::{Caps, Explanation, Rejection};

/// An instruction and where it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Slot in the linked program.
    pub insn: u32,
    /// The instruction as text.
    pub text: String,
    /// Its source, if the object says.
    pub source: Option<Source>,
}

/// Something that led to the rejection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// What.
    pub text: String,
    /// Where.
    pub place: Option<Place>,
}

/// A rejection explained.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnosis {
    /// The fact in one sentence.
    pub headline: String,
    /// What to point at.
    pub place: Option<Place>,
    /// Words for what is pointed at.
    pub label: Option<String>,
    /// What led to it.
    pub notes: Vec<Note>,
    /// What to do.
    pub help: Vec<String>,
}

impl Checker {
    /// Explains why `program` was rejected: walks the failing path again. Accepted programs need not pay for this.
    #[must_use]
    pub fn diagnose(&self, program: &str, caps: Caps, rejection: &Rejection) -> Diagnosis {
        let found = self.linked().programs.iter().find(|p| p.name == program);
        let prog_type = found.map(|p| match p.prog_type {
            ProgType::Unspec => self.default_type(),
            known => Some(known),
        });
        let explanation = match (found, prog_type.flatten()) {
            (Some(program), Some(prog_type)) => {
                let explain = |request: &skep_verifier::Request<'_>| {
                    Ok(skep_verifier::explain(request, rejection))
                };
                self.with_request(program, prog_type, caps, explain)
                    .unwrap_or_else(|_: Verdict| Explanation::default())
            }
            _ => Explanation::default(),
        };
        let place = |insn: u32| {
            let program = found?;
            Some(Place {
                insn,
                text: skep_isa::decode(&program.insns, insn as usize)
                    .ok()?
                    .to_string(),
                source: self.source(program, insn),
            })
        };
        let notes = explanation.notes.into_iter().map(|n| Note {
            place: n.insn.and_then(place),
            text: n.text,
        });
        Diagnosis {
            headline: explanation
                .headline
                .unwrap_or_else(|| rejection.message.clone()),
            place: explanation.place.or(rejection.insn).and_then(place),
            label: explanation.label,
            notes: notes.collect(),
            help: explanation.help,
        }
    }
}
