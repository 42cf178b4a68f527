//! `skep prog run`: test runs on either backend.

use crate::cmd::noun::{self, Selector};
use crate::cmd::open::{self, BackendArg, Chosen, EngineOptions};
use crate::error::{CliError, Outcome};
use crate::output::Output;
use crate::render::value::hex;
use serde_json::{Map, Value as Json, json};
use skep::dump::{Contents, Form, contents};
use skep::test_run::{self, Input, Shape};
use skep_abi::ProgType;
use skep_bpf::{Backend, Handle, ObjKind, TestRunResult};
use std::path::PathBuf;

/// Characters of a canonical listing beyond which its digest is printed.
const CANONICAL_CHARS_MAX: usize = 4096;

// Options of `skep prog run`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// An object file, or the id of a loaded program
    #[arg(value_name = "OBJ|ID")]
    object: String,
    /// Which program of the object
    #[arg(long, value_name = "NAME")]
    program: Option<String>,
    /// A file with the packet; several are run in order on the same maps
    #[arg(long, value_name = "FILE")]
    data_in: Vec<PathBuf>,
    /// A file with the context; several are run in order
    #[arg(long, value_name = "FILE")]
    ctx_in: Vec<PathBuf>,
    /// Where the last packet goes
    #[arg(long, value_name = "FILE")]
    data_out: Option<PathBuf>,
    /// How often each input is run
    #[arg(long, default_value_t = 1)]
    repeat: u32,
    /// Which implementation
    #[arg(long, value_enum, default_value_t = BackendArg::Auto)]
    backend: BackendArg,
    #[command(flatten)]
    engine: EngineOptions,
    /// List the maps afterwards
    #[arg(long, value_enum)]
    maps: Option<MapsArg>,
    /// Program type for sections whose name says none
    #[arg(long = "type", value_name = "TYPE")]
    prog_type: Option<String>,
}

/// Forms of the listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum MapsArg {
    /// Every element and CPU
    Raw,
    /// The same on every machine
    Canonical,
}

/// One input's result.
type Run = Result<TestRunResult, skep_bpf::Error>;

/// Runs the program.
pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, CliError> {
    let inputs = inputs(args)?;
    if let Ok(id) = args.object.parse::<u32>() {
        return by_id(args, id, &inputs, out);
    }
    let prog_type = args.prog_type.as_deref().map(open::prog_type).transpose()?;
    let object = open::object(args.object.as_ref())?;
    let chosen = open::backend(
        args.backend,
        open::Purpose::TestRun,
        &args.engine,
        Some(&object),
    )?;
    let linked = open::link(&object, &chosen)?;
    let name = match (&args.program, linked.programs.as_slice()) {
        (Some(name), programs) if programs.iter().any(|p| p.name == *name) => name.clone(),
        (Some(name), _) => {
            return Err(CliError::usage(format!(
                "{} has no program \"{name}\"",
                args.object
            )));
        }
        (None, [only]) => only.name.clone(),
        (None, _) => {
            return Err(CliError::usage(
                "the object has several programs; name one: --program NAME",
            ));
        }
    };
    let loaded = test_run::load_one(&linked, &chosen.backend, &name, prog_type)
        .map_err(|e| open::refused(&e, args.object.as_ref(), chosen.backend.kind()))?;
    let _listed = open::announce(&chosen);
    let program = loaded
        .program(&name)
        .ok_or_else(|| CliError::environment("the program was not loaded"))?;
    let prog_type = match program.spec.prog_type {
        ProgType::Unspec => prog_type.unwrap_or(ProgType::Unspec),
        known => known,
    };
    let runs = run_all(
        chosen.backend.as_ref(),
        program.handle,
        prog_type,
        &inputs,
        args.repeat,
    );
    let maps = match args.maps {
        None => None,
        Some(form) => {
            let form = if form == MapsArg::Raw {
                Form::Raw
            } else {
                Form::Canonical
            };
            let maps = loaded.maps.iter().map(|m| (m.spec.name.as_str(), m.handle));
            Some(list(chosen.backend.as_ref(), maps, form)?)
        }
    };
    finish(args, &chosen, prog_type, &runs, maps, out)
}

/// Runs a program of the kernel that is loaded already.
fn by_id(args: &Args, id: u32, inputs: &[Input], out: &mut Output) -> Result<Outcome, CliError> {
    let chosen = open::backend(
        BackendArg::Kernel,
        open::Purpose::TestRun,
        &args.engine,
        None,
    )?;
    let backend = chosen.backend.as_ref();
    let opened = noun::select_one(backend, ObjKind::Prog, &Selector::Id(id))?;
    let prog_type = backend
        .prog_info(opened.handle)
        .map_err(CliError::environment)?
        .prog_type;
    let runs = run_all(backend, opened.handle, prog_type, inputs, args.repeat);
    finish(args, &chosen, prog_type, &runs, None, out)
}

/// Inputs in order; where both kinds are given, they go in pairs.
fn inputs(args: &Args) -> Result<Vec<Input>, CliError> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|e| {
            CliError::environment(format!("{}: {}", path.display(), crate::error::io_text(&e)))
        })
    };
    let data: Vec<_> = args.data_in.iter().map(read).collect::<Result<_, _>>()?;
    let ctx: Vec<_> = args.ctx_in.iter().map(read).collect::<Result<_, _>>()?;
    if !data.is_empty() && !ctx.is_empty() && data.len() != ctx.len() {
        return Err(CliError::usage("give as many contexts as packets"));
    }
    let count = data.len().max(ctx.len()).max(1);
    Ok((0..count)
        .map(|i| Input {
            data: data.get(i).cloned(),
            ctx: ctx.get(i).cloned(),
        })
        .collect())
}

fn run_all(
    backend: &dyn Backend,
    prog: Handle,
    prog_type: ProgType,
    inputs: &[Input],
    repeat: u32,
) -> Vec<Run> {
    inputs
        .iter()
        .map(|i| test_run::run(backend, prog, prog_type, i, repeat))
        .collect()
}

/// Contents of the maps that have any to show.
fn list<'a>(
    backend: &dyn Backend,
    maps: impl Iterator<Item = (&'a str, Handle)>,
    form: Form,
) -> Result<Map<String, Json>, CliError> {
    let mut all = Map::new();
    for (name, handle) in maps {
        // Private data holds addresses.
        if form == Form::Canonical && name.starts_with(".data.private") {
            continue;
        }
        if let Some(found) = contents(backend, handle, form).map_err(CliError::environment)? {
            all.insert(name.to_owned(), listing(&found, form));
        }
    }
    Ok(all)
}

fn listing(found: &Contents, form: Form) -> Json {
    let (count, json) = match found {
        Contents::Elements(list) => {
            let object: Map<_, _> = list.iter().map(|(k, v)| (hex(k), json!(hex(v)))).collect();
            (list.len(), Json::Object(object))
        }
        Contents::Queue(values) => (values.len(), values.iter().map(|v| json!(hex(v))).collect()),
    };
    let text = json.to_string();
    if form == Form::Canonical && text.len() > CANONICAL_CHARS_MAX {
        return json!({"entries": count, "sha256": crate::render::digest::sha256(text.as_bytes())});
    }
    json
}

fn finish(
    args: &Args,
    chosen: &Chosen,
    prog_type: ProgType,
    runs: &[Run],
    maps: Option<Map<String, Json>>,
    out: &mut Output,
) -> Result<Outcome, CliError> {
    if let (Some(path), Some(Ok(last))) = (&args.data_out, runs.last()) {
        std::fs::write(path, &last.data_out)
            .map_err(|e| CliError::environment(format!("{}: {e}", path.display())))?;
    }
    if out.is_json() {
        let mut line = json!({
            "schema": 1,
            "backend": chosen.backend.kind().to_string(),
            "runs": runs.iter().map(|r| run_json(prog_type, r)).collect::<Json>(),
        });
        if let Some(maps) = maps {
            line["maps"] = Json::Object(maps);
        }
        out.json(&line)?;
    } else {
        text(runs, maps.as_ref(), out)?;
    }
    let failed = runs.iter().any(Result::is_err);
    Ok(if failed {
        Outcome::Environment
    } else {
        Outcome::Ok
    })
}

fn run_json(prog_type: ProgType, run: &Run) -> Json {
    let result = match run {
        Ok(result) => result,
        Err(error) => return json!({"errno": error.errno.0}),
    };
    let mut row = json!({"retval": result.retval, "errno": 0});
    let shape = test_run::shape(prog_type);
    if shape == Shape::Packet {
        row["data_out"] = json!(hex(&result.data_out));
    }
    if shape != Shape::Arguments && !result.ctx_out.is_empty() {
        row["ctx_out"] = json!(hex(&result.ctx_out));
    }
    row["duration_ns"] = json!(u64::try_from(result.duration.as_nanos()).unwrap_or(u64::MAX));
    row
}

fn text(runs: &[Run], maps: Option<&Map<String, Json>>, out: &mut Output) -> Result<(), CliError> {
    for (index, run) in runs.iter().enumerate() {
        match run {
            Ok(r) => out.line(format_args!(
                "run {index}: returned {} ({:#x}), {} bytes out, {} ns",
                r.retval,
                r.retval,
                r.data_out.len(),
                r.duration.as_nanos()
            ))?,
            Err(error) => out.line(format_args!("run {index}: {error}"))?,
        }
    }
    for (name, listing) in maps.into_iter().flatten() {
        out.line(format_args!("map {name}: {listing}"))?;
    }
    Ok(())
}
