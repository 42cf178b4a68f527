//! `cargo xtask bench size`: the binary as it is shipped - static, at a fixed address, stripped, linked with optimisation over all crates:
//! how large it is, and how long it takes from process start to exit when it has nothing to do.

use crate::TaskError;
use crate::guest::{STATIC, TRIPLE};
use serde_json::json;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Starts that are measured.
const SAMPLES: usize = 200;

/// Builds the binary as it is shipped, and tells where it is.
pub(super) fn build() -> Result<PathBuf, TaskError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--target", TRIPLE])
        .args(["--package", "skep-cli", "--bin", "skep"])
        .args(["--config", "profile.release.strip=true"])
        .env("RUSTFLAGS", STATIC)
        .current_dir(crate::workspace_root())
        .status()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    if !status.success() {
        return Err("skep does not build".to_owned());
    }
    Ok(crate::target_dir().join(TRIPLE).join("release/skep"))
}

/// Runs the bench: bytes, and the shortest and the median start.
pub(super) fn run(_: &[String]) -> Result<(), TaskError> {
    let program = build()?;
    let io = |e: std::io::Error| format!("{}: {e}", program.display());
    let bytes = std::fs::metadata(&program).map_err(io)?.len();
    let mut starts: Vec<Duration> = Vec::new();
    for _ in 0..SAMPLES {
        let mut command = Command::new(&program);
        command.arg("--version").stdout(Stdio::null());
        let started = Instant::now();
        let status = command.status().map_err(io)?;
        starts.push(started.elapsed());
        if !status.success() {
            return Err(format!("{} --version fails", program.display()));
        }
    }
    starts.sort_unstable();
    let ms = |at: usize| starts.get(at).map_or(f64::NAN, |d| d.as_secs_f64() * 1e3);
    let ms = |at: usize| (ms(at) * 1000.0).round() / 1000.0;
    println!(
        "{}",
        json!({"bench": "size", "bytes": bytes, "start_ms": ms(0), "start_ms_median": ms(SAMPLES / 2)})
    );
    Ok(())
}
