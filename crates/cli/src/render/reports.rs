//! Reports for other programs: GitHub annotations and the table of veristat.

use skep::check::{Report, Verdict};
use skep::diagnose::Diagnosis;
use std::path::Path;

/// Escapes what a GitHub workflow command keeps for itself; properties keep more than messages.
fn escaped(text: &str, property: bool) -> String {
    let text = text
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A");
    if property {
        text.replace(':', "%3A").replace(',', "%2C")
    } else {
        text
    }
}

/// A line that GitHub shows beside the source of a pull request.
///
/// Source: "Workflow commands for GitHub Actions", setting an error message.
pub(crate) fn annotation(path: &Path, program: &str, diagnosis: &Diagnosis) -> String {
    let source = diagnosis.place.as_ref().and_then(|p| p.source.as_ref());
    let file = source.filter(|s| !s.file.is_empty()).map_or_else(
        || path.display().to_string(),
        |s| s.file.trim_start_matches("./").to_owned(),
    );
    let mut place = format!("file={}", escaped(&file, true));
    if let Some(source) = source {
        place.push_str(&format!(",line={}", source.line));
        if source.column > 0 {
            place.push_str(&format!(",col={}", source.column));
        }
    }
    let mut message = format!("{program}: {}", diagnosis.headline);
    for help in &diagnosis.help {
        message.push_str("\nhelp: ");
        message.push_str(help);
    }
    let title = escaped(&format!("skep {}", diagnosis.code), true);
    format!(
        "::error {place},title={title}::{}",
        escaped(&message, false)
    )
}

/// The first line of a table as veristat writes and compares it (`veristat -o csv`, `veristat -C`).
pub(crate) const VERISTAT_HEAD: &str =
    "file_name,prog_name,verdict,duration,total_insns,total_states,peak_states";

/// A line of that table: microseconds, instructions processed, states.
pub(crate) fn veristat(path: &Path, report: &Report) -> Option<String> {
    let (verdict, processed, total, peak) = match &report.verdict {
        Verdict::Accept(stats) => (
            "success",
            stats.insns_processed,
            stats.total_states,
            stats.peak_states,
        ),
        Verdict::Reject(rejection) => ("failure", rejection.insns_processed, 0, 0),
        Verdict::Error(_) | Verdict::Unknown(_) => return None,
    };
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    Some(format!(
        "{file},{},{verdict},{},{processed},{total},{peak}",
        report.program,
        report.elapsed.as_micros()
    ))
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn commands_are_escaped() {
        assert_eq!(escaped("50%: a,b\nc", false), "50%25: a,b%0Ac");
        assert_eq!(escaped("a:b,c", true), "a%3Ab%2Cc");
    }
}
