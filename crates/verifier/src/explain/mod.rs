//! Why a program was refused, in its own terms: what happened on the way to the refusal, and what to do about it.
//!
//! [`explain`] takes a refusal and walks the failing path once more with recording on ([`record`]); [`slice`] follows a
//! value backwards over it; [`scene`] knows the names of things; the other files turn the facts of each family of codes
//! into sentences.

mod access;
mod calls;
mod cexpr;
mod environment;
mod further;
mod insn_text;
mod limits;
mod locals;
mod log;
mod names;
mod numbers;
mod packet;
mod pointers;
mod record;
mod resources;
mod scene;
mod slice;
mod stack;

pub use cexpr::expression_at;
pub use environment::general_help;
pub use further::further_errors;
pub use insn_text::instruction_text;
pub use locals::{Locals, NoLocals, Part, StackVariable};
pub use log::{LogLevel, kernel_log, statistics};
pub use record::Cost;
pub(crate) use record::History;

use crate::rejection::{Class, Rejection};
use crate::request::Request;
use scene::Scene;
use skep_abi::limits::BPF_COMPLEXITY_LIMIT_INSNS;

/// A refusal explained. Texts are lower case and have no full stop; code stands in backquotes.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{NoLocals, Request, explain, verify};
///
/// // The packet's byte 13, without a look at `data_end`.
/// let text = "r1 = *(u32 *)(r1 + 0)\nr0 = *(u8 *)(r1 + 13)\nexit";
/// let insns = assemble_insns(text, &NoFacts).map_err(|e| e[0].to_string())?;
/// let request = Request::plain("pass", ProgType::Xdp, &insns);
/// let rejection = verify(&request).unwrap_err();
/// let explanation = explain(&request, &rejection, &[], &NoLocals);
/// let headline = explanation.headline.unwrap_or_else(|| rejection.message());
/// assert!(headline.ends_with("no check against `data_end` covers any byte"));
/// assert!(explanation.help[0].starts_with("compare the pointer plus 1 byte with"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Explanation {
    /// The fact in terms of the source; it takes the place of [`Rejection::message`].
    pub headline: Option<String>,
    /// The slot to point at, where it is not the one the refusal names.
    pub place: Option<u32>,
    /// What to write under the marked source.
    pub label: Option<String>,
    /// What led to it, in the order of the path.
    pub notes: Vec<Note>,
    /// What to do.
    pub help: Vec<String>,
}

/// Something that happened on the way.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{NoLocals, Note, Request, explain, verify};
///
/// // Fourteen bytes are checked, the fifteenth is read.
/// let text = "r6 = *(u32 *)(r1 + 0)\nr7 = *(u32 *)(r1 + 4)\nr2 = r6\nr2 += 14\n\
///     if r2 > r7 goto +1\nr0 = *(u8 *)(r6 + 14)\nr0 = 2\nexit";
/// let insns = assemble_insns(text, &NoFacts).map_err(|e| e[0].to_string())?;
/// let request = Request::plain("pass", ProgType::Xdp, &insns);
/// let rejection = verify(&request).unwrap_err();
/// let check = Note {
///     insn: Some(4),
///     text: "this check proves 14 bytes on the path taken here".to_owned(),
/// };
/// assert!(explain(&request, &rejection, &[], &NoLocals).notes.contains(&check));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// Where, if it has a place.
    pub insn: Option<u32>,
    /// What.
    pub text: String,
}

/// Explains why `req` was refused with `rejection`; `known` are the slots of errors before it (see [`further_errors`]), `locals`
/// knows names of variables.
#[must_use]
pub fn explain(
    req: &Request<'_>,
    rejection: &Rejection,
    known: &[u32],
    locals: &dyn Locals,
) -> Explanation {
    let processed = rejection.insns_processed;
    let Some((program, steps)) = record::failing_path(req, processed, known) else {
        return Explanation::default();
    };
    let scene = Scene::new(req, rejection, (&program, &steps), locals);
    let mut explanation = match (rejection.class, rejection.code.get(..3)) {
        (Class::Environment, _) => environment::explain(&scene),
        (Class::Complexity, _) => limits::explain(&scene),
        (_, Some("V02" | "V03" | "V04")) => access::explain(&scene),
        (_, Some("V01" | "V07")) => numbers::explain(&scene),
        (_, Some("V06")) => resources::explain(&scene),
        (_, Some("V05" | "V08")) => calls::explain(&scene),
        _ => Explanation::default(),
    };
    if explanation.label.is_none() {
        explanation.label = scene.holder(explanation.headline.as_deref(), explanation.place);
    }
    let mut seen = Vec::new();
    explanation.notes.retain(|n| {
        let new = !seen.contains(n);
        seen.push(n.clone());
        new
    });
    explanation
}

/// What the walk to a refusal cost, slot by slot; nothing for walks that are too long to repeat.
#[must_use]
pub fn costs_until(req: &Request<'_>, rejection: &Rejection) -> Vec<Cost> {
    if rejection.insns_processed > record::MAX_STEPS {
        return Vec::new();
    }
    costs(req)
}

/// What verifying `req` costs, slot by slot; the verdict does not matter.
#[must_use]
pub fn costs(req: &Request<'_>) -> Vec<Cost> {
    record::costs(req, BPF_COMPLEXITY_LIMIT_INSNS).map_or_else(Vec::new, |(_, costs)| costs)
}
