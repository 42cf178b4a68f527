//! The just-in-time compiler.
//!
//! [`compile`] turns a [`Lowered`] program into a [`CodeImage`]: position-independent code with relocations, unwind rows, line
//! table and exception table. [`Code::link`] copies an image to executable memory. There are two tiers with one calling
//! convention: templates ([`Tier::Baseline`]) give code at once, the optimising compiler ([`Tier::Optimised`]) better code.

mod fault;
pub mod image;
mod ir;
mod layout;
mod link;
mod opt;
pub mod runtime;
mod source;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod x64;

pub use image::{CodeImage, Symbol, Tier};
pub use link::{Code, LinkError};

use crate::lowered::Lowered;
use source::Source;

/// Compiles a program.
#[must_use]
pub fn compile(lowered: &Lowered, tier: Tier) -> CodeImage {
    let callees = Source::callees_of(lowered);
    compile_source(Source::of(lowered, &callees), tier)
}

fn compile_source(source: Source<'_>, tier: Tier) -> CodeImage {
    match tier {
        Tier::Baseline => x64::baseline::compile(source),
        Tier::Optimised => x64::optimise(source),
    }
}
