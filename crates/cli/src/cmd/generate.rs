//! `skep gen OBJ`: Rust bindings of an object.

use crate::error::{CliError, Outcome, io_text};
use crate::output::Output;
use skep_gen::{GenError, Options, generate};
use std::path::PathBuf;

/// Options of `skep gen`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The object
    #[arg(value_name = "OBJ")]
    object: PathBuf,
    /// Name of the module; by default the file's name up to its first dot
    #[arg(long, value_name = "NAME", default_value = "")]
    module: String,
    /// Also bind this type, which no map or variable mentions
    #[arg(long = "type", value_name = "NAME")]
    types: Vec<String>,
}

/// Prints the bindings.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    let place = args.object.display();
    let bytes = std::fs::read(&args.object)
        .map_err(|e| CliError::environment(format!("{place}: {}", io_text(&e))))?;
    let file = args.object.file_name().unwrap_or_default();
    let options = Options {
        module: args.module.clone(),
        types: args.types.clone(),
        include: None,
    };
    let text = generate(&bytes, &file.to_string_lossy(), &options).map_err(|e| match e {
        GenError::NoType(_) => CliError::usage(format!("{place}: {e}")),
        _ => CliError::environment(format!("{place}: {e}")),
    })?;
    out.bytes(text.as_bytes())?;
    Ok(Outcome::Ok)
}
