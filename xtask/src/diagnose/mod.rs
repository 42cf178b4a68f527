//! `cargo xtask diagnose [DIR]`: what our messages are worth, measured on the rejected programs of a corpus directory.
//!
//! `--trial OUT` writes what a person who repairs gets to see (`--trial-kernel OUT` with the running kernel's log instead of our message), `--judge DIR` says which repaired sources are right, and
//! `--record` makes the expected outputs anew from the correct sources in `tests/repair/`, `--cost` measures how long explaining takes.

mod cost;
mod faults;
mod judge;
mod outcome;
mod trial;

use crate::TaskError;
use std::path::PathBuf;
use trial::Messages;

const USAGE: &str =
    "usage: diagnose [DIR] [--trial OUT | --trial-kernel OUT | --judge DIR | --record | --cost]";

/// Which of its jobs the task does.
enum Job {
    Measure,
    Trial(PathBuf, Messages),
    Judge(PathBuf),
    Record,
    Cost,
}

/// Does one of the jobs.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let mut dir = crate::workspace_root().join(crate::corpus::DEFAULT_DIR);
    let mut job = Job::Measure;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut path = || {
            let value = rest.next().ok_or(USAGE)?;
            std::path::absolute(value).map_err(|e| format!("{value}: {e}"))
        };
        match argument.as_str() {
            "--trial" => job = Job::Trial(path()?, Messages::Ours),
            "--trial-kernel" => job = Job::Trial(path()?, Messages::Kernel),
            "--judge" => job = Job::Judge(path()?),
            "--record" => job = Job::Record,
            "--cost" => job = Job::Cost,
            option if option.starts_with('-') => return Err(USAGE.to_owned()),
            other => dir = PathBuf::from(other),
        }
    }
    match job {
        Job::Measure => faults::measure(&dir),
        Job::Trial(out, messages) => trial::write(&dir, &out, messages),
        Job::Judge(repaired) => judge::judge(&dir, &repaired),
        Job::Record => judge::record(&dir),
        Job::Cost => cost::measure(&dir),
    }
}
