//! The repair trial: who repairs sees the program and our message, nothing else.

use super::{Set, faults};
use crate::TaskError;
use sha2::{Digest, Sha256};
use skep::load::{LoadError, LoadOptions, load};
use skep_bpf::Backend;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Programs of the trial.
const COUNT: usize = 40;

/// The programs of the trial: rejected base programs in the order of [`rejected`].
pub(super) fn names(dir: &Path, set: &Set) -> Result<Vec<String>, TaskError> {
    let names = rejected(dir)?;
    Ok(names.into_iter().skip(set.skip).take(COUNT).collect())
}

/// The rejected base programs by the sha256 of their names.
pub(crate) fn rejected(dir: &Path) -> Result<Vec<String>, TaskError> {
    let src = dir.join("src");
    let entries = fs::read_dir(&src).map_err(|e| format!("{}: {e}", src.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|e| {
            e.file_name()
                .to_string_lossy()
                .strip_suffix(".c")
                .map(str::to_owned)
        })
        .filter(|n| n.contains("__bad_"))
        .collect();
    names.sort_by_key(|n| Sha256::digest(n.as_bytes()));
    Ok(names)
}

/// The source without its comments, line for line.
fn without_comments(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("/*") {
        let Some(len) = rest[start..].find("*/") else {
            break;
        };
        out.push_str(&rest[..start]);
        out.extend(rest[start..start + len].chars().filter(|c| *c == '\n'));
        rest = &rest[start + len + 2..];
    }
    out.push_str(rest);
    out
}

/// Whose message is given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Messages {
    /// Ours alone.
    Ours,
    /// The log of the live kernel alone, for comparison.
    Kernel,
}

/// Writes source and message of every program of the trial, and the header that all include.
pub(super) fn write(
    dir: &Path,
    set: &Set,
    out: &Path,
    messages: Messages,
) -> Result<(), TaskError> {
    let objects = crate::corpus::objects_dir(dir)?.join("base");
    let place = |e: std::io::Error| format!("{}: {e}", out.display());
    fs::create_dir_all(out).map_err(place)?;
    fs::copy(dir.join("src/corpus.h"), out.join("corpus.h")).map_err(place)?;
    let skep = faults::skep()?;
    for name in names(dir, set)? {
        let source = fs::read_to_string(dir.join(format!("src/{name}.c"))).map_err(place)?;
        fs::write(out.join(format!("{name}.c")), without_comments(&source)).map_err(place)?;
        let object = objects.join(format!("{name}.o"));
        let message = match messages {
            Messages::Ours => faults::check(&skep, &object, &[])?,
            Messages::Kernel => kernel(&object)?.into_bytes(),
        };
        fs::write(out.join(format!("{name}.txt")), message).map_err(place)?;
    }
    println!("sources and messages are in {}", out.display());
    Ok(())
}

/// What the live kernel says.
pub(crate) fn kernel(object: &Path) -> Result<String, TaskError> {
    let kernel_btf = Arc::new(skep::target::running_btf().map_err(|e| e.to_string())?);
    let linked = crate::corpus::run::link(object, &kernel_btf)?;
    let backend: Arc<dyn Backend> = Arc::new(skep::Kernel::new());
    match load(&linked, &backend, &LoadOptions::default()) {
        Err(LoadError::Program { error, .. }) => Ok(error.log),
        Err(other) => Ok(other.to_string()),
        Ok(_) => Err(format!("{}: the kernel accepts it", object.display())),
    }
}
