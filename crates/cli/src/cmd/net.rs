//! `skep net`: programs on network devices.

use super::noun::{self, Selector};
use crate::error::{CliError, Outcome, io_text};
use crate::output::Output;
use serde_json::{Value as Json, json};
use skep::net::{Attached, Overview, overview};
use skep_abi::AttachType;
use skep_bpf::ObjKind;
use skep_sys::attr::ProgAttach;
use skep_sys::bpf_prog;

/// Options of `skep net`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List the programs on the devices of this network namespace
    #[command(visible_alias = "list")]
    Show {
        /// Only this device: dev NAME
        words: Vec<String>,
    },
    /// Attach: xdp|xdpgeneric|xdpdrv|tcx_ingress|tcx_egress PROGRAM dev NAME; overwrite replaces what is there
    Attach {
        /// Type, id N | pinned PATH | name NAME, dev NAME
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Detach: TYPE dev NAME for XDP, TYPE PROGRAM dev NAME for tcx
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
/// Hooks of traffic control by type.
const TCX: &[(&str, AttachType)] = &[
    ("tcx_ingress", AttachType::TcxIngress),
    ("tcx_egress", AttachType::TcxEgress),
];

fn change(words: &[String], change: Change) -> Result<(), CliError> {
    let kernel = noun::kernel();
    let usage =
        || CliError::usage("usage: skep net attach|detach TYPE [PROGRAM] dev NAME [overwrite]");
    let (kind, rest) = words.split_first().ok_or_else(usage)?;
    let place = rest.iter().position(|w| w == "dev").ok_or_else(usage)?;
    let (program, device) = rest.split_at(place);
    let (device, overwrite) = match device {
        [_, device] => (device, false),
        [_, device, word] if word == "overwrite" => (device, true),
        _ => return Err(usage()),
    };
    let failed =
        |e: std::io::Error| CliError::environment(format!("{device}: {kind}: {}", io_text(&e)));
    let ifindex = skep::net::ifindex(device).map_err(failed)?;
    let program = match Selector::parse(program)? {
        Some(selector) => Some(noun::select_one(&kernel, ObjKind::Prog, &selector)?),
        None => None,
    };
    let handle = program.as_ref().map(|p| p.handle.0);
    if let Some((_, flags)) = XDP.iter().find(|(name, _)| name == kind) {
        let keep = if overwrite || change == Change::Detach {
            0
        } else {
            XDP_NO_REPLACE
        };
        let number = match change {
            Change::Attach => handle.ok_or_else(usage)?,
            Change::Detach => -1,
        };
        let mut socket = skep_sys::netlink::Socket::open().map_err(failed)?;
        return socket
            .xdp_set(ifindex, number, flags | keep)
            .map_err(failed);
    }
    let hook = TCX.iter().find(|(name, _)| name == kind);
    let (_, attach_type) =
        hook.ok_or_else(|| CliError::usage(format!("\"{kind}\" is no hook of a device")))?;
    let attr = ProgAttach {
        target_fd: ifindex,
        attach_bpf_fd: handle.unwrap_or(0).cast_unsigned(),
        attach_type: attach_type.id(),
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
