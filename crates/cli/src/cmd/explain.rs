//! `skep explain CODE`: what an error code means.

use crate::error::{CliError, Outcome};
use crate::output::Output;
use serde_json::json;

/// Options of `skep explain`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// An error code: V0201
    code: String,
}

/// The kinds of code, by first letter.
const KINDS: &[(char, &str)] = &[
    ('V', "safety: the program could do harm, on some path"),
    (
        'C',
        "complexity: the program could not be explored within the kernel's limits",
    ),
    (
        'E',
        "environment: something is not there for this program type or kernel",
    ),
    (
        'U',
        "user backend: accepted, but needs something only a kernel has",
    ),
];

/// Prints what the code means.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    let letter = args.code.chars().next().map(|c| c.to_ascii_uppercase());
    let Some((_, text)) = KINDS.iter().find(|(c, _)| Some(*c) == letter) else {
        return Err(CliError::usage(format!(
            "\"{}\" is not an error code; codes look like V0201",
            args.code
        )));
    };
    if out.is_json() {
        out.json(&json!({"schema": 1, "code": args.code, "text": text}))?;
    } else {
        out.line(format_args!("{}  {text}", args.code))?;
    }
    Ok(Outcome::Ok)
}
