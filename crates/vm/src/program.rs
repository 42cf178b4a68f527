//! A program that can run.

use crate::env::{MapHandle, RunEnv};
use crate::lowered::Lowered;

/// Code of a program: `(env, ctx) → r0`. `env.program` must be the program the code belongs to.
pub type EntryFn = unsafe extern "C" fn(*mut RunEnv, *mut u8) -> u64;

/// Which engine runs a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    /// The interpreter.
    Interp,
    /// Native code.
    Jit,
}

/// A loaded program.
#[derive(Debug)]
pub struct Program {
    entry: EntryFn,
    lowered: Lowered,
    maps: Box<[MapHandle]>,
}

impl Program {
    /// The native or interpreting entry.
    #[must_use]
    pub fn entry(&self) -> EntryFn {
        self.entry
    }

    /// What runs.
    #[must_use]
    pub fn lowered(&self) -> &Lowered {
        &self.lowered
    }

    /// The maps, by the index that [`crate::lowered::Op::MapAddr`] names.
    #[must_use]
    pub fn maps(&self) -> &[MapHandle] {
        &self.maps
    }
}
