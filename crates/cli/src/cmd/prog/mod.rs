//! `skep prog`: programs.

mod attach;
mod dump;
mod load;
mod machine;
mod profile;
mod run;
mod show;
mod stat;

use super::noun::{self, Selector};
use crate::error::{CliError, Outcome};
use crate::output::Output;
use skep_bpf::ObjKind;
use std::path::PathBuf;
use std::time::Duration;

// Options of `skep prog`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
#[command(defer = true)]
enum Verb {
    /// Load the first program of an object into the kernel and pin it
    Load(load::Args),
    /// Load all programs of an object into the kernel and pin them in a folder
    Loadall(load::Args),
    /// Run a program on given input, on either backend
    Run(run::Args),
    /// List programs
    #[command(visible_alias = "list")]
    Show {
        /// id N | pinned PATH | name NAME
        program: Vec<String>,
        /// Also say where programs are pinned
        #[arg(short = 'f', long)]
        bpffs: bool,
    },
    /// Attach a program to the sockets of a map, or as flow dissector: PROGRAM TYPE MAP (no MAP for a flow dissector)
    Attach {
        /// id N | pinned PATH | name NAME, attach type, then the map
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Detach it again: PROGRAM TYPE MAP
    Detach {
        /// id N | pinned PATH | name NAME, attach type, then the map
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Count runs and time of programs
    Stat {
        /// id N | pinned PATH | name NAME
        program: Vec<String>,
        /// Count for this many seconds
        #[arg(long, value_name = "SECONDS", value_parser = crate::cmd::seconds::parse)]
        duration: Option<Duration>,
    },
    /// Count what a program's runs cost the processor: PROGRAM [duration SECONDS] cycles|instructions|…
    Profile {
        /// id N | pinned PATH | name NAME, then how long, then what to count
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Print what programs print with bpf_trace_printk
    Tracelog {
        /// End after this many seconds
        #[arg(long, value_name = "SECONDS", value_parser = crate::cmd::seconds::parse)]
        duration: Option<Duration>,
    },
    /// Print the code of a loaded program, xlated|jited PROGRAM [opcodes | file PATH], or skep's own: jited OBJ, perhaps NAME, first, caps bpf
    Dump {
        /// xlated or jited, id N | pinned PATH | name NAME, then options
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Keep a program at a path of a bpf filesystem: PROGRAM PATH
    Pin {
        /// id N | pinned PATH | name NAME, then the path
        #[arg(required = true, num_args = 3)]
        words: Vec<String>,
    },
}

/// Runs the verb.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    match &args.verb {
        Verb::Load(args) => load::run(args, load::Which::First)?,
        Verb::Loadall(args) => load::run(args, load::Which::All)?,
        Verb::Run(args) => return run::run(args, out),
        Verb::Show { program, bpffs } => show::run(program, *bpffs, out)?,
        Verb::Attach { words } => attach::run(words, skep_sys::bpf_prog::attach)?,
        Verb::Detach { words } => attach::run(words, skep_sys::bpf_prog::detach)?,
        Verb::Stat { program, duration } => stat::run(program, *duration, out)?,
        Verb::Profile { words } => profile::run(words, out)?,
        Verb::Tracelog { duration } => stat::tracelog(*duration, out)?,
        Verb::Dump { words } => dump::run(words, out)?,
        Verb::Pin { words } => {
            let kernel = noun::kernel();
            let (program, path) = words.split_at(2);
            let selector =
                Selector::parse(program)?.ok_or_else(|| CliError::usage("name a program"))?;
            let opened = noun::select_one(&kernel, ObjKind::Prog, &selector)?;
            noun::pin(&kernel, opened.handle, &PathBuf::from(path.concat()))?;
        }
    }
    Ok(Outcome::Ok)
}
