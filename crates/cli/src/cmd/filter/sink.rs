//! Where accepted packets go.

use super::{Args, at};
use crate::error::CliError;
use crate::output::Output;
use serde_json::json;
use skep_net::capture::Record;
use skep_net::line::{Flows, Line};
use skep_net::write::Writer;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Where accepted packets go.
pub(super) struct Sink<'o> {
    out: &'o mut Output,
    writer: Option<Writer<Box<dyn Write>>>,
    /// Link type of what is written.
    link: u16,
    quiet: bool,
    /// TCP conversations, unless numbers are printed as they are.
    flows: Option<Flows>,
    accepted: u64,
    limit: u64,
}

impl<'o> Sink<'o> {
    pub(super) fn new(
        args: &Args,
        out: &'o mut Output,
        link: u16,
        writer: impl FnOnce(Box<dyn Write>) -> Writer<Box<dyn Write>>,
    ) -> Result<Self, CliError> {
        let writer = match &args.write {
            None => None,
            Some(path) if path == Path::new("-") => Some(writer(Box::new(io::stdout()))),
            Some(path) => {
                let file = File::create(path).map_err(|e| at(path, &e))?;
                Some(writer(Box::new(file)))
            }
        };
        Ok(Self {
            out,
            writer,
            link,
            quiet: args.count,
            flows: (!args.absolute).then(Flows::default),
            accepted: 0,
            limit: args.limit.unwrap_or(u64::MAX),
        })
    }

    /// Takes an accepted packet; false if no more are wanted.
    #[inline]
    pub(super) fn take(&mut self, record: &Record<'_>) -> Result<bool, CliError> {
        self.accepted += 1;
        if let Some(writer) = &mut self.writer {
            if record.link != self.link {
                return Err(CliError::environment(format!(
                    "packets have link types {} and {}, and a file of the classic format has one",
                    self.link, record.link
                )));
            }
            writer.write(record)?;
        } else if !self.quiet {
            self.out.line(Line {
                time_ns: record.time_ns,
                data: record.data,
                wire_len: record.wire_len,
                link: record.link,
                flows: self.flows.as_ref(),
            })?;
        }
        Ok(self.accepted < self.limit)
    }

    /// Hands on what was printed.
    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        self.out.flush()
    }

    /// Ends the output; how many packets were accepted.
    pub(super) fn finish(self) -> Result<u64, CliError> {
        if let Some(writer) = self.writer {
            writer.finish()?;
        }
        if self.quiet {
            if self.out.is_json() {
                self.out
                    .json(&json!({"schema": 1, "accepted": self.accepted}))?;
            } else {
                self.out.line(self.accepted)?;
            }
        }
        Ok(self.accepted)
    }
}
