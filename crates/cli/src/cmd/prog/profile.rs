//! `skep prog profile`: what a program's runs cost in counters of the processor.

use super::stat::wait;
use crate::cmd::noun::{self, Selector};
use crate::cmd::seconds;
use crate::error::{CliError, io_text};
use crate::output::Output;
use serde_json::{Value as Json, json};
use skep::Kernel;
use skep::counters::{Counter, METRICS, Metric, Reading};
use skep::wait::Interrupts;
use skep_bpf::{Backend, ObjKind};
use std::sync::Arc;

const USAGE: &str = "usage: skep prog profile PROGRAM [duration SECONDS] METRIC…";

/// Counts for some seconds, or until interrupted.
pub(super) fn run(words: &[String], out: &mut Output) -> Result<(), CliError> {
    let (program, rest) = words.split_at(words.len().min(2));
    let selector = Selector::parse(program)?.ok_or_else(|| CliError::usage(USAGE))?;
    let (duration, names) = match rest {
        [word, time, names @ ..] if word == "duration" => {
            let time = seconds::parse(time).map_err(CliError::usage)?;
            (Some(time), names)
        }
        names => (None, names),
    };
    let metrics = metrics(names)?;
    let kernel = Arc::new(Kernel::new());
    let backend = Arc::clone(&kernel) as Arc<dyn Backend>;
    let opened = noun::select_one(kernel.as_ref(), ObjKind::Prog, &selector)?;
    let function = kernel
        .prog_name(opened.handle)
        .map_err(CliError::environment)?;
    let interrupts = Interrupts::open().map_err(|e| CliError::environment(io_text(&e)))?;
    let mut counters = Vec::new();
    for metric in metrics {
        let counter = Counter::start(&backend, opened.handle, &function, metric);
        counters.push((metric, counter.map_err(CliError::environment)?));
    }
    wait(&interrupts, duration)?;
    let mut rows = Vec::new();
    for (metric, counter) in &counters {
        rows.push((*metric, counter.read().map_err(CliError::environment)?));
    }
    if out.is_json() {
        return out.json(&rows.iter().map(|(m, r)| row(m, r)).collect::<Json>());
    }
    let runs = rows.iter().map(|(_, r)| r.runs).max().unwrap_or(0);
    out.line(format_args!("{runs:>18} run_cnt"))?;
    for (metric, reading) in &rows {
        out.line(format_args!("{:>18} {}", reading.value, metric.name))?;
    }
    Ok(())
}

fn metrics(names: &[String]) -> Result<Vec<&'static Metric>, CliError> {
    let known = || {
        METRICS
            .iter()
            .map(|m| m.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    if names.is_empty() {
        return Err(CliError::usage(format!("{USAGE}; metrics are {}", known())));
    }
    let find = |name: &String| {
        let found = METRICS.iter().find(|m| m.name == name);
        found.ok_or_else(|| CliError::usage(format!("\"{name}\" is not one of {}", known())))
    };
    names.iter().map(find).collect()
}

/// bpftool's fields.
fn row(metric: &Metric, reading: &Reading) -> Json {
    json!({
        "metric": metric.name, "run_cnt": reading.runs, "value": reading.value,
        "enabled": reading.enabled_ns, "running": reading.running_ns,
    })
}
