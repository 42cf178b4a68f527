//! Why a program was refused.

use crate::cause::Cause;

/// What kind of "no" it is.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Class, Request, verify};
///
/// // No harm in it, but nobody can prove that it ends.
/// let insns = assemble_insns("goto -1", &NoFacts).map_err(|e| e[0].to_string())?;
/// let rejection = verify(&Request::plain("stay", ProgType::Xdp, &insns)).unwrap_err();
/// assert_eq!(rejection.class, Class::Complexity);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// The program could do harm (`V…`).
    Safety,
    /// It could not be explored within the limits (`C…`).
    Complexity,
    /// Something is not there for this program type or kernel (`E…`).
    Environment,
}

impl Class {
    /// The word in JSON output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Safety => "safety",
            Self::Complexity => "complexity",
            Self::Environment => "environment",
        }
    }
}

/// A refusal, with its place.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Request, verify};
///
/// let insns = assemble_insns("r0 = r3\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let rejection = verify(&Request::plain("pass", ProgType::Xdp, &insns)).unwrap_err();
/// assert_eq!((rejection.code, rejection.insn), ("V0101", Some(0)));
/// assert_eq!(rejection.message(), "r3 is read but was never written on this path");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// Stable code, `V0201`; `skep explain` knows it.
    pub code: &'static str,
    /// What kind of refusal.
    pub class: Class,
    /// Slot index in the linked program, if the refusal has a place.
    pub insn: Option<u32>,
    /// What was found.
    pub cause: Box<Cause>,
    /// What the system call returns.
    pub errno: i32,
    /// Instructions walked until then.
    pub insns_processed: u32,
}

impl Rejection {
    /// The fact in one sentence: lower case, no full stop.
    #[must_use]
    pub fn message(&self) -> String {
        self.cause.to_string()
    }
}
