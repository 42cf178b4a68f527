//! Captures from an interface, with the filter in the kernel.

use super::sink::Sink;
use super::{Args, compile};
use crate::cmd::seccomp::sock_filter;
use crate::error::{CliError, Outcome, io_text};
use crate::output::Output;
use skep::filter::{SNAPLEN, Target};
use skep_net::capture::Record;
use skep_net::write::Writer;
use skep_sys::packet::{PacketSocket, Received, interface_index};
use skep_sys::signal::Interrupts;
use std::time::SystemTime;

/// Milliseconds after which what is printed is handed on.
const POLL_MS: i32 = 200;

/// Captures until it is stopped, or has enough.
pub(super) fn capture(
    args: &Args,
    out: &mut Output,
    interface: &str,
    expression: &str,
    target: &Target<'_>,
) -> Result<Outcome, CliError> {
    let filter = compile(expression, target)?;
    if filter.has_loops() {
        return Err(CliError::usage(
            "\"protochain\" jumps backward, which the kernel does not run; capture first, filter the file",
        ));
    }
    let code = sock_filter(filter.code());
    let index = interface_index(interface)
        .map_err(|e| CliError::environment(format!("interface {interface}: {}", io_text(&e))))?;
    let socket = PacketSocket::open(index, &code).map_err(|e| {
        CliError::environment(format!("packet socket on {interface}: {}", io_text(&e)))
    })?;
    let stop = Interrupts::open().map_err(CliError::environment)?;
    let mut sink = Sink::new(args, out, target.link.0, |w| {
        Writer::new(w, target.link.0, SNAPLEN)
    })?;
    let mut buffer = vec![0; SNAPLEN as usize];
    loop {
        let received = socket
            .receive(&mut buffer, stop.descriptor(), POLL_MS)
            .map_err(CliError::environment)?;
        let (stored, length) = match received {
            Received::Packet { stored, length } => (stored, length),
            Received::Nothing => {
                sink.flush()?;
                continue;
            }
            Received::Stop => break,
        };
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let record = Record {
            time_ns: u64::try_from(now.as_nanos()).unwrap_or(0),
            wire_len: u32::try_from(length).unwrap_or(u32::MAX),
            data: &buffer[..stored],
            link: target.link.0,
            raw: None,
        };
        if !sink.take(&record)? {
            break;
        }
    }
    let accepted = sink.finish()?;
    let stats = socket.statistics().map_err(CliError::environment)?;
    eprintln!(
        "{accepted} packets captured, {} accepted by the filter in the kernel, {} dropped by the kernel",
        stats.received, stats.dropped
    );
    Ok(Outcome::Ok)
}
