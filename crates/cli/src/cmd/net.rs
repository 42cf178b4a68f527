//! `skep net`: programs on network devices.

use super::noun::{self, Selector};
use crate::error::{CliError, Outcome, io_text};
use crate::output::Output;
use serde_json::{Value as Json, json};
use skep::Kernel;
use skep::attach::{Order, Other};
use skep::net::{Attached, Overview, overview};
use skep_abi::AttachType;
use skep_bpf::{Backend, ObjKind};
use skep_sys::attr::ProgAttach;
use skep_sys::bpf_prog;

// Options of `skep net`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
#[command(defer = true)]
enum Verb {
    /// List the programs on the devices of this network namespace
    #[command(visible_alias = "list")]
    Show {
        /// Only this device: dev NAME
        words: Vec<String>,
    },
    /// Attach: xdp|xdpgeneric|xdpdrv PROGRAM dev NAME, perhaps overwrite, or
    /// tcx_ingress|tcx_egress|netkit_primary|netkit_peer PROGRAM dev NAME [first | before PROGRAM | after PROGRAM]
    Attach {
        /// Type, id N | pinned PATH | name NAME, dev NAME, perhaps the place
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Detach: TYPE dev NAME for XDP, TYPE PROGRAM dev NAME for others
    Detach {
        /// Type, then dev NAME
        #[arg(required = true)]
        words: Vec<String>,
    },
}

/// Runs the verb.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    match &args.verb {
        Verb::Show { words } => show(words, out)?,
        Verb::Attach { words } => change(words, Change::Attach)?,
        Verb::Detach { words } => change(words, Change::Detach)?,
    }
    Ok(Outcome::Ok)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Attach,
    Detach,
}

/// `XDP_FLAGS_*` by type.
const XDP: &[(&str, u32)] = &[
    ("xdp", 0),
    ("xdpgeneric", 1 << 1),
    ("xdpdrv", 1 << 2),
    ("xdpoffload", 1 << 3),
];
/// `XDP_FLAGS_UPDATE_IF_NOEXIST`
const XDP_NO_REPLACE: u32 = 1;
/// Hooks where programs stand in a row, by type.
const ROWS: &[(&str, AttachType)] = &[
    ("tcx_ingress", AttachType::TcxIngress),
    ("tcx_egress", AttachType::TcxEgress),
    ("netkit_primary", AttachType::NetkitPrimary),
    ("netkit_peer", AttachType::NetkitPeer),
];

fn usage() -> CliError {
    CliError::usage(
        "usage: skep net attach|detach TYPE [PROGRAM] dev NAME [overwrite | first | before PROGRAM | after PROGRAM]",
    )
}

/// Where a program goes that comes to others.
#[derive(PartialEq, Eq)]
enum Place {
    /// Behind them; XDP has room for one.
    Free,
    /// Instead of the one that is there.
    Overwrite,
    /// Before all.
    First,
    /// Before one.
    Before(Selector),
    /// Behind one.
    After(Selector),
}

impl Place {
    fn parse(words: &[String]) -> Result<Self, CliError> {
        let Some((word, other)) = words.split_first() else {
            return Ok(Self::Free);
        };
        match (word.as_str(), Selector::parse(other)?) {
            ("overwrite", None) => Ok(Self::Overwrite),
            ("first", None) => Ok(Self::First),
            ("before", Some(other)) => Ok(Self::Before(other)),
            ("after", Some(other)) => Ok(Self::After(other)),
            _ => Err(usage()),
        }
    }

    /// The library's word for it.
    fn order(&self, kernel: &Kernel) -> Result<Order, CliError> {
        let other = |selector| -> Result<Other, CliError> {
            let found = noun::select_one(kernel, ObjKind::Prog, selector)?;
            let info = kernel.prog_info(found.handle);
            Ok(Other::ProgramId(info.map_err(CliError::environment)?.id))
        };
        Ok(match self {
            Self::Free => Order::Last,
            Self::First => Order::First,
            Self::Before(selector) => Order::Before(other(selector)?),
            Self::After(selector) => Order::After(other(selector)?),
            Self::Overwrite => return Err(CliError::usage("only XDP programs are overwritten")),
        })
    }
}

fn change(words: &[String], change: Change) -> Result<(), CliError> {
    let kernel = noun::kernel();
    let (kind, rest) = words.split_first().ok_or_else(usage)?;
    let dev = rest.iter().position(|w| w == "dev").ok_or_else(usage)?;
    let (program, device) = rest.split_at(dev);
    let [_, device, place @ ..] = device else {
        return Err(usage());
    };
    let place = Place::parse(place)?;
    let failed =
        |e: std::io::Error| CliError::environment(format!("{device}: {kind}: {}", io_text(&e)));
    let ifindex = skep::net::ifindex(device).map_err(failed)?;
    let program = match Selector::parse(program)? {
        Some(selector) => Some(noun::select_one(&kernel, ObjKind::Prog, &selector)?),
        None => None,
    };
    let handle = program.as_ref().map(|p| p.handle);
    if let Some((_, mode)) = XDP.iter().find(|(name, _)| name == kind) {
        let flags = match (change, &place) {
            (Change::Attach, Place::Free) => mode | XDP_NO_REPLACE,
            (_, Place::Free | Place::Overwrite) => *mode,
            _ => return Err(CliError::usage("a device has room for one XDP program")),
        };
        let number = match change {
            Change::Attach => handle.ok_or_else(usage)?.0,
            Change::Detach => -1,
        };
        let mut socket = skep_sys::netlink::Socket::open().map_err(failed)?;
        return socket.xdp_set(ifindex, number, flags).map_err(failed);
    }
    let (_, attach_type) = ROWS
        .iter()
        .find(|(name, _)| name == kind)
        .ok_or_else(|| CliError::usage(format!("\"{kind}\" is no hook of a device")))?;
    let (attach_flags, relative_fd) = place.order(&kernel)?.parts();
    let attr = ProgAttach {
        target_fd: ifindex,
        attach_bpf_fd: handle.map_or(0, |h| h.0.cast_unsigned()),
        attach_type: attach_type.id(),
        attach_flags,
        relative_fd,
        ..ProgAttach::default()
    };
    match change {
        Change::Attach => bpf_prog::attach(&attr),
        Change::Detach => bpf_prog::detach(&attr),
    }
    .map_err(failed)
}

fn show(words: &[String], out: &mut Output) -> Result<(), CliError> {
    let device = match words {
        [] => None,
        [word, name] if word == "dev" => Some(name),
        _ => return Err(CliError::usage("usage: skep net show [dev NAME]")),
    };
    let mut found = overview().map_err(|e| CliError::environment(format!("netlink: {e}")))?;
    if let Some(name) = device {
        found.xdp.retain(|a| a.device == *name);
        found.tc.retain(|a| a.device == *name);
    }
    if out.is_json() {
        out.json(&json!([json(&found)]))
    } else {
        text(&found, out)
    }
}

/// bpftool's fields.
fn json(found: &Overview) -> Json {
    let xdp = found.xdp.iter().map(
        |a| json!({"devname": a.device, "ifindex": a.ifindex, "mode": a.kind, "id": a.prog_id}),
    );
    let tc = found.tc.iter().map(|a| {
        let mut row = json!({"devname": a.device, "ifindex": a.ifindex, "kind": a.kind});
        if !a.filter.is_empty() {
            row["name"] = json!(a.filter);
        }
        row["id"] = json!(a.prog_id);
        row
    });
    let dissectors = found.flow_dissectors.iter().map(|id| json!({"id": id}));
    json!({
        "xdp": xdp.collect::<Json>(), "tc": tc.collect::<Json>(), "flow_dissector": dissectors.collect::<Json>(),
    })
}

fn text(found: &Overview, out: &mut Output) -> Result<(), CliError> {
    let line = |a: &Attached| {
        let name = if a.filter.is_empty() {
            String::new()
        } else {
            format!(" {}", a.filter)
        };
        format!(
            "{}({}) {}{name} id {}",
            a.device, a.ifindex, a.kind, a.prog_id
        )
    };
    out.line("xdp:")?;
    for attached in &found.xdp {
        out.line(line(attached))?;
    }
    out.line("\ntc:")?;
    for attached in &found.tc {
        out.line(line(attached))?;
    }
    out.line("\nflow_dissector:")?;
    for id in &found.flow_dissectors {
        out.line(format_args!("id {id}"))?;
    }
    Ok(())
}
