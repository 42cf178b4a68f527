//! `skep gen OBJ`: Rust bindings of an object; `skep gen object OUT IN…`: several objects as one; `skep gen min_core_btf`: the
//! part of a kernel's BTF that objects need.

use crate::error::{CliError, Outcome, io_text};
use crate::output::Output;
use skep_gen::{GenError, Options, generate};
use skep_object::combine::{Input, combine};
use skep_object::reduce::reduce;
use skep_object::{Object, Options as ObjectOptions};
use std::path::{Path, PathBuf};

// Options of `skep gen`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The object
    #[arg(value_name = "OBJ", required = true)]
    object: Option<PathBuf>,
    /// Name of the module; by default the file's name up to its first dot
    #[arg(long, value_name = "NAME", default_value = "")]
    module: String,
    /// Also bind this type, which no map or variable mentions
    #[arg(long = "type", value_name = "NAME")]
    types: Vec<String>,
}

#[derive(clap::Subcommand)]
#[command(defer = true)]
enum Verb {
    /// Link objects to one
    Object {
        /// Where to write it
        output: PathBuf,
        /// The objects
        #[arg(required = true)]
        inputs: Vec<PathBuf>,
    },
    /// Write the part of a kernel's BTF that the CO-RE relocations of objects need, for --btf
    #[command(name = "min_core_btf")]
    MinCoreBtf {
        /// The kernel's BTF: raw, in an ELF file, packed or an archive of BTFHub
        input: PathBuf,
        /// Where to write it
        output: PathBuf,
        /// The objects
        #[arg(required = true)]
        objects: Vec<PathBuf>,
    },
}

/// Prints the bindings, or links.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    match (&args.verb, &args.object) {
        (Some(Verb::Object { output, inputs }), _) => link(output, inputs)?,
        (
            Some(Verb::MinCoreBtf {
                input,
                output,
                objects,
            }),
            _,
        ) => min_core_btf(input, output, objects)?,
        (None, Some(object)) => bindings(args, object, out)?,
        (None, None) => return Err(CliError::usage("name an object")),
    }
    Ok(Outcome::Ok)
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |e| CliError::environment(format!("{}: {}", path.display(), io_text(&e)));
    std::fs::read(path).map_err(failed)
}

fn link(output: &Path, inputs: &[PathBuf]) -> Result<(), CliError> {
    let mut files = Vec::new();
    for path in inputs {
        files.push((path.display().to_string(), read(path)?));
    }
    let inputs: Vec<Input<'_>> = files
        .iter()
        .map(|(name, bytes)| Input { name, bytes })
        .collect();
    let linked = combine(&inputs).map_err(CliError::environment)?;
    write(output, &linked)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let failed = |e| CliError::environment(format!("{}: {}", path.display(), io_text(&e)));
    std::fs::write(path, bytes).map_err(failed)
}

fn min_core_btf(input: &Path, output: &Path, paths: &[PathBuf]) -> Result<(), CliError> {
    let failed = |e| CliError::environment(format!("{}: {}", input.display(), io_text(&e)));
    let full = skep::btf_file::read(input, None).map_err(failed)?;
    let mut objects = Vec::new();
    for path in paths {
        let object = Object::parse(&read(path)?, &ObjectOptions::default());
        let place = path.display();
        objects.push(object.map_err(|e| CliError::environment(format!("{place}: {e}")))?);
    }
    let reduced = reduce(&full, &objects).map_err(|e| {
        let place = paths.get(e.object).map(|p| p.display().to_string());
        CliError::environment(format!("{}: {e}", place.unwrap_or_default()))
    })?;
    for name in &reduced.renumbered {
        eprintln!(
            "note: \"{name}\" has another id in {}, and an object asks for its id in the kernel's BTF",
            output.display()
        );
    }
    write(output, &reduced.btf)
}

fn bindings(args: &Args, object: &Path, out: &mut Output) -> Result<(), CliError> {
    let place = object.display();
    let bytes = read(object)?;
    let file = object.file_name().unwrap_or_default();
    let options = Options {
        module: args.module.clone(),
        types: args.types.clone(),
        include: None,
    };
    let text = generate(&bytes, &file.to_string_lossy(), &options).map_err(|e| match e {
        GenError::NoType(_) => CliError::usage(format!("{place}: {e}")),
        _ => CliError::environment(format!("{place}: {e}")),
    })?;
    out.bytes(text.as_bytes())
}
