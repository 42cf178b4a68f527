//! `skep prog show`.

use crate::cmd::noun::{self, Owner, Selector};
use crate::cmd::pins::Pins;
use crate::error::CliError;
use crate::output::Output;
use crate::render::{time, value};
use serde_json::{Value as Json, json};
use skep_bpf::{Backend, ObjKind, ProgInfo};
use skep_user::registry;

/// Lists the programs that the words select.
pub(super) fn run(words: &[String], bpffs: bool, out: &mut Output) -> Result<(), CliError> {
    let kernel = noun::kernel();
    let selector = Selector::parse(words)?;
    let pins = Pins::read(&kernel, bpffs);
    let elsewhere = elsewhere(selector.as_ref());
    let mut rows = Vec::new();
    let found = noun::select(&kernel, ObjKind::Prog, selector.as_ref());
    for program in noun::or_nothing(found, !elsewhere.is_empty())? {
        let mut info = kernel
            .prog_info(program.handle)
            .map_err(CliError::environment)?;
        info.name = kernel.prog_name(program.handle).unwrap_or(info.name);
        let pinned = pins.of(ObjKind::Prog, info.id);
        if out.is_json() {
            let mut row = row(&info, Owner::Kernel);
            if !pinned.is_empty() {
                row["pinned"] = json!(pinned);
            }
            rows.push(row);
        } else {
            print(&info, Owner::Kernel, out)?;
            for path in pinned {
                out.line(format_args!("\tpinned {path}"))?;
            }
        }
    }
    for (pid, info) in elsewhere {
        if out.is_json() {
            rows.push(row(&info, Owner::Process(pid)));
        } else {
            print(&info, Owner::Process(pid), out)?;
        }
    }
    if out.is_json() {
        noun::print_rows(selector.as_ref(), rows, out)?;
    }
    Ok(())
}

/// Programs of the user backends of other processes; they have no names of their own but by name.
fn elsewhere(selector: Option<&Selector>) -> Vec<(u32, ProgInfo)> {
    let processes = match selector {
        None | Some(Selector::Name(_)) => registry::announced(None),
        Some(_) => Vec::new(),
    };
    let programs = processes
        .into_iter()
        .flat_map(|p| p.programs.into_iter().map(move |i| (p.pid, i)));
    programs
        .filter(|(_, i)| noun::has_name(selector, &i.name))
        .collect()
}

/// Seconds since 1970 of a load.
fn loaded_at(info: &ProgInfo) -> u64 {
    skep::time::epoch_seconds(info.load_time_ns)
}

/// bpftool's fields, and which backend has the program.
fn row(info: &ProgInfo, owner: Owner) -> Json {
    let mut row = json!({"id": info.id, "type": info.prog_type.name()});
    if !info.name.is_empty() {
        row["name"] = json!(info.name);
    }
    row["tag"] = json!(value::hex(&info.tag));
    row["gpl_compatible"] = json!(info.gpl_compatible);
    if info.run_time_ns != 0 {
        row["run_time_ns"] = json!(info.run_time_ns);
        row["run_cnt"] = json!(info.run_cnt);
    }
    if info.recursion_misses != 0 {
        row["recursion_misses"] = json!(info.recursion_misses);
    }
    row["loaded_at"] = json!(loaded_at(info));
    row["uid"] = json!(info.created_by_uid);
    row["bytes_xlated"] = json!(info.xlated_len);
    row["jited"] = json!(info.jited_len != 0);
    if info.jited_len != 0 {
        row["bytes_jited"] = json!(info.jited_len);
    }
    row["bytes_memlock"] = json!(info.bytes_memlock);
    if !info.map_ids.is_empty() {
        row["map_ids"] = json!(info.map_ids);
    }
    if info.btf_id != 0 {
        row["btf_id"] = json!(info.btf_id);
    }
    owner.enter(&mut row);
    row
}

fn print(info: &ProgInfo, owner: Owner, out: &mut Output) -> Result<(), CliError> {
    let gpl = if info.gpl_compatible { "  gpl" } else { "" };
    let stats = match info.run_cnt {
        0 => String::new(),
        count => format!(" run_time_ns {} run_cnt {count}", info.run_time_ns),
    };
    out.line(format_args!(
        "{}: {}  name {}  tag {}{gpl}{stats}",
        info.id,
        info.prog_type,
        info.name,
        value::hex(&info.tag)
    ))?;
    out.line(format_args!(
        "\tloaded_at {}  uid {}",
        time::date(loaded_at(info)),
        info.created_by_uid
    ))?;
    let jited = match info.jited_len {
        0 => "not jited".to_owned(),
        length => format!("jited {length}B"),
    };
    let maps: Vec<String> = info.map_ids.iter().map(u32::to_string).collect();
    let maps = if maps.is_empty() {
        String::new()
    } else {
        format!("  map_ids {}", maps.join(","))
    };
    out.line(format_args!(
        "\txlated {}B  {jited}  memlock {}B{maps}  {owner}",
        info.xlated_len, info.bytes_memlock
    ))?;
    if info.btf_id != 0 {
        out.line(format_args!("\tbtf_id {}", info.btf_id))?;
    }
    Ok(())
}
