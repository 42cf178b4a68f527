//! `cargo xtask log-compare [DIR] [--show NAME]`: `skep check --log kernel` against the log of the running kernel, line by
//! line, for the rejected base programs of a corpus (root).
//!
//! Addresses and BTF ids differ from boot to boot and are left out. Counted are all lines, the instructions alone, what
//! stands behind them, the lines that say why (all of them equal, by program), and the statistics.

use crate::TaskError;
use crate::diagnose::trial;
use serde_json::json;
use skep::check::{CheckOptions, Checker, Verdict};
use skep_verifier::{Caps, LogLevel};
use std::path::{Path, PathBuf};

/// Longer logs are compared by their ends.
const MAX_LINES: usize = 1500;

/// Equal ones, and how many there are.
#[derive(Default)]
struct Share {
    equal: usize,
    all: usize,
}

impl Share {
    fn add(&mut self, equal: usize, all: usize) {
        self.equal += equal;
        self.all += all;
    }

    fn percent(&self) -> f64 {
        (self.equal as f64 * 1000.0 / self.all.max(1) as f64).round() / 10.0
    }
}

/// What kind of line one is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Insn,
    Source,
    Statistics,
    Other,
}

fn kind(line: &str) -> Kind {
    let number = line.split(':').next().unwrap_or_default();
    if line.starts_with("processed ") {
        Kind::Statistics
    } else if line.starts_with("; ") {
        Kind::Source
    } else if number.parse::<u32>().is_ok() {
        Kind::Insn
    } else {
        Kind::Other
    }
}

/// Leaves out what differs from boot to boot: the value of a wide load, and the number of a kfunc.
fn normal(line: &str) -> String {
    let mut line = line.trim_end().to_owned();
    if let Some(at) = line.find(": (18) ")
        && let Some(value) = line[at..].find(" = ").map(|v| at + v + 3)
    {
        let end = line[value..].find(' ').map_or(line.len(), |e| value + e);
        line.replace_range(value..end, "_");
    }
    if let Some(at) = line.find(": (85) ")
        && let Some(hash) = line[at..].find('#').map(|h| at + h + 1)
    {
        let digits = line[hash..].bytes().take_while(u8::is_ascii_digit).count();
        if digits > 3 {
            line.replace_range(hash..hash + digits, "_");
        }
    }
    // The width of what was left out decides how far the rest is indented.
    match line.split_once(" ; ") {
        Some((insn, state)) if kind(&line) == Kind::Insn => {
            format!("{} ; {state}", insn.trim_end())
        }
        _ => line,
    }
}

fn normal_lines(log: &str) -> Vec<String> {
    let lines: Vec<String> = log.lines().map(normal).filter(|l| !l.is_empty()).collect();
    let skipped = lines.len().saturating_sub(MAX_LINES);
    lines[skipped..].to_vec()
}

/// Length of the longest common subsequence.
fn common(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut corner = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y {
                corner + 1
            } else {
                above.max(row[j])
            };
            corner = above;
        }
    }
    row[b.len()]
}

/// The lines of some kind, shortened by `part`.
fn some(lines: &[String], wanted: Kind, part: fn(&str) -> &str) -> Vec<String> {
    let wanted = lines.iter().filter(|l| kind(l) == wanted);
    wanted.map(|l| part(l).trim_end().to_owned()).collect()
}

fn instruction(line: &str) -> &str {
    line.split(" ; ").next().unwrap_or_default()
}

/// The log as `skep check --log kernel` prints it.
fn ours(object: &Path) -> Result<Option<String>, TaskError> {
    let bytes = std::fs::read(object).map_err(|e| format!("{}: {e}", object.display()))?;
    let options = CheckOptions {
        name: object
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        ..CheckOptions::default()
    };
    let checker = Checker::open(&bytes, &options).map_err(|e| e.to_string())?;
    let names: Vec<String> = checker.programs().map(str::to_owned).collect();
    for name in names {
        let report = checker.check(&name, Caps::All);
        if let Some(Verdict::Reject(rejection)) = report.map(|r| r.verdict) {
            return Ok(Some(checker.kernel_log(
                &name,
                Caps::All,
                &rejection,
                LogLevel::Path,
            )));
        }
    }
    Ok(None)
}

/// Compares every rejected base program.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let mut dir = crate::workspace_root().join(crate::corpus::DEFAULT_DIR);
    let mut show = None;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--show" => show = Some(rest.next().ok_or("--show NAME")?.clone()),
            option if option.starts_with('-') => {
                return Err("usage: log-compare [DIR] [--show NAME]".to_owned());
            }
            other => dir = PathBuf::from(other),
        }
    }
    let objects = crate::corpus::objects_dir(&dir)?.join("base");
    let [
        mut lines,
        mut insns,
        mut states,
        mut reasons,
        mut statistics,
    ] = std::array::from_fn(|_| Share::default());
    for name in trial::rejected(&dir)? {
        if show.as_ref().is_some_and(|s| *s != name) {
            continue;
        }
        let object = objects.join(format!("{name}.o"));
        let Some(ours) = ours(&object)? else {
            println!("{name}: not rejected");
            continue;
        };
        let kernel = trial::kernel(&object)?;
        if show.is_some() {
            println!("--- skep\n{ours}\n--- kernel\n{kernel}");
        }
        let (ours, kernel) = (normal_lines(&ours), normal_lines(&kernel));
        lines.add(common(&ours, &kernel), kernel.len());
        let text = |l: &[String]| some(l, Kind::Insn, instruction);
        insns.add(common(&text(&ours), &text(&kernel)), text(&kernel).len());
        let whole = |l: &[String]| some(l, Kind::Insn, |l| l);
        states.add(common(&whole(&ours), &whole(&kernel)), whole(&kernel).len());
        let why = |l: &[String]| some(l, Kind::Other, |l| l);
        let equal = why(&ours).last() == why(&kernel).last();
        reasons.add(usize::from(equal), 1);
        if !equal {
            println!(
                "{name}: {:?} instead of {:?}",
                why(&ours).last(),
                why(&kernel).last()
            );
        }
        let last = |l: &[String]| some(l, Kind::Statistics, |l| l);
        statistics.add(usize::from(last(&ours) == last(&kernel)), 1);
    }
    println!(
        "{}",
        json!({
            "log_compare": reasons.all, "lines_percent": lines.percent(), "insns_percent": insns.percent(),
            "insns_with_state_percent": states.percent(), "reason_percent": reasons.percent(),
            "statistics_percent": statistics.percent(),
        })
    );
    Ok(())
}
