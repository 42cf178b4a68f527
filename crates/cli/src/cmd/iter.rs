//! `skep iter`: programs that print what the kernel walks over.

use super::noun::{self, Selector};
use super::open::{self, BackendArg, EngineOptions, Purpose};
use crate::error::{CliError, Outcome};
use crate::output::Output;
use skep::Kernel;
use skep::iterator::{self, Over};
use skep::load::{LoadOptions, load};
use skep_abi::AttachType;
use skep_bpf::{Backend, ObjKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

// Options of `skep iter`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
#[command(defer = true)]
enum Verb {
    /// Load an iterator and pin it; reading the file runs it
    Pin {
        /// The object
        object: PathBuf,
        /// Where to pin
        path: PathBuf,
        /// The map it walks over: map id N | map pinned PATH | map name NAME
        words: Vec<String>,
    },
    /// Load an iterator, run it once and print what it prints
    Run {
        /// The object
        object: PathBuf,
        /// The map it walks over: map id N | map pinned PATH | map name NAME
        words: Vec<String>,
    },
}

/// Runs the verb.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    match &args.verb {
        Verb::Pin {
            object,
            path,
            words,
        } => with_iterator(object, words, |kernel, prog, over| {
            let link = iterator::link(kernel, prog, over)?;
            let pinned = kernel.obj_pin(link, path);
            kernel.close(link);
            pinned
        })?,
        Verb::Run { object, words } => {
            let text = with_iterator(object, words, iterator::read_over)?;
            out.bytes(&text)?;
        }
    }
    Ok(Outcome::Ok)
}

/// Loads the object's iterator and opens what it walks over.
fn with_iterator<T>(
    path: &Path,
    words: &[String],
    then: impl FnOnce(&Kernel, skep_bpf::Handle, Over) -> skep_bpf::Result<T>,
) -> Result<T, CliError> {
    let object = open::object(path)?;
    let chosen = open::backend(
        BackendArg::Kernel,
        Purpose::Attach,
        &EngineOptions::JIT,
        None,
    )?;
    let linked = open::link(&object, &chosen)?;
    let is_iterator = |p: &&skep_object::Program| p.attach == Some(AttachType::TraceIter);
    let program = linked.programs.iter().find(is_iterator);
    let program = program.ok_or_else(|| CliError::environment("the object has no iterator"))?;
    let kernel = Arc::new(Kernel::new());
    let backend: Arc<dyn Backend> = Arc::clone(&kernel) as Arc<dyn Backend>;
    let options = LoadOptions {
        program: Some(program.name.clone()),
        ..LoadOptions::default()
    };
    let loaded =
        load(&linked, &backend, &options).map_err(|e| open::refused(&e, path, backend.kind()))?;
    let map = match words {
        [] => None,
        [word, selector @ ..] if word == "map" => Selector::parse(selector)?,
        _ => {
            return Err(CliError::usage(
                "only map id N | pinned PATH | name NAME may follow",
            ));
        }
    };
    let opened = map
        .map(|selector| noun::select_one(kernel.as_ref(), ObjKind::Map, &selector))
        .transpose()?;
    let over = opened
        .as_ref()
        .map_or(Over::All, |map| Over::Map(map.handle));
    then(&kernel, loaded.programs[0].handle, over).map_err(CliError::environment)
}
