//! The verbs. To add one: a file here, a line in [`Command`] and one in [`Command::run`].

mod explain;

use crate::error::{CliError, Outcome};
use crate::output::Output;

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Tell what an error code means
    Explain(explain::Args),
}

impl Command {
    /// Does it.
    pub(crate) fn run(&self, out: &mut Output) -> Result<Outcome, CliError> {
        match self {
            Self::Explain(args) => explain::run(args, out),
        }
    }
}
