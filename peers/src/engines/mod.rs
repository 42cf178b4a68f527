//! The engines that are compared.

mod backend;
mod native;
mod rbpf;
mod sbpf;

use crate::build::Built;
use crate::{Bench, Failure};
use sbpf::Checks;

/// Something that runs the bench programs.
pub(crate) trait Engine {
    /// How the table calls it.
    fn name(&self) -> &'static str;
    /// A program, ready to run on a copy of `buffer`.
    fn program(&mut self, name: &str, buffer: &[u8]) -> Result<Box<dyn Runner>, Failure>;
}

/// A program in an engine.
pub(crate) trait Runner {
    /// Runs it `count` times; the last value of `r0`.
    fn run(&mut self, count: u32) -> u64;
}

/// The engines of a bench.
pub(crate) fn all(bench: Bench, built: &Built) -> Result<Vec<Box<dyn Engine>>, Failure> {
    Ok(match bench {
        Bench::Jit => vec![
            Box::new(backend::InBackend::kernel("kernel", built)?),
            Box::new(backend::InBackend::kernel("kernel-again", built)?),
            Box::new(native::Native::new(built)?),
            Box::new(rbpf::Rbpf::new(built, rbpf::Mode::Jit)?),
            Box::new(sbpf::Sbpf::new(built, rbpf::Mode::Jit, Checks::Off)?),
            Box::new(sbpf::Sbpf::new(built, rbpf::Mode::Jit, Checks::On)?),
            Box::new(backend::InBackend::skep(built, skep_vm::Engine::Jit)?),
        ],
        Bench::Interp => vec![
            Box::new(rbpf::Rbpf::new(built, rbpf::Mode::Interp)?),
            Box::new(sbpf::Sbpf::new(built, rbpf::Mode::Interp, Checks::Off)?),
            Box::new(sbpf::Sbpf::new(built, rbpf::Mode::Interp, Checks::On)?),
            Box::new(backend::InBackend::skep(built, skep_vm::Engine::Interp)?),
        ],
    })
}
