//! `skep map create PATH type TYPE key SIZE value SIZE entries N name NAME`.

use super::one;
use crate::cmd::noun;
use crate::error::CliError;
use skep_abi::MapType;
use skep_bpf::{Backend, Handle, MapCreate};
use std::path::PathBuf;

/// Creates a map and pins it.
pub(super) fn run(backend: &dyn Backend, words: &[String]) -> Result<(), CliError> {
    let (path, rest) = words
        .split_first()
        .ok_or_else(|| CliError::usage("name the path to pin at"))?;
    let mut command = MapCreate::new(MapType::Unspec, 0, 0, 0);
    let mut inner = None;
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        let value = rest
            .next()
            .ok_or_else(|| CliError::usage(format!("{word} wants a value")))?;
        let number = || number(word, value);
        match word.as_str() {
            "type" => {
                command.map_type = MapType::from_name(value)
                    .ok_or_else(|| CliError::usage(format!("\"{value}\" is no map type")))?;
            }
            "key" => command.key_size = number()?,
            "value" => command.value_size = number()?,
            "entries" => command.max_entries = number()?,
            "flags" => command.map_flags = number()?,
            "name" => command.name.clone_from(value),
            "inner_map" => {
                let selector = rest
                    .next()
                    .ok_or_else(|| CliError::usage("inner_map id N | pinned PATH | name NAME"))?;
                inner = Some(one(backend, &[value.clone(), selector.clone()])?);
            }
            other => {
                return Err(CliError::usage(format!(
                    "\"{other}\" is no property of a map"
                )));
            }
        }
    }
    command.inner_map = inner.as_ref().map(|i| i.handle);
    let handle: Handle = backend
        .map_create(&command)
        .map_err(CliError::environment)?;
    let pinned = noun::pin(backend, handle, &PathBuf::from(path));
    backend.close(handle);
    pinned
}

/// In decimal, or hexadecimal with `0x`.
fn number(word: &str, value: &str) -> Result<u32, CliError> {
    let parsed = match value.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => value.parse(),
    };
    parsed.map_err(|_| CliError::usage(format!("{word} {value}: not a number")))
}
