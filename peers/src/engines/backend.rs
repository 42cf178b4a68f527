//! The kernel and skep, through the same test run command.

use super::{Engine, Runner};
use crate::Failure;
use crate::build::Built;
use skep::load::{LoadOptions, Loaded, load};
use skep_bpf::{Backend, Handle, TestRun};
use skep_object::{Object, Options};
use std::sync::Arc;

/// The shortest packet that a test run takes is 14 bytes.
const PACKET: [u8; 64] = [0; 64];

/// The bench programs in a backend.
pub(crate) struct InBackend {
    name: &'static str,
    loaded: Arc<Loaded>,
}

impl InBackend {
    /// In the running kernel.
    pub(crate) fn kernel(name: &'static str, built: &Built) -> Result<Self, Failure> {
        Self::new(name, built, Arc::new(skep::Kernel::new()))
    }

    /// In a universe of skep's. Its better code is there from the start: what is measured is the steady state.
    pub(crate) fn skep(built: &Built, engine: skep_vm::Engine) -> Result<Self, Failure> {
        let options = skep_user::Options {
            engine,
            tiers: skep_vm::jit::Tiers::Optimised,
            ..skep_user::Options::default()
        };
        let universe = skep_user::Universe::new(options).map_err(|e| e.to_string())?;
        Self::new("skep", built, Arc::new(universe))
    }

    fn new(name: &'static str, built: &Built, backend: Arc<dyn Backend>) -> Result<Self, Failure> {
        let file = std::fs::read(&built.kernel).map_err(|e| e.to_string())?;
        let object = Object::parse(
            &file,
            &Options {
                name: "bench".to_owned(),
            },
        )
        .map_err(|e| e.to_string())?;
        let target = skep::target::running(&object.needs()).map_err(|e| e.to_string())?;
        let mut linked = object.relocate(&target).map_err(|e| e.to_string())?;
        for p in &mut linked.programs {
            p.autoload = !p.name.ends_with("_xdp");
        }
        let loaded =
            load(&linked, &backend, &LoadOptions::default()).map_err(|e| format!("{name}: {e}"))?;
        Ok(Self {
            name,
            loaded: Arc::new(loaded),
        })
    }
}

impl Engine for InBackend {
    fn name(&self) -> &'static str {
        self.name
    }

    fn program(&mut self, name: &str, buffer: &[u8]) -> Result<Box<dyn Runner>, Failure> {
        let program = self.loaded.program(name).ok_or("no such program")?.handle;
        let map = self
            .loaded
            .maps
            .iter()
            .find(|m| m.spec.name.ends_with("buf"))
            .ok_or("no buffer")?;
        let backend = self.loaded.backend();
        backend
            .map_update(map.handle, &0_u32.to_le_bytes(), buffer, 0)
            .map_err(|e| e.to_string())?;
        Ok(Box::new(InTestRun {
            loaded: Arc::clone(&self.loaded),
            program,
        }))
    }
}

struct InTestRun {
    loaded: Arc<Loaded>,
    program: Handle,
}

impl Runner for InTestRun {
    fn run(&mut self, count: u32) -> u64 {
        let run = TestRun {
            data_in: Some(PACKET.to_vec()),
            repeat: count,
            ..TestRun::default()
        };
        let result = self.loaded.backend().prog_test_run(self.program, &run);
        result.map_or(u64::MAX, |r| u64::from(r.retval))
    }
}
