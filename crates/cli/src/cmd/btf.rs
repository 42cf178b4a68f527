//! `skep btf`: BTF objects and files.

use super::noun::{self, Selector};
use crate::error::{CliError, Outcome, io_text};
use crate::output::Output;
use crate::render::btf;
use serde_json::{Value as Json, json};
use skep_bpf::{Backend, ObjKind};
use skep_btf::Btf;
use skep_object::{Object, Options};

/// Options of `skep btf`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List BTF objects
    #[command(visible_alias = "list")]
    Show {
        /// id N
        btf: Vec<String>,
    },
    /// Print every type: id N | name NAME | prog id N | map id N | file PATH
    Dump {
        /// What to dump
        #[arg(required = true)]
        source: Vec<String>,
    },
}

/// Runs the verb.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    match &args.verb {
        Verb::Show { btf } => show(btf, out)?,
        Verb::Dump { source } => dump(source, out)?,
    }
    Ok(Outcome::Ok)
}

fn show(words: &[String], out: &mut Output) -> Result<(), CliError> {
    let kernel = noun::kernel();
    let selector = Selector::parse(words)?;
    let users = Users::find(&kernel)?;
    let mut rows = Vec::new();
    for opened in noun::select(&kernel, ObjKind::Btf, selector.as_ref())? {
        let info = kernel
            .btf_info(opened.handle)
            .map_err(CliError::environment)?;
        let (progs, maps) = (
            users.of(&users.progs, info.id),
            users.of(&users.maps, info.id),
        );
        if out.is_json() {
            let mut row = json!({
                "id": info.id, "size": info.data.len(), "prog_ids": progs, "map_ids": maps, "kernel": info.kernel_btf,
            });
            if !info.name.is_empty() {
                row["name"] = json!(info.name);
            }
            row["backend"] = json!(kernel.kind().to_string());
            rows.push(row);
            continue;
        }
        let name = if info.name.is_empty() {
            "<anon>"
        } else {
            &info.name
        };
        let list = |word: &str, ids: &[u32]| match ids {
            [] => String::new(),
            ids => format!(
                "  {word} {}",
                ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
            ),
        };
        let users = list("prog_ids", &progs) + &list("map_ids", &maps);
        out.line(format_args!(
            "{}: name {name}  size {}B{users}",
            info.id,
            info.data.len()
        ))?;
    }
    if out.is_json() {
        out.json(&rows.into_iter().collect::<Json>())
    } else {
        Ok(())
    }
}

/// Who uses which BTF: (BTF id, object id).
struct Users {
    progs: Vec<(u32, u32)>,
    maps: Vec<(u32, u32)>,
}

impl Users {
    fn find(backend: &dyn Backend) -> Result<Self, CliError> {
        let progs = noun::select(backend, ObjKind::Prog, None)?;
        let maps = noun::select(backend, ObjKind::Map, None)?;
        let progs = progs
            .iter()
            .filter_map(|o| backend.prog_info(o.handle).ok())
            .map(|i| (i.btf_id, i.id));
        let maps = maps
            .iter()
            .filter_map(|o| backend.map_info(o.handle).ok())
            .map(|i| (i.btf_id, i.id));
        Ok(Self {
            progs: progs.collect(),
            maps: maps.collect(),
        })
    }

    fn of(&self, list: &[(u32, u32)], btf: u32) -> Vec<u32> {
        list.iter()
            .filter(|(id, _)| *id == btf)
            .map(|(_, object)| *object)
            .collect()
    }
}

fn dump(words: &[String], out: &mut Output) -> Result<(), CliError> {
    let found = open(words)?;
    if out.is_json() {
        let types: Json = found
            .types()
            .filter(|t| t.id() != 0)
            .map(btf::json)
            .collect();
        return out.json(&json!({"types": types}));
    }
    for ty in found.types().filter(|t| t.id() != 0) {
        out.line(btf::text(&btf::json(ty)))?;
    }
    Ok(())
}

/// The BTF that the words name.
fn open(words: &[String]) -> Result<Btf, CliError> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let words = match words.as_slice() {
        [rest @ .., "format", "raw"] => rest,
        [.., "format", other] => {
            return Err(CliError::usage(format!(
                "there is no format \"{other}\", only raw"
            )));
        }
        all => all,
    };
    let kernel = noun::kernel();
    let of_object = |kind, rest: &[&str]| {
        let rest: Vec<String> = rest.iter().map(|w| (*w).to_owned()).collect();
        let selector = Selector::parse(&rest)?.ok_or_else(|| CliError::usage("name an object"))?;
        let opened = noun::select_one(&kernel, kind, &selector)?;
        let id = match kind {
            ObjKind::Prog => {
                kernel
                    .prog_info(opened.handle)
                    .map_err(CliError::environment)?
                    .btf_id
            }
            ObjKind::Map => {
                kernel
                    .map_info(opened.handle)
                    .map_err(CliError::environment)?
                    .btf_id
            }
            ObjKind::Link | ObjKind::Btf => {
                kernel
                    .btf_info(opened.handle)
                    .map_err(CliError::environment)?
                    .id
            }
        };
        noun::btf(&kernel, id).ok_or_else(|| CliError::environment("the object has no BTF"))
    };
    match words {
        ["file", path] => from_file(path),
        ["prog", rest @ ..] => of_object(ObjKind::Prog, rest),
        ["map", rest @ ..] => of_object(ObjKind::Map, rest),
        rest => of_object(ObjKind::Btf, rest),
    }
}

/// BTF of an object file, or a file that is nothing but BTF.
fn from_file(path: &str) -> Result<Btf, CliError> {
    let bytes = std::fs::read(path)
        .map_err(|e| CliError::environment(format!("{path}: {}", io_text(&e))))?;
    if !bytes.starts_with(b"\x7fELF") {
        return Btf::parse(bytes).map_err(|e| CliError::environment(format!("{path}: {e}")));
    }
    let object = Object::parse(&bytes, &Options::default());
    let object = object.map_err(|e| CliError::environment(format!("{path}: {e}")))?;
    object
        .btf()
        .cloned()
        .ok_or_else(|| CliError::environment(format!("{path} has no BTF")))
}
