//! `corpus-run --checked`: runs each program in the interpreter while every instruction is compared with the states that the
//! verifier recorded for it.
//!
//! Maps are made for the row alone: flat ones with their initial contents; maps of maps and prog arrays stay empty.

use super::run::Inputs;
use crate::TaskError;
use serde_json::Value;
use skep::check::{CheckOptions, Checker};
use skep_abi::{Errno, MapType};
use skep_bpf::TestRun;
use skep_maps::{Map, MapSpec, Memory, Runner};
use skep_verifier::{MapDesc, Trace, Verified};
use skep_vm::test_run::{Input, checked_run};
use skep_vm::{Engine, Fold, Host, Program, ProgramOptions, Worker};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// CPUs of the runs.
const CPUS: u32 = 2;

/// A universe of so many CPUs in which nothing happens.
pub(crate) struct Quiet(pub(crate) u32);

impl Host for Quiet {
    fn trace(&self, _: &str) {}
    fn possible_cpus(&self) -> u32 {
        self.0
    }
    fn send_clone(&self, _: &[u8], _: u32, _: bool) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
}

/// What became of a row.
pub(crate) enum Checked {
    /// That many instructions fit.
    Fits(u64),
    /// It cannot be checked: why.
    Skipped(String),
}

fn make_map(desc: &MapDesc, contents: &[u8], runner: Runner) -> Result<Map, Errno> {
    let mut spec = MapSpec::new(
        desc.map_type,
        desc.key_size,
        desc.value_size,
        desc.max_entries,
        CPUS,
    );
    spec.map_flags = desc.map_flags;
    spec.map_extra = desc.map_extra;
    spec.record = Arc::clone(&desc.record);
    let map = Map::create(&spec, &Memory::Anonymous)?;
    if !contents.is_empty() && desc.map_type == MapType::Array {
        // Written as the loader does, before the map is frozen; programs cannot write it any more.
        map.update_elem(&[0; 4], contents, 0, runner)?;
    }
    Ok(map)
}

/// Checks all runs of a row.
pub(super) fn check_row(
    row: &Value,
    objects: &Path,
    inputs: &Inputs,
    options: &CheckOptions,
) -> Result<Checked, TaskError> {
    let text = |field: &str| row[field].as_str().unwrap_or_default();
    let file = std::fs::read(objects.join(text("object"))).map_err(|e| e.to_string())?;
    let checker = Checker::open(&file, options).map_err(|e| format!("{e:?}"))?;
    let (verified, trace) = match checker.trace(text("program")) {
        Some(Ok(traced)) => traced,
        Some(Err(verdict)) => return Ok(Checked::Skipped(format!("{verdict:?}"))),
        None => return Ok(Checked::Skipped("no such program".to_owned())),
    };
    let runs = row["runs"].as_array().map_or(0, Vec::len);
    let prog_type = verified.prog_type();
    let runs = (0..runs).map(|at| inputs.test_run(prog_type, at));
    check_runs(&checker, &verified, &trace, runs)
}

/// Runs an accepted program on each input in turn, with its maps as its object begins them.
///
/// # Errors
/// The first value that no recorded state admits.
pub(crate) fn check_runs(
    checker: &Checker,
    verified: &Verified,
    trace: &Trace,
    runs: impl Iterator<Item = TestRun>,
) -> Result<Checked, TaskError> {
    if !trace.is_complete() {
        return Ok(Checked::Skipped("too many states".to_owned()));
    }
    let runner = Runner { cpu: 0, token: 1 };
    let specs = &checker.linked().maps;
    let maps: Result<Vec<Map>, Errno> = verified
        .maps()
        .iter()
        .zip(specs)
        .map(|(desc, spec)| make_map(desc, &spec.contents, runner))
        .collect();
    let maps = match maps {
        Ok(maps) => maps,
        Err(errno) => return Ok(Checked::Skipped(format!("maps: {errno}"))),
    };
    let program = match Program::new(verified, maps, unfolded()) {
        Ok(program) => program,
        Err(e) => return Ok(Checked::Skipped(e.to_string())),
    };
    let mut worker = Worker::new(Arc::new(Quiet(CPUS)), runner, Arc::new(AtomicU32::new(0)));
    let mut steps = 0;
    for (at, run) in runs.enumerate() {
        let input = Input {
            data: run.data_in.as_deref(),
            ctx: run.ctx_in.as_deref(),
            repeat: run.repeat,
            ..Input::default()
        };
        // A refused run checks nothing.
        let Ok((_, report)) = checked_run(&mut worker, &program, &input, trace) else {
            continue;
        };
        if let Some((slot, what)) = report.failure {
            return Err(format!("run {at}, insn {slot}: {what}"));
        }
        steps += report.steps;
    }
    Ok(Checked::Fits(steps))
}

/// The interpreter, on the program as written.
pub(crate) fn unfolded() -> ProgramOptions {
    ProgramOptions {
        fold: Fold::Nothing,
        ..Engine::Interp.into()
    }
}
