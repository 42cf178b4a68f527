//! Packets of a capture file, or of a pipe as they come.

use super::sink::Sink;
use super::{Args, at, compile, dump};
use crate::error::{CliError, Outcome};
use crate::output::Output;
use skep::filter::{Filter, LinkType, Matcher, PlainPacket, SNAPLEN, Source, Target};
use skep_net::capture::Record;
use skep_net::stream::{Stream, StreamError};
use skep_net::write::Writer;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

fn open(path: &Path) -> Result<Box<dyn Read>, CliError> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    Ok(Box::new(File::open(path).map_err(|e| at(path, &e))?))
}

/// What filters the packets of a capture: one matcher at a time, for the link type of the packet before.
struct Matchers<'a> {
    expression: &'a str,
    target: Target<'a>,
    current: Option<(u16, Matcher)>,
}

impl Matchers<'_> {
    fn compile(&self, link: u16) -> Result<Filter, CliError> {
        let target = Target {
            link: LinkType::of_file(link),
            ..self.target
        };
        compile(self.expression, &target)
    }

    #[inline]
    fn of(&mut self, link: u16) -> Result<&Matcher, CliError> {
        if self.current.as_ref().is_none_or(|(l, _)| *l != link) {
            self.current = Some((link, Matcher::new(self.compile(link)?)));
        }
        match &self.current {
            Some((_, matcher)) => Ok(matcher),
            None => unreachable!("it was just made"),
        }
    }
}

/// Filters a file; what stands before damage or a cut is done before that is said.
pub(super) fn filter(
    args: &Args,
    out: &mut Output,
    path: &Path,
    expression: &str,
    target: &Target<'_>,
) -> Result<Outcome, CliError> {
    let failed = |e| CliError::environment(format!("{}: {e}", path.display()));
    let mut capture = Stream::new(open(path)?).map_err(failed)?;
    let link = capture
        .link()
        .map_err(failed)?
        .unwrap_or(LinkType::ETHERNET.0);
    let mut matchers = Matchers {
        expression,
        target: Target {
            source: Source::File {
                big_endian: capture.is_big_endian(),
            },
            ..*target
        },
        current: None,
    };
    if args.dump > 0 || args.ebpf {
        dump(args, out, matchers.compile(link)?.code())?;
        return Ok(Outcome::Ok);
    }
    matchers.of(link)?;
    let mut sink = Sink::new(args, out, link, |w| match capture.classic_header() {
        Some(header) => Writer::like(w, header),
        None => Writer::new(w, link, SNAPLEN),
    })?;
    let result = run(&mut capture, &mut matchers, &mut sink);
    sink.finish()?;
    match result? {
        None => Ok(Outcome::Ok),
        Some(error) => {
            eprintln!("skep: {}: {error}", path.display());
            Ok(Outcome::Environment)
        }
    }
}

/// Packets that are matched at a time.
const MATCHED: usize = 256;

/// Packets of one link type that wait for their decision.
#[derive(Default)]
struct Waiting<'b> {
    records: Vec<Record<'b>>,
    packets: Vec<PlainPacket<'b>>,
}

impl<'b> Waiting<'b> {
    #[inline]
    fn push(&mut self, record: Record<'b>) {
        self.packets
            .push(PlainPacket::new(record.data, record.wire_len));
        self.records.push(record);
    }

    /// Whether a packet must wait for those that are here to be decided.
    #[inline]
    fn is_full_for(&self, link: u16) -> bool {
        self.records.len() == MATCHED || self.records.last().is_some_and(|r| r.link != link)
    }

    /// Decides all; false if no more packets are wanted.
    fn decide(
        &mut self,
        matchers: &mut Matchers<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<bool, CliError> {
        let Some(first) = self.records.first() else {
            return Ok(true);
        };
        let mut results = [0; MATCHED];
        matchers
            .of(first.link)?
            .run_all(&self.packets, &mut results);
        for (record, result) in self.records.iter().zip(results) {
            if result != 0 && !sink.take(record)? {
                return Ok(false);
            }
        }
        self.records.clear();
        self.packets.clear();
        Ok(true)
    }
}

/// Takes packets until no more are wanted; what is wrong with the capture, if that is why they end.
fn run(
    capture: &mut Stream<impl Read>,
    matchers: &mut Matchers<'_>,
    sink: &mut Sink<'_>,
) -> Result<Option<StreamError>, CliError> {
    loop {
        let batch = match capture.batch() {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(error)),
        };
        let mut waiting = Waiting::default();
        let mut wrong = None;
        for record in batch {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    wrong = Some(error);
                    break;
                }
            };
            if waiting.is_full_for(record.link) && !waiting.decide(matchers, sink)? {
                return Ok(None);
            }
            waiting.push(record);
        }
        if !waiting.decide(matchers, sink)? {
            return Ok(None);
        }
        if wrong.is_some() {
            return Ok(wrong);
        }
        sink.flush()?;
    }
}
