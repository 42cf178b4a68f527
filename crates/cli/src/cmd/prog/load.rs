//! `skep prog load|loadall OBJ PATH`: loads an object into the kernel and pins its programs.

use crate::cmd::open::{self, BackendArg, EngineOptions, Purpose};
use crate::error::CliError;
use skep::attach::{self, Where};
use skep::load::{LoadOptions, Loaded, LoadedProgram, load};
use std::path::{Path, PathBuf};

// Options of `skep prog load` and `loadall`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The object
    object: PathBuf,
    /// Where to pin: a path for `load`, a folder for `loadall`
    path: PathBuf,
    /// Program type for sections whose name says none
    #[arg(long = "type", value_name = "TYPE")]
    prog_type: Option<String>,
    /// Also pin the maps, in this folder
    #[arg(long, value_name = "DIR")]
    pinmaps: Option<PathBuf>,
    /// Attach by section name and pin the links instead of the programs
    #[arg(long)]
    autoattach: bool,
    #[command(flatten)]
    types: open::TypesArg,
}

/// Which programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Which {
    /// The first, at the path.
    First,
    /// All, in the folder, by name.
    All,
}

/// Loads and pins. What was pinned before a failure is removed again.
pub(super) fn run(args: &Args, which: Which) -> Result<(), CliError> {
    let prog_type = args.prog_type.as_deref().map(open::prog_type).transpose()?;
    let object = open::object(&args.object)?;
    let chosen = open::backend(
        BackendArg::Kernel,
        Purpose::Attach,
        &EngineOptions::JIT,
        None,
    )?;
    let linked = open::link_with(&object, &chosen, &args.types)?;
    let program = match which {
        Which::First => linked.programs.first().map(|p| p.name.clone()),
        Which::All => None,
    };
    let options = LoadOptions {
        program,
        prog_type,
        ..LoadOptions::default()
    };
    let loaded = load(&linked, &chosen.backend, &options)
        .map_err(|e| open::refused(&e, &args.object, chosen.backend.kind()))?;
    let mut pinned = Pinned(Vec::new());
    for program in &loaded.programs {
        let path = match which {
            Which::First => args.path.clone(),
            Which::All => folder(&args.path)?.join(&program.spec.name),
        };
        keep(&loaded, program, args.autoattach, &path)?;
        pinned.0.push(path);
    }
    if let Some(dir) = &args.pinmaps {
        for map in &loaded.maps {
            let path = folder(dir)?.join(map.spec.name.replace('.', "_"));
            chosen
                .backend
                .obj_pin(map.handle, &path)
                .map_err(CliError::environment)?;
            pinned.0.push(path);
        }
    }
    pinned.0.clear(); // they stay
    Ok(())
}

/// Pins a program, or the link of one that is to be attached. One that is not attached by its section name alone is pinned.
fn keep(
    loaded: &Loaded,
    program: &LoadedProgram,
    autoattach: bool,
    path: &Path,
) -> Result<(), CliError> {
    let pinned = match autoattach.then(|| attach::hook(&program.spec, &Where::default())) {
        Some(Ok(hook)) => {
            attach::attach(loaded.backend(), program.handle, &hook).and_then(|link| link.pin(path))
        }
        Some(Err(why)) => {
            eprintln!("skep: {why}; the program itself is pinned");
            loaded.backend().obj_pin(program.handle, path)
        }
        None => loaded.backend().obj_pin(program.handle, path),
    };
    pinned.map_err(CliError::environment)
}

/// Pins that are removed unless everything worked.
struct Pinned(Vec<PathBuf>);

impl Drop for Pinned {
    fn drop(&mut self) {
        for path in &self.0 {
            // Another process may have been faster.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Makes the folder if need be.
fn folder(path: &Path) -> Result<&Path, CliError> {
    let made = skep::pins::mount_for(path).and_then(|()| std::fs::create_dir_all(path));
    made.map_err(|e| {
        CliError::environment(format!("{}: {}", path.display(), crate::error::io_text(&e)))
    })?;
    Ok(path)
}
