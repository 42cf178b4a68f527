//! The command `skep`.
//!
//! `cmd/<verb>.rs` holds a verb: its `Args` and a `run` that reads them and prints through [`output::Output`].
//! `render/` turns facts into text. Exit codes: 0 yes, 1 the answer is no, 2 usage, 3 environment.

mod cmd;
mod error;
mod output;
mod render;

use clap::Parser;
use std::process::ExitCode;

/// eBPF without the kernel, and with it.
#[derive(Parser)]
#[command(
    name = "skep",
    version,
    disable_help_subcommand = true,
    infer_subcommands = true
)]
struct Cli {
    #[command(flatten)]
    output: output::OutputArgs,
    #[command(subcommand)]
    command: cmd::Command,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let usage = error.use_stderr();
            // A closed pipe is the only way this fails, and nobody is left to be told.
            let _ = error.print();
            return ExitCode::from(if usage { error::USAGE } else { 0 });
        }
    };
    let mut out = output::Output::new(&cli.output);
    let result = cli.command.run(&mut out).and_then(|outcome| {
        out.flush()?;
        Ok(outcome)
    });
    match result {
        Ok(outcome) => ExitCode::from(outcome.code()),
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("skep: {error}");
            ExitCode::from(error.code())
        }
    }
}
