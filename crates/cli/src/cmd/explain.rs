//! `skep explain [CODE]`: what an error code means.

use crate::error::{CliError, Outcome};
use crate::output::Output;
use serde_json::json;
use skep_verifier::{CODES, find_code};

// Options of `skep explain`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// An error code, V0201; all of them without one
    code: Option<String>,
}

/// What the letters mean.
const CLASSES: &[(&str, &str)] = &[
    ("safety", "the program could do harm on some path"),
    (
        "complexity",
        "the program could not be explored within the kernel's limits",
    ),
    (
        "environment",
        "something is not there for this program type, kernel or loader",
    ),
    (
        "user",
        "accepted, but it needs something that only a kernel has",
    ),
];

/// Codes of programs that run in a kernel only; the verifier does not give them.
const USER_CODES: &[(&str, &str)] = &[
    ("U0001", "nothing in user space calls programs of this type"),
    ("U0002", "a helper exists only in a kernel"),
    ("U0003", "a kfunc exists only in a kernel"),
    ("U0004", "the address of a kernel variable is taken"),
    (
        "U0005",
        "a structure of the kernel is read, or a field of it that no process knows",
    ),
    ("U0006", "a map type exists only in a kernel"),
    (
        "U0007",
        "a pointer to a structure of the kernel is kept beyond the run",
    ),
];

/// Longer texts with a wrong and a right example, one section a code; a test compiles and checks them.
const TEXTS: &str = include_str!("../../../../docs/codes/codes.md");

/// The longer text of a code.
pub(crate) fn text(code: &str) -> Option<&'static str> {
    let mut sections = TEXTS.split("\n## ").skip(1);
    sections
        .find_map(|s| s.strip_prefix(code)?.strip_prefix('\n'))
        .map(str::trim)
}

/// A text as it is printed: examples indented, with a word in front that says which is which.
fn print_text(text: &str, out: &mut Output) -> Result<(), CliError> {
    let mut in_example = false;
    for line in text.lines() {
        match line {
            _ if line.starts_with("```c ") => {
                in_example = true;
                let what = line.trim_start_matches("```c ");
                let what =
                    what.replace(" bpf", ", for a loader with CAP_BPF and CAP_NET_ADMIN only");
                out.line(format_args!("{what}:"))?;
            }
            "```" => in_example = false,
            _ if in_example => out.line(format_args!("    {}", line.replace('\t', "    ")))?,
            _ => out.line(line)?,
        }
    }
    Ok(())
}

/// Code, class and rule of every code.
fn all() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let verifier = CODES.iter().map(|c| (c.id, c.class.name(), c.title));
    verifier.chain(USER_CODES.iter().map(|(id, title)| (*id, "user", *title)))
}

/// Prints what the code means.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    let wanted = args.code.as_ref().map(|c| c.to_ascii_uppercase());
    if let Some(code) = &wanted
        && find_code(code).is_none()
        && !USER_CODES.iter().any(|(id, _)| id == code)
    {
        return Err(CliError::usage(format!(
            "there is no code \"{code}\"; skep explain lists all"
        )));
    }
    for (id, class, title) in all().filter(|(id, _, _)| wanted.as_ref().is_none_or(|w| w == id)) {
        if out.is_json() {
            out.json(
                &json!({"schema": 1, "code": id, "class": class, "text": title, "more": text(id)}),
            )?;
            continue;
        }
        out.line(format_args!("{id}  {class}: {title}"))?;
        let meaning = CLASSES.iter().find(|(name, _)| *name == class);
        if let Some((_, meaning)) = meaning.filter(|_| wanted.is_some()) {
            out.line(format_args!("       {meaning}"))?;
        }
        if let Some(text) = text(id).filter(|_| wanted.is_some()) {
            out.line("")?;
            print_text(text, out)?;
        }
    }
    Ok(Outcome::Ok)
}
