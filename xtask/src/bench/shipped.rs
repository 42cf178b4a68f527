//! `cargo xtask bench size`: the binary as it is shipped - static, at a fixed address, stripped, linked with optimisation over all crates:
//! how large it is, how long it takes from process start to exit when it has nothing to do, and how long `skep feature` takes.

use crate::TaskError;
use crate::guest::{STATIC, TRIPLE};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Starts that are measured, and short probes of the kernel.
const SAMPLES: usize = 200;
const PROBES: usize = 20;

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

/// How long a command takes: the shortest and the median, in milliseconds.
fn times(program: &Path, argument: &str, samples: usize) -> Result<(f64, f64), TaskError> {
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..samples {
        let mut command = Command::new(program);
        command.arg(argument).stdout(Stdio::null());
        let started = Instant::now();
        let status = command
            .status()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        times.push(started.elapsed());
        if !status.success() {
            return Err(format!("{} {argument} fails", program.display()));
        }
    }
    times.sort_unstable();
    let ms = |at: usize| times.get(at).map_or(f64::NAN, |d| d.as_secs_f64() * 1e3);
    let ms = |at: usize| (ms(at) * 1000.0).round() / 1000.0;
    Ok((ms(0), ms(samples / 2)))
}

/// Runs the bench: bytes, and the shortest and the median start and probe.
pub(super) fn run(_: &[String]) -> Result<(), TaskError> {
    let program = build()?;
    let metadata = std::fs::metadata(&program);
    let bytes = metadata
        .map_err(|e| format!("{}: {e}", program.display()))?
        .len();
    let (start, start_median) = times(&program, "--version", SAMPLES)?;
    let (feature, feature_median) = times(&program, "feature", PROBES)?;
    println!(
        "{}",
        json!({
            "bench": "size", "bytes": bytes, "start_ms": start, "start_ms_median": start_median,
            "feature_ms": feature, "feature_ms_median": feature_median,
        })
    );
    Ok(())
}
