//! A walk over the target's types: how far it may go, and what it passed.

use super::CoreError;
use skep_btf::Type;

/// Types and members one comparison may visit; contradictory BTF can nest exponentially.
const VISITS_MAX: u32 = 1_000_000;

/// Something of the target's types that an answer stands on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    /// The type: its kind, name and size.
    Shell(Type<'a>),
    /// A member of a struct or union.
    Member(Type<'a>, u32),
    /// A value of an enum.
    Value(Type<'a>, u32),
    /// What a pointer or prototype refers to.
    References(Type<'a>),
}

/// One walk.
pub(crate) struct Walk<'a> {
    /// Visits that are left.
    left: u32,
    /// What it found as it should be.
    pub(crate) parts: Vec<Part<'a>>,
}

impl Default for Walk<'_> {
    fn default() -> Self {
        Self {
            left: VISITS_MAX,
            parts: Vec::new(),
        }
    }
}

impl Walk<'_> {
    pub(crate) fn spend(&mut self) -> Result<(), CoreError> {
        let too_deep = CoreError::Btf(skep_btf::BtfProblem::TooDeep.into());
        self.left = self.left.checked_sub(1).ok_or(too_deep)?;
        Ok(())
    }
}
