//! `skep map batch`: many elements in one call of `bpf(2)` (`BPF_MAP_LOOKUP_BATCH` and its kin, Linux 5.6).

use super::one;
use crate::cmd::noun;
use crate::error::{CliError, io_text};
use crate::output::Output;
use crate::render::element::Typed;
use serde_json::{Value as Json, json};
use skep::element::{Element, value_bytes};
use skep_bpf::{Backend, BatchCursor, Handle, MapInfo};
use std::path::Path;

/// Elements of one call unless said otherwise.
pub(super) const COUNT: u32 = 256;
/// Bytes of a file of elements at most.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Does what the words say.
pub(super) fn run(
    backend: &dyn Backend,
    words: &[String],
    count: u32,
    out: &mut Output,
) -> Result<(), CliError> {
    let (map, rest) = words.split_at(words.len().min(2));
    let opened = one(backend, map)?;
    let map = opened.handle;
    let info = backend.map_info(map).map_err(CliError::environment)?;
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let count = count.max(1) as usize;
    let of_file = |file: &str| elements(Path::new(file), &info, value_bytes(backend, &info));
    match rest.as_slice() {
        ["dump"] => read(backend, map, &info, Reading { count, take: false }, out),
        ["take"] => read(backend, map, &info, Reading { count, take: true }, out),
        ["update", file] => change(&of_file(file)?, count, out, |keys, values| {
            backend.map_update_batch(map, keys, values, 0)
        }),
        ["delete", file] => change(&of_file(file)?, count, out, |keys, _| {
            backend.map_delete_batch(map, keys, 0)
        }),
        _ => Err(CliError::usage(
            "usage: skep map batch MAP dump | take | update FILE | delete FILE",
        )),
    }
}

/// How elements are read.
#[derive(Clone, Copy)]
struct Reading {
    /// Elements of one call.
    count: usize,
    /// They are deleted as well.
    take: bool,
}

fn read(
    backend: &dyn Backend,
    map: Handle,
    info: &MapInfo,
    reading: Reading,
    out: &mut Output,
) -> Result<(), CliError> {
    let (key_bytes, value_bytes) = (info.key_size as usize, value_bytes(backend, info));
    let mut keys = vec![0; key_bytes * reading.count];
    let mut values = vec![0; value_bytes * reading.count];
    let mut cursor = BatchCursor::default();
    let mut elements = Vec::new();
    loop {
        let read = backend
            .map_lookup_batch(map, &mut cursor, &mut keys, &mut values, reading.take, 0)
            .map_err(CliError::environment)? as usize;
        let pairs = keys
            .chunks_exact(key_bytes.max(1))
            .zip(values.chunks_exact(value_bytes.max(1)));
        elements.extend(pairs.take(read).map(|(key, value)| Element {
            key: key.to_vec(),
            value: value.to_vec(),
        }));
        if read == 0 || elements.len() > 2 * info.max_entries as usize {
            break;
        }
    }
    let btf = noun::btf(backend, info.btf_id);
    let typed = Typed {
        info,
        btf: btf.as_ref(),
    };
    if out.is_json() {
        return out.json(&elements.iter().map(|e| typed.json(e)).collect::<Json>());
    }
    for element in &elements {
        out.line(typed.line(element))?;
    }
    out.line(format_args!("Found {} elements", elements.len()))
}

/// Changes a map by `apply`, which takes keys and values of `count` elements at a time; says how many elements were changed, and
/// fails with what stopped the rest.
fn change(
    elements: &[Element],
    count: usize,
    out: &mut Output,
    apply: impl Fn(&[u8], &[u8]) -> (u32, skep_bpf::Result<()>),
) -> Result<(), CliError> {
    let mut done = 0;
    for part in elements.chunks(count) {
        let keys: Vec<u8> = part.iter().flat_map(|e| &e.key).copied().collect();
        let values: Vec<u8> = part.iter().flat_map(|e| &e.value).copied().collect();
        let (some, ended) = apply(&keys, &values);
        done += some;
        ended.map_err(|e| CliError::environment(format!("after {done} elements: {e}")))?;
    }
    if out.is_json() {
        return out.json(&json!({"elements": done}));
    }
    out.line(format_args!("{done} elements"))
}

/// The elements of a file: JSON as `map dump -j` and `map batch MAP dump -j` print it.
fn elements(file: &Path, info: &MapInfo, value_bytes: usize) -> Result<Vec<Element>, CliError> {
    let place = file.display();
    let failed = |e: std::io::Error| CliError::environment(format!("{place}: {}", io_text(&e)));
    let size = std::fs::metadata(file).map_err(failed)?.len();
    if size > FILE_BYTES_MAX {
        return Err(CliError::environment(format!("{place}: larger than 1 GiB")));
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    let wrong = |at: usize| {
        CliError::environment(format!(
            "{place}: element {at} is not one of this map: {} bytes of key and {value_bytes} of value are wanted",
            info.key_size
        ))
    };
    let json: Json =
        serde_json::from_str(&text).map_err(|e| CliError::environment(format!("{place}: {e}")))?;
    let rows = json.as_array().ok_or_else(|| wrong(0))?;
    let mut elements = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let key = bytes(&row["key"]).filter(|k| k.len() == info.key_size as usize);
        let value = match row["values"].as_array() {
            Some(parts) => per_cpu(parts, info.value_size as usize),
            None => bytes(&row["value"]),
        };
        let (key, value) = key
            .zip(value.filter(|v| v.len() == value_bytes))
            .ok_or_else(|| wrong(at))?;
        elements.push(Element { key, value });
    }
    Ok(elements)
}

/// Values of CPUs, each padded to 8 bytes.
fn per_cpu(parts: &[Json], size: usize) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    for part in parts {
        let mut value = bytes(&part["value"]).filter(|v| v.len() == size)?;
        value.resize(size.next_multiple_of(8), 0);
        all.extend(value);
    }
    Some(all)
}

/// A list of hexadecimal bytes.
fn bytes(list: &Json) -> Option<Vec<u8>> {
    let byte = |word: &Json| u8::from_str_radix(word.as_str()?.strip_prefix("0x")?, 16).ok();
    list.as_array()?.iter().map(byte).collect()
}
