//! What can be checked about the text of the sources.

use skep_tests::{source_files, workspace_root};
use std::fs;

/// Lines of a file before its tests.
const LINES_MAX: usize = 1000;
/// Words that mark unfinished work, split so that this file does not contain them.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
];
/// Places of somebody's machine.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];
/// Crates whose public types all have an example in their documentation, which `cargo test --doc` runs.
const WITH_EXAMPLES: &[&str] = &[
    "bpf", "btf", "cbpf", "gen", "isa", "net", "object", "profile", "skep", "user", "verifier",
];
/// How the definition of a public type begins.
const TYPES: &[&str] = &["pub struct ", "pub enum ", "pub trait ", "pub union "];

/// The names of the public types in a file that no example shows; tests at its end are left out.
fn without_example(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text
        .lines()
        .take_while(|l| l.trim() != "#[cfg(test)]")
        .collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(rest) = TYPES.iter().find_map(|t| line.strip_prefix(t)) else {
            continue;
        };
        // Documentation and attributes: what stands above without a gap.
        let mut above = lines[..at].iter().rev().take_while(|l| !l.is_empty());
        if !above.any(|l| l.starts_with("/// ```")) {
            let is_name = |c: char| c.is_alphanumeric() || c == '_';
            found.extend(rest.split(|c| !is_name(c)).next().map(str::to_owned));
        }
    }
    found
}

#[test]
fn public_types_have_examples() {
    let mut wrong = Vec::new();
    for name in WITH_EXAMPLES {
        let folder = workspace_root().join("crates").join(name).join("src");
        let files = source_files(&folder, &["rs"]);
        assert!(!files.is_empty(), "there is no crate {name}");
        for path in files {
            let text = fs::read_to_string(&path).unwrap();
            let missing = without_example(&text).into_iter();
            wrong.extend(missing.map(|t| format!("{}: {t} has no example", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn types_without_examples_are_found() {
    let example = "/// One.\n///\n/// ```\n/// ```\n#[derive(Debug)]\npub struct One;\n";
    let none = "\n/// Two.\npub enum Two<T> {}\n\npub(crate) struct Three;\n";
    assert_eq!(without_example(&format!("{example}{none}")), ["Two"]);
}

#[test]
fn files_are_short_enough_to_read() {
    let mut wrong = Vec::new();
    for path in source_files(&workspace_root(), &["rs"]) {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text
            .lines()
            .take_while(|l| l.trim() != "#[cfg(test)]")
            .count();
        if lines > LINES_MAX {
            wrong.push(format!(
                "{}: {lines} lines before its tests",
                path.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_unfinished_or_tied_to_a_machine() {
    let mut wrong = Vec::new();
    for path in source_files(
        &workspace_root(),
        &["rs", "toml", "md", "c", "h", "sh", "txt"],
    ) {
        let Ok(text) = fs::read_to_string(&path) else {
            continue; // not text
        };
        for (number, line) in text.lines().enumerate() {
            for word in UNFINISHED.iter().chain(MACHINE_PATHS) {
                if line.contains(word) {
                    wrong.push(format!("{}:{}: {word}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
