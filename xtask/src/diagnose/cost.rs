//! What an explanation costs: time beyond the verdict, for every program of the corpus that is rejected.

use crate::TaskError;
use serde_json::json;
use skep::check::{CheckOptions, Checker, Verdict};
use skep_verifier::Caps;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Measurements of a program, of which the least counts.
const ROUNDS: usize = 3;
/// Most time an explanation may take.
const LIMIT: Duration = Duration::from_millis(50);
/// Programs named.
const NAMED: usize = 10;

/// The object files of the corpus.
fn objects(dir: &Path) -> Result<Vec<PathBuf>, TaskError> {
    let root = crate::corpus::objects_dir(dir)?;
    let mut found = Vec::new();
    for folder in ["base", "mutants"] {
        let folder = root.join(folder);
        let entries =
            std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        found.extend(entries.flatten().map(|e| e.path()));
    }
    found.sort();
    Ok(found)
}

/// Measures the explanation of every rejected program.
pub(super) fn measure(dir: &Path) -> Result<(), TaskError> {
    let options = CheckOptions::default();
    let mut costs: Vec<(Duration, String)> = Vec::new();
    for path in objects(dir)? {
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let Ok(checker) = Checker::open(&bytes, &options) else {
            continue; // a loader would not even ask
        };
        for program in checker.programs() {
            let report = checker.check(program, Caps::All);
            let Some(Verdict::Reject(rejection)) = report.map(|r| r.verdict) else {
                continue;
            };
            let cost = (0..ROUNDS)
                .map(|_| {
                    let started = Instant::now();
                    let explained = checker.diagnose(program, Caps::All, &rejection);
                    std::hint::black_box(explained);
                    started.elapsed()
                })
                .min();
            let object = path.file_stem().unwrap_or_default().to_string_lossy();
            costs.extend(cost.map(|c| (c, format!("{object} {program} {}", rejection.code))));
        }
    }
    costs.sort();
    for (cost, name) in costs.iter().rev().take(NAMED) {
        println!("{:>8} us  {name}", cost.as_micros());
    }
    let at = |i: usize| costs.get(i).map_or(0, |c| c.0.as_micros());
    let (median, most) = (at(costs.len() / 2), at(costs.len().saturating_sub(1)));
    println!(
        "{}",
        json!({"explained": costs.len(), "median_us": median, "max_us": most, "limit_us": LIMIT.as_micros()})
    );
    if costs.last().is_some_and(|c| c.0 > LIMIT) {
        return Err("an explanation takes longer than allowed".to_owned());
    }
    Ok(())
}
