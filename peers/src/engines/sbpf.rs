//! solana-sbpf: its JIT and its interpreter, on the raw form.
//!
//! Its version 3 of the instruction set runs BPF as clang writes it. [`Checks::Off`] turns off what it checks at run time
//! (address translation, the instruction meter) and the noise that its JIT adds against spraying: its fastest setting.

use super::rbpf::{Memory, Mode};
use super::{Engine, Runner};
use crate::Failure;
use crate::build::Built;
use object::{Object, ObjectSection};
use solana_sbpf::ebpf::MM_INPUT_START;
use solana_sbpf::elf::Executable;
use solana_sbpf::memory_region::{MemoryMapping, MemoryRegion};
use solana_sbpf::program::{BuiltinProgram, FunctionRegistry, SBPFVersion};
use solana_sbpf::verifier::RequisiteVerifier;
use solana_sbpf::vm::{CallFrame, Config, ContextObject, EbpfVm, ExecutionMode};
use std::ptr::NonNull;
use std::sync::Arc;

/// The version whose encoding is BPF's.
const VERSION: SBPFVersion = SBPFVersion::V3;
/// Bytes of a stack frame.
const FRAME_BYTES: usize = 4096;
/// Frames of the stack.
const FRAMES: usize = 64;
/// More instructions than any sample needs.
const BUDGET: u64 = u64::MAX >> 1;

/// What is checked at run time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checks {
    Off,
    On,
}

/// solana-sbpf.
pub(crate) struct Sbpf {
    object: Vec<u8>,
    mode: Mode,
    checks: Checks,
}

impl Sbpf {
    /// Reads the object.
    pub(crate) fn new(built: &Built, mode: Mode, checks: Checks) -> Result<Self, Failure> {
        let object = std::fs::read(&built.raw).map_err(|e| e.to_string())?;
        Ok(Self {
            object,
            mode,
            checks,
        })
    }

    fn config(&self) -> Config {
        let common = Config {
            max_call_depth: FRAMES,
            stack_frame_size: FRAME_BYTES,
            ..Config::default()
        };
        match self.checks {
            Checks::On => common,
            Checks::Off => Config {
                enable_address_translation: false,
                enable_instruction_meter: false,
                noop_instruction_rate: 0,
                sanitize_user_provided_values: false,
                ..common
            },
        }
    }
}

impl Engine for Sbpf {
    fn name(&self) -> &'static str {
        match self.checks {
            Checks::Off => "sbpf",
            Checks::On => "sbpf-checked",
        }
    }

    fn program(&mut self, name: &str, buffer: &[u8]) -> Result<Box<dyn Runner>, Failure> {
        let file = object::File::parse(&*self.object).map_err(|e| e.to_string())?;
        let section = file
            .section_by_name(&format!("raw/{name}"))
            .ok_or("no such section")?;
        let code = section.data().map_err(|e| e.to_string())?;
        let loader = Arc::new(BuiltinProgram::new_loader(self.config()));
        let executable =
            Executable::from_text_bytes(code, loader, VERSION, FunctionRegistry::default())
                .map_err(|e| e.to_string())?;
        executable
            .verify::<RequisiteVerifier>()
            .map_err(|e| e.to_string())?;
        if self.mode == Mode::Jit {
            executable.jit_compile().map_err(|e| e.to_string())?;
        }
        SbpfRun::new(executable, buffer, self.mode, self.checks)
    }
}

/// What the engine asks of its host.
struct Context {
    remaining: u64,
    mapping: MemoryMapping,
}

impl ContextObject for Context {
    fn consume(&mut self, amount: u64) {
        self.remaining = self.remaining.saturating_sub(amount);
    }

    fn get_remaining(&self) -> u64 {
        self.remaining
    }

    fn active_mapping_ptr(&mut self) -> NonNull<MemoryMapping> {
        NonNull::from(&mut self.mapping)
    }
}

/// A program and its machine. `vm` borrows `context`, both live on the heap and as long as this.
struct SbpfRun {
    vm: Box<EbpfVm<'static, Context>>,
    context: *mut Context,
    executable: Executable<Context>,
    frames: Vec<CallFrame>,
    registers: [u64; 12],
    mode: Mode,
    _memory: Memory,
    _stack: Vec<u8>,
}

impl SbpfRun {
    fn new(
        executable: Executable<Context>,
        buffer: &[u8],
        mode: Mode,
        checks: Checks,
    ) -> Result<Box<dyn Runner>, Failure> {
        let mut memory = Memory::of(buffer);
        let mut stack = vec![0u8; FRAME_BYTES * FRAMES];
        let regions = vec![
            MemoryRegion::new(
                std::ptr::from_mut(stack.as_mut_slice()),
                solana_sbpf::ebpf::MM_STACK_START,
            ),
            MemoryRegion::new(std::ptr::from_mut(memory.bytes()), MM_INPUT_START),
        ];
        // SAFETY: stack and memory are kept as long as the machine, and any bytes may be written to them.
        let mapping = unsafe { MemoryMapping::new(regions, executable.get_config(), VERSION) }
            .map_err(|e| e.to_string())?;
        let context = Box::into_raw(Box::new(Context {
            remaining: BUDGET,
            mapping,
        }));
        // SAFETY: freed only after the machine, in `drop`.
        let borrowed: &'static mut Context = unsafe { &mut *context };
        let loader = Arc::clone(executable.get_loader());
        let vm = Box::new(EbpfVm::new(loader, VERSION, borrowed, stack.len()));
        let mut registers = vm.registers;
        registers[1] = match checks {
            Checks::On => MM_INPUT_START,
            Checks::Off => {
                registers[10] = stack.as_mut_ptr() as u64 + FRAME_BYTES as u64;
                memory.bytes().as_mut_ptr() as u64
            }
        };
        Ok(Box::new(Self {
            vm,
            context,
            executable,
            frames: vec![CallFrame::default(); FRAMES],
            registers,
            mode,
            _memory: memory,
            _stack: stack,
        }))
    }
}

impl Runner for SbpfRun {
    fn run(&mut self, count: u32) -> u64 {
        let mut value = 0;
        for _ in 0..count {
            self.vm.registers = self.registers;
            let mut mode = match self.mode {
                Mode::Jit => ExecutionMode::Jit,
                Mode::Interp => ExecutionMode::Interpreted,
            };
            let (_, result) =
                self.vm
                    .execute_program(&self.executable, &mut mode, &mut self.frames);
            value = match result {
                solana_sbpf::error::StableResult::Ok(value) => value,
                solana_sbpf::error::StableResult::Err(_) => u64::MAX,
            };
        }
        value
    }
}

impl Drop for SbpfRun {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw`; the machine does not use it any more.
        drop(unsafe { Box::from_raw(self.context) });
    }
}
