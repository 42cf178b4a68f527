//! `cargo xtask bench jit|interp [BENCH_DIR] [OPTIONS]`: our engines beside the kernel's, native code and other engines.
//!
//! The programs and engines are in `peers/`, a package outside the workspace, so that nobody who builds skep builds its peers.

use crate::TaskError;
use std::process::Command;

/// Where the bench programs are, beside the checkout.
const BENCH_DIR: &str = "../shared/bench";

/// Compiled code.
pub(super) fn jit(arguments: &[String]) -> Result<(), TaskError> {
    run("jit", arguments)
}

/// Interpreters.
pub(super) fn interp(arguments: &[String]) -> Result<(), TaskError> {
    run("interp", arguments)
}

fn run(bench: &str, arguments: &[String]) -> Result<(), TaskError> {
    let root = crate::workspace_root();
    let (source, options) = match arguments.split_first() {
        Some((dir, rest)) if !dir.starts_with('-') => (std::path::PathBuf::from(dir), rest),
        _ => (root.join(BENCH_DIR), arguments),
    };
    let target = crate::target_dir().join("peers");
    let status = Command::new(env!("CARGO"))
        .args(["run", "--release", "--quiet", "--manifest-path"])
        .arg(root.join("peers/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .args(["--", bench])
        .arg(source)
        .arg(target.join("bench"))
        .args(options)
        .status()
        .map_err(|e| format!("cargo: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err("the bench failed".to_owned())
    }
}
