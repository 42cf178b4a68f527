//! The abstract domain of scalars: known bits × ranges, and what instructions do to them.
//!
//! Every operation is pure and sound: the result contains every concrete result. Precision follows Linux 6.18, because verdicts
//! depend on it.

pub(crate) mod alu;
pub(crate) mod branch;
pub(crate) mod scalar;
pub(crate) mod tnum;

pub(crate) use scalar::Scalar;
pub(crate) use tnum::Tnum;
