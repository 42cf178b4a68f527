//! `skep prog stat` and `tracelog`: what running programs do.
//!
//! Counts come from the kernel's own statistics (`BPF_ENABLE_STATS`), which need neither trampolines nor hardware counters.

use crate::cmd::noun::{self, Selector};
use crate::error::{CliError, io_text};
use crate::output::Output;
use serde_json::{Value as Json, json};
use skep::wait::{Epoll, Interrupts};
use skep_bpf::{Backend, Event, ObjKind, ProgInfo};
use std::time::{Duration, Instant};

/// How long is measured without a duration.
const DURATION: Duration = Duration::from_secs(1);

/// Counts runs and time of programs for some seconds.
pub(super) fn run(
    words: &[String],
    duration: Option<Duration>,
    out: &mut Output,
) -> Result<(), CliError> {
    let kernel = noun::kernel();
    let selector = Selector::parse(words)?;
    let duration = duration.unwrap_or(DURATION);
    if duration.is_zero() {
        return Err(CliError::usage("--duration takes a number of seconds"));
    }
    let programs = noun::select(&kernel, ObjKind::Prog, selector.as_ref())?;
    let read = || -> Vec<Option<ProgInfo>> {
        programs
            .iter()
            .map(|p| kernel.prog_info(p.handle).ok())
            .collect()
    };
    let statistics = kernel.enable_stats().map_err(CliError::environment)?;
    let before = read();
    let started = Instant::now();
    let interrupts = Interrupts::open().map_err(|e| CliError::environment(io_text(&e)))?;
    wait(&interrupts, Some(duration))?;
    let (after, elapsed) = (read(), started.elapsed());
    kernel.close(statistics);
    let mut rows = Vec::new();
    for (before, after) in before.iter().flatten().zip(after.iter().flatten()) {
        rows.push(row(before, after, elapsed));
    }
    rows.sort_by_key(|r| std::cmp::Reverse(r["run_time_ns"].as_u64()));
    if out.is_json() {
        return out.json(&rows.into_iter().collect::<Json>());
    }
    out.line(format_args!(
        "{:>8} {:<16} {:<20} {:>12} {:>12} {:>8}",
        "ID", "NAME", "TYPE", "RUNS", "NS/RUN", "CPU %"
    ))?;
    for row in rows {
        let (runs, time) = (row["run_cnt"].as_u64(), row["run_time_ns"].as_u64());
        let mean = time
            .unwrap_or(0)
            .checked_div(runs.unwrap_or(0))
            .unwrap_or(0);
        out.line(format_args!(
            "{:>8} {:<16} {:<20} {:>12} {mean:>12} {:>8.3}",
            row["id"],
            row["name"].as_str().unwrap_or_default(),
            row["type"].as_str().unwrap_or_default(),
            runs.unwrap_or(0),
            row["cpu_percent"].as_f64().unwrap_or(0.0)
        ))?;
    }
    Ok(())
}

fn row(before: &ProgInfo, after: &ProgInfo, elapsed: Duration) -> Json {
    let time = after.run_time_ns.saturating_sub(before.run_time_ns);
    json!({
        "id": after.id, "name": after.name, "type": after.prog_type.name(),
        "run_cnt": after.run_cnt.saturating_sub(before.run_cnt), "run_time_ns": time,
        "recursion_misses": after.recursion_misses.saturating_sub(before.recursion_misses),
        "cpu_percent": time as f64 / elapsed.as_nanos().max(1) as f64 * 100.0,
    })
}

/// Waits for the end of a time, if there is one, or an interrupt.
pub(super) fn wait(interrupts: &Interrupts, time: Option<Duration>) -> Result<(), CliError> {
    let system = |e: std::io::Error| CliError::environment(io_text(&e));
    let epoll = Epoll::new().map_err(system)?;
    epoll.add(interrupts.descriptor(), 0).map_err(system)?;
    epoll.wait(time).map_err(system).map(drop)
}

/// Prints lines of `bpf_trace_printk`, of all programs, until interrupted.
pub(super) fn tracelog(duration: Option<Duration>, out: &mut Output) -> Result<(), CliError> {
    const INTERRUPTED: u64 = 0;
    let system = |e: std::io::Error| CliError::environment(io_text(&e));
    let kernel = noun::kernel();
    let mut reader = kernel.trace_open().map_err(CliError::environment)?;
    let interrupts = Interrupts::open().map_err(system)?;
    let epoll = Epoll::new().map_err(system)?;
    epoll
        .add(interrupts.descriptor(), INTERRUPTED)
        .map_err(system)?;
    if let Some(fd) = reader.descriptor() {
        epoll.add(fd, 1).map_err(system)?;
    }
    let deadline = duration.map(|d| Instant::now() + d);
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(());
        }
        let ready = epoll.wait(left).map_err(system)?;
        let mut lines = Vec::new();
        reader
            .drain(&mut |event| {
                if let Event::Trace(line) = event {
                    lines.push(line.to_owned());
                }
            })
            .map_err(CliError::environment)?;
        for line in lines {
            if out.is_json() {
                out.json(&json!({"line": line}))?;
            } else {
                out.line(line)?;
            }
        }
        out.flush()?;
        if ready.contains(&INTERRUPTED) {
            return Ok(());
        }
    }
}
