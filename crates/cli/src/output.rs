//! Standard output: text or JSON lines.

use crate::error::CliError;
use serde_json::Value;
use std::io::{BufWriter, IsTerminal, Stdout, Write};

/// Options of every command.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct OutputArgs {
    /// Print JSON, one value a line
    #[arg(short = 'j', long, global = true)]
    json: bool,
    /// Print indented JSON
    #[arg(short = 'p', long, global = true)]
    pretty: bool,
}

/// The shape of what is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON value a line.
    Json,
    /// Indented JSON.
    Pretty,
}

/// Standard output of a command.
pub(crate) struct Output {
    format: Format,
    color: bool,
    stream: BufWriter<Stdout>,
}

impl Output {
    /// Output as the options ask for; colour only on a terminal and never with `NO_COLOR`.
    pub(crate) fn new(args: &OutputArgs) -> Self {
        let format = match (args.pretty, args.json) {
            (true, _) => Format::Pretty,
            (false, true) => Format::Json,
            (false, false) => Format::Text,
        };
        let stdout = std::io::stdout();
        Self {
            format,
            color: stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            stream: BufWriter::new(stdout),
        }
    }

    /// True if JSON is wanted.
    pub(crate) fn is_json(&self) -> bool {
        self.format != Format::Text
    }

    /// True if text may be coloured.
    pub(crate) fn color(&self) -> bool {
        self.color && self.format == Format::Text
    }

    /// Prints one JSON value, on a line of its own.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), CliError> {
        match self.format {
            Format::Pretty => writeln!(self.stream, "{value:#}")?,
            Format::Text | Format::Json => writeln!(self.stream, "{value}")?,
        }
        Ok(())
    }

    /// Prints text and a line end.
    pub(crate) fn line(&mut self, text: impl std::fmt::Display) -> Result<(), CliError> {
        writeln!(self.stream, "{text}")?;
        Ok(())
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.stream.write_all(bytes)?;
        Ok(())
    }

    /// Hands everything to the reader; commands that stream call it after each event.
    pub(crate) fn flush(&mut self) -> Result<(), CliError> {
        self.stream.flush()?;
        Ok(())
    }
}
