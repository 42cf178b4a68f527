//! `skep link`: links of the kernel.

use super::noun::{self, Selector};
use crate::error::{CliError, Outcome};
use crate::output::Output;
use serde_json::{Value as Json, json};
use skep_bpf::{Backend, LinkInfo, ObjKind};
use std::path::PathBuf;

/// Options of `skep link`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List links
    #[command(visible_alias = "list")]
    Show {
        /// id N | pinned PATH
        link: Vec<String>,
    },
    /// Keep a link at a path of a bpf filesystem: LINK PATH
    Pin {
        /// id N | pinned PATH, then the path
        #[arg(required = true, num_args = 3)]
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
        Verb::Show { link } => show(&kernel, link, out)?,
        Verb::Pin { words } => {
            let (link, path) = words.split_at(2);
            noun::pin(&kernel, one(link)?.handle, &PathBuf::from(path.concat()))?;
        }
        Verb::Detach { link } => {
            kernel
                .link_detach(one(link)?.handle)
                .map_err(CliError::environment)?;
        }
    }
    Ok(Outcome::Ok)
}

fn show(backend: &dyn Backend, words: &[String], out: &mut Output) -> Result<(), CliError> {
    let selector = Selector::parse(words)?;
    let mut rows = Vec::new();
    for link in noun::select(backend, ObjKind::Link, selector.as_ref())? {
        let info = backend
            .link_info(link.handle)
            .map_err(CliError::environment)?;
        if out.is_json() {
            rows.push(row(backend, &info));
        } else {
            out.line(text(&info))?;
        }
    }
    if out.is_json() {
        match (selector.is_some(), rows.pop()) {
            (true, Some(row)) => out.json(&row)?,
            (_, last) => out.json(&rows.into_iter().chain(last).collect::<Json>())?,
        }
    }
    Ok(())
}

fn row(backend: &dyn Backend, info: &LinkInfo) -> Json {
    let mut row = json!({"id": info.id, "type": info.link_type, "prog_id": info.prog_id});
    if info.ifindex != 0 {
        row["ifindex"] = json!(info.ifindex);
    }
    if let Some(attach_type) = info.attach_type {
        row["attach_type"] = json!(attach_type.name());
    }
    if !info.target.is_empty() {
        row["tp_name"] = json!(info.target);
    }
    row["backend"] = json!(backend.kind().to_string());
    row
}

fn text(info: &LinkInfo) -> String {
    let mut text = format!("{}: {}  prog {}", info.id, info.link_type, info.prog_id);
    if !info.target.is_empty() {
        text += &format!("\n\ttp '{}'", info.target);
    }
    if info.ifindex != 0 {
        text += &format!("\n\tifindex {}", info.ifindex);
    }
    if let Some(attach_type) = info.attach_type {
        text += &format!("  attach_type {attach_type}");
    }
    text
}
