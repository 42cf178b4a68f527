//! Runs verified programs: lowering, interpreter, JIT, helpers.

pub mod checked;
pub mod classic;
pub mod compat;
pub mod ctx;
pub mod env;
pub mod fault;
pub mod helpers;
pub mod interp;
pub mod jit;
pub mod lower;
pub mod lowered;
pub mod program;
mod proof;
mod routes;
pub mod tasks;
pub mod test_run;
pub mod world;

pub use compat::{WhyNot, keeps_what_stays, map_type_reason, reads_what_is_known, runs_in_user};
pub use jit::{CodeOptions, Tiers};
pub use lower::{Fold, LowerError, lower};
pub use lowered::Lowered;
pub use program::{Engine, Program, ProgramError, ProgramOptions, Worker, needs_heap};
pub use proof::Proof;
pub use world::Host;
