//! Builds the bench programs with clang, outside the tree.

use crate::Failure;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The compiler that ANCHORS.md was measured with.
const CLANG: &str = "clang-19";

/// The three forms of the bench programs.
pub(crate) struct Built {
    /// BPF programs on a map.
    pub(crate) kernel: PathBuf,
    /// BPF programs on the memory in `r1`.
    pub(crate) raw: PathBuf,
    /// A shared library.
    pub(crate) native: PathBuf,
}

/// Builds all forms of `bench.c` in `source`.
pub(crate) fn all(source: &Path, out: &Path) -> Result<Built, Failure> {
    std::fs::create_dir_all(out).map_err(|e| format!("{}: {e}", out.display()))?;
    let file = source.join("bench.c");
    let bpf = [
        "-O2",
        "-target",
        "bpf",
        "-mcpu=v3",
        "-g",
        "-idirafter",
        "/usr/include/x86_64-linux-gnu",
        "-c",
    ];
    let built = Built {
        kernel: out.join("kernel.o"),
        raw: out.join("raw.o"),
        native: out.join("native.so"),
    };
    clang(&bpf, "-DTGT_KERN", &file, &built.kernel)?;
    clang(&bpf, "-DTGT_RAW", &file, &built.raw)?;
    clang(
        &["-O2", "-shared", "-fPIC"],
        "-DTGT_NATIVE",
        &file,
        &built.native,
    )?;
    Ok(built)
}

fn clang(options: &[&str], form: &str, source: &Path, out: &Path) -> Result<(), Failure> {
    let result = Command::new(CLANG)
        .args(options)
        .arg(form)
        .arg("-o")
        .arg(out)
        .arg(source)
        .output();
    let result = result.map_err(|e| format!("{CLANG}: {e}"))?;
    if result.status.success() {
        return Ok(());
    }
    Err(format!(
        "{CLANG} {form} {}:\n{}",
        source.display(),
        String::from_utf8_lossy(&result.stderr)
    ))
}
