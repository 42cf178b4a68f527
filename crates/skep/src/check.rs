//! Would the kernel accept it? Verifies the programs of an object without loading anything.

use skep_abi::ProgType;
use skep_verifier::{Caps, Rejection, Stats};
use std::time::Duration;

/// What verification said.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// It may run.
    Accept(Stats),
    /// It may not.
    Reject(Rejection),
    /// A loader would not even ask; the text says why.
    Error(String),
}

/// The verdict on one program.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// Name of its entry function.
    pub program: String,
    /// Its type, if the section name tells.
    pub prog_type: Option<ProgType>,
    /// Slots of the linked program.
    pub insns: usize,
    /// The verdict.
    pub verdict: Verdict,
    /// Time spent verifying.
    pub elapsed: Duration,
}

/// The object cannot be checked at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable(String);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

/// An object whose programs can be checked.
#[derive(Debug)]
pub struct Checker {}

impl Checker {
    /// Reads an object.
    ///
    /// # Errors
    /// [`Unreadable`] if it is not a BPF object.
    pub fn open(_bytes: &[u8]) -> Result<Self, Unreadable> {
        Err(Unreadable("objects cannot be read yet".to_owned()))
    }

    /// Verifies one program; `None` if the object has none of this name.
    #[must_use]
    pub fn check(&self, _program: &str, _caps: Caps) -> Option<Report> {
        None
    }
}
