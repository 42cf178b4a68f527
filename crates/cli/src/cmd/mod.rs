//! The verbs. To add one: a file here, and two lines at [`Command`].

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

/// What to do.
///
/// The options of a verb are described only once it is named: every short command would pay for all of them
/// (`cargo xtask bench load`).
/// What a verb is for stands here; a doc comment of a structure of options would take that place.
#[derive(clap::Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Assemble BPF instructions into an object
    Asm(asm::Args),
    /// BTF objects and files
    Btf(btf::Args),
    /// Programs of control groups
    Cgroup(cgroup::Args),
    /// Tell whether the kernel would accept the programs of objects
    Check(check::Args),
    /// Print the instructions of objects
    Disasm(disasm::Args),
    /// Tell what an error code means
    Explain(explain::Args),
    /// What this kernel can do
    Feature(feature::Args),
    /// Filter packets of a file or an interface by a tcpdump expression
    Filter(filter::Args),
    /// Print Rust bindings of an object
    Gen(generate::Args),
    /// Iterators
    Iter(iter::Args),
    /// Links of the kernel
    Link(link::Args),
    /// Maps of the kernel
    Map(map::Args),
    /// Programs on network devices
    Net(net::Args),
    /// Programs on tracepoints and probes that processes hold open
    Perf(perf::Args),
    /// Programs
    Prog(prog::Args),
    /// Load an object, let its programs run, print what they emit
    Run(run::Args),
    /// Compile, explain and apply system call policies
    Seccomp(seccomp::Args),
    /// Structures of operations that the kernel calls
    #[command(name = "struct_ops")]
    StructOps(struct_ops::Args),
}

impl Command {
    /// Does it.
    pub(crate) fn run(&self, out: &mut Output) -> Result<Outcome, CliError> {
        match self {
            Self::Asm(args) => asm::run(args, out),
            Self::Btf(args) => btf::run(args, out),
            Self::Cgroup(args) => cgroup::run(args, out),
            Self::Check(args) => check::run(args, out),
            Self::Disasm(args) => disasm::run(args, out),
            Self::Explain(args) => explain::run(args, out),
            Self::Feature(args) => feature::run(args, out),
            Self::Filter(args) => filter::run(args, out),
            Self::Gen(args) => generate::run(args, out),
            Self::Iter(args) => iter::run(args, out),
            Self::Link(args) => link::run(args, out),
            Self::Map(args) => map::run(args, out),
            Self::Net(args) => net::run(args, out),
            Self::Perf(args) => perf::run(args, out),
            Self::Prog(args) => prog::run(args, out),
            Self::Run(args) => run::run(args, out),
            Self::Seccomp(args) => seccomp::run(args, out),
            Self::StructOps(args) => struct_ops::run(args, out),
        }
    }
}
