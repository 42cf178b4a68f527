//! Queues and stacks: peek, push, pop.

use super::{info, one, sized, split};
use crate::error::CliError;
use crate::output::Output;
use crate::render::value;
use serde_json::json;
use skep_bpf::{Backend, Errno};

/// Prints the next element and leaves it there.
pub(super) fn peek(
    backend: &dyn Backend,
    words: &[String],
    out: &mut Output,
) -> Result<(), CliError> {
    let map = one(backend, words)?;
    let mut bytes = vec![0; info(backend, map.handle)?.value_size as usize];
    let found = backend.map_lookup(map.handle, &[], &mut bytes, 0);
    print(found, &bytes, out)
}

/// Takes the next element and prints it.
pub(super) fn pop(
    backend: &dyn Backend,
    words: &[String],
    out: &mut Output,
) -> Result<(), CliError> {
    let map = one(backend, words)?;
    let mut bytes = vec![0; info(backend, map.handle)?.value_size as usize];
    let found = backend.map_lookup_and_delete(map.handle, &[], &mut bytes, 0);
    print(found, &bytes, out)
}

/// bpftool's answer: the value, or an error of none.
fn print(found: skep_bpf::Result<()>, bytes: &[u8], out: &mut Output) -> Result<(), CliError> {
    match found {
        Ok(()) if out.is_json() => out.json(&json!({"value": value::hex_list(bytes)})),
        Ok(()) => out.line(format_args!("value: {}", value::hex(bytes))),
        Err(error) if error.errno == Errno::ENOENT && out.is_json() => {
            out.json(&json!({"error": "empty"}))
        }
        Err(error) if error.errno == Errno::ENOENT => out.line("Error: empty"),
        Err(error) => Err(CliError::environment(error)),
    }
}

/// Adds an element.
pub(super) fn push(backend: &dyn Backend, words: &[String]) -> Result<(), CliError> {
    let (map, words) = split(words)?;
    let map = one(backend, map)?;
    let size = info(backend, map.handle)?.value_size as usize;
    let bytes = sized(words.value, "value", size)?;
    backend
        .map_update(map.handle, &[], &bytes, 0)
        .map_err(CliError::environment)
}
