//! Developer tasks: `cargo xtask TASK [ARGUMENTS]`.
//!
//! One file a task; to add one, add its file and a line to [`TASKS`]. A task takes the arguments after its name.

mod bench;
mod ci;

use std::process::ExitCode;

/// A task could not be done; the text says why.
type TaskError = String;
/// What a task does with its arguments.
type Task = fn(&[String]) -> Result<(), TaskError>;

/// Name, arguments and purpose of every task.
const TASKS: &[(&str, &str, Task)] = &[
    ("ci", "fmt, clippy, doc and tests as in CI", ci::run),
    (
        "bench",
        "NAME: measures against the kernel and the peers",
        bench::run,
    ),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let Some((_, _, task)) = TASKS.iter().find(|(n, _, _)| *n == name) else {
        eprintln!("usage: cargo xtask TASK");
        for (name, purpose, _) in TASKS {
            eprintln!("  {name:16} {purpose}");
        }
        return ExitCode::from(2);
    };
    match task(&rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error}");
            ExitCode::FAILURE
        }
    }
}
