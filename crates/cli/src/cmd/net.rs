//! `skep net`: programs on network devices.

use crate::error::{CliError, Outcome};
use crate::output::Output;
use serde_json::{Value as Json, json};
use skep::net::{Attached, Overview, overview};

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
}

/// Runs the verb.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    let Verb::Show { words } = &args.verb;
    let device = match words.as_slice() {
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
        out.json(&json!([json(&found)]))?;
    } else {
        text(&found, out)?;
    }
    Ok(Outcome::Ok)
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
