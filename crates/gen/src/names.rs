//! C names as Rust identifiers.

use std::collections::HashSet;

/// Reserved words that can be written `r#word`.
const RAW: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let",
    "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return",
    "static", "struct", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield",
];
/// Reserved words that cannot.
const NEVER: &[&str] = &["self", "Self", "super", "crate", "_", ""];

/// A C name as an identifier: other characters become `_`, reserved words are escaped.
pub(crate) fn ident(name: &str) -> String {
    let mut text: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        text.insert(0, '_');
    }
    if NEVER.contains(&text.as_str()) {
        text.push('_');
    } else if RAW.contains(&text.as_str()) {
        text.insert_str(0, "r#");
    }
    text
}

/// Part of an identifier: no escapes.
pub(crate) fn part(name: &str) -> String {
    ident(name).trim_start_matches("r#").to_owned()
}

/// Names of one scope, each given once.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    taken: HashSet<String>,
}

impl Scope {
    /// A scope in which some names are taken.
    pub(crate) fn with(taken: &[&str]) -> Self {
        Self {
            taken: taken.iter().map(|n| (*n).to_owned()).collect(),
        }
    }

    /// The identifier for `name`, with a number behind it where the plain one is taken.
    pub(crate) fn take(&mut self, name: &str) -> String {
        let plain = ident(name);
        let mut candidate = plain;
        let mut number = 2;
        while !self.taken.insert(candidate.clone()) {
            candidate = format!("{}_{number}", part(name));
            number += 1;
        }
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_names_become_identifiers() {
        const CASES: &[(&str, &str)] = &[
            ("flow", "flow"),
            ("type", "r#type"),
            ("self", "self_"),
            ("task_struct___x", "task_struct___x"),
            (".data.hot", "_data_hot"),
            ("4tuple", "_4tuple"),
        ];
        for &(name, expected) in CASES {
            assert_eq!(ident(name), expected);
        }
        let mut scope = Scope::with(&["load"]);
        let names = [scope.take("load"), scope.take("type"), scope.take("type")];
        assert_eq!(names, ["load_2", "r#type", "type_2"]);
    }
}
