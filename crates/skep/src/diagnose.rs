//! A rejection with everything that helps to understand it: in terms of the source, with what led to it and what to do.

use crate::check::{Checker, Source, Verdict};
use crate::locals::DebugLocals;
use skep_abi::ProgType;
use skep_object::Program;
use skep_verifier::{Caps, Cost, LogLevel, Rejection, Request};
use std::collections::BTreeMap;

/// An instruction and where it comes from.
///
/// ```
/// # use skep::check::{CheckOptions, Checker, Verdict};
/// # use skep_verifier::Caps;
/// #
/// # let bytes = std::fs::read("../../tests/objects/bad_packet.bpf.o")?;
/// # let checker = Checker::open(&bytes, &CheckOptions::default())?;
/// # let report = checker.check("bad_packet", Caps::All).ok_or("no such program")?;
/// # let Verdict::Reject(rejection) = report.verdict else { return Err("accepted".into()) };
/// # let diagnoses = checker.diagnose("bad_packet", Caps::All, &rejection);
/// let place = diagnoses[0].place.as_ref().ok_or("no place")?;
/// println!("instruction {}: {}", place.insn, place.text);
/// assert!(place.source.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// # use skep::check::{CheckOptions, Checker, Verdict};
/// # use skep_verifier::Caps;
/// #
/// # let bytes = std::fs::read("../../tests/objects/bad_packet.bpf.o")?;
/// # let checker = Checker::open(&bytes, &CheckOptions::default())?;
/// # let report = checker.check("bad_packet", Caps::All).ok_or("no such program")?;
/// # let Verdict::Reject(rejection) = report.verdict else { return Err("accepted".into()) };
/// # let diagnoses = checker.diagnose("bad_packet", Caps::All, &rejection);
/// for note in &diagnoses[0].notes {
///     println!("note: {} at {:?}", note.text, note.place.as_ref().map(|p| p.insn));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// What.
    pub text: String,
    /// Where.
    pub place: Option<Place>,
}

/// A rejection explained.
///
/// ```
/// use skep::check::{CheckOptions, Checker, Verdict};
/// use skep_verifier::Caps;
///
/// let bytes = std::fs::read("../../tests/objects/bad_packet.bpf.o")?;
/// let checker = Checker::open(&bytes, &CheckOptions::default())?;
/// let report = checker.check("bad_packet", Caps::All).ok_or("no such program")?;
/// let Verdict::Reject(rejection) = report.verdict else { return Err("accepted".into()) };
/// let diagnoses = checker.diagnose("bad_packet", Caps::All, &rejection);
/// for diagnosis in diagnoses {
///     println!("error[{}]: {}", diagnosis.code, diagnosis.headline);
///     for help in diagnosis.help {
///         println!("help: {help}");
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnosis {
    /// Stable code.
    pub code: &'static str,
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

/// What verifying the instructions of a source line costs.
///
/// ```
/// use skep::check::{CheckOptions, Checker};
///
/// let bytes = std::fs::read("../../examples/packets.bpf.o")?;
/// let checker = Checker::open(&bytes, &CheckOptions::default())?;
/// for line in checker.line_costs("packets", skep_verifier::Caps::All) {
///     println!("{}: {:?}", line.source.line, line.cost);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineCost {
    /// The line.
    pub source: Source,
    /// Sums over its instructions.
    pub cost: Cost,
}

impl Checker {
    /// Explains why `program` was rejected: the rejection itself, then the errors that are independent of it.
    ///
    /// The failing path is walked again. Accepted programs need not pay for this.
    #[must_use]
    pub fn diagnose(&self, program: &str, caps: Caps, rejection: &Rejection) -> Vec<Diagnosis> {
        let further = |request: &Request<'_>| skep_verifier::further_errors(request, rejection);
        let further = self.ask(program, caps, further).unwrap_or_default();
        let further = further
            .iter()
            .map(|(rejection, known)| (rejection, known.as_slice()));
        let all = std::iter::once((rejection, &[][..])).chain(further);
        let locals = DebugLocals::new(self.file(), self.find(program));
        all.map(|(rejection, known)| self.explained(program, caps, (rejection, known), &locals))
            .collect()
    }

    fn explained(
        &self,
        program: &str,
        caps: Caps,
        (rejection, known): (&Rejection, &[u32]),
        locals: &DebugLocals<'_>,
    ) -> Diagnosis {
        let explain = |request: &Request<'_>| {
            let explanation = skep_verifier::explain(request, rejection, known, locals);
            let places = explanation.notes.iter().filter_map(|n| n.insn);
            let places = places.chain(explanation.place).chain(rejection.insn);
            let text = |at: u32| {
                let text = skep_verifier::instruction_text(request, at as usize)?;
                Some((at, text))
            };
            let texts: BTreeMap<u32, String> = places.filter_map(text).collect();
            (explanation, texts)
        };
        let (explanation, texts) = self.ask(program, caps, explain).unwrap_or_default();
        let found = self.find(program);
        let place = |insn: u32| {
            Some(Place {
                insn,
                text: texts.get(&insn)?.clone(),
                source: self.source(found?, insn),
            })
        };
        let notes = explanation.notes.into_iter().map(|n| Note {
            place: n.insn.and_then(place),
            text: n.text,
        });
        Diagnosis {
            code: rejection.code,
            headline: found
                .and_then(|p| missing(p, rejection))
                .or(explanation.headline)
                .unwrap_or_else(|| rejection.message()),
            place: explanation.place.or(rejection.insn).and_then(place),
            label: explanation.label,
            notes: notes.collect(),
            help: match explanation.help {
                none if none.is_empty() => skep_verifier::general_help(rejection.code)
                    .map(str::to_owned)
                    .into_iter()
                    .collect(),
                help => help,
            },
        }
    }

    /// What each source line costs to verify, the most expensive first; the program is walked again.
    #[must_use]
    pub fn line_costs(&self, program: &str, caps: Caps) -> Vec<LineCost> {
        let costs = self
            .ask(program, caps, skep_verifier::costs)
            .unwrap_or_default();
        let Some(program) = self.find(program) else {
            return Vec::new();
        };
        let mut lines: BTreeMap<(String, u32), LineCost> = BTreeMap::new();
        let walked = (0_u32..).zip(&costs).filter(|(_, cost)| cost.steps > 0);
        for (at, cost) in walked {
            let Some(source) = self.source(program, at) else {
                continue;
            };
            let line = lines
                .entry((source.file.clone(), source.line))
                .or_insert(LineCost {
                    source,
                    cost: Cost::default(),
                });
            line.cost.steps = line.cost.steps.saturating_add(cost.steps);
            line.cost.states = line.cost.states.saturating_add(cost.states);
            line.cost.pruned = line.cost.pruned.saturating_add(cost.pruned);
        }
        let mut lines: Vec<LineCost> = lines.into_values().collect();
        lines.sort_by_key(|l| std::cmp::Reverse(l.cost.steps));
        lines
    }

    /// The refusal in the form of the kernel's log, the line of statistics included.
    #[must_use]
    pub fn kernel_log(
        &self,
        program: &str,
        caps: Caps,
        rejection: &Rejection,
        level: LogLevel,
    ) -> String {
        let log = |request: &Request<'_>| {
            let log = skep_verifier::kernel_log(request, rejection, level);
            let costs = skep_verifier::costs_until(request, rejection);
            log + &skep_verifier::statistics(rejection, &costs)
        };
        let log = self.ask(program, caps, log);
        log.unwrap_or_else(|| {
            let message = match level {
                LogLevel::Statistics => String::new(),
                _ => format!("{}\n", rejection.message()),
            };
            message + &skep_verifier::statistics(rejection, &[])
        })
    }

    fn find(&self, program: &str) -> Option<&Program> {
        self.linked().programs.iter().find(|p| p.name == program)
    }

    /// Asks the verifier about a program; `None` if there is nothing to ask, as for programs of an unknown type.
    fn ask<T>(&self, program: &str, caps: Caps, question: impl Fn(&Request<'_>) -> T) -> Option<T> {
        let program = self.find(program)?;
        let prog_type = match program.prog_type {
            ProgType::Unspec => self.default_type()?,
            known => known,
        };
        let answer = self.with_request(program, prog_type, caps, |request| Ok(question(request)));
        answer.map_err(|_: Verdict| ()).ok()
    }
}

/// What a reached relocation asked for and the kernel does not have: the type and field, or the function, by name.
fn missing(program: &Program, rejection: &Rejection) -> Option<String> {
    let at = rejection
        .insn
        .filter(|_| matches!(rejection.code, "E0105" | "E0106"))?;
    let failure = program
        .failures
        .iter()
        .find(|f| u32::try_from(f.insn) == Ok(at))?;
    Some(failure.cause.to_string())
}
