//! `skep perf`: programs on tracepoints and probes that processes hold open.

use crate::error::{CliError, Outcome};
use crate::output::Output;
use serde_json::{Value as Json, json};
use skep_sys::bpf_obj::{TaskProgram, task_query};

// Options of `skep perf`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
#[command(defer = true)]
enum Verb {
    /// List them
    #[command(visible_alias = "list")]
    Show,
}

/// `enum bpf_task_fd_type`, and how the rest is named: name, then offset or address.
const KINDS: &[(&str, &str)] = &[
    ("raw_tracepoint", "tracepoint"),
    ("tracepoint", "tracepoint"),
    ("kprobe", "func"),
    ("kretprobe", "func"),
    ("uprobe", "filename"),
    ("uretprobe", "filename"),
];

/// Runs the verb.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    let Verb::Show = args.verb;
    let mut rows = Vec::new();
    for (pid, fd) in events() {
        // The process may have ended meanwhile.
        if let Ok(Some(program)) = task_query(pid, fd) {
            rows.push(row(pid, fd, &program));
        }
    }
    if out.is_json() {
        out.json(&rows.into_iter().collect::<Json>())?;
    } else {
        for row in rows {
            out.line(text(&row))?;
        }
    }
    Ok(Outcome::Ok)
}

/// Descriptors of all processes that may have a program: events and raw tracepoints.
fn events() -> Vec<(u32, u32)> {
    let numbers = |folder: &str| -> Vec<u32> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
        let mut numbers: Vec<u32> = names.collect();
        numbers.sort_unstable();
        numbers
    };
    let mut found = Vec::new();
    for pid in numbers("/proc") {
        for fd in numbers(&format!("/proc/{pid}/fd")) {
            let target = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
            let target = target.to_string_lossy();
            if target.contains("perf_event")
                || target.contains("bpf-raw-tp")
                || target.contains("bpf_link")
            {
                found.push((pid, fd));
            }
        }
    }
    found
}

fn row(pid: u32, fd: u32, program: &TaskProgram) -> Json {
    let (kind, name) = KINDS
        .get(program.kind as usize)
        .copied()
        .unwrap_or(("unknown", "name"));
    let mut row = json!({"pid": pid, "fd": fd, "prog_id": program.prog_id, "fd_type": kind});
    if name == "func" && program.name.is_empty() {
        row["addr"] = json!(program.address);
    } else {
        row[name] = json!(program.name);
    }
    if name != "tracepoint" {
        row["offset"] = json!(program.offset);
    }
    row
}

fn text(row: &Json) -> String {
    let mut parts = Vec::new();
    for (key, value) in row.as_object().into_iter().flatten() {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        parts.push(match key.as_str() {
            "fd_type" => value,
            _ => format!("{key} {value}"),
        });
    }
    parts.join("  ")
}
