//! How the kernel's verdict on a program and ours relate.

use super::{How, Mode, Subject, kernel_errors, last_message, shape, states};
use skep::Kernel;
use skep::check::Verdict;
use skep::load::{LoadOptions, command};
use skep_abi::ProgType;
use skep_bpf::{Errno, ProgLoad};
use skep_object::Program;
use skep_verifier::{Cause, Class};
use std::fmt;

/// `BPF_LOG_LEVEL2`: the state at every instruction.
pub(super) const FULL_LOG: u32 = 2;
/// How the kernel's verifier marks that it met an error of its own.
const OWN_ERROR: &str = "verifier bug";

/// How the verdicts on one program relate.
pub(super) enum Relation {
    /// Both accept or both refuse.
    Agree {
        /// Which of the two.
        accepted: bool,
    },
    /// One of them came to a limit of the walk.
    Complexity,
    /// The kernel errs: it says so itself, or docs/kernels.md does.
    KernelBug,
    /// They differ.
    Differ(Difference),
}

/// What one says and the other does not. Numbers are taken out of texts, so that differences of one kind are equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Difference {
    /// We accept.
    FalseAccept {
        /// The kernel's last message; empty where it gives none.
        said: String,
    },
    /// The kernel accepts.
    FalseReject {
        /// Our code.
        code: &'static str,
        /// Our sentence.
        said: String,
    },
    /// The kernel accepts, and we come to no verdict.
    NoVerdict(String),
    /// The verdicts agree, but not what was known on the way.
    States(String),
    /// A run of an accepted program left the states of the walk.
    Run,
}

impl Difference {
    /// Is it the same difference, for shrinking? States differ in many words: any such difference counts.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self == other || matches!((self, other), (Self::States(_), Self::States(_)))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FalseAccept { said } => write!(f, "false accept: {said}"),
            Self::FalseReject { code, said } => write!(f, "false reject: {code} {said}"),
            Self::NoVerdict(why) => write!(f, "no verdict: {why}"),
            Self::States(what) => write!(f, "states: {what}"),
            Self::Run => f.write_str("a run left the states of the walk"),
        }
    }
}

/// What the kernel answers.
enum Answer {
    Accepts,
    /// Its last message.
    Refuses(String),
    /// A limit of the walk (`E2BIG`).
    TooComplex,
    /// It met an error of its own.
    OwnError,
}

fn answer(kernel: &Kernel, load: &ProgLoad) -> Answer {
    let Err(error) = kernel.verifier_statistics(load) else {
        return Answer::Accepts;
    };
    if error.log.lines().any(|l| l.starts_with(OWN_ERROR)) {
        return Answer::OwnError;
    }
    if error.errno == Errno::E2BIG {
        return Answer::TooComplex;
    }
    Answer::Refuses(shape(last_message(&error.log)))
}

/// Asks both. `None`: the program cannot be put into a command.
pub(super) fn relate(
    kernel: &Kernel,
    subject: &Subject,
    program: &Program,
    how: How,
) -> Option<Relation> {
    let make = |program: &Program| {
        let linked = subject.checker.linked();
        command(program, linked, &subject.loaded, &LoadOptions::default()).ok()
    };
    let load = make(program)?;
    let theirs = answer(kernel, &load);
    let ours = subject.checker.verify(program, program.prog_type, how.caps);
    let differ = match (theirs, ours) {
        (Answer::OwnError, _) => return Some(Relation::KernelBug),
        (Answer::Accepts, Ok(_)) => {
            return Some(same_states(kernel, subject, program, &load, true, how));
        }
        (Answer::TooComplex | Answer::Refuses(_), Err(_)) => {
            return Some(same_states(kernel, subject, program, &load, false, how));
        }
        (Answer::TooComplex, Ok(_)) => return Some(Relation::Complexity),
        (Answer::Refuses(said), Ok(_)) => Difference::FalseAccept { said },
        (Answer::Accepts, Err(Verdict::Reject(no))) => {
            if no.class == Class::Complexity {
                return Some(Relation::Complexity);
            }
            let leaves_reference =
                program.prog_type == ProgType::StructOps && matches!(*no.cause, Cause::Leak { .. });
            let errs = leaves_reference
                || matches!(*no.cause, Cause::FrameEnd { .. })
                || kernel_errors::spelled_out(program)
                    .and_then(|same| make(&same))
                    .is_some_and(|same| matches!(answer(kernel, &same), Answer::Refuses(_)));
            if errs {
                return Some(Relation::KernelBug);
            }
            Difference::FalseReject {
                code: no.code,
                said: shape(&no.message()),
            }
        }
        (Answer::Accepts, Err(other)) => Difference::NoVerdict(format!("{other:?}")),
    };
    Some(Relation::Differ(differ))
}

/// Both accept or both refuse: with `--states` what they knew on the way counts too.
fn same_states(
    kernel: &Kernel,
    subject: &Subject,
    program: &Program,
    load: &ProgLoad,
    accepted: bool,
    how: How,
) -> Relation {
    if how.mode == Mode::States {
        let mut load = load.clone();
        load.log_level = FULL_LOG;
        let log = kernel.verifier_statistics(&load);
        let log = log.unwrap_or_else(|e| e.log);
        if let Ok((_, trace)) = subject.checker.record(program, how.caps)
            && let Some(text) = states::difference(&log, &trace)
        {
            return Relation::Differ(Difference::States(shape(&text)));
        }
    }
    Relation::Agree { accepted }
}
