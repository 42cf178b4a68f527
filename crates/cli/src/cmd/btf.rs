//! `skep btf`: BTF objects and files.

use super::noun::{self, Selector};
use crate::error::{CliError, Outcome, io_text};
use crate::output::Output;
use crate::render::btf;
use serde_json::{Value as Json, json};
use skep_bpf::{Backend, ObjKind};
use skep_btf::{Btf, Type, c};
use std::path::{Path, PathBuf};

// Options of `skep btf`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
#[command(defer = true)]
enum Verb {
    /// List BTF objects
    #[command(visible_alias = "list")]
    Show {
        /// id N
        btf: Vec<String>,
    },
    /// Print types: id N | name NAME | prog id N | map id N [key|value|kv|all] | file PATH, then [root_id N]… [format raw|c]
    Dump {
        /// What to dump
        #[arg(required = true)]
        source: Vec<String>,
        /// BTF that the dumped BTF builds on, as that of modules does
        #[arg(short = 'B', long, value_name = "FILE")]
        base_btf: Option<PathBuf>,
    },
}

/// Runs the verb.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    match &args.verb {
        Verb::Show { btf } => show(btf, out)?,
        Verb::Dump { source, base_btf } => dump(source, base_btf.as_deref(), out)?,
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

/// How types are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Raw,
    C,
}

/// What to dump, and how.
struct Request<'a> {
    source: Vec<&'a str>,
    /// These types and what they need; all without.
    roots: Vec<u32>,
    format: Format,
}

impl<'a> Request<'a> {
    fn parse(words: &'a [String]) -> Result<Self, CliError> {
        let mut request = Self {
            source: Vec::new(),
            roots: Vec::new(),
            format: Format::Raw,
        };
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "format" => {
                    request.format = match words.next() {
                        Some("raw") => Format::Raw,
                        Some("c") => Format::C,
                        other => {
                            let other = other.unwrap_or_default();
                            return Err(CliError::usage(format!(
                                "there is no format \"{other}\", only raw and c"
                            )));
                        }
                    }
                }
                "root_id" => {
                    let id = words.next().unwrap_or_default();
                    let number = id.parse().map_err(|_| {
                        CliError::usage(format!("\"{id}\" is not the id of a type"))
                    })?;
                    request.roots.push(number);
                }
                other => request.source.push(other),
            }
        }
        Ok(request)
    }
}

fn dump(words: &[String], base: Option<&Path>, out: &mut Output) -> Result<(), CliError> {
    let request = Request::parse(words)?;
    let base = base.map(|path| btf_file(path, None)).transpose()?;
    let (found, mut roots) = open(&request.source, base.as_ref())?;
    roots.extend(&request.roots);
    if let Some(id) = roots.iter().find(|id| found.get(**id).is_none()) {
        return Err(CliError::usage(format!("there is no type {id}")));
    }
    let roots = (!roots.is_empty()).then_some(roots);
    match request.format {
        Format::C if out.is_json() => {
            Err(CliError::usage("C declarations are not printed as JSON"))
        }
        Format::C => out.bytes(c::header(&found, roots.as_deref()).as_bytes()),
        Format::Raw => raw(&found, roots.as_deref(), out),
    }
}

fn raw(found: &Btf, roots: Option<&[u32]>, out: &mut Output) -> Result<(), CliError> {
    let wanted = |t: &Type<'_>| match roots {
        Some(ids) => ids.contains(&t.id()),
        // Of split BTF only its own types, as in bpftool.
        None => t.id() >= found.first_id(),
    };
    let types = found.types().filter(|t| t.id() != 0).filter(wanted);
    if out.is_json() {
        let types: Json = types.map(btf::json).collect();
        return out.json(&json!({"types": types}));
    }
    for ty in types {
        out.line(btf::text(ty))?;
    }
    Ok(())
}

/// The BTF that the words name, and the types of it that they mean.
fn open(words: &[&str], base: Option<&Btf>) -> Result<(Btf, Vec<u32>), CliError> {
    let kernel = noun::kernel();
    let one = |kind, rest: &[&str]| {
        let rest: Vec<String> = rest.iter().map(|w| (*w).to_owned()).collect();
        let selector = Selector::parse(&rest)?.ok_or_else(|| CliError::usage("name an object"))?;
        noun::select_one(&kernel, kind, &selector)
    };
    let no_btf = || CliError::environment("the object has no BTF");
    let split = |id| noun::btf(&kernel, id).ok_or_else(no_btf);
    match words {
        ["file", path] => Ok((btf_file(Path::new(path), base)?, Vec::new())),
        ["prog", rest @ ..] => {
            let opened = one(ObjKind::Prog, rest)?;
            let info = kernel
                .prog_info(opened.handle)
                .map_err(CliError::environment)?;
            Ok((split(info.btf_id)?, Vec::new()))
        }
        ["map", rest @ ..] => {
            let (rest, which) = match rest {
                [rest @ .., which @ ("key" | "value" | "kv" | "all")] => (rest, *which),
                all => (all, "kv"),
            };
            let opened = one(ObjKind::Map, rest)?;
            let info = kernel
                .map_info(opened.handle)
                .map_err(CliError::environment)?;
            let roots = match which {
                "key" => vec![info.btf_key_type_id],
                "value" => vec![info.btf_value_type_id],
                "kv" => vec![info.btf_key_type_id, info.btf_value_type_id],
                _ => Vec::new(),
            };
            let roots = roots.into_iter().filter(|id| *id != 0).collect();
            Ok((split(info.btf_id)?, roots))
        }
        rest => {
            let opened = one(ObjKind::Btf, rest)?;
            let info = kernel
                .btf_info(opened.handle)
                .map_err(CliError::environment)?;
            Ok((split(info.id)?, Vec::new()))
        }
    }
}

/// BTF of a file; below `/sys/kernel/btf` it builds on `vmlinux` there.
fn btf_file(path: &Path, base: Option<&Btf>) -> Result<Btf, CliError> {
    skep::btf_file::read(path, base)
        .map_err(|e| CliError::environment(format!("{}: {}", path.display(), io_text(&e))))
}
