//! `cargo xtask fuzz-jit [COUNT] [SEED]`: random verified programs in every engine: interpreter, templates, blinded templates,
//! optimised code, and the kernel (root). Return value, packet, context and maps must be the same.
//!
//! A COUNT of 1 prints the program.
//!
//! A program counts as accepted if both verifiers accept it; then it has run on every input in every engine. What our verifier
//! refuses is not loaded into the kernel: `fuzz-verify` compares verdicts. Every so often a program also runs in the
//! interpreter in checked mode: each step must lie in the states that the verifier recorded. The instructions of these runs
//! are counted.
//!
//! Linux 6.18 runs some programs wrongly (docs/kernels.md). If a difference ends when the kernel runs the program in a form that
//! keeps clear of those errors, it is counted as one of them.

mod engines;
mod generate;
mod kernel;
mod state;

use crate::TaskError;
use crate::fuzz_verify::shrink::shrink_slots;
use crate::fuzz_verify::{Random, print_program, shape};
use engines::{ALWAYS, Engines};
use generate::{Form, Generated, PROLOGUE, generate};
use kernel::KernelSide;
use serde_json::json;
use skep_verifier::Verified;
use state::{End, Named, Start};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Programs tried unless told otherwise.
const COUNT: u64 = 20_000;
/// Inputs that each program runs on.
const INPUTS: usize = 2;
/// One program in so many is also run in checked mode.
const SAMPLE: u64 = 32;
/// One program in so many also runs in blinded templates.
const BLINDED: u64 = 8;
/// One program in so many runs by the proof for a loader without CAP_PERFMON, if it has one.
const RESTRICTED: u64 = 6;
/// Differences printed whole.
const PRINTED_MAX: u64 = 10;
/// Programs between two lines of progress.
const PROGRESS: u64 = 20_000;
/// Id of the function in [`function_btf`].
const FUNC_TYPE: u32 = 3;

#[derive(Default)]
struct Tally {
    programs: u64,
    accepted: u64,
    verdicts: u64,
    kernel_efault: u64,
    restricted: u64,
    kernel_errors: u64,
    differences: u64,
    slots: u64,
    steps: Vec<u64>,
    rejections: BTreeMap<String, u64>,
}

/// Runs the fuzzer.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let number = |i: usize, default: u64| match arguments.get(i) {
        Some(text) => text.parse().map_err(|_| format!("{text} is not a number")),
        None => Ok(default),
    };
    let (count, seed) = (number(0, COUNT)?, number(1, 1)?);
    let kernel_btf = Arc::new(skep::target::running_btf().map_err(|e| e.to_string())?);
    let throw = kernel_btf.find_by_name_kind("bpf_throw", skep_btf::Kind::Func);
    let throw = throw.ok_or("this kernel has no bpf_throw")?;
    let mut kernel = KernelSide::new(throw)?;
    let mut engines = Engines::new(kernel.cpus(), kernel_btf, throw)?;
    let mut tally = Tally::default();
    let begun = std::time::Instant::now();
    for i in 0..count {
        // Each program has a seed of its own, so that one can be tried again alone.
        let own = seed.wrapping_add(i);
        if count == 1 {
            print_program(&Case::new(own, Form::Plain, kernel.cpus()).program.insns);
        }
        one(&mut kernel, &mut engines, own, &mut tally)?;
        if (i + 1) % PROGRESS == 0 {
            eprintln!(
                "{} programs, {} accepted, {} differences, {:.0} a second",
                tally.programs,
                tally.accepted,
                tally.differences,
                tally.programs as f64 / begun.elapsed().as_secs_f64()
            );
        }
    }
    report(&mut tally, seed, begun.elapsed().as_secs())
}

/// One program, from its seed.
fn one(
    kernel: &mut KernelSide,
    engines: &mut Engines,
    seed: u64,
    tally: &mut Tally,
) -> Result<(), TaskError> {
    let case = Case::new(seed, Form::Plain, kernel.cpus());
    tally.programs += 1;
    tally.slots += case.program.insns.len() as u64;
    let verified = match engines.verify(&case.program) {
        Ok(verified) => verified,
        Err(why) => {
            *tally.rejections.entry(shape(&why.message())).or_default() += 1;
            return Ok(());
        }
    };
    let count = ALWAYS + usize::from(seed.is_multiple_of(BLINDED));
    let restricted = seed
        .is_multiple_of(RESTRICTED)
        .then(|| engines.verify_restricted(&case.program))
        .flatten();
    tally.restricted += u64::from(restricted.is_some());
    let verified = restricted.unwrap_or(verified);
    let difference = match case.compare(kernel, engines, &verified, count)? {
        Ok(difference) => difference,
        Err(why) => {
            tally.refused(seed, &why);
            return Ok(());
        }
    };
    tally.accepted += 1;
    if let Some(difference) = difference {
        let careful = Case::new(seed, Form::Careful, kernel.cpus());
        if careful
            .run_in(kernel)?
            .is_ok_and(|ends| ends == difference.ends)
        {
            tally.kernel_errors += 1;
        } else if tally.differs(seed) {
            let small = case.shrink(kernel, engines);
            println!("{difference}");
            print_program(&small.insns);
        }
    }
    if seed.is_multiple_of(SAMPLE) {
        match engines.checked(&case.program, &case.starts[0], case.named) {
            Ok(steps) => tally.steps.extend(steps),
            Err(contradiction) => {
                if tally.differs(seed) {
                    println!("{contradiction}");
                    print_program(&case.program.insns);
                }
            }
        }
    }
    Ok(())
}

/// What an engine left, and what the kernel left.
struct Difference {
    engine: &'static str,
    ends: Vec<End>,
    kernel: Vec<End>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            engine,
            ends,
            kernel,
        } = self;
        let first = ends.iter().zip(kernel).find(|(end, kernel)| end != kernel);
        first.map_or(Ok(()), |(end, kernel)| {
            writeln!(f, "kernel: {kernel:x?}")?;
            write!(f, "{engine}: {end:x?}")
        })
    }
}

/// A program with its inputs.
struct Case {
    program: Generated,
    named: Named,
    starts: Vec<Start>,
}

impl Case {
    fn new(seed: u64, form: Form, cpus: usize) -> Self {
        let mut random = Random::new(seed);
        let program = generate(&mut random, form);
        Self {
            named: Named::of(&program.insns),
            starts: (0..INPUTS)
                .map(|_| Start::random(&mut random, cpus))
                .collect(),
            program,
        }
    }

    /// What the kernel's runs leave, or why it does not load the program.
    fn run_in(&self, kernel: &mut KernelSide) -> Result<Result<Vec<End>, String>, TaskError> {
        let handle = match kernel.load(&self.program) {
            Ok(handle) => handle,
            Err(why) => return Ok(Err(why)),
        };
        let runs = self.starts.iter();
        let ends: Result<Vec<End>, TaskError> =
            runs.map(|s| kernel.run(handle, s, self.named)).collect();
        kernel.close(handle);
        Ok(Ok(ends?))
    }

    /// The first engine that differs from the kernel, or why the kernel does not load the program.
    fn compare(
        &self,
        kernel: &mut KernelSide,
        engines: &mut Engines,
        verified: &Verified,
        count: usize,
    ) -> Result<Result<Option<Difference>, String>, TaskError> {
        let expected = match self.run_in(kernel)? {
            Ok(expected) => expected,
            Err(why) => return Ok(Err(why)),
        };
        let mut found = None;
        engines.run(verified, &self.starts, self.named, count, |name, ends| {
            if ends != expected {
                found = Some((name, ends));
            }
            found.is_none()
        })?;
        Ok(Ok(found.map(|(engine, ends)| Difference {
            engine,
            ends,
            kernel: expected,
        })))
    }

    /// The smallest part of the program that still differs.
    fn shrink(&self, kernel: &mut KernelSide, engines: &mut Engines) -> Generated {
        let all = (self.program.insns.clone(), self.program.starts.clone());
        let prologue = &self.program.insns[..PROLOGUE];
        let (insns, starts) = shrink_slots(all, &mut |(insns, starts)| {
            // Without what initialises stack and registers anything could be read.
            if !insns.starts_with(prologue) {
                return false;
            }
            let case = Case {
                program: Generated {
                    insns: insns.clone(),
                    starts: starts.clone(),
                },
                named: self.named,
                starts: self.starts.clone(),
            };
            let Ok(verified) = engines.verify(&case.program) else {
                return false;
            };
            let compared = case.compare(kernel, engines, &verified, ALWAYS + 1);
            matches!(compared, Ok(Ok(Some(_))))
        });
        Generated { insns, starts }
    }
}

impl Tally {
    /// The kernel refuses what our verifier accepts.
    fn refused(&mut self, seed: u64, why: &str) {
        // The kernel's own mistake: a callback that no path runs.
        if why.contains("EFAULT") {
            self.kernel_efault += 1;
            return;
        }
        self.verdicts += 1;
        if self.verdicts <= PRINTED_MAX {
            println!("seed {seed}: only our verifier accepts it: {why}");
        }
    }

    /// Counts a difference; true if it is to be printed.
    fn differs(&mut self, seed: u64) -> bool {
        self.differences += 1;
        let printed = self.differences <= PRINTED_MAX;
        if printed {
            println!("seed {seed}: difference");
        }
        printed
    }
}

/// BTF of `static int f(void)`.
fn function_btf() -> Vec<u8> {
    const STRINGS: &[u8] = b"\0int\0f\0";
    #[rustfmt::skip] // one type a line
    let types: &[u32] = &[
        1, 1 << 24, 4, 1 << 24 | 32,  // 1: int
        0, 13 << 24, 1,               // 2: int (void)
        5, 12 << 24, 2,               // 3: static f
    ];
    let types: Vec<u8> = types.iter().flat_map(|w| w.to_ne_bytes()).collect();
    let mut btf = vec![0x9f, 0xeb, 1, 0];
    for word in [24, 0, types.len(), types.len(), STRINGS.len()] {
        btf.extend_from_slice(&(word as u32).to_ne_bytes());
    }
    [btf, types, STRINGS.to_vec()].concat()
}

fn report(tally: &mut Tally, seed: u64, seconds: u64) -> Result<(), TaskError> {
    for (why, n) in &tally.rejections {
        println!("  {n:8} {why}");
    }
    tally.steps.sort_unstable();
    let median = tally.steps.get(tally.steps.len() / 2).copied().unwrap_or(0);
    println!(
        "{}",
        json!({
            "fuzz": "jit", "seed": seed, "programs": tally.programs, "accepted": tally.accepted,
            "accepted_percent": (tally.accepted as f64 * 1000.0 / tally.programs.max(1) as f64).round() / 10.0,
            "inputs": INPUTS, "mean_slots": tally.slots / tally.programs.max(1), "median_executed": median,
            "checked": tally.steps.len(), "verdicts_differ": tally.verdicts, "restricted": tally.restricted, "kernel_efault": tally.kernel_efault,
            "kernel_errors": tally.kernel_errors, "differences": tally.differences, "seconds": seconds,
        })
    );
    if tally.differences == 0 {
        Ok(())
    } else {
        Err(format!("{} differences", tally.differences))
    }
}
