//! `skep link`: links of the kernel, and of the user backends of other processes.

use super::noun::{self, Owner, Selector};
use super::pins::Pins;
use crate::error::{CliError, Outcome};
use crate::output::Output;
use serde_json::{Value as Json, json};
use skep::Kernel;
use skep_bpf::{Backend, LinkDetail, LinkInfo, ObjKind};
use skep_user::registry;
use std::path::PathBuf;

// Options of `skep link`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
#[command(defer = true)]
enum Verb {
    /// List links
    #[command(visible_alias = "list")]
    Show {
        /// id N | pinned PATH
        link: Vec<String>,
        /// Also say where links are pinned
        #[arg(short = 'f', long)]
        bpffs: bool,
    },
    /// Keep a link at a path of a bpf filesystem: LINK PATH
    Pin {
        /// id N | pinned PATH, then the path
        #[arg(required = true, num_args = 3)]
        words: Vec<String>,
    },
    /// Give a link another program in one step: LINK PROGRAM
    Update {
        /// id N | pinned PATH, then the program: id N | pinned PATH | name NAME
        #[arg(required = true, num_args = 4)]
        words: Vec<String>,
    },
    /// Detach a link
    Detach {
        /// id N | pinned PATH
        #[arg(required = true)]
        link: Vec<String>,
    },
}

/// Runs the verb.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    let kernel = noun::kernel();
    let one = |words: &[String]| {
        let selector = Selector::parse(words)?.ok_or_else(|| CliError::usage("name a link"))?;
        noun::select_one(&kernel, ObjKind::Link, &selector)
    };
    match &args.verb {
        Verb::Show { link, bpffs } => show(&kernel, link, *bpffs, out)?,
        Verb::Pin { words } => {
            let (link, path) = words.split_at(2);
            noun::pin(&kernel, one(link)?.handle, &PathBuf::from(path.concat()))?;
        }
        Verb::Update { words } => {
            let (link, program) = words.split_at(2);
            let selector =
                Selector::parse(program)?.ok_or_else(|| CliError::usage("name a program"))?;
            let program = noun::select_one(&kernel, ObjKind::Prog, &selector)?;
            kernel
                .link_update(one(link)?.handle, program.handle, None)
                .map_err(CliError::environment)?;
        }
        Verb::Detach { link } => {
            kernel
                .link_detach(one(link)?.handle)
                .map_err(CliError::environment)?;
        }
    }
    Ok(Outcome::Ok)
}

fn show(backend: &Kernel, words: &[String], bpffs: bool, out: &mut Output) -> Result<(), CliError> {
    let selector = Selector::parse(words)?;
    let names = Names::read(Pins::read(backend, bpffs));
    let mut rows = Vec::new();
    for link in noun::select(backend, ObjKind::Link, selector.as_ref())? {
        let info = backend
            .link_info(link.handle)
            .map_err(CliError::environment)?;
        if out.is_json() {
            rows.push(row(backend, &info, &names));
        } else {
            out.line(text(&info, Owner::Kernel, &names))?;
        }
    }
    for (pid, info) in elsewhere(selector.as_ref()) {
        let owner = Owner::Process(pid);
        if out.is_json() {
            rows.push(row_elsewhere(&info, owner));
        } else {
            out.line(text(&info, owner, &names))?;
        }
    }
    if out.is_json() {
        noun::print_rows(selector.as_ref(), rows, out)?;
    }
    Ok(())
}

/// Links of the user backends of other processes; their numbers mean nothing here.
fn elsewhere(selector: Option<&Selector>) -> Vec<(u32, LinkInfo)> {
    let processes = match selector {
        None => registry::announced(None),
        Some(_) => Vec::new(),
    };
    let links = processes
        .into_iter()
        .flat_map(|p| p.links.into_iter().map(move |i| (p.pid, i)));
    links.collect()
}

/// As [`row`], of a link whose device and program are another process's.
fn row_elsewhere(info: &LinkInfo, owner: Owner) -> Json {
    let mut row = json!({"id": info.id, "type": info.link_type, "prog_id": info.prog_id, "ifindex": info.ifindex});
    if let Some(attach_type) = info.attach_type {
        row["attach_type"] = json!(attach_type.name());
    }
    owner.enter(&mut row);
    row
}

/// bpftool's fields, and which backend has the link.
fn row(backend: &dyn Backend, info: &LinkInfo, names: &Names) -> Json {
    let mut row = json!({"id": info.id, "type": info.link_type, "prog_id": info.prog_id});
    if info.link_type == "struct_ops" {
        row = json!({"id": info.id, "type": info.link_type});
    }
    if info.link_type == "tracing"
        && let Some(prog_type) = prog_type(backend, info.prog_id)
    {
        row["prog_type"] = json!(prog_type);
    }
    if info.ifindex != 0 {
        row["devname"] = json!(names.device(info.ifindex));
        row["ifindex"] = json!(info.ifindex);
    }
    let attach_type = info.attach_type.map(|t| json!(t.name()));
    if info.link_type == "tracing" {
        row["attach_type"] = attach_type.clone().unwrap_or_default();
    }
    for (name, value) in &info.details {
        row[*name] = match value {
            LinkDetail::Number(number) => json!(number),
            LinkDetail::Signed(number) => json!(number),
            LinkDetail::Text(text) => json!(text),
            LinkDetail::Flag(flag) => json!(flag),
        };
    }
    if let Some(attach_type) = attach_type {
        row["attach_type"] = attach_type;
    }
    let pins = names.pins.of(ObjKind::Link, info.id);
    if !pins.is_empty() {
        row["pinned"] = json!(pins);
    }
    Owner::Kernel.enter(&mut row);
    row
}

fn prog_type(backend: &dyn Backend, id: u32) -> Option<&'static str> {
    let handle = backend.by_id(ObjKind::Prog, id).ok()?;
    let info = backend.prog_info(handle);
    backend.close(handle);
    Some(info.ok()?.prog_type.name())
}

/// Names that the kernel's numbers have.
struct Names {
    devices: Vec<(u32, String)>,
    pins: Pins,
}

impl Names {
    fn read(pins: Pins) -> Self {
        let devices = skep::net::devices().unwrap_or_default();
        Self { devices, pins }
    }

    fn device(&self, ifindex: u32) -> &str {
        let found = self.devices.iter().find(|(number, _)| *number == ifindex);
        found.map_or("(unknown)", |(_, name)| name)
    }
}

fn text(info: &LinkInfo, owner: Owner, names: &Names) -> String {
    let is_here = matches!(owner, Owner::Kernel);
    let mut text = format!(
        "{}: {}  prog {}  {owner}",
        info.id, info.link_type, info.prog_id
    );
    let mut parts = Vec::new();
    match info.ifindex {
        0 => {}
        number if is_here => parts.push(format!("ifindex {}({number})", names.device(number))),
        number => parts.push(format!("ifindex {number}")),
    }
    for (name, value) in &info.details {
        parts.push(match value {
            LinkDetail::Number(number) => format!("{name} {number}"),
            LinkDetail::Signed(number) => format!("{name} {number}"),
            LinkDetail::Text(value) => format!("{name} '{value}'"),
            LinkDetail::Flag(true) => (*name).to_owned(),
            LinkDetail::Flag(false) => continue,
        });
    }
    if let Some(attach_type) = info.attach_type {
        parts.push(format!("attach_type {attach_type}"));
    }
    if !parts.is_empty() {
        text += &format!("\n\t{}", parts.join("  "));
    }
    let pins = is_here.then(|| names.pins.of(ObjKind::Link, info.id));
    for path in pins.into_iter().flatten() {
        text += &format!("\n\tpinned {path}");
    }
    text
}
