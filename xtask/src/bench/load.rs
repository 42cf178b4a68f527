//! `cargo xtask bench load`: how long `skep prog loadall` takes, from process start to exit, beside bpftool's.

use super::shipped;
use crate::TaskError;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Rounds, and samples of each tool in a round.
const ROUNDS: usize = 5;
const SAMPLES: usize = 12;
/// Objects, by example.
const OBJECTS: &[&str] = &["packets", "opens", "syscalls"];

/// Seconds of one load; the pins are removed outside of the measurement.
fn sample(program: &Path, object: &Path, pins: &Path) -> Result<f64, TaskError> {
    let mut command = Command::new(program);
    command.args(["prog", "loadall"]).arg(object).arg(pins);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let output = command
        .output()
        .map_err(|e| format!("cannot run {}: {e}", program.display()))?;
    let elapsed = started.elapsed().as_secs_f64();
    // Without pins there is nothing to remove.
    let _ = std::fs::remove_dir_all(pins);
    if output.status.success() {
        Ok(elapsed)
    } else {
        Err(format!(
            "{}: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr)
        ))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Per tool the minimum of interleaved samples, the median over rounds; bpftool against itself as well.
pub(crate) fn run(_: &[String]) -> Result<(), TaskError> {
    let ours = shipped::build()?;
    let theirs = PathBuf::from("bpftool");
    let pins = PathBuf::from(format!("/sys/fs/bpf/skep-bench-{}", std::process::id()));
    let (mut worst, mut ratios) = (0f64, Vec::new());
    for name in OBJECTS {
        let object = crate::workspace_root()
            .join("examples")
            .join(format!("{name}.bpf.o"));
        let (mut a, mut b, mut again) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mut best = [f64::MAX; 3];
            for _ in 0..SAMPLES {
                for (slot, program) in best.iter_mut().zip([&ours, &theirs, &theirs]) {
                    *slot = slot.min(sample(program, &object, &pins)?);
                }
            }
            a.push(best[0] * 1000.0);
            b.push(best[1] * 1000.0);
            again.push(best[2] / best[1]);
        }
        let (a, b, again) = (median(a), median(b), median(again));
        println!(
            "{name:10} skep {a:.2} ms, bpftool {b:.2} ms, ratio {:.2}, bpftool against itself {again:.2}",
            a / b
        );
        worst = worst.max(a / b);
        ratios.push(a / b);
    }
    let round = |x: f64| (x * 1000.0).round() / 1000.0;
    println!(
        "{}",
        json!({"bench": "load", "vs_bpftool": round(median(ratios)), "worst_vs_bpftool": round(worst)})
    );
    Ok(())
}
