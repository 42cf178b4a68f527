//! Programs without a proof for the tests of the engines.

use crate::lower::{Fold, lower_proof};
use crate::program::{Program, ProgramOptions, Worker};
use crate::proof::Proof;
use crate::world::Host;
use skep_abi::Errno;
use skep_isa::{Slot, opcode as op};
use skep_maps::Runner;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

pub(crate) struct Nobody;

impl Host for Nobody {
    fn trace(&self, _: &str) {}
    fn possible_cpus(&self) -> u32 {
        1
    }
    fn send_clone(&self, _: &[u8], _: u32, _: bool) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
}

/// A program that is safe to run.
pub(crate) fn program(slots: Vec<Slot>, starts: &[u32], options: ProgramOptions) -> Program {
    let lowered = lower_proof(Proof::assumed(slots, starts), Fold::Facts, None);
    Program::link(lowered.expect("lowers"), Vec::new(), options).expect("links")
}

/// A program that adds up the numbers below 1000.
pub(crate) fn loop_program(options: ProgramOptions) -> Program {
    let slots = vec![
        Slot::new(op::ALU64 | op::MOV, 0, 0, 0, 0),
        Slot::new(op::ALU64 | op::MOV, 2, 0, 0, 1000),
        Slot::new(op::ALU64 | op::ADD | op::X, 0, 2, 0, 0),
        Slot::new(op::ALU64 | op::XOR, 0, 0, 0, 0x55),
        Slot::new(op::ALU64 | op::ADD, 2, 0, 0, -1),
        Slot::new(op::JMP | op::JNE, 2, 0, -4, 0),
        Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0),
    ];
    program(slots, &[0], options)
}

/// Runs a program on a context of zeros.
pub(crate) fn run_once(program: &Program) -> u64 {
    let runner = Runner { cpu: 0, token: 1 };
    let mut worker = Worker::new(Arc::new(Nobody), runner, Arc::new(AtomicU32::new(0)));
    let mut memory = [0u64; 8];
    // SAFETY: the programs below touch their own stack only.
    unsafe { worker.run(program, memory.as_mut_ptr().cast()) }
}
