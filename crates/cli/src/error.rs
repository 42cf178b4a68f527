//! How a command ends.

use std::fmt;

/// Exit code of a wrong command line.
pub(crate) const USAGE: u8 = 2;

/// The command did its work; this is the answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Outcome {
    /// Yes: accepted, passed, done.
    Ok,
    /// No: rejected, failed. Exit code 1.
    No,
    /// Part of the input could not be read; it was said on the way. Exit code 3, which wins over 1.
    Environment,
}

impl Outcome {
    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::No => 1,
            Self::Environment => 3,
        }
    }
}

/// The command could not do its work.
#[derive(Debug)]
pub(crate) enum CliError {
    /// The options contradict each other or name something that does not exist. Exit code 2.
    Usage(String),
    /// Input is unreadable, permission or a kernel feature is missing. Exit code 3.
    Environment(String),
    /// The verifier said no; the text is its explanation. Exit code 1.
    Rejected(String),
    /// Output could not be written.
    Output(std::io::Error),
}

impl CliError {
    /// An unusable command line.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// Something outside the program is missing or wrong.
    pub(crate) fn environment(text: impl fmt::Display) -> Self {
        Self::Environment(text.to_string())
    }

    /// The reader of our output went away.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(e) if e.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Rejected(_) => Outcome::No.code(),
            Self::Environment(_) | Self::Output(_) => 3,
        }
    }
}

/// An error of the system in words, without its number.
pub(crate) fn io_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Environment(text) | Self::Rejected(text) => f.write_str(text),
            Self::Output(error) => write!(f, "cannot write output: {error}"),
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}
