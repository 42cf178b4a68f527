//! Code for x86-64.

pub(crate) mod asm;
pub(crate) mod baseline;
mod frame;
