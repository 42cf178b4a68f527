//! `cargo xtask examples [--check]`: builds the objects in `examples/` from their C sources.
//!
//! Needs clang-19, llvm-strip-19 and the headers of libbpf. The objects are committed, so that users need none of these;
//! `--check` tells whether they are stale.

use crate::TaskError;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a tool and fails with its name.
fn tool(name: &str, arguments: &[&str], folder: &Path) -> Result<(), TaskError> {
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

/// Builds one source into `object`.
fn build(folder: &Path, source: &str, object: &str) -> Result<(), TaskError> {
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
    tool("llvm-strip-19", &["-g", object], folder)
}

/// The C sources, sorted.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, TaskError> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.to_string_lossy().ends_with(".bpf.c"))
        .collect();
    found.sort();
    Ok(found)
}

/// Builds or checks all examples.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err("usage: examples [--check]".to_owned()),
    };
    let folder = crate::workspace_root().join("examples");
    let mut stale = Vec::new();
    for source in sources(&folder)? {
        let object = source.with_extension("o");
        let name = |path: &Path| {
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        if !check {
            build(&folder, &name(&source), &name(&object))?;
            continue;
        }
        let fresh =
            std::env::temp_dir().join(format!("skep-{}-{}", std::process::id(), name(&object)));
        let built = build(&folder, &name(&source), &fresh.to_string_lossy());
        let same = std::fs::read(&fresh).ok() == std::fs::read(&object).ok();
        // Only a copy; nothing depends on its removal.
        let _ = std::fs::remove_file(&fresh);
        built?;
        if !same {
            stale.push(name(&object));
        }
    }
    if stale.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "stale: {}; run cargo xtask examples",
            stale.join(", ")
        ))
    }
}
