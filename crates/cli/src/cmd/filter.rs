//! `skep filter EXPR`: packets of a file or an interface, by an expression of pcap-filter(7).

use crate::error::{CliError, Outcome, io_text};
use crate::output::Output;
use serde_json::json;
use skep::filter::{Filter, LinkType, Matcher, Names, SNAPLEN, Source, Target};
use skep_cbpf::text::{Form, print};
use skep_cbpf::translate::{Access, Options, translate};
use skep_cbpf::{Insn, LongShift};
use skep_isa::{Style, Text};
use skep_net::capture::{Record, Writer};
use skep_net::line::Line;
use skep_net::stream::Stream;
use skep_sys::packet::{PacketSocket, Received, interface_index};
use skep_sys::signal::Interrupts;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Options of `skep filter`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The expression, as in tcpdump; several words are joined
    #[arg(value_name = "EXPR", trailing_var_arg = false)]
    expression: Vec<String>,
    /// Read packets from a file of pcap or pcapng ("-": standard input)
    #[arg(
        short = 'r',
        long = "read",
        value_name = "FILE",
        conflicts_with = "interface"
    )]
    read: Option<PathBuf>,
    /// Capture from an interface; the filter runs in the kernel
    #[arg(short = 'i', long = "interface", value_name = "IF")]
    interface: Option<String>,
    /// Write accepted packets to a file ("-": standard output)
    #[arg(short = 'w', long = "write", value_name = "FILE")]
    write: Option<PathBuf>,
    /// Stop after so many accepted packets
    #[arg(short = 'c', value_name = "N")]
    limit: Option<u64>,
    /// Print only how many packets are accepted
    #[arg(long)]
    count: bool,
    /// Print the code instead: -d to read, -dd as C, -ddd as numbers
    #[arg(short = 'd', action = clap::ArgAction::Count)]
    dump: u8,
    /// With -d: print the code as eBPF
    #[arg(long)]
    ebpf: bool,
    /// Write the filter as an XDP program instead: an object whose program passes what is accepted and drops the rest
    #[arg(long, value_name = "OBJ", conflicts_with_all = ["read", "interface", "write"])]
    xdp: Option<PathBuf>,
    /// Link type of the code, if it is not that of a file: EN10MB, RAW, LINUX_SLL, IEEE802_11_RADIO and so on
    #[arg(short = 'y', long = "link-type", value_name = "TYPE")]
    link: Option<String>,
    /// Netmask of the interface, for "ip broadcast"
    #[arg(long, value_name = "MASK", default_value = "0.0.0.0")]
    netmask: std::net::Ipv4Addr,
}

/// Does it.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    let expression = args.expression.join(" ");
    let names = system_names();
    let link = match &args.link {
        None => None,
        Some(name) => Some(LinkType::by_name(name).ok_or_else(|| {
            let known: Vec<&str> = LinkType::all().filter_map(LinkType::name).collect();
            CliError::usage(format!(
                "no link type {name:?}; there are {}",
                known.join(", ")
            ))
        })?),
    };
    let source = if args.interface.is_some() {
        Source::Live
    } else {
        Source::File { big_endian: false }
    };
    let target = Target {
        link: link.unwrap_or(LinkType::ETHERNET),
        source,
        snaplen: SNAPLEN,
        netmask: Some(u32::from(args.netmask)),
        names: &names,
    };
    if let Some(path) = &args.xdp {
        let filter = compile(&expression, &target)?;
        write_xdp(path, filter.code())?;
        return Ok(Outcome::Ok);
    }
    match (&args.read, &args.interface) {
        (Some(path), _) => from_file(args, out, path, &expression, &target),
        (None, Some(interface)) if args.dump == 0 && !args.ebpf => {
            live(args, out, interface, &expression, &target)
        }
        _ if args.dump > 0 || args.ebpf => {
            let filter = compile(&expression, &target)?;
            dump(args, out, filter.code())?;
            Ok(Outcome::Ok)
        }
        _ => Err(CliError::usage(
            "name a file (-r) or an interface (-i), or print the code (-d)",
        )),
    }
}

/// Names of hosts, nets, ports and protocols, from the usual files; a missing file has no names.
fn system_names() -> Names {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    Names::default()
        .with_hosts(&text("/etc/hosts"))
        .with_networks(&text("/etc/networks"))
        .with_services(&text("/etc/services"))
        .with_protocols(&text("/etc/protocols"))
        .with_ethers(&text("/etc/ethers"))
}

fn compile(expression: &str, target: &Target<'_>) -> Result<Filter, CliError> {
    Filter::compile(expression, target).map_err(|e| CliError::usage(e.explain(expression)))
}

/// Writes an object with one XDP program, `filter`.
fn write_xdp(path: &Path, code: &[Insn]) -> Result<(), CliError> {
    const XDP_DROP: i32 = 1;
    const XDP_PASS: i32 = 2;
    const NAME: &str = "filter";
    let options = Options {
        access: Access::Direct,
        long_shift: LongShift::Zero,
        verdicts: Some((XDP_PASS, XDP_DROP)),
        wire_length: None,
    };
    let slots = translate(code, &options).map_err(CliError::environment)?;
    let mut text = format!("    .section xdp,\"ax\",@progbits\n    .globl {NAME}\n{NAME}:\n");
    for slot in &slots {
        let bytes: Vec<String> = slot.to_le_bytes().iter().map(u8::to_string).collect();
        text.push_str(&format!("    .byte {}\n", bytes.join(", ")));
    }
    text.push_str(&format!(
        "    .size {NAME}, .-{NAME}\n    .type {NAME},@function\n    .section license,\"aw\",@progbits\n    .asciz \"Dual MIT/GPL\"\n"
    ));
    let assembly = skep_isa::asm::assemble(&text, &skep_isa::asm::Options::default())
        .map_err(|errors| CliError::environment(format!("{}", errors[0])))?;
    let bytes = skep_object::write::write(&assembly).map_err(CliError::environment)?;
    fs::write(path, bytes).map_err(|e| at(path, &e))
}

fn dump(args: &Args, out: &mut Output, code: &[Insn]) -> Result<(), CliError> {
    if args.ebpf {
        let options = Options {
            access: Access::Socket,
            long_shift: LongShift::Zero,
            verdicts: None,
            wire_length: None,
        };
        let slots = translate(code, &options).map_err(CliError::environment)?;
        for (at, insn) in skep_isa::insns(&slots) {
            let insn = insn.map_err(CliError::environment)?;
            out.line(format_args!("{at:4}: {}", Text::new(&insn, Style::Source)))?;
        }
        return Ok(());
    }
    let form = match args.dump {
        1 => Form::Readable,
        2 => Form::C,
        _ => Form::Decimal,
    };
    out.line(print(code, form).trim_end())
}

/// Where accepted packets go.
struct Sink<'o> {
    out: &'o mut Output,
    writer: Option<Writer<Box<dyn Write>>>,
    quiet: bool,
    accepted: u64,
    limit: u64,
}

impl<'o> Sink<'o> {
    fn new(
        args: &Args,
        out: &'o mut Output,
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
            quiet: args.count,
            accepted: 0,
            limit: args.limit.unwrap_or(u64::MAX),
        })
    }

    /// Takes an accepted packet; false if no more are wanted.
    fn take(&mut self, record: &Record<'_>) -> Result<bool, CliError> {
        self.accepted += 1;
        if let Some(writer) = &mut self.writer {
            writer.write(record)?;
        } else if !self.quiet {
            self.out.line(Line {
                time_ns: record.time_ns,
                data: record.data,
                wire_len: record.wire_len,
                link: record.link,
            })?;
        }
        Ok(self.accepted < self.limit)
    }

    fn finish(self) -> Result<u64, CliError> {
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

fn at(path: &Path, error: &io::Error) -> CliError {
    CliError::environment(format!("{}: {}", path.display(), io_text(error)))
}

fn open(path: &Path) -> Result<Box<dyn Read>, CliError> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    Ok(Box::new(File::open(path).map_err(|e| at(path, &e))?))
}

fn from_file(
    args: &Args,
    out: &mut Output,
    path: &Path,
    expression: &str,
    target: &Target<'_>,
) -> Result<Outcome, CliError> {
    let place = path.display();
    let mut capture =
        Stream::new(open(path)?).map_err(|e| CliError::environment(format!("{place}: {e}")))?;
    let big_endian = capture.is_big_endian();
    let for_link = |number: u16| -> Result<Filter, CliError> {
        let target = Target {
            link: LinkType::of_file(number),
            source: Source::File { big_endian },
            ..*target
        };
        compile(expression, &target)
    };
    let mut current: Option<(u16, Matcher)> = None;
    if let Some(link) = capture.link() {
        current = Some((link, Matcher::new(for_link(link)?)));
    }
    let header = capture.classic_header().map(<[u8]>::to_vec);
    // A file of several link types tells the first with its first packet.
    let mut first = None;
    if current.is_none() {
        first = capture.next_record().map(|record| record.map(Owned::of));
    }
    let link = match (&current, &first) {
        (Some((link, _)), _) => *link,
        (None, Some(Ok(record))) => record.link,
        _ => LinkType::ETHERNET.0,
    };
    if args.dump > 0 || args.ebpf {
        dump(args, out, for_link(link)?.code())?;
        return Ok(Outcome::Ok);
    }
    let mut sink = Sink::new(args, out, |w| match &header {
        Some(header) => Writer::like(w, header),
        None => Writer::new(w, link, SNAPLEN),
    })?;
    let mut outcome = Outcome::Ok;
    loop {
        let held = first.take();
        let record = match &held {
            Some(Ok(owned)) => Some(Ok(owned.record())),
            Some(Err(error)) => Some(Err(error.to_string())),
            None => capture
                .next_record()
                .map(|record| record.map_err(|e| e.to_string())),
        };
        let record = match record {
            None => break,
            Some(Ok(record)) => record,
            Some(Err(error)) => {
                eprintln!("skep: {place}: {error}");
                outcome = Outcome::Environment;
                break;
            }
        };
        let matcher = match &mut current {
            Some((link, matcher)) if *link == record.link => matcher,
            _ => {
                let matcher = Matcher::new(for_link(record.link)?);
                &mut current.insert((record.link, matcher)).1
            }
        };
        if matcher.matches(record.data, record.wire_len) && !sink.take(&record)? {
            break;
        }
    }
    sink.finish()?;
    Ok(outcome)
}

/// A packet that was read ahead.
struct Owned {
    time_ns: u64,
    wire_len: u32,
    link: u16,
    data: Vec<u8>,
}

impl Owned {
    fn of(record: Record<'_>) -> Self {
        Self {
            time_ns: record.time_ns,
            wire_len: record.wire_len,
            link: record.link,
            data: record.data.to_vec(),
        }
    }

    fn record(&self) -> Record<'_> {
        Record {
            time_ns: self.time_ns,
            wire_len: self.wire_len,
            link: self.link,
            data: &self.data,
            raw: None,
        }
    }
}

/// Milliseconds after which what is printed is handed on.
const POLL_MS: i32 = 200;

fn live(
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
    let code: Vec<_> = filter
        .code()
        .iter()
        .map(|i| (i.code, i.jt, i.jf, i.k))
        .collect();
    let index = interface_index(interface)
        .map_err(|e| CliError::environment(format!("interface {interface}: {}", io_text(&e))))?;
    let socket = PacketSocket::open(index, &code).map_err(|e| {
        CliError::environment(format!("packet socket on {interface}: {}", io_text(&e)))
    })?;
    let stop = Interrupts::open().map_err(CliError::environment)?;
    let mut sink = Sink::new(args, out, |w| Writer::new(w, target.link.0, SNAPLEN))?;
    let mut buffer = vec![0; SNAPLEN as usize];
    loop {
        let received = socket
            .receive(&mut buffer, stop.descriptor(), POLL_MS)
            .map_err(CliError::environment)?;
        let (stored, length) = match received {
            Received::Packet { stored, length } => (stored, length),
            Received::Nothing => {
                sink.out.flush()?;
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
