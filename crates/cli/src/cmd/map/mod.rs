//! `skep map`: maps of the kernel.

mod batch;
mod create;
mod events;
mod queue;
mod show;

use super::noun::{self, Selector};
use crate::error::{CliError, Outcome};
use crate::output::Output;
use crate::render::element::Typed;
use serde_json::{Value as Json, json};
use skep::element::{self, Element};
use skep_bpf::{Backend, Handle, MapInfo, ObjKind};
use std::path::PathBuf;
use std::time::Duration;

// Options of `skep map`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
#[command(defer = true)]
enum Verb {
    /// List maps
    #[command(visible_alias = "list")]
    Show {
        /// id N | pinned PATH | name NAME
        map: Vec<String>,
        /// Also say where maps are pinned
        #[arg(short = 'f', long)]
        bpffs: bool,
    },
    /// Create a map and pin it: PATH type TYPE key BYTES value BYTES entries N [name NAME] [flags N] [inner_map MAP]
    Create {
        /// The path, then properties
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Print the next element of a queue or stack
    Peek {
        /// id N | pinned PATH | name NAME
        #[arg(required = true)]
        map: Vec<String>,
    },
    /// Add an element to a stack or queue: MAP value BYTES…
    #[command(visible_alias = "enqueue")]
    Push {
        /// id N | pinned PATH | name NAME, then value (hex) BYTES…
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Take the next element of a stack or queue
    #[command(visible_alias = "dequeue")]
    Pop {
        /// id N | pinned PATH | name NAME
        #[arg(required = true)]
        map: Vec<String>,
    },
    /// Print what programs emit into a ring buffer or perf event array
    #[command(name = "event_pipe")]
    EventPipe {
        /// id N | pinned PATH | name NAME
        #[arg(required = true)]
        map: Vec<String>,
        /// End after this many seconds
        #[arg(long, value_name = "SECONDS", value_parser = crate::cmd::seconds::parse)]
        duration: Option<Duration>,
    },
    /// Print every element
    Dump {
        /// id N | pinned PATH | name NAME
        #[arg(required = true)]
        map: Vec<String>,
    },
    /// Print one element: MAP key BYTES…
    Lookup {
        /// id N | pinned PATH | name NAME, then key (hex) BYTES…
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Set an element: MAP key BYTES… value BYTES… [any|exist|noexist]
    Update {
        /// id N | pinned PATH | name NAME, then key (hex) BYTES… value (hex) BYTES…
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Remove an element: MAP key BYTES…
    Delete {
        /// id N | pinned PATH | name NAME, then key (hex) BYTES…
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Print the key after one, or the first: MAP [key BYTES…]
    Getnext {
        /// id N | pinned PATH | name NAME, then key (hex) BYTES…
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Many elements at once: MAP dump | take | update FILE | delete FILE; files hold what dump prints as JSON
    Batch {
        /// id N | pinned PATH | name NAME, then what to do
        #[arg(required = true)]
        words: Vec<String>,
        /// Elements of one call at most
        #[arg(long, value_name = "N", default_value_t = batch::COUNT)]
        count: u32,
    },
    /// Keep a map at a path of a bpf filesystem: MAP PATH
    Pin {
        /// id N | pinned PATH | name NAME, then the path
        #[arg(required = true, num_args = 3)]
        words: Vec<String>,
    },
    /// Make a map unwritable from user space
    Freeze {
        /// id N | pinned PATH | name NAME
        #[arg(required = true)]
        map: Vec<String>,
    },
}

/// Runs the verb.
pub(crate) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    let kernel = noun::kernel();
    match &args.verb {
        Verb::Show { map, bpffs } => show::run(&kernel, map, *bpffs, out)?,
        Verb::Create { words } => create::run(&kernel, words)?,
        Verb::Peek { map } => queue::peek(&kernel, map, out)?,
        Verb::Push { words } => queue::push(&kernel, words)?,
        Verb::Pop { map } => queue::pop(&kernel, map, out)?,
        Verb::EventPipe { map, duration } => events::run(&kernel, map, *duration, out)?,
        Verb::Dump { map } => dump(&kernel, map, out)?,
        Verb::Lookup { words } => lookup(&kernel, words, out)?,
        Verb::Update { words } => update(&kernel, words)?,
        Verb::Delete { words } => delete(&kernel, words)?,
        Verb::Getnext { words } => next(&kernel, words, out)?,
        Verb::Batch { words, count } => batch::run(&kernel, words, *count, out)?,
        Verb::Pin { words } => {
            let (map, path) = words.split_at(2);
            let opened = one(&kernel, map)?;
            noun::pin(&kernel, opened.handle, &PathBuf::from(path.concat()))?;
        }
        Verb::Freeze { map } => {
            let opened = one(&kernel, map)?;
            kernel
                .map_freeze(opened.handle)
                .map_err(CliError::environment)?;
        }
    }
    Ok(Outcome::Ok)
}

fn one<'a>(backend: &'a dyn Backend, words: &[String]) -> Result<noun::Opened<'a>, CliError> {
    let selector = Selector::parse(words)?.ok_or_else(|| CliError::usage("name a map"))?;
    noun::select_one(backend, ObjKind::Map, &selector)
}

fn dump(backend: &dyn Backend, words: &[String], out: &mut Output) -> Result<(), CliError> {
    let map = one(backend, words)?;
    let info = backend
        .map_info(map.handle)
        .map_err(CliError::environment)?;
    let btf = noun::btf(backend, info.btf_id);
    let typed = Typed {
        info: &info,
        btf: btf.as_ref(),
    };
    if !element::is_walkable(info.map_type) {
        return Err(CliError::environment(format!(
            "elements of a {} cannot be listed",
            info.map_type
        )));
    }
    let elements = element::elements(backend, map.handle, &info).map_err(CliError::environment)?;
    if out.is_json() {
        return out.json(&elements.iter().map(|e| typed.json(e)).collect::<Json>());
    }
    for element in &elements {
        out.line(typed.line(element))?;
    }
    let count = elements.len();
    out.line(format_args!(
        "Found {count} element{}",
        if count == 1 { "" } else { "s" }
    ))
}

/// A command line after the selector: bytes under `key`, bytes under `value`, and what else there is.
struct Words {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    rest: Vec<String>,
}

/// Splits `MAP key (hex) BYTES… value (hex) BYTES… FLAG`.
fn split(words: &[String]) -> Result<(&[String], Words), CliError> {
    let (map, rest) = words.split_at(words.len().min(2));
    let mut split = Words {
        key: None,
        value: None,
        rest: Vec::new(),
    };
    let mut at = 0;
    while let Some(word) = rest.get(at) {
        at += 1;
        let field = match word.as_str() {
            "key" => &mut split.key,
            "value" => &mut split.value,
            _ => {
                split.rest.push(word.clone());
                continue;
            }
        };
        let radix = if rest.get(at).is_some_and(|w| w == "hex") {
            16
        } else {
            10
        };
        at += usize::from(radix == 16);
        let bytes = field.insert(Vec::new());
        while let Some(byte) = rest.get(at).and_then(|w| byte(w, radix)) {
            bytes.push(byte);
            at += 1;
        }
    }
    Ok((map, split))
}

/// A byte in decimal, `0x` hexadecimal, or hexadecimal after the word `hex`.
fn byte(word: &str, radix: u32) -> Option<u8> {
    match word.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => u8::from_str_radix(word, radix).ok(),
    }
}

fn sized(bytes: Option<Vec<u8>>, what: &str, size: usize) -> Result<Vec<u8>, CliError> {
    let bytes = bytes.ok_or_else(|| CliError::usage(format!("name the {what}: {what} BYTES…")))?;
    if bytes.len() == size {
        Ok(bytes)
    } else {
        Err(CliError::usage(format!(
            "the {what} has {} bytes, the map wants {size}",
            bytes.len()
        )))
    }
}

fn info(backend: &dyn Backend, map: Handle) -> Result<MapInfo, CliError> {
    backend.map_info(map).map_err(CliError::environment)
}

fn lookup(backend: &dyn Backend, words: &[String], out: &mut Output) -> Result<(), CliError> {
    let (map, words) = split(words)?;
    let map = one(backend, map)?;
    let info = info(backend, map.handle)?;
    let key = sized(words.key, "key", info.key_size as usize)?;
    let mut value = vec![0u8; element::value_bytes(backend, &info)];
    backend
        .map_lookup(map.handle, &key, &mut value, 0)
        .map_err(CliError::environment)?;
    let btf = noun::btf(backend, info.btf_id);
    let typed = Typed {
        info: &info,
        btf: btf.as_ref(),
    };
    let element = Element { key, value };
    if out.is_json() {
        out.json(&typed.json(&element))
    } else {
        out.line(typed.line(&element))
    }
}

fn update(backend: &dyn Backend, words: &[String]) -> Result<(), CliError> {
    let (map, words) = split(words)?;
    let map = one(backend, map)?;
    let info = info(backend, map.handle)?;
    let key = sized(words.key, "key", info.key_size as usize)?;
    let value = sized(words.value, "value", info.value_size as usize)?;
    let value = if element::is_per_cpu(info.map_type) {
        // As bpftool: the same value on every CPU.
        let mut padded = value;
        padded.resize(padded.len().next_multiple_of(8), 0);
        padded.repeat(backend.possible_cpus())
    } else {
        value
    };
    let flags = match words.rest.first().map_or("any", String::as_str) {
        "any" => skep_abi::map_flags::BPF_ANY,
        "noexist" => skep_abi::map_flags::BPF_NOEXIST,
        "exist" => skep_abi::map_flags::BPF_EXIST,
        other => {
            return Err(CliError::usage(format!(
                "\"{other}\" is not one of any, exist, noexist"
            )));
        }
    };
    backend
        .map_update(map.handle, &key, &value, flags)
        .map_err(CliError::environment)
}

fn delete(backend: &dyn Backend, words: &[String]) -> Result<(), CliError> {
    let (map, words) = split(words)?;
    let map = one(backend, map)?;
    let key = sized(
        words.key,
        "key",
        info(backend, map.handle)?.key_size as usize,
    )?;
    backend
        .map_delete(map.handle, &key)
        .map_err(CliError::environment)
}

fn next(backend: &dyn Backend, words: &[String], out: &mut Output) -> Result<(), CliError> {
    let (map, words) = split(words)?;
    let map = one(backend, map)?;
    let info = info(backend, map.handle)?;
    let key = words
        .key
        .map(|k| sized(Some(k), "key", info.key_size as usize))
        .transpose()?;
    let mut next = vec![0u8; info.key_size as usize];
    backend
        .map_next_key(map.handle, key.as_deref(), &mut next)
        .map_err(CliError::environment)?;
    let hex = crate::render::value::hex_list;
    if out.is_json() {
        let key = key.map_or(Json::Null, |k| hex(&k));
        out.json(&json!({"key": key, "next_key": hex(&next)}))
    } else {
        out.line(crate::render::value::hex(&next))
    }
}
