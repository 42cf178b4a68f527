//! `skep struct_ops`: structures of operations that the kernel calls.

use super::noun::{self, Selector};
use super::open::{self, BackendArg, EngineOptions, Purpose};
use crate::error::{CliError, Outcome};
use crate::output::Output;
use crate::render::value;
use serde_json::{Map, Value as Json, json};
use skep::attach;
use skep::load::{LoadOptions, load};
use skep_abi::MapType;
use skep_bpf::{Backend, MapInfo, ObjKind};
use std::path::{Path, PathBuf};

// Options of `skep struct_ops`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
#[command(defer = true)]
enum Verb {
    /// List them
    #[command(visible_alias = "list")]
    Show {
        /// id N | name NAME
        map: Vec<String>,
    },
    /// Print their values
    Dump {
        /// id N | name NAME
        map: Vec<String>,
    },
    /// Load an object and register all its structures
    Register {
        /// The object
        object: PathBuf,
        /// Where links are pinned, for structures that have links
        folder: Option<PathBuf>,
    },
    /// Unregister a structure that has no link
    Unregister {
        /// id N | name NAME
        #[arg(required = true)]
        map: Vec<String>,
    },
}

/// Runs the verb.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    match &args.verb {
        Verb::Show { map } => show(map, out)?,
        Verb::Dump { map } => dump(map, out)?,
        Verb::Register { object, folder } => register(object, folder.as_deref(), out)?,
        Verb::Unregister { map } => unregister(map)?,
    }
    Ok(Outcome::Ok)
}

/// The maps of this kind.
fn select<'a>(
    backend: &'a dyn Backend,
    words: &[String],
) -> Result<Vec<(noun::Opened<'a>, MapInfo)>, CliError> {
    let selector = Selector::parse(words)?;
    let mut found = Vec::new();
    for map in noun::select(backend, ObjKind::Map, selector.as_ref())? {
        let info = backend
            .map_info(map.handle)
            .map_err(CliError::environment)?;
        if info.map_type == MapType::StructOps {
            found.push((map, info));
        }
    }
    if found.is_empty() && selector.is_some() {
        return Err(CliError::environment("that is no structure of operations"));
    }
    Ok(found)
}

/// The kernel's name of a structure: that of the type around it, without its beginning.
fn structure(kernel_btf: Option<&skep_btf::Btf>, info: &MapInfo) -> String {
    let ty = kernel_btf.and_then(|b| b.get(info.btf_vmlinux_value_type_id));
    let name = ty.map_or("", |t| t.name());
    name.strip_prefix("bpf_struct_ops_")
        .unwrap_or(name)
        .to_owned()
}

fn show(words: &[String], out: &mut Output) -> Result<(), CliError> {
    let kernel = noun::kernel();
    let found = select(&kernel, words)?;
    let btf = (!found.is_empty())
        .then(|| skep::target::running_btf().ok())
        .flatten();
    let mut rows = Vec::new();
    for (_, info) in &found {
        let structure = structure(btf.as_ref(), info);
        if out.is_json() {
            rows.push(json!({"id": info.id, "name": info.name, "kernel_struct_ops": structure}));
        } else {
            out.line(format_args!("{}: {:<15} {structure}", info.id, info.name))?;
        }
    }
    if out.is_json() {
        noun::print_rows(Selector::parse(words)?.as_ref(), rows, out)?;
    }
    Ok(())
}

fn dump(words: &[String], out: &mut Output) -> Result<(), CliError> {
    let kernel = noun::kernel();
    let btf = skep::target::running_btf()
        .map_err(|e| CliError::environment(format!("BTF of the kernel: {e}")))?;
    let mut rows = Vec::new();
    for (map, info) in select(&kernel, words)? {
        let mut bytes = vec![0; info.value_size as usize];
        kernel
            .map_lookup(map.handle, &[0; 4], &mut bytes, 0)
            .map_err(CliError::environment)?;
        let decoded = skep::value::decode(&btf, info.btf_vmlinux_value_type_id, &bytes);
        let name = btf
            .get(info.btf_vmlinux_value_type_id)
            .map_or("value", |t| t.name());
        if out.is_json() {
            let mut row = Map::new();
            row.insert(
                "bpf_map_info".to_owned(),
                json!({"id": info.id, "name": info.name}),
            );
            row.insert(name.to_owned(), value::json(&decoded));
            rows.push(Json::Object(row));
        } else {
            out.line(format_args!(
                "{}: {} {}",
                info.id,
                info.name,
                value::line(&decoded)
            ))?;
        }
    }
    if out.is_json() {
        out.json(&rows.into_iter().collect::<Json>())?;
    }
    Ok(())
}

fn register(path: &Path, folder: Option<&Path>, out: &mut Output) -> Result<(), CliError> {
    let object = open::object(path)?;
    let chosen = open::backend(
        BackendArg::Kernel,
        Purpose::Attach,
        &EngineOptions::JIT,
        None,
    )?;
    let linked = open::link(&object, &chosen)?;
    let loaded = load(&linked, &chosen.backend, &LoadOptions::default())
        .map_err(|e| open::refused(&e, path, chosen.backend.kind()))?;
    let mut count = 0;
    for map in &loaded.maps {
        let Some(hook) = loaded.struct_ops(&map.spec.name) else {
            continue;
        };
        count += 1;
        let link =
            attach::attach(&chosen.backend, map.handle, &hook).map_err(CliError::environment)?;
        if link.handle().is_none() {
            // Without a link it stays until it is unregistered.
            std::mem::forget(link);
        } else if let Some(folder) = folder {
            link.pin(&folder.join(&map.spec.name))
                .map_err(CliError::environment)?;
        } else {
            let what = "has a link, which ends with this command: name a folder to pin it in";
            return Err(CliError::usage(format!("\"{}\" {what}", map.spec.name)));
        }
        let id = chosen
            .backend
            .map_info(map.handle)
            .map_err(CliError::environment)?
            .id;
        if !out.is_json() {
            out.line(format_args!("registered {} id {id}", map.spec.name))?;
        }
    }
    if count == 0 {
        return Err(CliError::environment(
            "the object has no structures of operations",
        ));
    }
    Ok(())
}

fn unregister(words: &[String]) -> Result<(), CliError> {
    let kernel = noun::kernel();
    for (map, _) in select(&kernel, words)? {
        kernel
            .map_delete(map.handle, &[0; 4])
            .map_err(CliError::environment)?;
    }
    Ok(())
}
