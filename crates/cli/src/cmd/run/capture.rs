//! Running packet programs over a capture.

use super::emit::Streams;
use crate::error::{CliError, io_text};
use crate::output::Output;
use serde_json::json;
use skep::load::{Loaded, LoadedProgram};
use skep::test_run::{self, Input, Shape};
use skep_abi::ProgType;
use skep_net::capture::{self, ETHERNET};
use skep_object::SlotInit;
use std::collections::BTreeMap;
use std::path::Path;

/// The packets of a capture.
pub(super) struct Capture {
    packets: Vec<Vec<u8>>,
}

/// Reads a capture of Ethernet packets.
pub(super) fn read(path: &Path) -> Result<Capture, CliError> {
    let place = path.display();
    let bytes = std::fs::read(path)
        .map_err(|e| CliError::environment(format!("{place}: {}", io_text(&e))))?;
    let packets =
        capture::read(&bytes).map_err(|e| CliError::environment(format!("{place}: {e}")))?;
    if let Some(other) = packets.iter().find(|p| p.link != ETHERNET) {
        let text = format!(
            "{place}: packets have link type {}, programs expect Ethernet",
            other.link
        );
        return Err(CliError::environment(text));
    }
    Ok(Capture {
        packets: packets.iter().map(|p| p.data.to_vec()).collect(),
    })
}

/// Names of return values, by program type.
const VERDICTS: &[(ProgType, &[&str])] = &[
    (
        ProgType::Xdp,
        &[
            "XDP_ABORTED",
            "XDP_DROP",
            "XDP_PASS",
            "XDP_TX",
            "XDP_REDIRECT",
        ],
    ),
    (
        ProgType::SchedCls,
        &[
            "TC_ACT_OK",
            "TC_ACT_RECLASSIFY",
            "TC_ACT_SHOT",
            "TC_ACT_PIPE",
            "TC_ACT_STOLEN",
            "TC_ACT_QUEUED",
        ],
    ),
];

fn verdict(prog_type: ProgType, retval: u32) -> String {
    let names = VERDICTS
        .iter()
        .find(|(t, _)| *t == prog_type)
        .map(|(_, names)| *names);
    let name = names.and_then(|n| n.get(retval as usize));
    name.map_or_else(|| retval.to_string(), |n| (*n).to_owned())
}

/// Packet programs that are not merely targets of tail calls.
fn entries(loaded: &Loaded) -> Vec<&LoadedProgram> {
    let is_target = |name: &str| {
        let mut slots = loaded.maps.iter().flat_map(|m| &m.spec.slots);
        slots.any(|(_, slot)| matches!(slot, SlotInit::Program(p) if p == name))
    };
    let packets = |p: &&LoadedProgram| test_run::shape(p.spec.prog_type) == Shape::Packet;
    loaded
        .programs
        .iter()
        .filter(packets)
        .filter(|p| !is_target(&p.spec.name))
        .collect()
}

/// Gives every packet to every packet program, in order.
pub(super) fn run(
    loaded: &Loaded,
    capture: &Capture,
    streams: &mut Streams<'_>,
    out: &mut Output,
) -> Result<(), CliError> {
    let programs = entries(loaded);
    if programs.is_empty() {
        return Err(CliError::usage(
            "the object has no program that takes packets",
        ));
    }
    let mut verdicts: BTreeMap<(&str, String), u64> = BTreeMap::new();
    for (number, packet) in capture.packets.iter().enumerate() {
        for program in &programs {
            let prog_type = program.spec.prog_type;
            let input = Input {
                data: Some(packet.clone()),
                ctx: None,
            };
            let run = test_run::run(
                loaded.backend().as_ref(),
                program.handle,
                prog_type,
                &input,
                1,
            );
            let result =
                run.map_err(|e| CliError::environment(format!("packet {}: {e}", number + 1)))?;
            *verdicts
                .entry((&program.spec.name, verdict(prog_type, result.retval)))
                .or_default() += 1;
            streams.print(out)?;
        }
    }
    for ((program, verdict), count) in verdicts {
        if out.is_json() {
            out.json(&json!({
                "schema": 1, "kind": "verdicts", "program": program, "verdict": verdict, "packets": count,
            }))?;
        } else {
            out.line(format_args!("{program}: {count} × {verdict}"))?;
        }
    }
    Ok(())
}
