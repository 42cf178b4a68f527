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
