//! Plugin of the public bpf_conformance suite: runs one program and prints `r0`.
//!
//! Protocol: `[MEMORY] [OPTIONS] [--elf]`. The program comes on standard input as bytes in hexadecimal, or as an object
//! in hexadecimal with `--elf`; MEMORY, also in hexadecimal, is what `r1` points to and `r2` counts. The whole of `r0`
//! goes to standard output, in hexadecimal. Options: `--interp` (the default), `--jit`, `--program HEX` instead of
//! standard input, `--debug`.
//!
//! Programs are verified like all others, as programs whose context is memory.

use skep_isa::{Insn, Reg, Slot, Src, Width, encode};
use skep_object::image::Image;
use skep_vm::test_run::run_memory;
use skep_vm::{Engine, Program};
use std::process::ExitCode;

/// What the command line asks for.
struct Job {
    program: String,
    memory: Vec<u8>,
    engine: Engine,
    is_elf: bool,
}

fn main() -> ExitCode {
    match job().and_then(|job| run(&job)) {
        Ok(r0) => {
            println!("{r0:x}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn job() -> Result<Job, String> {
    let mut job = Job {
        program: String::new(),
        memory: Vec::new(),
        engine: Engine::Interp,
        is_elf: false,
    };
    let mut has_program = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--interp" => job.engine = Engine::Interp,
            "--jit" => job.engine = Engine::Jit,
            "--elf" => job.is_elf = true,
            "--debug" | "" => {}
            "--program" => {
                job.program = arguments.next().ok_or("--program needs a value")?;
                has_program = true;
            }
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            memory => job.memory = bytes(memory)?,
        }
    }
    if !has_program {
        std::io::stdin()
            .read_line(&mut job.program)
            .map_err(|e| e.to_string())?;
    }
    Ok(job)
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let byte = |word| u8::from_str_radix(word, 16).map_err(|e| format!("{word}: {e}"));
    text.split_whitespace().map(byte).collect()
}

fn run(job: &Job) -> Result<u64, String> {
    let input = bytes(&job.program)?;
    let code = if job.is_elf { code_of(&input)? } else { input };
    let (slots, rest) = code.as_chunks::<8>();
    if slots.is_empty() || !rest.is_empty() {
        return Err(format!("{} bytes are not a program", code.len()));
    }
    let len = u32::try_from(job.memory.len()).map_err(|e| e.to_string())?;
    let mut insns = set_length(len);
    insns.extend(slots.iter().map(|b| Slot::from_le_bytes(*b)));
    let verified = skep_verifier::verify_memory(&insns, "conformance", len)
        .map_err(|r| format!("insn {}: {}", r.insn.unwrap_or(0), r.cause))?;
    let program =
        Program::new(&verified, Vec::new(), job.engine).map_err(|error| error.to_string())?;
    let run = || run_memory(&program, &mut job.memory.clone()).map_err(|errno| errno.to_string());
    let first = run()?;
    program.optimise().map_err(|error| error.to_string())?;
    match run()? {
        again if again == first => Ok(again),
        again => Err(format!(
            "templates say {first:#x}, optimised code {again:#x}"
        )),
    }
}

/// `r2 = len`: the suite's programs expect it beside the memory in `r1`.
fn set_length(len: u32) -> Vec<Slot> {
    let insn = Insn::Mov {
        width: Width::W32,
        dst: Reg::R2,
        src: Src::Imm(len.cast_signed()),
    };
    encode(&insn).to_vec()
}

/// The code of an object: that of its only section with code.
fn code_of(object: &[u8]) -> Result<Vec<u8>, String> {
    let image = Image::parse(object).map_err(|e| e.to_string())?;
    let mut code = image
        .sections
        .iter()
        .filter(|s| s.is_executable() && !s.data.is_empty());
    match (code.next(), code.next()) {
        (Some(section), None) if section.relocations.is_empty() => Ok(section.data.to_vec()),
        _ => Err("the object must have one section with code, without relocations".to_owned()),
    }
}
