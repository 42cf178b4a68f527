//! `skep asm FILE -o OBJ`: assembly text to an object.

use crate::error::{CliError, Outcome};
use crate::output::Output;
use serde_json::json;
use skep_isa::asm::{AsmError, Endian, Options, assemble};
use skep_object::write::LinuxNames;
use std::io::Read;
use std::path::PathBuf;

// Options of `skep asm`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Assembly text as clang -S and llvm-objdump print it; - is standard input
    file: PathBuf,
    /// The object to write; - is standard output
    #[arg(short, long, value_name = "OBJ")]
    output: PathBuf,
    /// Section of what stands before the first section directive
    #[arg(long, default_value = ".text", value_name = "NAME")]
    section: String,
    /// Make a big-endian object
    #[arg(long)]
    big_endian: bool,
}

/// Assembles.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    let text = read(args)?;
    let options = Options {
        facts: &LinuxNames,
        endian: if args.big_endian {
            Endian::Big
        } else {
            Endian::Little
        },
        section: &args.section,
    };
    let assembly = match assemble(&text, &options) {
        Ok(assembly) => assembly,
        Err(errors) => {
            for error in &errors {
                print(args, &text, error, out)?;
            }
            return Ok(Outcome::No);
        }
    };
    let bytes = skep_object::write::write(&assembly).map_err(CliError::environment)?;
    if args.output.as_os_str() == "-" {
        out.bytes(&bytes)?;
    } else {
        std::fs::write(&args.output, bytes)
            .map_err(|e| CliError::environment(format!("{}: {e}", args.output.display())))?;
    }
    Ok(Outcome::Ok)
}

fn read(args: &Args) -> Result<String, CliError> {
    let unreadable = |e| CliError::environment(format!("{}: {e}", args.file.display()));
    if args.file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        return Ok(text);
    }
    std::fs::read_to_string(&args.file).map_err(unreadable)
}

/// The error with its line and a mark under the column; as text on standard error.
fn print(args: &Args, text: &str, error: &AsmError, out: &mut Output) -> Result<(), CliError> {
    let file = args.file.display().to_string();
    if out.is_json() {
        let value = json!({
            "schema": 1, "file": file, "line": error.line, "column": error.column,
            "message": error.problem.to_string(),
        });
        return out.json(&value);
    }
    eprintln!("{file}:{error}");
    if let Some(line) = text.lines().nth(error.line as usize - 1) {
        let keep_tabs = |c: char| if c == '\t' { '\t' } else { ' ' };
        let indent: String = line
            .chars()
            .take(error.column as usize - 1)
            .map(keep_tabs)
            .collect();
        eprintln!("    {line}\n    {indent}^");
    }
    Ok(())
}
