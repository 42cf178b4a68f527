//! `skep map event_pipe`: prints what programs put into a ring buffer or perf event array, until interrupted.

use super::one;
use crate::error::{CliError, io_text};
use crate::output::Output;
use crate::render::value;
use serde_json::{Value as Json, json};
use skep::wait::{Epoll, Interrupts};
use skep_bpf::{Backend, Event};
use std::time::{Duration, Instant};

/// What a wait can report.
const INTERRUPTED: u64 = 0;
const EVENTS: u64 = 1;

/// Prints events as they come, for `duration` or until interrupted.
pub(super) fn run(
    backend: &dyn Backend,
    words: &[String],
    duration: Option<Duration>,
    out: &mut Output,
) -> Result<(), CliError> {
    let system = |e: std::io::Error| CliError::environment(io_text(&e));
    let map = one(backend, words)?;
    let mut reader = backend
        .events_open(map.handle)
        .map_err(CliError::environment)?;
    let interrupts = Interrupts::open().map_err(system)?;
    let epoll = Epoll::new().map_err(system)?;
    epoll
        .add(interrupts.descriptor(), INTERRUPTED)
        .map_err(system)?;
    if let Some(fd) = reader.descriptor() {
        epoll.add(fd, EVENTS).map_err(system)?;
    }
    let deadline = duration.map(|d| Instant::now() + d);
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let ready = if left == Some(Duration::ZERO) {
            vec![INTERRUPTED]
        } else {
            epoll.wait(left).map_err(system)?
        };
        let mut rows = Vec::new();
        reader
            .drain(&mut |event| rows.push(row(event)))
            .map_err(CliError::environment)?;
        for row in rows {
            if out.is_json() {
                out.json(&row)?;
            } else {
                out.line(text(&row))?;
            }
        }
        out.flush()?;
        if ready.contains(&INTERRUPTED) {
            return Ok(());
        }
    }
}

/// One event, as bpftool names its parts.
fn row(event: Event<'_>) -> Json {
    match event {
        Event::Record(bytes) => json!({"type": "record", "data": value::hex_list(bytes)}),
        Event::Sample { cpu, data } => {
            json!({"type": "sample", "cpu": cpu, "data": value::hex_list(data)})
        }
        Event::Lost { cpu, count } => {
            json!({"type": "lost", "cpu": cpu, "lost": {"lost": count}})
        }
        Event::Trace(line) => json!({"type": "trace", "text": line}),
    }
}

fn text(row: &Json) -> String {
    let cpu = row
        .get("cpu")
        .map_or_else(String::new, |c| format!("cpu {c} "));
    match row.get("data").and_then(Json::as_array) {
        Some(bytes) => {
            let bytes: Vec<&str> = bytes.iter().filter_map(Json::as_str).collect();
            let bytes: Vec<&str> = bytes.iter().map(|b| b.trim_start_matches("0x")).collect();
            format!("{cpu}size {}: {}", bytes.len(), bytes.join(" "))
        }
        None => format!("{cpu}{row}"),
    }
}
