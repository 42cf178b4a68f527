//! `skep map show`.

use crate::cmd::noun::{self, Owner, Selector};
use crate::cmd::pins::Pins;
use crate::error::CliError;
use crate::output::Output;
use serde_json::{Value as Json, json};
use skep::Kernel;
use skep_bpf::{Backend, MapInfo, ObjKind};
use skep_user::registry;

/// Lists the maps that the words select.
pub(super) fn run(
    kernel: &Kernel,
    words: &[String],
    bpffs: bool,
    out: &mut Output,
) -> Result<(), CliError> {
    let selector = Selector::parse(words)?;
    let pins = Pins::read(kernel, bpffs);
    let elsewhere = elsewhere(selector.as_ref());
    let mut rows = Vec::new();
    let found = noun::select(kernel, ObjKind::Map, selector.as_ref());
    for map in noun::or_nothing(found, !elsewhere.is_empty())? {
        let info = kernel.map_info(map.handle).map_err(CliError::environment)?;
        let pinned = pins.of(ObjKind::Map, info.id);
        if out.is_json() {
            let mut row = row(&info, Owner::Kernel, &pinned);
            if let Some((prog_type, jited)) = kernel.map_owner(map.handle) {
                row["owner_prog_type"] = json!(prog_type.name());
                row["owner_jited"] = json!(jited);
            }
            rows.push(row);
        } else {
            print(&info, Owner::Kernel, &pinned, out)?;
        }
    }
    for (owner, pinned, info) in &elsewhere {
        let pinned: Vec<&str> = pinned.iter().map(String::as_str).collect();
        if out.is_json() {
            rows.push(row(info, *owner, &pinned));
        } else {
            print(info, *owner, &pinned, out)?;
        }
    }
    if out.is_json() {
        noun::print_rows(selector.as_ref(), rows, out)?;
    }
    Ok(())
}

/// Maps of the user backend: those that are pinned, and those of other processes.
fn elsewhere(selector: Option<&Selector>) -> Vec<(Owner, Option<String>, MapInfo)> {
    let mut found = Vec::new();
    match selector {
        None | Some(Selector::Name(_)) => {}
        Some(Selector::Id(_)) => return found,
        Some(Selector::Pinned(path)) => {
            found.extend(pinned().filter(|(_, place, _)| place.as_deref() == path.to_str()));
            return found;
        }
    }
    found.extend(pinned());
    for process in registry::announced(None) {
        let owner = Owner::Process(process.pid);
        found.extend(process.maps.into_iter().map(|info| (owner, None, info)));
    }
    found.retain(|(_, _, info)| noun::has_name(selector, &info.name));
    found
}

fn pinned() -> impl Iterator<Item = (Owner, Option<String>, MapInfo)> {
    let maps = registry::pinned(None).into_iter();
    maps.map(|(path, info)| (Owner::File, Some(path.display().to_string()), info))
}

/// bpftool's fields, and which backend has the map.
fn row(info: &MapInfo, owner: Owner, pinned: &[&str]) -> Json {
    let mut row = json!({
        "id": info.id, "type": info.map_type.name(), "name": info.name, "flags": info.map_flags,
        "bytes_key": info.key_size, "bytes_value": info.value_size, "max_entries": info.max_entries,
        "bytes_memlock": info.bytes_memlock, "frozen": u8::from(info.frozen),
    });
    if info.btf_id != 0 {
        row["btf_id"] = json!(info.btf_id);
    }
    if info.name.is_empty()
        && let Some(row) = row.as_object_mut()
    {
        row.shift_remove("name");
    }
    owner.enter(&mut row);
    if !pinned.is_empty() {
        row["pinned"] = json!(pinned);
    }
    row
}

fn print(info: &MapInfo, owner: Owner, pinned: &[&str], out: &mut Output) -> Result<(), CliError> {
    let frozen = if info.frozen { "  frozen" } else { "" };
    out.line(format_args!(
        "{}: {}  name {}  flags {:#x}",
        info.id, info.map_type, info.name, info.map_flags
    ))?;
    out.line(format_args!(
        "\tkey {}B  value {}B  max_entries {}  memlock {}B{frozen}  {owner}",
        info.key_size, info.value_size, info.max_entries, info.bytes_memlock
    ))?;
    if info.btf_id != 0 {
        out.line(format_args!("\tbtf_id {}", info.btf_id))?;
    }
    for path in pinned {
        out.line(format_args!("\tpinned {path}"))?;
    }
    Ok(())
}
