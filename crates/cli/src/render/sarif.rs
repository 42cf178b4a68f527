//! SARIF 2.1.0, what code hosts show beside the source.

use serde_json::{Value as Json, json};
use skep::check::{Report, Verdict};
use skep::diagnose::Diagnosis;
use std::collections::BTreeSet;
use std::path::Path;

/// Code of objects that cannot be read.
const UNREADABLE: &str = "E0000";

/// A report under construction.
#[derive(Default)]
pub(crate) struct Sarif {
    results: Vec<Json>,
    rules: BTreeSet<String>,
}

impl Sarif {
    /// Adds a program's verdict; accepted programs have nothing to say.
    pub(crate) fn add(&mut self, path: &Path, report: &Report, diagnosis: Option<&Diagnosis>) {
        let (code, message) = match &report.verdict {
            Verdict::Accept(_) => return,
            Verdict::Reject(rejection) => {
                let headline = diagnosis.map_or(rejection.message.as_str(), |d| &d.headline);
                (rejection.code, headline)
            }
            Verdict::Error(message) | Verdict::Unknown(message) => (UNREADABLE, message.as_str()),
        };
        let (uri, region) = match diagnosis.and_then(|d| d.place.as_ref()?.source.as_ref()) {
            Some(source) => {
                let column = source.column.max(1);
                (
                    source.file.clone(),
                    json!({"startLine": source.line.max(1), "startColumn": column}),
                )
            }
            None => (path.display().to_string(), Json::Null),
        };
        let message = format!("{}: {message}", report.program);
        self.push(code, &message, &uri, region);
    }

    /// Adds an object that cannot be read.
    pub(crate) fn unreadable(&mut self, path: &Path, message: &str) {
        self.push(UNREADABLE, message, &path.display().to_string(), Json::Null);
    }

    fn push(&mut self, code: &str, message: &str, uri: &str, region: Json) {
        self.rules.insert(code.to_owned());
        let mut location = json!({"artifactLocation": {"uri": uri}});
        if !region.is_null() {
            location["region"] = region;
        }
        self.results.push(json!({
            "ruleId": code, "level": "error", "message": {"text": message},
            "locations": [{"physicalLocation": location}],
        }));
    }

    /// The whole report.
    pub(crate) fn finish(self) -> Json {
        let rules = self.rules.iter().map(|id| {
            let title =
                skep_verifier::find_code(id).map_or("the object cannot be read", |c| c.title);
            json!({"id": id, "shortDescription": {"text": title}})
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
