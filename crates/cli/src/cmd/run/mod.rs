//! `skep run OBJ`: loads an object, lets its programs run, prints what they emit.

mod capture;
mod emit;
mod live;
mod scope;

use super::open::{self, BackendArg, Chosen, EngineOptions, Purpose};
use crate::error::{CliError, Outcome};
use crate::output::Output;
use skep::load::{LoadOptions, load};
use skep_bpf::BackendKind;
use std::path::PathBuf;
use std::time::Duration;

// Options of `skep run`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The object
    #[arg(value_name = "OBJ")]
    object: PathBuf,
    /// Which implementation
    #[arg(long, value_enum, default_value_t = BackendArg::Auto)]
    backend: BackendArg,
    #[command(flatten)]
    engine: EngineOptions,
    /// Run packet programs over a capture
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Device of XDP and traffic control programs
    #[arg(long, value_name = "NAME")]
    dev: Option<String>,
    /// Only this process
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Only this control group
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Set a global variable before loading
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Print the maps at the end
    #[arg(long)]
    maps: bool,
    /// End after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = crate::cmd::seconds::parse)]
    duration: Option<Duration>,
    /// Only this program
    #[arg(long, value_name = "NAME")]
    program: Option<String>,
    /// Run this command, watch it alone, and end with it
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    #[command(flatten)]
    types: open::TypesArg,
}

/// Runs the object.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    // Read first: a wrong capture must not leave anything loaded.
    let capture = args.pcap.as_deref().map(capture::read).transpose()?;
    let mut object = open::object(&args.object)?;
    let purpose = if capture.is_some() {
        Purpose::TestRun
    } else {
        Purpose::Attach
    };
    let chosen = open::backend(args.backend, purpose, &args.engine, Some(&object))?;
    if capture.is_none() && chosen.backend.kind() == BackendKind::User {
        return Err(CliError::usage(
            "the user backend runs packets of a capture: give --pcap FILE",
        ));
    }
    for setting in &args.set {
        let (name, value) = setting
            .split_once('=')
            .ok_or_else(|| CliError::usage(format!("--set {setting}: write NAME=VALUE")))?;
        skep::variable::set(&mut object, name, value)
            .map_err(|e| CliError::usage(e.to_string()))?;
    }
    let scope = scope::Scope::prepare(args, &mut object, capture.is_some())?;
    let linked = open::link_with(&object, &chosen, &args.types)?;
    let options = LoadOptions {
        program: args.program.clone(),
        ..LoadOptions::default()
    };
    let loaded = load(&linked, &chosen.backend, &options)
        .map_err(|e| open::refused(&e, &args.object, chosen.backend.kind()))?;
    if loaded.programs.is_empty() {
        return Err(match &args.program {
            Some(name) => CliError::usage(format!("the object has no program \"{name}\"")),
            None => CliError::environment("the object has no programs to load"),
        });
    }
    announce(&chosen, purpose);
    let _listed = open::announce(&chosen);
    let mut streams = emit::Streams::open(&loaded)?;
    match capture {
        Some(capture) => capture::run(&loaded, &capture, &mut streams, out)?,
        None => live::run(args, &loaded, scope, &mut streams, out)?,
    }
    if args.maps || args.pcap.is_some() {
        emit::maps(&loaded, out)?;
    }
    Ok(Outcome::Ok)
}

/// Says which backend was chosen, if it was not named.
fn announce(chosen: &Chosen, purpose: Purpose) {
    if chosen.automatic {
        let why = match purpose {
            Purpose::TestRun => "packets of a capture",
            Purpose::Attach => "live hooks",
        };
        eprintln!("skep: {} backend ({why})", chosen.backend.kind());
    }
}
