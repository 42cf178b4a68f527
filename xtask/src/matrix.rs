//! `cargo xtask matrix OBJECTS KERNEL.jsonl…`: `skep check --kernel KERNEL` against what that kernel said when it was booted.
//!
//! A file has a row for each program (`object`, `program`, `verdict`, `errno`, `log_last`), as the corpus's oracle prints it for a
//! privileged loader in that kernel; its name names the kernel. Rows in which the loader gave up before it asked the kernel (its log begins
//! with `libbpf:`), because of any part of the object, hold no verdict of the kernel: they are counted, and compared with nothing.

use crate::TaskError;
use serde_json::{Value, json};
use skep::check::{CheckOptions, Checker, Verdict};
use skep_verifier::Caps;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: matrix OBJECTS KERNEL.jsonl... [--list]";
/// Stack of the checking thread.
const STACK_BYTES: usize = 64 << 20;
/// Groups printed per kernel.
const GROUPS_MAX: usize = 40;
/// What must be reached, in percent.
const AGREEMENT_MIN: f64 = 98.0;
const UNKNOWN_MAX: f64 = 3.0;
/// Longest time for one object and kernel.
const OBJECT_MAX: Duration = Duration::from_secs(2);

/// An answer of ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Yes,
    No,
    Unknown,
}

/// How the last line of the log begins if the kernel was not asked.
const NOT_ASKED: &str = "libbpf:";

/// Counts of one kernel.
#[derive(Default)]
struct Tally {
    rows: usize,
    both_no: usize,
    both_yes: usize,
    only_we_refuse: usize,
    only_kernel_refuses: usize,
    unknown: usize,
    not_asked: usize,
    slowest: Duration,
    groups: BTreeMap<String, usize>,
}

impl Tally {
    fn add(&mut self, row: &Value, said: Said, why: &str, list: bool) {
        let kernel_no = row["verdict"] != "accept";
        let text = |field: &str| row[field].as_str().unwrap_or_default();
        if kernel_no && text("log_last").starts_with(NOT_ASKED) {
            self.not_asked += 1;
            return;
        }
        self.rows += 1;
        let group = match (said, kernel_no) {
            (Said::No, true) => {
                self.both_no += 1;
                return;
            }
            (Said::Yes, false) => {
                self.both_yes += 1;
                return;
            }
            (Said::Unknown, _) => {
                self.unknown += 1;
                format!("unknown: {why}")
            }
            (Said::No, false) => {
                self.only_we_refuse += 1;
                format!("only we refuse: {why}")
            }
            (Said::Yes, true) => {
                self.only_kernel_refuses += 1;
                let log = text("log_last");
                format!("only the kernel refuses: {log} (errno {})", row["errno"])
            }
        };
        if list {
            println!("{} {}: {group}", text("object"), text("program"));
        }
        *self.groups.entry(crate::corpus::shape(&group)).or_default() += 1;
    }

    fn report(&self, kernel: &str) -> Value {
        let percent = |part: usize, whole: usize| match whole {
            0 => 100.0,
            _ => (part as f64 * 10_000.0 / whole as f64).round() / 100.0,
        };
        let mut groups: Vec<(&String, &usize)> = self.groups.iter().collect();
        groups.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        for (group, count) in groups.iter().take(GROUPS_MAX) {
            println!("{kernel}: {count:5} {group}");
        }
        json!({
            "rows": self.rows,
            "not_asked": self.not_asked,
            "precision": percent(self.both_no, self.both_no + self.only_we_refuse),
            "recall": percent(self.both_no, self.both_no + self.only_kernel_refuses),
            "unknown": percent(self.unknown, self.rows),
            "agreement": percent(self.both_no + self.both_yes, self.rows - self.unknown),
            "slowest_object_ms": self.slowest.as_millis() as u64,
        })
    }
}

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let list = arguments.iter().any(|a| a == "--list");
    let plain: Vec<&String> = arguments.iter().filter(|a| !a.starts_with("--")).collect();
    let [objects, files @ ..] = plain.as_slice() else {
        return Err(USAGE.to_owned());
    };
    if files.is_empty() {
        return Err(USAGE.to_owned());
    }
    let mut report = serde_json::Map::new();
    let mut missed = Vec::new();
    for file in files {
        let file = PathBuf::from(file);
        let kernel = file.file_stem().unwrap_or_default().to_string_lossy();
        let tally = of_kernel(Path::new(objects), &file, &kernel, list)?;
        let figures = tally.report(&kernel);
        let figure = |name: &str| figures[name].as_f64().unwrap_or(0.0);
        let good = figure("precision") >= AGREEMENT_MIN
            && figure("recall") >= AGREEMENT_MIN
            && figure("unknown") < UNKNOWN_MAX
            && tally.slowest <= OBJECT_MAX;
        if !good {
            missed.push(kernel.clone().into_owned());
        }
        report.insert(kernel.into_owned(), figures);
    }
    println!("{}", json!({"matrix": report}));
    if missed.is_empty() {
        Ok(())
    } else {
        Err(format!("the goal is missed for {}", missed.join(", ")))
    }
}

fn of_kernel(objects: &Path, file: &Path, kernel: &str, list: bool) -> Result<Tally, TaskError> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut rows: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in text.lines() {
        let row: Value =
            serde_json::from_str(line).map_err(|e| format!("{}: {e}", file.display()))?;
        let object = row["object"].as_str().unwrap_or_default().to_owned();
        if row["verdict"] != "oracle-error" && row["program"] != "" {
            rows.entry(object).or_default().push(row);
        }
    }
    let profile = match kernel {
        "6.18" => None,
        name => Some(Arc::new(
            skep::target::find_profile(name).map_err(|e| e.to_string())?,
        )),
    };
    let options = CheckOptions {
        profile,
        ..CheckOptions::default()
    };
    let objects = objects.to_owned();
    std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let mut tally = Tally::default();
            for (object, rows) in &rows {
                check_object(&objects.join(object), rows, &options, list, &mut tally);
            }
            tally
        })
        .map_err(|e| e.to_string())?
        .join()
        .map_err(|_| "the checking thread panicked".to_owned())
}

fn check_object(
    path: &Path,
    rows: &[Value],
    options: &CheckOptions,
    list: bool,
    tally: &mut Tally,
) {
    let name = path.file_name().unwrap_or_default();
    let options = CheckOptions {
        name: name.to_string_lossy().into_owned(),
        ..options.clone()
    };
    let started = Instant::now();
    let opened = std::fs::read(path)
        .map_err(|e| e.to_string())
        .and_then(|bytes| Checker::open(&bytes, &options).map_err(|e| e.to_string()));
    let answers: Vec<(Said, String)> = rows
        .iter()
        .map(|row| match &opened {
            Ok(checker) => {
                let program = row["program"].as_str().unwrap_or_default();
                let check = || checker.check(program, Caps::All).map(|r| r.verdict);
                match catch_unwind(AssertUnwindSafe(check)) {
                    Ok(Some(verdict)) => said(verdict),
                    Ok(None) => (Said::No, "no such program".to_owned()),
                    Err(_) => (Said::Unknown, "panic".to_owned()),
                }
            }
            Err(error) => (Said::No, format!("unreadable: {error}")),
        })
        .collect();
    let elapsed = started.elapsed();
    if elapsed > OBJECT_MAX {
        println!("{}: {} ms", path.display(), elapsed.as_millis());
    }
    tally.slowest = tally.slowest.max(elapsed);
    for (row, (answer, why)) in rows.iter().zip(&answers) {
        tally.add(row, *answer, why, list);
    }
}

fn said(verdict: Verdict) -> (Said, String) {
    match verdict {
        Verdict::Accept(_) => (Said::Yes, String::new()),
        Verdict::Reject(r) => (Said::No, format!("{} {}", r.code, r.cause)),
        Verdict::Error(text) => (Said::No, text),
        Verdict::Unknown(text) => (Said::Unknown, text),
    }
}
