//! `cargo xtask corpus [DIR]`: checks every program of a corpus directory and compares with the kernel's verdicts.
//!
//! A corpus directory has `verdicts.jsonl` and the objects its rows name, as files or in `objects.tar.zst`. The default is
//! the dev corpus beside the checkout. A false accept is a security hole, a false reject a bug; complexity verdicts depend
//! on how the kernel explores and are reported on a line of their own.

pub(crate) mod checked;
mod compare;
mod report;
mod rows;
pub(crate) mod run;
mod runner;

pub(crate) use compare::shape;

use crate::TaskError;
use skep::check::CheckOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the dev corpus is, from the workspace.
pub(crate) const DEFAULT_DIR: &str = "../shared/corpus/dev";
/// Workers, unless told otherwise.
const JOBS: usize = 2;
/// What one program may take before it counts as hanging.
const LIMIT: Duration = Duration::from_secs(20);

/// What to check and how to print it.
struct Options {
    dir: PathBuf,
    jobs: usize,
    limit: Duration,
    /// Only rows whose object or program contains this.
    filter: Option<String>,
    /// Print each differing row.
    list: bool,
}

const USAGE: &str =
    "usage: corpus [DIR] [--filter SUBSTRING] [--jobs N] [--limit SECONDS] [--list]";

fn parse(arguments: &[String]) -> Result<Options, TaskError> {
    let mut options = Options {
        dir: crate::workspace_root().join(DEFAULT_DIR),
        jobs: JOBS,
        limit: LIMIT,
        filter: None,
        list: false,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || {
            rest.next()
                .ok_or_else(|| format!("{argument} needs a value; {USAGE}"))
        };
        let number = |text: &String| {
            text.parse::<u64>()
                .map_err(|_| format!("{text} is not a number"))
        };
        match argument.as_str() {
            "--filter" => options.filter = Some(value()?.clone()),
            "--jobs" => options.jobs = number(value()?)?.clamp(1, 256) as usize,
            "--limit" => options.limit = Duration::from_secs(number(value()?)?),
            "--list" => options.list = true,
            option if option.starts_with('-') => {
                return Err(format!("unknown option {option}; {USAGE}"));
            }
            dir => options.dir = PathBuf::from(dir),
        }
    }
    Ok(options)
}

/// The folder with the objects of a corpus, unpacked if need be.
pub(crate) fn objects_dir(dir: &Path) -> Result<PathBuf, TaskError> {
    rows::objects_dir(dir, &rows::read(dir, None)?)
}

/// A program that the kernel accepts, for benches.
pub(crate) struct Accepted {
    /// Path of the object.
    pub(crate) path: PathBuf,
    /// Name of the base program that it, or the object it is a mutant of, comes from.
    pub(crate) base: String,
    /// Name of the object as the corpus has it.
    pub(crate) object: String,
    /// Name of the program.
    pub(crate) program: String,
}

/// All programs of a corpus (by default the dev corpus) that the kernel accepts from a privileged loader.
pub(crate) fn accepted(dir: Option<&String>) -> Result<Vec<Accepted>, TaskError> {
    let dir = dir.map_or_else(|| crate::workspace_root().join(DEFAULT_DIR), PathBuf::from);
    let rows = rows::read(&dir, None)?;
    let objects = rows::objects_dir(&dir, &rows)?;
    let accepted = rows.into_iter().filter(|r| r.all.accept).map(|r| Accepted {
        path: objects.join(&r.object),
        base: r.base,
        object: r.object,
        program: r.program,
    });
    Ok(accepted.collect())
}

/// Runs the comparison; fails on false accepts, crashes and hangs.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let options = parse(arguments)?;
    let rows = rows::read(&options.dir, options.filter.as_deref())?;
    let objects = rows::objects_dir(&options.dir, &rows)?;
    let started = std::time::Instant::now();
    let check = CheckOptions::default();
    let answers = runner::check_all(&objects, &rows, options.jobs, options.limit, &check);
    let comparisons = compare::compare(&rows, &answers);
    if options.list {
        report::list_differences(&comparisons);
    }
    report::print(&comparisons, started.elapsed())
}
