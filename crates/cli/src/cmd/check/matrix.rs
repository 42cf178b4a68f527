//! `skep check --kernel A,B,…`: which kernel takes which program, and why not.

use super::{Args, chosen, json, open, outcome_of, unreadable};
use crate::error::{CliError, Outcome};
use crate::output::Output;
use skep::check::{CheckOptions, Report, Verdict};
use std::path::Path;

/// Checks every object for every kernel.
pub(super) fn run(
    args: &Args,
    kernels: &[(String, CheckOptions)],
    out: &mut Output,
) -> Result<Outcome, CliError> {
    if args.sarif || args.github || args.veristat || args.log.is_some() {
        let text =
            "--sarif, --github, --veristat and --log speak of one kernel; name one with --kernel";
        return Err(CliError::usage(text));
    }
    let mut outcome = Outcome::Ok;
    for path in &args.objects {
        outcome = outcome.max(object(args, path, kernels, out)?);
    }
    Ok(outcome)
}

/// A kernel's answers about the programs of an object, or why there are none.
type Column = Result<Vec<Report>, String>;

fn object(
    args: &Args,
    path: &Path,
    kernels: &[(String, CheckOptions)],
    out: &mut Output,
) -> Result<Outcome, CliError> {
    let mut outcome = Outcome::Ok;
    let mut columns: Vec<(&str, Column)> = Vec::new();
    for (kernel, options) in kernels {
        let column = match open(path, options) {
            Ok(checker) => {
                let names = chosen(args, &checker);
                let reports = checker.check_all(&names, args.caps.caps());
                Ok(reports.into_iter().flatten().collect::<Vec<_>>())
            }
            Err(CliError::Environment(message)) => Err(message),
            Err(error) => return Err(error),
        };
        let of_kernel = match &column {
            Ok(reports) => reports.iter().map(|r| outcome_of(&r.verdict)).max(),
            Err(_) => Some(Outcome::Environment),
        };
        outcome = outcome.max(of_kernel.unwrap_or(Outcome::Ok));
        columns.push((kernel, column));
    }
    if out.is_json() {
        lines(args, path, &columns, out)?;
    } else {
        table(path, &columns, out)?;
    }
    Ok(outcome)
}

/// One JSON line for each program and kernel.
fn lines(
    args: &Args,
    path: &Path,
    columns: &[(&str, Column)],
    out: &mut Output,
) -> Result<(), CliError> {
    for (kernel, column) in columns {
        match column {
            Ok(reports) => {
                for report in reports {
                    out.json(&json(args, path, kernel, report, &[]))?;
                }
            }
            Err(message) => unreadable(args, path, kernel, message, out)?,
        }
    }
    Ok(())
}

/// The word for a verdict.
fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accept(_) => "yes",
        Verdict::Reject(_) => "no",
        Verdict::Error(_) => "error",
        Verdict::Unknown(_) => "unknown",
    }
}

/// Why it is not a yes.
fn reason(report: &Report) -> Option<String> {
    match &report.verdict {
        Verdict::Accept(_) => None,
        Verdict::Reject(rejection) => {
            let place = report
                .source
                .as_ref()
                .map_or(String::new(), |s| format!(" ({}:{})", s.file, s.line));
            Some(format!("{}: {}{place}", rejection.code, rejection.cause))
        }
        Verdict::Error(message) | Verdict::Unknown(message) => Some(message.clone()),
    }
}

fn table(path: &Path, columns: &[(&str, Column)], out: &mut Output) -> Result<(), CliError> {
    let programs: Vec<&str> = columns
        .iter()
        .find_map(|(_, c)| c.as_ref().ok())
        .into_iter()
        .flatten()
        .map(|r| r.program.as_str())
        .collect();
    let heads: Vec<String> = columns.iter().map(|(k, _)| format!("{k:>8}")).collect();
    out.line(format_args!("{:40} {}", path.display(), heads.join(" ")))?;
    for program in programs {
        let of = |column: &Column| -> (&'static str, Option<String>) {
            match column {
                Err(_) => ("error", None),
                Ok(reports) => match reports.iter().find(|r| r.program == program) {
                    Some(report) => (word(&report.verdict), reason(report)),
                    None => ("error", None),
                },
            }
        };
        let cells: Vec<_> = columns.iter().map(|(k, c)| (k, of(c))).collect();
        let words: Vec<String> = cells.iter().map(|(_, (w, _))| format!("{w:>8}")).collect();
        out.line(format_args!("  {program:38} {}", words.join(" ")))?;
        for (kernel, (_, reason)) in &cells {
            if let Some(reason) = reason {
                out.line(format_args!("      {kernel}: {reason}"))?;
            }
        }
    }
    for (kernel, column) in columns {
        if let Err(message) = column {
            out.line(format_args!("      {kernel}: {message}"))?;
        }
    }
    Ok(())
}
