//! `cargo xtask hammer [SECONDS]`: eight threads in three processes on one map of each kind, a fourth killed again and again.

use crate::TaskError;
use skep_tests::hammer;
use std::time::Duration;

/// How long it goes on unless told otherwise.
const SECONDS: u64 = 30;
/// The argument that makes this process one of the hammer's.
const WORKER: &str = "--process";

pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    if let Some((WORKER, rest)) = arguments.split_first().map(|(a, b)| (a.as_str(), b)) {
        return hammer::worker(rest);
    }
    let seconds = match arguments.first() {
        Some(n) => n.parse().map_err(|e| format!("{n}: {e}"))?,
        None => SECONDS,
    };
    let this = std::env::current_exe().map_err(|e| e.to_string())?;
    let command = [&this.to_string_lossy(), "hammer", WORKER].map(str::to_owned);
    let report = hammer::hammer(&command, Duration::from_secs(seconds))?;
    for breach in &report.breaches {
        println!("{breach}");
    }
    println!(
        "{{\"task\":\"hammer\",\"seconds\":{seconds},\"runs\":{},\"killed\":{},\"records\":{},\"breaches\":{}}}",
        report.operations,
        report.killed,
        report.records,
        report.breaches.len()
    );
    if report.breaches.is_empty() {
        Ok(())
    } else {
        Err(format!("{} promises broken", report.breaches.len()))
    }
}
