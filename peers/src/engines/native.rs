//! The same bodies as ordinary functions: what the hardware can do.

use super::{Engine, Runner};
use crate::Failure;
use crate::build::Built;
use libloading::Library;
use std::sync::Arc;

type Function = unsafe extern "C" fn(*mut u8) -> u64;

/// Native code from clang.
pub(crate) struct Native(Arc<Library>);

impl Native {
    /// Loads the library.
    pub(crate) fn new(built: &Built) -> Result<Self, Failure> {
        // SAFETY: just built from the bench programs, which have no initialisers.
        let library = unsafe { Library::new(&built.native) }.map_err(|e| e.to_string())?;
        Ok(Self(Arc::new(library)))
    }
}

impl Engine for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn program(&mut self, name: &str, buffer: &[u8]) -> Result<Box<dyn Runner>, Failure> {
        // SAFETY: every bench program has this signature.
        let function =
            unsafe { self.0.get::<Function>(name.as_bytes()) }.map_err(|e| e.to_string())?;
        Ok(Box::new(NativeRun {
            function: *function,
            memory: super::rbpf::Memory::of(buffer),
            _library: Arc::clone(&self.0),
        }))
    }
}

struct NativeRun {
    function: Function,
    memory: super::rbpf::Memory,
    _library: Arc<Library>,
}

impl Runner for NativeRun {
    fn run(&mut self, count: u32) -> u64 {
        let mut value = 0;
        for _ in 0..count {
            // SAFETY: the function works on the first 4 KiB of its argument.
            value = unsafe { (self.function)(self.memory.bytes().as_mut_ptr()) };
        }
        value
    }
}
