//! The just-in-time compiler.
//!
//! [`compile`] turns a [`Lowered`] program into a [`CodeImage`]: position-independent code with relocations, unwind rows, line
//! table and exception table. [`Code::link`] copies an image to executable memory. There are two tiers with one calling
//! convention: templates ([`Tier::Baseline`]) give code at once, the optimising compiler ([`Tier::Optimised`]) better code;
//! [`tiers`] says which one a program runs.

#[cfg(test)]
mod elsewhere_tests;
mod fault;
pub mod image;
#[cfg(test)]
mod inline_tests;
mod ir;
mod layout;
mod link;
mod opt;
pub mod runtime;
#[cfg(test)]
mod safety_tests;
mod source;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod tiers;
#[cfg(test)]
mod unwind_tests;
pub(crate) mod x64;

pub(crate) use fault::install as expect_faults;
pub use image::{CodeImage, MapOp, Symbol, Tier};
pub use link::{Code, LinkError};
pub use tiers::{CodeObserver, CodeOptions, Tiers};
pub use x64::eh_frame;

use crate::lowered::Lowered;
use source::Source;

/// Compiles a program. With `blinding` no immediate of it appears in the code, which then is made of templates.
#[must_use]
pub fn compile(lowered: &Lowered, tier: Tier, blinding: bool) -> CodeImage {
    let callees = Source::callees_of(lowered);
    let source = Source::of(lowered, &callees);
    match blinding {
        true => x64::baseline::compile(source, Some(skep_sys::random::u64())),
        false => compile_source(source, tier),
    }
}

fn compile_source(source: Source<'_>, tier: Tier) -> CodeImage {
    match tier {
        Tier::Baseline => x64::baseline::compile(source, None),
        Tier::Optimised => x64::optimise(source),
    }
}
