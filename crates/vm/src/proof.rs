//! What lowering and the engines keep of a [`Verified`] program.

use skep_abi::{AttachType, ProgType};
use skep_isa::Slot;
use skep_verifier::{Caps, InsnFact, MapDesc, Subprog, Verified};

/// The facts of a proof. Only a [`Verified`] becomes one (and, in the tests of this crate, programs that are safe to run).
#[derive(Clone, Debug)]
pub struct Proof {
    insns: Vec<Slot>,
    facts: Vec<InsnFact>,
    subprogs: Vec<Subprog>,
    maps: Vec<MapDesc>,
    prog_type: ProgType,
    attach: Option<AttachType>,
    caps: Caps,
    sleepable: bool,
    memory: Option<u32>,
}

impl From<&Verified> for Proof {
    fn from(v: &Verified) -> Self {
        Self {
            insns: v.insns().to_vec(),
            facts: v.facts().to_vec(),
            subprogs: v.subprogs().to_vec(),
            maps: v.maps().to_vec(),
            prog_type: v.prog_type(),
            attach: v.attach(),
            caps: v.caps(),
            sleepable: v.sleepable(),
            memory: v.memory(),
        }
    }
}

impl Proof {
    /// The instructions.
    #[must_use]
    pub fn insns(&self) -> &[Slot] {
        &self.insns
    }
    /// One fact a slot.
    #[must_use]
    pub fn facts(&self) -> &[InsnFact] {
        &self.facts
    }
    /// The functions, ordered by start; the first is the entry.
    #[must_use]
    pub fn subprogs(&self) -> &[Subprog] {
        &self.subprogs
    }
    /// The maps as they were when the proof was made.
    #[must_use]
    pub fn maps(&self) -> &[MapDesc] {
        &self.maps
    }
    /// Program type.
    #[must_use]
    pub fn prog_type(&self) -> ProgType {
        self.prog_type
    }
    /// Expected attach type.
    #[must_use]
    pub fn attach(&self) -> Option<AttachType> {
        self.attach
    }
    /// For which loader it was proven.
    #[must_use]
    pub fn caps(&self) -> Caps {
        self.caps
    }
    /// May the program sleep.
    #[must_use]
    pub fn sleepable(&self) -> bool {
        self.sleepable
    }

    /// Bytes of the memory that is its context, if it is a program of [`skep_verifier::verify_memory`].
    #[must_use]
    pub fn memory(&self) -> Option<u32> {
        self.memory
    }

    /// A program that the tests of this crate vouch for: no maps, everything reachable, functions of 512 bytes of stack at
    /// `starts`.
    #[cfg(test)]
    pub(crate) fn assumed(insns: Vec<Slot>, starts: &[u32]) -> Self {
        let end = insns.len() as u32;
        let subprogs = starts.iter().enumerate().map(|(i, &start)| Subprog {
            start,
            end: starts.get(i + 1).copied().unwrap_or(end),
            stack_bytes: 512,
            unwritten: 0,
            is_callback: false,
            is_exception_callback: false,
            has_tail_call: false,
        });
        let reached = InsnFact {
            reached: true,
            ..InsnFact::default()
        };
        Self {
            facts: vec![reached; insns.len()],
            subprogs: subprogs.collect(),
            insns,
            maps: Vec::new(),
            prog_type: ProgType::Syscall,
            attach: None,
            caps: Caps::All,
            sleepable: false,
            memory: None,
        }
    }
}
