//! A rejection as rustc would print it.

use skep::check::Source;
use skep::diagnose::{Diagnosis, Place};
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

/// Code, fact, place with its source, what led to it, and help.
pub(crate) fn text(path: &Path, program: &str, diagnosis: &Diagnosis, color: bool) -> String {
    let paint = Paint { on: color };
    let head = paint.with("1;31", &format!("error[{}]", diagnosis.code));
    let mut text = format!("{head}: {}", paint.with("1", &diagnosis.headline));
    let fallback = path.display().to_string();
    match &diagnosis.place {
        Some(place) => {
            let of = format!(" in {program}");
            pointed(&mut text, &paint, place, &fallback, &of);
            excerpt(
                &mut text,
                &paint,
                place.source.as_ref(),
                diagnosis.label.as_deref(),
            );
        }
        None => {
            let arrow = paint.with("1;34", "-->");
            // Writing to a string cannot fail.
            let _ = write!(text, "\n  {arrow} {fallback}  {program}");
        }
    }
    for note in &diagnosis.notes {
        let _ = write!(text, "\n{}: {}", paint.with("1;32", "note"), note.text);
        if let Some(place) = &note.place {
            pointed(&mut text, &paint, place, &fallback, "");
            excerpt(&mut text, &paint, place.source.as_ref(), None);
        }
    }
    for help in &diagnosis.help {
        let _ = write!(text, "\n{}: {help}", paint.with("1;36", "help"));
    }
    text
}

/// The line with file, line, column and instruction.
fn pointed(text: &mut String, paint: &Paint, place: &Place, fallback: &str, of: &str) {
    let at = match &place.source {
        Some(source) if source.file.is_empty() => format!("{fallback}:{}", source.line),
        Some(source) if source.column == 0 => format!("{}:{}", source.file, source.line),
        Some(source) => format!("{}:{}:{}", source.file, source.line, source.column),
        None => fallback.to_owned(),
    };
    let arrow = paint.with("1;34", "-->");
    let _ = write!(
        text,
        "\n  {arrow} {at}  insn {}{of}:  {}",
        place.insn, place.text
    );
}

/// The source line, with the expression underlined.
fn excerpt(text: &mut String, paint: &Paint, source: Option<&Source>, label: Option<&str>) {
    let Some(source) = source.filter(|s| !s.text.is_empty()) else {
        return;
    };
    let number = source.line.to_string();
    let bar = paint.with("1;34", "|");
    let pad = " ".repeat(number.len());
    let line = source.text.replace('\t', " ");
    let _ = write!(
        text,
        "\n {pad} {bar}\n {} {bar} {line}",
        paint.with("1;34", &number)
    );
    let marks = source.span.as_ref().map(|span| {
        let before = source.text[..span.start].chars().count();
        let width = source.text[span.clone()].chars().count().max(1);
        format!("{}{}", " ".repeat(before), "^".repeat(width))
    });
    match (marks, label) {
        (Some(marks), label) => {
            let words = label.map_or_else(String::new, |l| format!(" {l}"));
            let _ = write!(
                text,
                "\n {pad} {bar} {}",
                paint.with("1;31", &format!("{marks}{words}"))
            );
        }
        (None, Some(label)) => {
            let _ = write!(text, "\n {pad} {bar} {}", paint.with("1;31", label));
        }
        (None, None) => {
            let _ = write!(text, "\n {pad} {bar}");
        }
    }
}
