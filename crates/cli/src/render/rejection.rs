//! A rejection as rustc would print it.

use skep::check::Report;
use skep_verifier::Rejection;
use std::fmt::Write;
use std::path::Path;

/// Terminal colours, or nothing.
struct Paint {
    on: bool,
}

impl Paint {
    fn with(&self, code: &str, text: &str) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Code, message, place, source line and instruction.
pub(crate) fn text(path: &Path, report: &Report, rejection: &Rejection, color: bool) -> String {
    let paint = Paint { on: color };
    let head = paint.with("1;31", &format!("error[{}]", rejection.code));
    let mut text = format!("{head}: {}", paint.with("1", &rejection.message));
    let arrow = paint.with("1;34", "-->");
    let place = match &report.source {
        Some(source) => {
            let file = if source.file.is_empty() {
                path.display().to_string()
            } else {
                source.file.clone()
            };
            match source.column {
                0 => format!("{file}:{}", source.line),
                column => format!("{file}:{}:{column}", source.line),
            }
        }
        None => path.display().to_string(),
    };
    let insn = rejection
        .insn
        .map_or_else(String::new, |at| format!("insn {at} in "));
    let code = report
        .insn_text
        .as_ref()
        .map_or_else(String::new, |t| format!(":  {t}"));
    // Writing to a string cannot fail.
    let _ = write!(text, "\n  {arrow} {place}  {insn}{}{code}", report.program);
    if let Some(source) = report.source.as_ref().filter(|s| !s.text.is_empty()) {
        let number = source.line.to_string();
        let bar = paint.with("1;34", "|");
        let pad = " ".repeat(number.len());
        let _ = write!(
            text,
            "\n {pad} {bar}\n {} {bar} {}",
            paint.with("1;34", &number),
            source.text
        );
        let _ = write!(text, "\n {pad} {bar}");
    }
    text
}

/// The last lines of a kernel's log that says the same: source, instruction, message, count.
pub(crate) fn kernel_log(report: &Report, rejection: &Rejection) -> String {
    let mut text = String::new();
    if let Some(source) = &report.source {
        let file = source.file.rsplit('/').next().unwrap_or_default();
        let _ = writeln!(text, "; {} @ {file}:{}", source.text, source.line);
    }
    if let (Some(at), Some(insn)) = (rejection.insn, &report.insn_text) {
        let _ = writeln!(text, "{at}: {insn}");
    }
    let _ = write!(
        text,
        "{}\nprocessed {} insns (limit 1000000)",
        rejection.message, rejection.insns_processed
    );
    text
}
