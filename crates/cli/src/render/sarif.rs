//! SARIF 2.1.0, what code hosts show beside the source.

use serde_json::{Value as Json, json};
use skep::check::{Report, Source, Verdict};
use skep::diagnose::Diagnosis;
use std::collections::BTreeSet;
use std::path::Path;

/// Code of objects that cannot be read.
const UNREADABLE: &str = "E0000";

/// A place in the source, or the object itself.
fn location(path: &Path, source: Option<&Source>, message: Option<&str>) -> Json {
    let mut physical = match source.filter(|s| !s.file.is_empty()) {
        Some(source) => json!({"artifactLocation": {"uri": uri(&source.file)}}),
        None => json!({"artifactLocation": {"uri": uri(&path.display().to_string())}}),
    };
    if let Some(source) = source.filter(|s| s.line > 0) {
        let column = source.column.max(1);
        let mut region = json!({"startLine": source.line, "startColumn": column});
        if !source.text.is_empty() {
            region["snippet"] = json!({"text": source.text});
        }
        physical["region"] = region;
    }
    let mut location = json!({"physicalLocation": physical});
    if let Some(message) = message {
        location["message"] = json!({"text": message});
    }
    location
}

/// A path as a URI reference (RFC 3986): what may not stand in one is escaped.
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.trim_start_matches("./").bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/+@=,".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

/// A report under construction.
#[derive(Default)]
pub(crate) struct Sarif {
    results: Vec<Json>,
    rules: BTreeSet<String>,
}

impl Sarif {
    /// Adds a program's verdict; accepted programs have nothing to say.
    pub(crate) fn add(&mut self, path: &Path, report: &Report, diagnoses: &[Diagnosis]) {
        if let Verdict::Error(message) | Verdict::Unknown(message) = &report.verdict {
            let message = format!("{}: {message}", report.program);
            self.push(
                UNREADABLE,
                &message,
                &location(path, None, None),
                Vec::new(),
            );
        }
        for d in diagnoses {
            let message = format!("{}: {}", report.program, d.headline);
            let message = d
                .help
                .iter()
                .fold(message, |text, h| format!("{text}\nhelp: {h}"));
            let related = d.notes.iter().filter_map(|n| {
                let place = n.place.as_ref()?;
                Some(location(path, place.source.as_ref(), Some(&n.text)))
            });
            let source = d.place.as_ref().and_then(|p| p.source.as_ref());
            self.push(
                d.code,
                &message,
                &location(path, source, None),
                distinct(related),
            );
        }
    }

    /// Adds an object that cannot be read.
    pub(crate) fn unreadable(&mut self, path: &Path, message: &str) {
        self.push(UNREADABLE, message, &location(path, None, None), Vec::new());
    }

    fn push(&mut self, code: &str, message: &str, place: &Json, related: Vec<Json>) {
        self.rules.insert(code.to_owned());
        let mut result = json!({
            "ruleId": code, "level": "error", "message": {"text": message}, "locations": [place],
        });
        if !related.is_empty() {
            result["relatedLocations"] = Json::Array(related);
        }
        self.results.push(result);
    }

    /// The whole report.
    pub(crate) fn finish(self) -> Json {
        let rules = self.rules.iter().map(|id| {
            let title =
                skep_verifier::find_code(id).map_or("the object cannot be read", |c| c.title);
            let mut rule = json!({"id": id, "shortDescription": {"text": title}});
            if let Some(text) = crate::cmd::explain::text(id) {
                rule["help"] = json!({"text": text, "markdown": text});
            }
            rule
        });
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {
                    "name": "skep", "version": env!("CARGO_PKG_VERSION"), "rules": rules.collect::<Json>(),
                }},
                "results": self.results,
            }],
        })
    }
}

/// Each of them once: SARIF wants sets, and a note can be about the same place on several steps of a path.
fn distinct(places: impl Iterator<Item = Json>) -> Vec<Json> {
    let mut found = Vec::new();
    for place in places {
        if !found.contains(&place) {
            found.push(place);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn related_locations_are_a_set() {
        let (a, b) = (json!({"line": 1}), json!({"line": 2}));
        let places = [a.clone(), b.clone(), a.clone()];
        assert_eq!(distinct(places.into_iter()), [a, b]);
    }
}
