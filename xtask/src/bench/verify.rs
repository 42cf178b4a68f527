//! `cargo xtask bench verify [DIR] [FILE…]`: verification time, ours against the kernel's own figure (log level 4), over the
//! accepted programs of a corpus, and all programs of the objects (`.o`) and sources (`.c`) given: unless told otherwise the
//! bench programs beside the checkout.
//!
//! Samples are interleaved; per program and round the minimum counts, over the rounds the median. Mutants of one base
//! weigh as one in the geometric mean.

use crate::TaskError;
use crate::corpus::{Accepted, accepted};
use crate::fuzz_verify::{last_message, shape};
use serde_json::json;
use skep::Kernel;
use skep::check::{CheckOptions, Checker};
use skep::load::{LoadOptions, Loaded, command, load};
use skep_bpf::{Backend, ProgLoad};
use skep_object::{Object, Options};
use skep_verifier::Caps;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The bench programs, beside the checkout (ANCHORS.md), and how they are built.
const BENCH_SOURCE: &str = "../shared/bench/bench.c";
const CLANG: &str = "clang-19";
#[rustfmt::skip] // one line
const CLANG_OPTIONS: &[&str] = &["-O2", "-target", "bpf", "-mcpu=v3", "-g", "-DTGT_KERN", "-idirafter", "/usr/include/x86_64-linux-gnu", "-c"];

const ROUNDS: usize = 5;
const SAMPLES: usize = 3;
/// Programs that the kernel needs longer for, in microseconds, are sampled once a round.
const LONG_USEC: f64 = 50_000.0;

struct Measured {
    base: String,
    name: String,
    ours_usec: f64,
    kernel_usec: f64,
}

/// Runs the bench.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let kernel = Arc::new(Kernel::new());
    let mut all = Vec::new();
    let mut skipped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let is_file = |a: &&String| a.ends_with(".o") || a.ends_with(".c");
    let (files, dirs): (Vec<&String>, Vec<&String>) = arguments.iter().partition(is_file);
    let mut files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
    if files.is_empty() {
        files.push(crate::workspace_root().join(BENCH_SOURCE));
    }
    let mut rows = accepted(dirs.first().copied())?;
    for file in files {
        rows.extend(programs_of(&built(&file)?)?);
    }
    for row in rows {
        let name = format!("{} {}", row.object, row.program);
        match measure(&row.path, &row.program, &kernel) {
            Ok((ours_usec, kernel_usec)) => all.push(Measured {
                base: row.base.clone(),
                name,
                ours_usec,
                kernel_usec,
            }),
            Err(why) => skipped.entry(shape(&why)).or_default().push(name),
        }
    }
    report(&mut all, &skipped);
    Ok(())
}

/// The object of a file: itself, or what clang makes of it.
fn built(file: &Path) -> Result<PathBuf, TaskError> {
    let says = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
    if file.extension().is_none_or(|e| e != "c") {
        return Ok(file.to_owned());
    }
    let folder = crate::target_dir().join("bench-verify");
    std::fs::create_dir_all(&folder).map_err(|e| says(&e))?;
    let object = folder.join(file.file_name().unwrap_or_default());
    let object = object.with_extension("o");
    let mut clang = Command::new(CLANG);
    clang.args(CLANG_OPTIONS).arg("-o").arg(&object).arg(file);
    let status = clang.status().map_err(|e| format!("{CLANG}: {e}"))?;
    status
        .success()
        .then_some(object)
        .ok_or_else(|| says(&"clang failed"))
}

/// The programs of an object, each a base of its own.
fn programs_of(path: &Path) -> Result<Vec<Accepted>, TaskError> {
    let object = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| format!("{object}: {e}"))?;
    let checker = Checker::open(&bytes, &CheckOptions::default());
    let checker = checker.map_err(|e| format!("{object}: {e}"))?;
    let programs = checker.programs().map(|program| Accepted {
        path: path.to_owned(),
        base: format!("{object} {program}"),
        object: object.clone(),
        program: program.to_owned(),
    });
    Ok(programs.collect())
}

/// Microseconds of ours and of the kernel.
///
/// # Errors
/// Why one of them did not verify the program.
fn measure(path: &Path, program: &str, kernel: &Arc<Kernel>) -> Result<(f64, f64), TaskError> {
    let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
    let checker = Checker::open(&bytes, &CheckOptions::default()).map_err(|e| e.to_string())?;
    let load = kernel_load(&bytes, program, kernel)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (mut our_least, mut their_least) = (f64::MAX, f64::MAX);
        for _ in 0..SAMPLES {
            their_least = their_least.min(kernel_usec(kernel, &load.command)?);
            let report = checker.check(program, Caps::All).ok_or("no such program")?;
            if !matches!(report.verdict, skep::check::Verdict::Accept(_)) {
                return Err(format!("ours: {:?}", report.verdict));
            }
            our_least = our_least.min(report.elapsed.as_secs_f64() * 1e6);
            if their_least > LONG_USEC {
                break;
            }
        }
        ours.push(our_least);
        theirs.push(their_least);
    }
    Ok((median(&mut ours), median(&mut theirs)))
}

/// A load of one program, with the maps it needs.
struct KernelLoad {
    command: ProgLoad,
    /// Closed when the load is done with.
    _maps: Loaded,
}

/// The program as the running kernel takes it: linked against its own BTF and configuration.
fn kernel_load(bytes: &[u8], program: &str, kernel: &Arc<Kernel>) -> Result<KernelLoad, TaskError> {
    let object = Object::parse(bytes, &Options::default()).map_err(|e| e.to_string())?;
    let target = skep::target::running(&object.needs()).map_err(|e| e.to_string())?;
    let mut linked = object.relocate(&target).map_err(|e| e.to_string())?;
    let spec = linked.programs.iter().find(|p| p.name == program).cloned();
    let spec = spec.ok_or("no such program")?;
    linked.programs.clear();
    let backend: Arc<dyn Backend> = Arc::<Kernel>::clone(kernel);
    let options = LoadOptions::default();
    let maps = load(&linked, &backend, &options).map_err(|e| e.to_string())?;
    let command = command(&spec, &linked, &maps, &options).map_err(|e| e.to_string())?;
    Ok(KernelLoad {
        command,
        _maps: maps,
    })
}

fn kernel_usec(kernel: &Kernel, load: &ProgLoad) -> Result<f64, TaskError> {
    let log = kernel
        .verifier_statistics(load)
        .map_err(|e| format!("kernel: {} {}", e.errno, last_message(&e.log)))?;
    let line = log
        .lines()
        .find_map(|l| l.strip_prefix("verification time "));
    let usec = line.and_then(|l| l.split(' ').next()?.parse().ok());
    usec.ok_or_else(|| "the kernel's log tells no time".to_owned())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(all: &mut [Measured], skipped: &BTreeMap<String, Vec<String>>) {
    // The kernel counts whole microseconds: less than one is one.
    let ratio = |m: &Measured| m.ours_usec / m.kernel_usec.max(1.0);
    let ours: f64 = all.iter().map(|m| m.ours_usec).sum();
    let theirs: f64 = all.iter().map(|m| m.kernel_usec.max(1.0)).sum();
    let mut families: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for m in all.iter() {
        families.entry(&m.base).or_default().push(ratio(m).ln());
    }
    let means: Vec<f64> = families
        .values()
        .map(|v| v.iter().sum::<f64>() / v.len() as f64)
        .collect();
    let bases = families.len();
    let geomean = (means.iter().sum::<f64>() / means.len().max(1) as f64).exp();
    all.sort_by(|a, b| ratio(b).total_cmp(&ratio(a)));
    println!("slowest against the kernel:");
    for m in all.iter().take(15) {
        println!(
            "  {:6.2}  {:10.1} us, kernel {:10.1} us  {}",
            ratio(m),
            m.ours_usec,
            m.kernel_usec,
            m.name
        );
    }
    let without: usize = skipped.values().map(Vec::len).sum();
    println!(
        "{} programs of {bases} bases, {without} without a figure",
        all.len()
    );
    for (why, names) in skipped {
        println!("  {:6}  {why}, e.g. {}", names.len(), names[0]);
    }
    println!(
        "{}",
        json!({
            "bench": "verify",
            "programs": all.len(),
            "without_figure": without,
            "total_vs_kernel": round(ours / theirs),
            "geomean_vs_kernel": round(geomean),
            "worst_vs_kernel": round(all.first().map_or(0.0, ratio)),
            "ours_usec": ours.round(),
            "kernel_usec": theirs.round(),
            "peak_memory_mib": peak_memory_mib(),
        })
    );
}

/// Most memory this process ever had, in MiB (`VmHWM` of proc(5)).
fn peak_memory_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()
        .map(|kib| kib / 1024)
}

fn round(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}
