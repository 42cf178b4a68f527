//! `cargo xtask fuzz-verify [COUNT] [SEED]`: random programs, our verdict against the live kernel's (root).
//!
//! Two sources take turns: programs of the dev corpus with a few instructions changed, and programs made from scratch that
//! mix arithmetic on known and unknown numbers, jumps, stack and map accesses. Every difference is printed with its program.
//!
//! `--typed DIR` instead changes the programs of a corpus that use kfuncs, typed pointers, iterators, locks and objects, so that
//! such parts meet arguments they do not expect. `--caps bpf` asks for a loader without CAP_PERFMON and CAP_SYS_ADMIN; it must
//! be started as one.

mod generate;
mod kernel_errors;
mod mutate;
mod relation;
pub(crate) mod shrink;
mod states;
mod typed;

use crate::TaskError;
use crate::corpus::accepted;
use crate::corpus::checked::{Checked, check_runs};
use generate::{Coverage, generate};
use mutate::mutate;
use relation::{Difference, FULL_LOG, Relation, relate};
use serde_json::json;
use skep::Kernel;
use skep::check::{CheckOptions, Checker};
use skep::load::{LoadOptions, Loaded, command, load};
use skep_abi::ProgType;
use skep_bpf::{Backend, TestRun};
use skep_isa::{Insn, Slot, opcode as op};
use skep_object::Program;
use skep_verifier::Caps;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// Programs tried unless told otherwise.
const COUNT: u64 = 20_000;
/// Bases that the kernel needs more steps for are left out: each mutant would take a second.
const SLOTS_MAX: usize = 400;
/// Bases whose verification is a load test.
const SLOW_BASES: &[&str] = &["big__"];
/// Differences printed whole.
const PRINTED_MAX: usize = 40;
/// As [`PRINTED_MAX`] for differences of states, which take long to shrink.
const STATES_PRINTED_MAX: usize = 12;
/// Lines of the kernel's log printed for a difference.
const LOG_LINES_MAX: usize = 400;
/// The object whose context and map the generated programs use.
const HOST_OBJECT: &str = "scalar__signed_bounds";

/// A small deterministic generator (xorshift).
pub(crate) struct Random(u64);

impl Random {
    /// From a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n
    }

    /// One of `items`.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Verdicts,
    /// Also what is known of each number at each step.
    States,
    /// Accepted programs run, and every instruction is compared with the states recorded for it. No kernel is asked.
    Checked,
}

/// What is tried.
struct Options {
    count: u64,
    seed: u64,
    how: How,
    /// The corpus whose typed programs are changed.
    typed: Option<PathBuf>,
}

/// How a program is compared.
#[derive(Clone, Copy)]
struct How {
    mode: Mode,
    caps: Caps,
}

/// Makes the program of a turn, and the object it belongs to.
type Source<'a> = Box<dyn FnMut(&mut Random, u64) -> (Rc<Subject>, Program) + 'a>;

/// An object in both verifiers.
struct Subject {
    name: String,
    checker: Rc<Checker>,
    loaded: Rc<Loaded>,
    program: Program,
}

#[derive(Default)]
struct Tally {
    tried: u64,
    accepted: u64,
    lengths: Vec<usize>,
    complexity: u64,
    kernel_bugs: u64,
    differences: BTreeMap<Difference, u64>,
    /// Accepted programs that were not run, by reason.
    not_run: BTreeMap<String, u64>,
    printed: usize,
}

const USAGE: &str =
    "usage: fuzz-verify [COUNT] [SEED] [--states|--checked] [--typed DIR] [--caps all|bpf]";

fn parse(arguments: &[String]) -> Result<Options, TaskError> {
    let mut how = How {
        mode: Mode::Verdicts,
        caps: Caps::All,
    };
    let (mut rest, mut numbers, mut typed) = (arguments.iter(), Vec::new(), None);
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--states" => how.mode = Mode::States,
            "--checked" => how.mode = Mode::Checked,
            "--typed" => typed = Some(rest.next().ok_or(USAGE)?.into()),
            "--caps" => {
                how.caps = match rest.next().map(String::as_str) {
                    Some("all") => Caps::All,
                    Some("bpf") => Caps::Bpf,
                    _ => return Err(USAGE.to_owned()),
                };
            }
            text => numbers.push(
                text.parse()
                    .map_err(|_| format!("{text} is not a number; {USAGE}"))?,
            ),
        }
    }
    Ok(Options {
        count: numbers.first().copied().unwrap_or(COUNT),
        seed: numbers.get(1).copied().unwrap_or(1),
        how,
        typed,
    })
}

/// Runs the fuzzer.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let options = parse(arguments)?;
    let kernel = Arc::new(Kernel::new());
    let mut random = Random::new(options.seed);
    let (mut tally, mut coverage) = (Tally::default(), Coverage::default());
    let mut source: Source<'_> = match &options.typed {
        Some(dir) => typed::source(&kernel, dir, options.how)?,
        None => plain_source(subjects(&kernel)?, &mut coverage)?,
    };
    for i in 0..options.count {
        let (subject, program) = source(&mut random, i);
        if options.how.mode == Mode::Checked {
            run_checked(&subject, &program, &mut random, &mut tally);
        } else {
            compare(&kernel, &subject, &program, &mut tally, options.how);
        }
        if (i + 1) % 50_000 == 0 {
            eprintln!(
                "{} programs, {} accepted, {} differences",
                tally.tried,
                tally.accepted,
                tally.differences.values().sum::<u64>()
            );
        }
    }
    drop(source);
    report(&mut tally, &coverage, options.seed)
}

/// Programs made from scratch and changed ones in turn.
fn plain_source(subjects: Vec<Subject>, coverage: &mut Coverage) -> Result<Source<'_>, TaskError> {
    let subjects: Vec<Rc<Subject>> = subjects.into_iter().map(Rc::new).collect();
    let host = subjects
        .iter()
        .find(|s| s.name.contains(HOST_OBJECT))
        .cloned()
        .ok_or_else(|| format!("the corpus has no {HOST_OBJECT}"))?;
    Ok(Box::new(move |random, i| {
        let (subject, mut program) = if i % 2 == 0 {
            let program = Program {
                insns: generate(random, &host.program, coverage),
                ..host.program.clone()
            };
            (Rc::clone(&host), program)
        } else {
            let subject = &subjects[random.below(subjects.len())];
            let program = Program {
                insns: mutate(random, &subject.program.insns),
                ..subject.program.clone()
            };
            (Rc::clone(subject), program)
        };
        program.line_info.clear();
        if i % 2 == 0 {
            program.func_info.clear();
        }
        (subject, program)
    }))
}

fn subjects(kernel: &Arc<Kernel>) -> Result<Vec<Subject>, TaskError> {
    let mut subjects = Vec::new();
    for row in accepted(None)? {
        if !row.object.starts_with("base/") || SLOW_BASES.iter().any(|b| row.base.starts_with(b)) {
            continue;
        }
        let Ok(bytes) = std::fs::read(&row.path) else {
            continue;
        };
        let Ok(checker) = Checker::open(&bytes, &CheckOptions::default()) else {
            continue;
        };
        let mut linked = checker.linked().clone();
        let Some(program) = linked
            .programs
            .iter()
            .find(|p| p.name == row.program)
            .cloned()
        else {
            continue;
        };
        linked.programs.clear();
        let backend: Arc<dyn Backend> = Arc::<Kernel>::clone(kernel);
        let Ok(loaded) = load(&linked, &backend, &LoadOptions::default()) else {
            continue;
        };
        if !calls_kfunc(&program)
            && program.insns.len() <= SLOTS_MAX
            && program.prog_type != ProgType::Unspec
        {
            subjects.push(Subject {
                name: row.object,
                checker: Rc::new(checker),
                loaded: Rc::new(loaded),
                program,
            });
        }
    }
    if subjects.is_empty() {
        Err("no object of the corpus could be loaded; this needs root".to_owned())
    } else {
        Ok(subjects)
    }
}

/// Numbers of kfuncs are those of the reference kernel's BTF, not of the running one.
fn calls_kfunc(program: &Program) -> bool {
    program
        .insns
        .iter()
        .any(|s| s.code == op::JMP | op::CALL && s.src() == op::PSEUDO_KFUNC_CALL)
}

fn compare(kernel: &Kernel, subject: &Subject, program: &Program, tally: &mut Tally, how: How) {
    let Some(relation) = relate(kernel, subject, program, how) else {
        return;
    };
    tally.tried += 1;
    tally.lengths.push(program.insns.len());
    let kind = match relation {
        Relation::Agree { accepted } => {
            tally.accepted += u64::from(accepted);
            return;
        }
        Relation::Complexity => {
            tally.complexity += 1;
            return;
        }
        Relation::KernelBug => {
            tally.kernel_bugs += 1;
            return;
        }
        Relation::Differ(kind) => kind,
    };
    *tally.differences.entry(kind.clone()).or_default() += 1;
    if tally.printed
        < if how.mode == Mode::States {
            STATES_PRINTED_MAX
        } else {
            PRINTED_MAX
        }
    {
        tally.printed += 1;
        print_shrunk(kernel, subject, program, &kind, how);
    }
}

/// Runs of each accepted program on random inputs.
const CHECKED_RUNS: usize = 3;
/// Bytes of the context of system call programs and of short packets.
const INPUT_BYTES: usize = 64;

/// Accepted programs run on random inputs, in the states that the verifier recorded.
fn run_checked(subject: &Subject, program: &Program, random: &mut Random, tally: &mut Tally) {
    if sends_signals(program) {
        return;
    }
    tally.tried += 1;
    tally.lengths.push(program.insns.len());
    let Ok((verified, trace)) = subject.checker.trace_program(program) else {
        return;
    };
    let takes_words = matches!(
        program.prog_type,
        ProgType::Syscall | ProgType::RawTracepoint
    );
    let runs: Vec<TestRun> = (0..CHECKED_RUNS)
        .map(|_| {
            let bytes = Some(random_input(random));
            if takes_words {
                TestRun {
                    ctx_in: bytes,
                    ..TestRun::default()
                }
            } else {
                TestRun {
                    data_in: bytes,
                    repeat: 1,
                    ..TestRun::default()
                }
            }
        })
        .collect();
    match check_runs(&subject.checker, &verified, &trace, runs.into_iter()) {
        Ok(Checked::Fits(steps)) if steps > 0 => tally.accepted += 1,
        Ok(Checked::Fits(_)) => *tally.not_run.entry("no input".to_owned()).or_default() += 1,
        Ok(Checked::Skipped(why)) => *tally.not_run.entry(shape(&why)).or_default() += 1,
        Err(what) => {
            println!("{what}\n  {}", subject.name);
            print_program(&program.insns);
            *tally.differences.entry(Difference::Run).or_default() += 1;
        }
    }
}

/// `bpf_send_signal` and `bpf_send_signal_thread` would reach this very process.
fn sends_signals(program: &Program) -> bool {
    use skep_abi::helper::id::{SEND_SIGNAL, SEND_SIGNAL_THREAD};
    let is_call = |s: &&Slot| s.code == op::JMP | op::CALL && s.src() == 0;
    let mut calls = program.insns.iter().filter(is_call);
    calls.any(|s| matches!(s.imm.cast_unsigned(), SEND_SIGNAL | SEND_SIGNAL_THREAD))
}

/// Words near edges, small, or anything.
fn random_input(random: &mut Random) -> Vec<u8> {
    let words = (0..INPUT_BYTES / 8).map(|_| match random.below(3) {
        0 => i64::from(random.pick(mutate::EDGES)).cast_unsigned(),
        1 => random.below(64) as u64,
        _ => random.next(),
    });
    words.flat_map(u64::to_le_bytes).collect()
}

/// Prints the smallest program found with the same difference, and what both verifiers say of it.
fn print_shrunk(
    kernel: &Kernel,
    subject: &Subject,
    program: &Program,
    kind: &Difference,
    how: How,
) {
    let same = |less: &Program| match relate(kernel, subject, less, how) {
        Some(Relation::Differ(found)) => found.is_like(kind),
        _ => false,
    };
    let small = shrink::shrink(program, &same);
    let ours = subject.checker.verify(&small, small.prog_type, how.caps);
    println!("{kind}\n  {} {:?}", subject.name, ours.map(|v| v.stats()));
    print_program(&small.insns);
    let load = command(
        &small,
        subject.checker.linked(),
        &subject.loaded,
        &LoadOptions::default(),
    );
    if let Ok(mut load) = load {
        load.log_level = FULL_LOG;
        let log = kernel.verifier_statistics(&load);
        let log = log.unwrap_or_else(|e| e.log);
        if how.mode == Mode::States
            && let Ok((_, trace)) = subject.checker.record(&small, how.caps)
        {
            println!("  {:?}", states::difference(&log, &trace));
        }
        for line in log.lines().take(LOG_LINES_MAX) {
            println!("  | {line}");
        }
    }
}

/// The last line of a log that is a message and not a statistic.
pub(crate) fn last_message(log: &str) -> &str {
    let is_statistic = |l: &str| {
        ["processed ", "verification time", "stack depth"]
            .iter()
            .any(|s| l.starts_with(s))
    };
    log.lines()
        .rev()
        .find(|l| !l.is_empty() && !is_statistic(l))
        .unwrap_or("")
}

/// A message without its numbers.
pub(crate) fn shape(message: &str) -> String {
    let mut out = String::new();
    for c in message.chars() {
        match (c.is_ascii_digit(), out.ends_with('N')) {
            (true, true) => {}
            (true, false) => out.push('N'),
            (false, _) => out.push(c),
        }
    }
    out
}

pub(crate) fn print_program(insns: &[Slot]) {
    let mut at = 0;
    while at < insns.len() {
        match skep_isa::decode(insns, at) {
            Ok(insn) => {
                println!("  {at:4}: {insn}");
                at += if matches!(insn, Insn::LoadImm64 { .. }) {
                    2
                } else {
                    1
                };
            }
            Err(e) => {
                println!("  {at:4}: {e}");
                at += 1;
            }
        }
    }
}

fn report(tally: &mut Tally, coverage: &Coverage, seed: u64) -> Result<(), TaskError> {
    tally.lengths.sort_unstable();
    let median = tally
        .lengths
        .get(tally.lengths.len() / 2)
        .copied()
        .unwrap_or(0);
    println!("operations made from scratch, with known and unknown operands:");
    print!("{coverage}");
    for (why, n) in &tally.not_run {
        println!("not run: {n:6}  {why}");
    }
    println!("differences:");
    for (kind, n) in &tally.differences {
        println!("  {n:6}  {kind}");
    }
    let differences: u64 = tally.differences.values().sum();
    println!(
        "{}",
        json!({
            "fuzz": "verify", "seed": seed, "programs": tally.tried, "accepted": tally.accepted,
            "accepted_percent": (tally.accepted as f64 * 1000.0 / tally.tried.max(1) as f64).round() / 10.0,
            "median_slots": median, "differences": differences, "complexity_differences": tally.complexity,
            "kernel_bugs": tally.kernel_bugs,
            "unseen_operations": coverage.unseen(),
        })
    );
    if differences == 0 {
        Ok(())
    } else {
        Err(format!("{differences} differences"))
    }
}
