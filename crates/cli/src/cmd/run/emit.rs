//! What programs emit, and what their maps hold in the end.

use crate::error::CliError;
use crate::output::Output;
use crate::render::element::Typed;
use crate::render::value;
use serde_json::{Value as Json, json};
use skep::element;
use skep::events::Decoder;
use skep::load::{Loaded, LoadedMap};
use skep::value::Value;
use skep_abi::MapType;
use skep_bpf::{Event, EventReader};
use skep_isa::{Call, Insn};
use skep_object::MapKind;
use std::os::fd::RawFd;

/// Helpers that print into the trace stream.
const TRACE_HELPERS: &[i32] = &[6, 177];

/// The event streams of a loaded object.
pub(super) struct Streams<'a> {
    maps: Vec<(&'a str, Option<Decoder<'a>>, Box<dyn EventReader>)>,
    trace: Option<Box<dyn EventReader>>,
}

impl<'a> Streams<'a> {
    /// Opens every ring buffer and perf event array, and the trace stream if some program prints there.
    pub(super) fn open(loaded: &'a Loaded) -> Result<Self, CliError> {
        let backend = loaded.backend();
        let mut maps = Vec::new();
        for map in &loaded.maps {
            if !matches!(
                map.spec.map_type,
                MapType::Ringbuf | MapType::PerfEventArray
            ) {
                continue;
            }
            let reader = backend
                .events_open(map.handle)
                .map_err(CliError::environment)?;
            let specs = loaded.maps.iter().map(|m| &m.spec);
            let decoder = loaded
                .btf
                .as_ref()
                .map(|btf| Decoder::new(btf, &map.spec, specs));
            maps.push((map.spec.name.as_str(), decoder, reader));
        }
        let prints = loaded
            .programs
            .iter()
            .any(|p| calls_any(&p.spec.insns, TRACE_HELPERS));
        let trace = match prints {
            true => Some(backend.trace_open().map_err(CliError::environment)?),
            false => None,
        };
        Ok(Self { maps, trace })
    }

    /// What to wait on.
    pub(super) fn descriptors(&self) -> Vec<RawFd> {
        let readers = self.maps.iter().map(|(_, _, r)| r).chain(&self.trace);
        readers.filter_map(|r| r.descriptor()).collect()
    }

    /// Prints everything that waits.
    pub(super) fn print(&mut self, out: &mut Output) -> Result<(), CliError> {
        for (name, decoder, reader) in &mut self.maps {
            drain(name, decoder.as_mut(), reader.as_mut(), out)?;
        }
        if let Some(reader) = &mut self.trace {
            drain("", None, reader.as_mut(), out)?;
        }
        Ok(())
    }
}

fn calls_any(insns: &[skep_isa::Slot], helpers: &[i32]) -> bool {
    (0..insns.len()).any(|at| {
        matches!(skep_isa::decode(insns, at), Ok(Insn::Call(Call::Helper(id))) if helpers.contains(&id))
    })
}

fn drain(
    map: &str,
    mut decoder: Option<&mut Decoder<'_>>,
    reader: &mut dyn EventReader,
    out: &mut Output,
) -> Result<(), CliError> {
    let mut failed = Ok(());
    let mut each = |event: Event<'_>| {
        let decoder = decoder.as_deref_mut();
        if failed.is_ok() {
            failed = print(map, decoder, event, out);
        }
    };
    reader.drain(&mut each).map_err(CliError::environment)?;
    failed
}

fn print(
    map: &str,
    decoder: Option<&mut Decoder<'_>>,
    event: Event<'_>,
    out: &mut Output,
) -> Result<(), CliError> {
    let decode =
        |bytes: &[u8]| decoder.map_or_else(|| Value::Bytes(bytes.to_vec()), |d| d.decode(bytes));
    let (json, text) = match event {
        Event::Record(bytes) => {
            let value = decode(bytes);
            let json =
                json!({"schema": 1, "kind": "event", "map": map, "value": value::json(&value)});
            (json, format!("{map}: {}", value::line(&value)))
        }
        Event::Sample { cpu, data } => {
            let value = decode(data);
            let json = json!({"schema": 1, "kind": "event", "map": map, "cpu": cpu, "value": value::json(&value)});
            (json, format!("{map}: {}", value::line(&value)))
        }
        Event::Lost { cpu, count } => {
            let json = json!({"schema": 1, "kind": "lost", "map": map, "cpu": cpu, "count": count});
            (
                json,
                format!("{map}: {count} events were lost on cpu {cpu}"),
            )
        }
        Event::Trace(line) => (
            json!({"schema": 1, "kind": "trace", "text": line}),
            format!("trace: {line}"),
        ),
    };
    if out.is_json() {
        out.json(&json)
    } else {
        out.line(text)
    }
}

/// Prints every map with elements to show; constants are left out.
pub(super) fn maps(loaded: &Loaded, out: &mut Output) -> Result<(), CliError> {
    let constant = |m: &&LoadedMap| matches!(m.spec.kind, MapKind::Rodata | MapKind::Kconfig);
    let shown = |m: &&LoadedMap| element::is_walkable(m.spec.map_type) && !constant(m);
    for map in loaded.maps.iter().filter(shown) {
        one(loaded, map, out)?;
    }
    Ok(())
}

fn one(loaded: &Loaded, map: &LoadedMap, out: &mut Output) -> Result<(), CliError> {
    let backend = loaded.backend().as_ref();
    let mut info = backend
        .map_info(map.handle)
        .map_err(CliError::environment)?;
    // The object knows the types of maps that the backend keeps without.
    (info.btf_key_type_id, info.btf_value_type_id) = (map.spec.key_type_id, map.spec.value_type_id);
    let typed = Typed {
        info: &info,
        btf: loaded.btf.as_ref(),
    };
    let mut elements =
        element::elements(backend, map.handle, &info).map_err(CliError::environment)?;
    let is_array = matches!(info.map_type, MapType::Array | MapType::PercpuArray);
    let total = elements.len();
    elements.retain(|e| !is_array || e.value.iter().any(|b| *b != 0));
    elements.sort_by(|a, b| a.key.cmp(&b.key));
    let name = &map.spec.name;
    if out.is_json() {
        let list: Json = elements.iter().map(|e| typed.json(e)).collect();
        return out.json(&json!({"schema": 1, "kind": "map", "map": name, "elements": list}));
    }
    let zero = total - elements.len();
    let rest = if zero > 0 {
        format!(", {zero} more are zero")
    } else {
        String::new()
    };
    out.line(format_args!(
        "map {name} ({}): {} elements{rest}",
        info.map_type,
        elements.len()
    ))?;
    for element in &elements {
        // Data sections have one element, whose key says nothing.
        let line = if map.spec.is_data() {
            typed.value_line(element)
        } else {
            typed.line(element)
        };
        out.line(format_args!("  {line}"))?;
    }
    Ok(())
}
