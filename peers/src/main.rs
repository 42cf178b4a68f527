//! Measures skep's engines beside the kernel's, native code and other engines, interleaved in one process.
//!
//! Method: `../shared/bench/README.md`. Every engine runs the same bodies on the same bytes; before anything is timed, the low
//! 32 bits of `r0` must agree over all engines. A sample is about 1.5 ms of runs; samples of all engines alternate, the
//! minimum of a round counts, each engine's own empty call is subtracted, and the median over the rounds is reported.

mod build;
mod compile;
mod engines;
mod report;
mod timing;

use engines::Runner;
use std::path::PathBuf;
use std::process::ExitCode;

/// Bytes of the buffer that programs work on.
pub(crate) const BUFFER_BYTES: usize = 4096;
/// The program that does nothing.
pub(crate) const EMPTY: &str = "empty";
/// The programs of `bench.c`.
const PROGRAMS: [&str; 14] = [
    "xorshift", "collatz", "memsum", "bytecmp", "fnv", "jhash", "pktcsum", "maglev", "branchy",
    "sieve", "div64", "calls", "memcpy15", "nat",
];

/// What went wrong, for people.
type Failure = String;

/// Which engines a bench compares.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bench {
    /// Compiled code.
    Jit,
    /// Interpreters.
    Interp,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    const USAGE: &str =
        "usage: skep-peers jit|interp BENCH_DIR OUT_DIR [--rounds N] [--program NAME]";
    let mut args = std::env::args().skip(1);
    let bench = match args.next().as_deref() {
        Some("jit") => Bench::Jit,
        Some("interp") => Bench::Interp,
        _ => return Err(USAGE.into()),
    };
    let source = PathBuf::from(args.next().ok_or(USAGE)?);
    let out = PathBuf::from(args.next().ok_or(USAGE)?);
    let mut rounds = timing::ROUNDS;
    let mut only = None;
    while let Some(option) = args.next() {
        let value = args.next().ok_or(USAGE)?;
        match option.as_str() {
            "--rounds" => rounds = value.parse().map_err(|_| USAGE)?,
            "--program" => only = Some(value),
            _ => return Err(USAGE.into()),
        }
    }
    let built = build::all(&source, &out)?;
    let mut engines = engines::all(bench, &built)?;
    let buffer = buffer();
    let mut rows = Vec::new();
    for name in PROGRAMS {
        if only.as_ref().is_some_and(|o| o != name) {
            continue;
        }
        let programs = runners(&mut engines, name, &buffer)?;
        let empties = runners(&mut engines, EMPTY, &buffer)?;
        let mut pairs: Vec<Option<timing::Pair>> = programs
            .into_iter()
            .zip(empties)
            .map(|(program, empty)| {
                Some(timing::Pair {
                    program: program?,
                    empty: empty?,
                })
            })
            .collect();
        rows.push(report::Row {
            name,
            times: timing::measure(&mut pairs, rounds),
        });
    }
    let names: Vec<&str> = engines.iter().map(|e| e.name()).collect();
    let compiled = match bench {
        Bench::Jit => Some(compile::measure()?),
        Bench::Interp => None,
    };
    report::print(bench, &names, &rows, compiled.as_ref());
    Ok(())
}

/// The program in every engine that can run it, on fresh buffers, once all agree on its result.
fn runners(
    engines: &mut [Box<dyn engines::Engine>],
    name: &str,
    buffer: &[u8],
) -> Result<Vec<Option<Box<dyn Runner>>>, Failure> {
    let mut runners = Vec::new();
    let mut agreed: Option<(u32, &str)> = None;
    for e in engines.iter_mut() {
        let mut runner = match e.program(name, buffer) {
            Ok(r) => r,
            Err(why) => {
                eprintln!("{name}: {} cannot run it: {why}", e.name());
                runners.push(None);
                continue;
            }
        };
        let value = runner.run(1) as u32;
        match agreed {
            Some((expected, first)) if expected != value => {
                return Err(format!(
                    "{name}: {} returns {value:#x}, {first} {expected:#x}",
                    e.name()
                ));
            }
            _ => agreed = Some((value, e.name())),
        }
        runners.push(Some(runner));
    }
    Ok(runners)
}

/// What every engine works on: pseudo-random bytes, with the headers and equal stretches that some bodies look for.
fn buffer() -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut bytes = Vec::with_capacity(BUFFER_BYTES);
    while bytes.len() < BUFFER_BYTES {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    for packet in bytes[..1024].chunks_mut(64) {
        packet[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
        packet[22] = 64;
        packet[23] = 6;
    }
    let (a, b) = bytes.split_at_mut(3072);
    b.copy_from_slice(&a[2048..]);
    b[1020] ^= 1;
    bytes
}
