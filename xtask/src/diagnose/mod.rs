//! `cargo xtask diagnose [DIR]`: what our messages are worth, measured on the rejected programs of a corpus directory.
//!
//! `--skip N` leaves the first N programs out, for another trial; `--repaired DIR` says where correct sources and their outputs are, if it
//! is not `tests/repair`.
//!
//! `--trial OUT` writes what a person who repairs gets to see (`--trial-kernel OUT` with the running kernel's log instead of our message), `--judge DIR` says which repaired sources are right, and
//! `--record` makes the expected outputs anew from the correct sources in `tests/repair/`, `--cost` measures how long explaining takes.

mod cost;
mod faults;
mod judge;
mod outcome;
pub(crate) mod trial;

use crate::TaskError;
use std::path::PathBuf;
use trial::Messages;

const USAGE: &str = "usage: diagnose [DIR] [--skip N] [--repaired DIR] [--trial OUT | --trial-kernel OUT | --judge DIR | --record | --cost]";

/// The programs of a trial.
struct Set {
    /// So many of the order come before it.
    skip: usize,
    /// Where the correct sources and their outputs are.
    repaired: PathBuf,
}

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
    let mut set = Set {
        skip: 0,
        repaired: crate::workspace_root().join("tests/repair"),
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut path = || {
            let value = rest.next().ok_or(USAGE)?;
            std::path::absolute(value).map_err(|e| format!("{value}: {e}"))
        };
        match argument.as_str() {
            "--repaired" => set.repaired = path()?,
            "--skip" => {
                let count = rest.next().and_then(|n| n.parse().ok());
                set.skip = count.ok_or(USAGE)?;
            }
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
        Job::Trial(out, messages) => trial::write(&dir, &set, &out, messages),
        Job::Judge(repaired) => judge::judge(&dir, &set, &repaired),
        Job::Record => judge::record(&dir, &set),
        Job::Cost => cost::measure(&dir),
    }
}
