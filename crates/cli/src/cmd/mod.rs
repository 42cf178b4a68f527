//! The verbs. To add one: a file here, and a line in the list [`Command`].

mod asm;
mod btf;
mod cgroup;
mod check;
mod disasm;
pub(crate) mod explain;
mod feature;
mod filter;
mod generate;
mod iter;
mod link;
mod map;
mod net;
mod noun;
mod open;
mod perf;
mod pins;
mod prog;
mod run;
mod seccomp;
mod seconds;
mod struct_ops;

use crate::error::{CliError, Outcome};
use crate::output::Output;
use clap::error::ErrorKind;
use clap::{ArgMatches, FromArgMatches, Subcommand};

/// Declares the verbs: what each says of itself, its module, its name.
///
/// This is by hand what `clap::Subcommand` derives, with one difference: the options of a verb are described only once it is
/// named. Describing all of them costs a third of a short command's time.
macro_rules! verbs {
    ($(#[doc = $about:literal] $variant:ident = $module:ident, $name:literal;)+) => {
        /// What to do.
        pub(crate) enum Command {
            $(#[doc = $about] $variant($module::Args),)+
        }

        impl Command {
            /// Does it.
            pub(crate) fn run(&self, out: &mut Output) -> Result<Outcome, CliError> {
                match self {
                    $(Self::$variant(args) => $module::run(args, out),)+
                }
            }
        }

        impl Subcommand for Command {
            fn augment_subcommands(command: clap::Command) -> clap::Command {
                command.subcommands([$(verb::<$module::Args>($name, $about)),+])
            }

            fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
                Self::augment_subcommands(command)
            }

            fn has_subcommand(name: &str) -> bool {
                [$($name),+].contains(&name)
            }
        }

        impl FromArgMatches for Command {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                match matches.subcommand() {
                    $(Some(($name, args)) => $module::Args::from_arg_matches(args).map(Self::$variant),)+
                    _ => Err(clap::Error::new(ErrorKind::MissingSubcommand)),
                }
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }
    };
}

/// A verb whose options are described when it is named.
fn verb<A: clap::Args>(name: &'static str, about: &'static str) -> clap::Command {
    let command = clap::Command::new(name).about(about.trim());
    command.defer(|command| {
        let about = command.get_about().cloned().unwrap_or_default();
        A::augment_args(command).about(about)
    })
}

verbs! {
    /// Assemble BPF instructions into an object
    Asm = asm, "asm";
    /// BTF objects and files
    Btf = btf, "btf";
    /// Programs of control groups
    Cgroup = cgroup, "cgroup";
    /// Tell whether the kernel would accept the programs of objects
    Check = check, "check";
    /// Print the instructions of objects
    Disasm = disasm, "disasm";
    /// Tell what an error code means
    Explain = explain, "explain";
    /// What this kernel can do
    Feature = feature, "feature";
    /// Filter packets of a file or an interface by a tcpdump expression
    Filter = filter, "filter";
    /// Print Rust bindings of an object
    Gen = generate, "gen";
    /// Iterators
    Iter = iter, "iter";
    /// Links of the kernel
    Link = link, "link";
    /// Maps of the kernel
    Map = map, "map";
    /// Programs on network devices
    Net = net, "net";
    /// Programs on tracepoints and probes that processes hold open
    Perf = perf, "perf";
    /// Programs
    Prog = prog, "prog";
    /// Load an object, let its programs run, print what they emit
    Run = run, "run";
    /// Compile, explain and apply system call policies
    Seccomp = seccomp, "seccomp";
    /// Structures of operations that the kernel calls
    StructOps = struct_ops, "struct_ops";
}
