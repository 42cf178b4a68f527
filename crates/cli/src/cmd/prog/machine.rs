//! Machine code of an object's program as skep compiles it, between its BPF instructions and source lines.

use crate::cmd::open::{self, CapsArg, Chosen, EngineOptions};
use crate::error::CliError;
use crate::output::Output;
use crate::render::value;
use clap::ValueEnum;
use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter};
use serde_json::{Value as Json, json};
use skep::test_run;
use skep_isa::{Slot, Style, Text};
use skep_user::listing::{Function, Listing, SourceLine, Which};
use std::path::Path;
use std::sync::Arc;

/// Bytes of the longest instructions that share a column with their text.
const COLUMN_BYTES: usize = 11;

/// What to print: `OBJ [NAME] [first] [caps all|bpf]`.
pub(super) struct Request<'a> {
    object: &'a str,
    program: Option<&'a str>,
    which: Which,
    caps: CapsArg,
}

impl<'a> Request<'a> {
    /// Reads the words behind the object; `None` if they mean nothing.
    pub(super) fn parse(object: &'a str, words: &'a [String]) -> Option<Self> {
        let mut request = Self {
            object,
            program: None,
            which: Which::Best,
            caps: CapsArg::All,
        };
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "first" => request.which = Which::Current,
                "caps" => request.caps = CapsArg::from_str(words.next()?, false).ok()?,
                name if request.program.is_none() => request.program = Some(name),
                _ => return None,
            }
        }
        Some(request)
    }
}

/// Prints the code of a program of an object; of the only one if none is named.
pub(super) fn run(request: &Request<'_>, out: &mut Output) -> Result<(), CliError> {
    let &Request {
        object,
        program,
        which,
        caps,
    } = request;
    let file = open::object(Path::new(object))?;
    let engine = EngineOptions {
        caps,
        ..EngineOptions::JIT
    };
    let universe = open::universe(&engine, Some(&file))?;
    let chosen = Chosen {
        backend: Arc::new(universe.clone()),
        automatic: false,
    };
    let linked = open::link(&file, &chosen)?;
    let name = match (program, linked.programs.as_slice()) {
        (Some(name), _) => name.to_owned(),
        (None, [only]) => only.name.clone(),
        (None, _) => {
            return Err(CliError::usage(
                "the object has several programs; name one behind it",
            ));
        }
    };
    let loaded = test_run::load_one(&linked, &chosen.backend, &name, None)
        .map_err(|e| open::refused(&e, object.as_ref(), chosen.backend.kind()))?;
    let handle = loaded
        .program(&name)
        .ok_or_else(|| CliError::usage(format!("{object} has no program \"{name}\"")))?
        .handle;
    let listing = universe
        .prog_listing(handle, which)
        .map_err(CliError::environment)?;
    print(&listing, out)
}

/// A stretch of code that was made from one slot.
struct Stretch<'a> {
    func: Option<&'a Function>,
    line: Option<&'a SourceLine>,
    slot: Option<usize>,
    insns: Vec<MachineInsn>,
}

struct MachineInsn {
    at: usize,
    bytes: Vec<u8>,
    text: String,
}

fn print(listing: &Listing, out: &mut Output) -> Result<(), CliError> {
    let stretches = stretches(listing);
    if out.is_json() {
        let rows: Json = stretches.iter().map(|s| json_of(listing, s)).collect();
        return out.json(&rows);
    }
    let mut shown = None;
    for s in &stretches {
        if let Some(f) = s.func {
            out.line(format_args!(
                "{:016x} <{}>:",
                listing.base + u64::from(f.start),
                f.name
            ))?;
        }
        if let Some(line) = s.line.filter(|l| shown != Some(l.slot)) {
            out.line(format_args!(
                "; {} ({}:{})",
                line.text, line.file, line.line
            ))?;
            shown = Some(line.slot);
        }
        if let Some(slot) = s.slot {
            out.line(format_args!("{slot:4}: {}", bpf_text(&listing.insns, slot)))?;
        }
        for i in &s.insns {
            let bytes = value::hex(&i.bytes);
            let width = COLUMN_BYTES * 3;
            out.line(format_args!("    {:6x}: {bytes:width$} {}", i.at, i.text))?;
        }
    }
    Ok(())
}

/// Cuts the code where the slot it comes from changes, and at functions.
fn stretches(listing: &Listing) -> Vec<Stretch<'_>> {
    let mut cuts: Vec<usize> = listing.rows.iter().map(|r| r.code as usize).collect();
    cuts.extend(listing.funcs.iter().map(|f| f.start as usize));
    cuts.extend([0, listing.code.len()]);
    cuts.sort_unstable();
    cuts.dedup();
    let slot_at = |at: usize| {
        let after = listing.rows.partition_point(|r| r.code as usize <= at);
        let row = listing.rows.get(after.checked_sub(1)?)?;
        Some(row.slot as usize)
    };
    let line_at = |slot: usize| {
        let after = listing.lines.partition_point(|l| l.slot as usize <= slot);
        listing.lines.get(after.checked_sub(1)?)
    };
    let stretch = |ends: &[usize]| {
        let slot = slot_at(ends[0]);
        Stretch {
            func: listing.funcs.iter().find(|f| f.start as usize == ends[0]),
            line: slot.and_then(line_at),
            slot,
            insns: machine_insns(listing, ends[0], ends[1]),
        }
    };
    cuts.windows(2).map(stretch).collect()
}

fn machine_insns(listing: &Listing, start: usize, end: usize) -> Vec<MachineInsn> {
    let bytes = listing.code.get(start..end).unwrap_or_default();
    let ip = listing.base + start as u64;
    let mut decoder = Decoder::with_ip(64, bytes, ip, DecoderOptions::NONE);
    let mut formatter = GasFormatter::new();
    let mut insns = Vec::new();
    while decoder.can_decode() {
        let from = decoder.position();
        let insn = decoder.decode();
        let mut text = String::new();
        formatter.format(&insn, &mut text);
        insns.push(MachineInsn {
            at: start + from,
            bytes: bytes[from..decoder.position()].to_vec(),
            text,
        });
    }
    insns
}

fn bpf_text(insns: &[Slot], slot: usize) -> String {
    match skep_isa::decode(insns, slot) {
        Ok(insn) => Text::new(&insn, Style::Source).to_string(),
        Err(_) => "(not an instruction)".to_owned(),
    }
}

fn json_of(listing: &Listing, s: &Stretch<'_>) -> Json {
    let insns: Json = s
        .insns
        .iter()
        .map(|i| json!({"pc": format!("{:#x}", i.at), "operation": i.text, "opcodes": value::hex_list(&i.bytes)}))
        .collect();
    let mut row = json!({});
    if let Some(f) = s.func {
        row["func"] = json!(f.name);
    }
    if let Some(l) = s.line {
        row["file"] = json!(l.file);
        row["line"] = json!(l.line);
        row["src"] = json!(l.text);
    }
    if let Some(slot) = s.slot {
        row["insn"] = json!(slot);
        row["disasm"] = json!(bpf_text(&listing.insns, slot));
    }
    row["insns"] = insns;
    row
}
