//! `skep prog dump xlated|jited`: the code of a program that is loaded into the kernel, or of an object as skep compiles it.

use super::machine;
use crate::cmd::noun::{self, Selector};
use crate::error::CliError;
use crate::output::Output;
use crate::render::value;
use serde_json::{Value as Json, json};
use skep::CodeKind;
use skep_bpf::ObjKind;
use skep_isa::{Slot, Style};
use std::path::Path;

/// Bytes of machine code printed on a line.
const LINE_BYTES: usize = 16;

/// Prints the code: `KIND PROGRAM [opcodes | file PATH]`.
pub(super) fn run(words: &[String], out: &mut Output) -> Result<(), CliError> {
    const USAGE: &str = "usage: skep prog dump xlated|jited PROGRAM [opcodes | file PATH], or skep prog dump jited OBJ [NAME] [first] [caps all|bpf]";
    let (kind, rest) = words.split_first().ok_or_else(|| CliError::usage(USAGE))?;
    if let ("jited", [object, options @ ..]) = (kind.as_str(), rest)
        && Path::new(object).is_file()
    {
        let request = machine::Request::parse(object, options);
        return machine::run(&request.ok_or_else(|| CliError::usage(USAGE))?, out);
    }
    let kind = match kind.as_str() {
        "xlated" => CodeKind::Xlated,
        "jited" => CodeKind::Jited,
        _ => return Err(CliError::usage(USAGE)),
    };
    let (program, options) = rest.split_at(rest.len().min(2));
    let selector = Selector::parse(program)?.ok_or_else(|| CliError::usage(USAGE))?;
    let kernel = noun::kernel();
    let opened = noun::select_one(&kernel, ObjKind::Prog, &selector)?;
    let code = kernel
        .prog_code(opened.handle, kind)
        .map_err(CliError::environment)?;
    if code.iter().all(|b| *b == 0) {
        return Err(CliError::environment(
            "the kernel does not show this code to us",
        ));
    }
    match options {
        [] => {}
        [word] if word == "opcodes" => {}
        [word, path] if word == "file" => {
            return std::fs::write(path, &code)
                .map_err(|e| CliError::environment(format!("{path}: {e}")));
        }
        _ => return Err(CliError::usage(USAGE)),
    }
    let opcodes = !options.is_empty();
    match kind {
        CodeKind::Xlated => xlated(&code, opcodes, out),
        CodeKind::Jited => jited(&code, out),
    }
}

/// Instructions after the verifier; what this program cannot decode (the kernel's private ones) is shown as bytes.
fn xlated(code: &[u8], opcodes: bool, out: &mut Output) -> Result<(), CliError> {
    let slots: Vec<Slot> = code
        .as_chunks::<8>()
        .0
        .iter()
        .map(|b| Slot::from_le_bytes(*b))
        .collect();
    let mut rows = Vec::new();
    let mut at = 0;
    while at < slots.len() {
        let (text, length) = match skep_isa::decode(&slots, at) {
            Ok(insn) => (
                skep_isa::Text::new(&insn, Style::Source).to_string(),
                insn.slots(),
            ),
            Err(_) => ("(of the kernel)".to_owned(), 1),
        };
        let bytes = &code[at * 8..(at + length) * 8];
        if out.is_json() {
            let mut row = json!({"disasm": text});
            if opcodes {
                row["opcodes"] = value::hex_list(bytes);
            }
            rows.push(row);
        } else {
            out.line(format_args!("{at:4}: {text}"))?;
            if opcodes {
                out.line(format_args!("       {}", value::hex(bytes)))?;
            }
        }
        at += length;
    }
    if out.is_json() {
        out.json(&rows.into_iter().collect::<Json>())
    } else {
        Ok(())
    }
}

/// Machine code as bytes.
fn jited(code: &[u8], out: &mut Output) -> Result<(), CliError> {
    if out.is_json() {
        return out.json(&json!([{"insns": [], "opcodes": value::hex_list(code)}]));
    }
    for (line, bytes) in code.chunks(LINE_BYTES).enumerate() {
        out.line(format_args!(
            "{:6x}: {}",
            line * LINE_BYTES,
            value::hex(bytes)
        ))?;
    }
    Ok(())
}
