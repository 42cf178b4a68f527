//! `skep filter EXPR`: packets of a file or an interface, by an expression of pcap-filter(7).

mod file;
mod live;
mod sink;

use crate::error::{CliError, Outcome, io_text};
use crate::output::Output;
use skep::filter::{Filter, LinkType, Names, SNAPLEN, Source, Target};
use skep_cbpf::text::{Form, print};
use skep_cbpf::translate::{Access, Options, translate};
use skep_cbpf::{Insn, LongShift};
use skep_isa::{Style, Text};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

// Options of `skep filter`.
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
    /// Print sequence numbers of TCP as they are, not from the beginning of the conversation
    #[arg(short = 'S', long = "absolute")]
    absolute: bool,
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
    let source = match (&args.read, &args.interface) {
        (Some(_), _) => Source::File { big_endian: false },
        (None, Some(_)) => Source::Live,
        (None, None) => Source::Unknown,
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
        (Some(path), _) => file::filter(args, out, path, &expression, &target),
        (None, Some(interface)) if args.dump == 0 && !args.ebpf => {
            live::capture(args, out, interface, &expression, &target)
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

fn at(path: &Path, error: &io::Error) -> CliError {
    CliError::environment(format!("{}: {}", path.display(), io_text(error)))
}
