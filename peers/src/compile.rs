//! How long a program waits for code: from the proof to something that can be called, mappings included.

use crate::Failure;
use skep_abi::ProgType;
use skep_isa::{Slot, opcode as op};
use skep_verifier::{Request, Verified};
use skep_vm::{Engine, Program, ProgramOptions, Tiers};
use std::time::Instant;

/// Instructions of the long program.
const LONG: usize = 4000;
/// Tries, of which the fastest counts.
const TRIES: usize = 60;

/// Microseconds until there is code.
pub(crate) struct CompileTimes {
    /// Of a program of two instructions.
    pub(crate) first_fixed_us: f64,
    /// For each further 1000 instructions.
    pub(crate) first_per_1000_us: f64,
    /// The same of the better code.
    pub(crate) better_per_1000_us: f64,
}

/// Measures compilation.
pub(crate) fn measure() -> Result<CompileTimes, Failure> {
    let (short, long) = (verified(&program(0))?, verified(&program(LONG))?);
    let thousands = (long.insns().len() - short.insns().len()) as f64 / 1000.0;
    let time = |v: &Verified, tiers| fastest(v, tiers);
    let first_fixed_us = time(&short, Tiers::Adaptive)?;
    Ok(CompileTimes {
        first_fixed_us,
        first_per_1000_us: (time(&long, Tiers::Adaptive)? - first_fixed_us) / thousands,
        better_per_1000_us: (time(&long, Tiers::Optimised)? - time(&short, Tiers::Optimised)?)
            / thousands,
    })
}

fn fastest(verified: &Verified, tiers: Tiers) -> Result<f64, Failure> {
    let mut best = f64::MAX;
    for _ in 0..TRIES {
        let mut options = ProgramOptions::from(Engine::Jit);
        options.code.tiers = tiers;
        let start = Instant::now();
        let program = Program::new(verified, Vec::new(), options).map_err(|e| e.to_string())?;
        best = best.min(start.elapsed().as_nanos() as f64 / 1000.0);
        drop(program);
    }
    Ok(best)
}

/// A program of about `length` instructions of many kinds, all of which stay.
fn program(length: usize) -> Vec<Slot> {
    let mut out = Vec::new();
    if length > 0 {
        out.extend([
            Slot::new(op::LDX | op::MEM | op::W, 6, 1, 0, 0),
            Slot::new(op::LDX | op::MEM | op::W, 7, 1, 8, 0),
            Slot::new(op::ALU64 | op::MOV | op::X, 8, 6, 0, 0),
        ]);
    }
    #[rustfmt::skip] // one instruction a line
    let body = [
        Slot::new(op::ALU64 | op::MOV | op::X, 2, 6, 0, 0),
        Slot::new(op::ALU64 | op::MUL, 2, 0, 0, 0x1234_5677),
        Slot::new(op::ALU64 | op::XOR | op::X, 2, 7, 0, 0),
        Slot::new(op::STX | op::MEM | op::DW, 10, 2, -8, 0),
        Slot::new(op::ALU | op::ADD, 2, 0, 0, 77),
        Slot::new(op::ALU64 | op::RSH, 2, 0, 0, 3),
        Slot::new(op::JMP | op::JGT | op::X, 2, 7, 2, 0),
        Slot::new(op::ALU64 | op::ADD | op::X, 7, 2, 0, 0),
        Slot::new(op::ALU64 | op::ADD, 7, 0, 0, 1),
        Slot::new(op::LDX | op::MEM | op::W, 3, 10, -8, 0),
        Slot::new(op::ALU64 | op::SUB | op::X, 6, 3, 0, 0),
        Slot::new(op::ALU64 | op::LSH, 3, 0, 0, 5),
        Slot::new(op::ALU64 | op::OR | op::X, 8, 3, 0, 0),
        Slot::new(op::ALU | op::END | op::X, 8, 0, 0, 32),
        Slot::new(op::ALU64 | op::AND, 8, 0, 0, 0x7fff_ffff),
        Slot::new(op::ST | op::MEM | op::B, 10, 0, -9, 5),
    ];
    while out.len() < length {
        out.extend_from_slice(&body);
    }
    if length > 0 {
        out.push(Slot::new(op::ALU64 | op::MOV | op::X, 0, 7, 0, 0));
        out.push(Slot::new(op::ALU64 | op::XOR | op::X, 0, 8, 0, 0));
    } else {
        out.push(Slot::new(op::ALU64 | op::MOV, 0, 0, 0, 2));
    }
    out.push(Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0));
    out
}

fn verified(insns: &[Slot]) -> Result<Verified, Failure> {
    let request = Request::plain("compiled", ProgType::SocketFilter, insns);
    skep_verifier::verify(&request).map_err(|r| format!("{}: {}", r.code, r.message()))
}
