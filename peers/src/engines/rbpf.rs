//! rbpf: its template JIT and its interpreter, on the raw form.

use super::{Engine, Runner};
use crate::build::Built;
use crate::{BUFFER_BYTES, Failure};
use object::{Object, ObjectSection};

/// A page of memory, aligned as maps are.
#[repr(align(4096))]
struct Page([u8; BUFFER_BYTES]);

/// A copy of the buffer.
pub(crate) struct Memory(Box<Page>);

impl Memory {
    /// A copy.
    pub(crate) fn of(buffer: &[u8]) -> Self {
        let mut page = Box::new(Page([0; BUFFER_BYTES]));
        page.0.copy_from_slice(buffer);
        Self(page)
    }

    /// The bytes.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.0.0
    }
}

/// Which of its engines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Jit,
    Interp,
}

/// rbpf.
pub(crate) struct Rbpf {
    object: Vec<u8>,
    mode: Mode,
}

impl Rbpf {
    /// Reads the object.
    pub(crate) fn new(built: &Built, mode: Mode) -> Result<Self, Failure> {
        let object = std::fs::read(&built.raw).map_err(|e| e.to_string())?;
        Ok(Self { object, mode })
    }
}

impl Engine for Rbpf {
    fn name(&self) -> &'static str {
        "rbpf"
    }

    fn program(&mut self, name: &str, buffer: &[u8]) -> Result<Box<dyn Runner>, Failure> {
        let file = object::File::parse(&*self.object).map_err(|e| e.to_string())?;
        let section = file
            .section_by_name(&format!("raw/{name}"))
            .ok_or("no such section")?;
        let code: &'static [u8] = Vec::leak(section.data().map_err(|e| e.to_string())?.to_vec());
        let mut vm = rbpf::EbpfVmRaw::new(Some(code)).map_err(|e| e.to_string())?;
        if self.mode == Mode::Jit {
            vm.jit_compile().map_err(|e| e.to_string())?;
        }
        Ok(Box::new(RbpfRun {
            vm,
            memory: Memory::of(buffer),
            mode: self.mode,
        }))
    }
}

struct RbpfRun {
    vm: rbpf::EbpfVmRaw<'static>,
    memory: Memory,
    mode: Mode,
}

impl Runner for RbpfRun {
    fn run(&mut self, count: u32) -> u64 {
        let mut value = 0;
        for _ in 0..count {
            let memory = self.memory.bytes();
            let result = match self.mode {
                // SAFETY: the program was compiled, and works on the first 4 KiB of its memory.
                Mode::Jit => unsafe { self.vm.execute_program_jit(memory) },
                Mode::Interp => self.vm.execute_program(memory),
            };
            value = result.unwrap_or(u64::MAX);
        }
        value
    }
}
