//! Building the C examples.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders with C sources and their objects, in the workspace.
pub const FOLDERS: &[&str] = &[
    "examples",
    "tests/objects",
    "tests/objects/linked",
    "tests/diagnose/cases",
    WITH_DEBUG,
];

/// The folder whose objects keep their debug information.
const WITH_DEBUG: &str = "tests/diagnose/debug";

/// Runs a tool and fails with its name.
fn tool(name: &str, arguments: &[&str], folder: &Path) -> Result<(), String> {
    let status = Command::new(name)
        .args(arguments)
        .current_dir(folder)
        .status()
        .map_err(|e| format!("cannot run {name}: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{name} failed"))
    }
}

/// Builds one source of `folder` into `object` with clang-19; the same source gives the same bytes wherever it lies.
///
/// # Errors
/// If a tool is missing or fails.
pub fn build(folder: &Path, source: &str, object: &str) -> Result<(), String> {
    let prefix = format!("-ffile-prefix-map={}/=", folder.display());
    let compile = [
        "-O2",
        "-g",
        "-Wall",
        "-target",
        "bpf",
        "-mcpu=v3",
        "-idirafter",
        "/usr/include/x86_64-linux-gnu",
        "-fdebug-compilation-dir=.",
        &prefix,
        "-c",
        source,
        "-o",
        object,
    ];
    tool("clang-19", &compile, folder)?;
    if folder.ends_with(WITH_DEBUG) {
        return Ok(());
    }
    tool("llvm-strip-19", &["-g", object], folder)
}

/// The C sources of a folder, sorted.
///
/// # Errors
/// If it cannot be read.
pub fn sources(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.to_string_lossy().ends_with(".bpf.c"))
        .collect();
    found.sort();
    Ok(found)
}

/// Names of the objects in `folder` that are not what their sources compile to.
///
/// # Errors
/// If a tool is missing or fails.
pub fn stale(folder: &Path) -> Result<Vec<String>, String> {
    let mut stale = Vec::new();
    for source in sources(folder)? {
        let object = source.with_extension("o");
        let fresh = std::env::temp_dir().join(format!(
            "skep-{}-{}",
            std::process::id(),
            file_name(&object)
        ));
        let built = build(folder, &file_name(&source), &fresh.to_string_lossy());
        let same = std::fs::read(&fresh).ok() == std::fs::read(&object).ok();
        // Only a copy; nothing depends on its removal.
        let _ = std::fs::remove_file(&fresh);
        built?;
        if !same {
            stale.push(file_name(&object));
        }
    }
    Ok(stale)
}

/// The last part of a path.
#[must_use]
pub fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
