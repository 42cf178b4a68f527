//! `cargo xtask corpus-run [DIR]`: makes every recorded test run of a corpus and compares results with the kernel's.
//!
//! Each row is loaded afresh (its program, and the tail call targets of its object) into a universe of its own, or into
//! the kernel; the four inputs run in order; return values, outputs and the maps afterwards must be those of the row.

use super::checked::{self, Checked};
use super::rows;
use crate::TaskError;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use skep::check::CheckOptions;
use skep::load::{LoadOptions, Loaded, load};
use skep_abi::{MapType, ProgType};
use skep_bpf::{Backend, TestRun};
use skep_object::{Linked, Object};
use skep_user::{Options as UniverseOptions, Universe};
use skep_vm::{Engine, Tiers};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Room for outputs.
const OUT_BYTES: u32 = 64 * 1024;
/// Longer dumps of a map are hashed.
const DUMP_LIMIT: usize = 4096;

/// What the programs run on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    User(Engine, Tiers),
    Kernel,
}

struct Options {
    dir: PathBuf,
    target: Target,
    filter: Option<String>,
    list: bool,
    checked: bool,
}

const USAGE: &str = "usage: corpus-run [DIR] [--engine interp|jit|templates] [--backend user|kernel] [--checked] [--filter SUBSTRING] [--list]";

fn parse(arguments: &[String]) -> Result<Options, TaskError> {
    let mut options = Options {
        dir: crate::workspace_root().join(super::DEFAULT_DIR),
        target: Target::User(Engine::Interp, Tiers::Adaptive),
        filter: None,
        list: false,
        checked: false,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || {
            rest.next()
                .ok_or_else(|| format!("{argument} needs a value; {USAGE}"))
        };
        match argument.as_str() {
            "--filter" => options.filter = Some(value()?.clone()),
            "--list" => options.list = true,
            "--checked" => options.checked = true,
            "--engine" => {
                options.target = match value()?.as_str() {
                    "interp" => Target::User(Engine::Interp, Tiers::Adaptive),
                    "jit" => Target::User(Engine::Jit, Tiers::Optimised),
                    "templates" => Target::User(Engine::Jit, Tiers::Templates),
                    other => return Err(format!("no engine {other}; {USAGE}")),
                }
            }
            "--backend" => match value()?.as_str() {
                "kernel" => options.target = Target::Kernel,
                "user" => {}
                other => return Err(format!("no backend {other}; {USAGE}")),
            },
            option if option.starts_with('-') => {
                return Err(format!("unknown option {option}; {USAGE}"));
            }
            dir => options.dir = PathBuf::from(dir),
        }
    }
    Ok(options)
}

/// The inputs of every row.
pub(crate) struct Inputs {
    packets: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

fn bytes(hex: &str) -> Result<Vec<u8>, TaskError> {
    (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16))
        .collect::<Result<_, _>>()
        .map_err(|e| format!("inputs.json: {e}"))
}

impl Inputs {
    pub(crate) fn read(dir: &Path) -> Result<Self, TaskError> {
        let path = dir.join("inputs.json");
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let json: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        let list = |name: &str| -> Result<Vec<Vec<u8>>, TaskError> {
            let values = json[name].as_array().cloned().unwrap_or_default();
            values
                .iter()
                .map(|v| bytes(v.as_str().unwrap_or_default()))
                .collect()
        };
        Ok(Self {
            packets: list("packets")?,
            words: list("words")?,
        })
    }

    /// The test run of input `at` for a program type.
    pub(crate) fn test_run(&self, prog_type: ProgType, at: usize) -> TestRun {
        if matches!(prog_type, ProgType::Syscall | ProgType::RawTracepoint) {
            return TestRun {
                ctx_in: Some(self.words[at].clone()),
                ..TestRun::default()
            };
        }
        TestRun {
            data_in: Some(self.packets[at].clone()),
            data_size_out: OUT_BYTES,
            repeat: 1,
            ..TestRun::default()
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A tail call target by its name: `tailN_…` belongs at index N of the map `jmp`.
fn tail_index(name: &str) -> Option<u32> {
    let digits: String = name
        .strip_prefix("tail")?
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

fn fill_tails(loaded: &Loaded) -> Result<(), TaskError> {
    let Some(jmp) = loaded.map("jmp") else {
        return Ok(());
    };
    for program in &loaded.programs {
        if let Some(index) = tail_index(&program.spec.name) {
            let value = program.handle.0.to_ne_bytes();
            // As in the recording: an index that the map does not have stays empty.
            let result = loaded
                .backend()
                .map_update(jmp.handle, &index.to_ne_bytes(), &value, 0);
            drop(result);
        }
    }
    Ok(())
}

/// The content of a map in the corpus' canonical form; `None` for types that are not shown.
fn dump(backend: &dyn Backend, map: &skep::load::LoadedMap) -> Result<Option<Value>, TaskError> {
    use MapType as M;
    let info = backend.map_info(map.handle).map_err(|e| e.to_string())?;
    let value = match info.map_type {
        M::Queue | M::Stack => {
            let mut list = Vec::new();
            let mut value = vec![0; info.value_size as usize];
            while backend
                .map_lookup_and_delete(map.handle, &[], &mut value, 0)
                .is_ok()
            {
                list.push(Value::String(hex(&value)));
            }
            Value::Array(list)
        }
        M::Array
        | M::PercpuArray
        | M::Hash
        | M::PercpuHash
        | M::LruHash
        | M::LruPercpuHash
        | M::LpmTrie => {
            let elements =
                skep::element::elements(backend, map.handle, &info).map_err(|e| e.to_string())?;
            let mut entries = BTreeMap::new();
            for element in elements {
                let value = sum(&info, &element.value);
                let array = matches!(info.map_type, M::Array | M::PercpuArray);
                if !array || value.iter().any(|&b| b != 0) {
                    entries.insert(hex(&element.key), Value::String(hex(&value)));
                }
            }
            Value::Object(Map::from_iter(entries))
        }
        _ => return Ok(None),
    };
    let text = value.to_string();
    if text.len() > DUMP_LIMIT {
        let entries = value.as_object().map_or(0, Map::len);
        let hash = hex(&Sha256::digest(text.as_bytes()));
        return Ok(Some(json!({"entries": entries, "sha256": hash})));
    }
    Ok(Some(value))
}

/// The value; of per-CPU maps the sum over all CPUs, word by word.
fn sum(info: &skep_bpf::MapInfo, value: &[u8]) -> Vec<u8> {
    let size = info.value_size as usize;
    if !skep::element::is_per_cpu(info.map_type) {
        return value[..size].to_vec();
    }
    let stride = size.next_multiple_of(8);
    let mut words = vec![0u64; stride / 8];
    for cpu in value.chunks(stride) {
        for (word, bytes) in words.iter_mut().zip(cpu.as_chunks::<8>().0) {
            *word = word.wrapping_add(u64::from_le_bytes(*bytes));
        }
    }
    let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    bytes.truncate(size);
    bytes
}

/// Links an object for the kernel of the corpus.
pub(crate) fn link(path: &Path, kernel_btf: &Arc<skep_btf::Btf>) -> Result<Linked, TaskError> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = name.split('.').next().unwrap_or_default().to_owned();
    let file = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let options = skep_object::Options { name };
    let object = Object::parse(&file, &options).map_err(|e| e.to_string())?;
    let target = skep::target::reference(&object.needs(), Some((**kernel_btf).clone()));
    object.relocate(&target).map_err(|e| e.to_string())
}

/// Runs a row: what differs from its record.
fn run_row(
    row: &Value,
    objects: &Path,
    inputs: &Inputs,
    target: Target,
    kernel_btf: &Arc<skep_btf::Btf>,
) -> Result<(), TaskError> {
    let text = |field: &str| row[field].as_str().unwrap_or_default();
    let mut linked = link(&objects.join(text("object")), kernel_btf)?;
    let mut prog_type = ProgType::Unspec;
    for program in &mut linked.programs {
        let wanted = program.name == text("program");
        if wanted {
            prog_type = program.prog_type;
        }
        program.autoload = wanted || tail_index(&program.name).is_some();
    }
    let backend: Arc<dyn Backend> = match target {
        Target::Kernel => Arc::new(skep::Kernel::new()),
        Target::User(engine, tiers) => {
            let options = UniverseOptions {
                engine,
                tiers,
                cpus: 2,
                kernel_btf: Some(Arc::clone(kernel_btf)),
                ..UniverseOptions::default()
            };
            Arc::new(Universe::new(options).map_err(|e| e.to_string())?)
        }
    };
    let loaded = load(&linked, &backend, &LoadOptions::default()).map_err(|e| e.to_string())?;
    fill_tails(&loaded)?;
    let program = loaded
        .program(text("program"))
        .ok_or("the program is not in the object")?;
    for (at, record) in row["runs"].as_array().into_iter().flatten().enumerate() {
        let run = inputs.test_run(prog_type, at);
        let result = backend.prog_test_run(program.handle, &run);
        compare_run(at, record, prog_type, result)?;
    }
    for (name, expected) in row["maps"].as_object().into_iter().flatten() {
        let map = loaded
            .maps
            .iter()
            .find(|m| m.spec.name == *name || m.spec.name.ends_with(name.as_str()))
            .ok_or_else(|| format!("no map {name}"))?;
        let Some(found) = dump(backend.as_ref(), map)? else {
            return Err(format!("map {name} is not shown"));
        };
        if found != *expected {
            return Err(format!("map {name}: {found} instead of {expected}"));
        }
    }
    Ok(())
}

fn compare_run(
    at: usize,
    record: &Value,
    prog_type: ProgType,
    result: skep_bpf::Result<skep_bpf::TestRunResult>,
) -> Result<(), TaskError> {
    let result = match (result, record["errno"].as_i64()) {
        (Ok(_), Some(errno)) => return Err(format!("run {at}: no errno {errno}")),
        (Err(e), Some(errno)) if i64::from(e.errno.0) == errno => return Ok(()),
        (Err(e), _) => return Err(format!("run {at}: {e}")),
        (Ok(result), None) => result,
    };
    let expected = record["ret"].as_u64().unwrap_or_default();
    if u64::from(result.retval) != expected {
        return Err(format!(
            "run {at}: returned {} instead of {expected}",
            result.retval
        ));
    }
    let out = match prog_type {
        ProgType::RawTracepoint => return Ok(()),
        ProgType::Syscall => &result.ctx_out,
        _ => &result.data_out,
    };
    let len = record["out_len"].as_u64().unwrap_or_default();
    if out.len() as u64 != len {
        return Err(format!("run {at}: {} bytes instead of {len}", out.len()));
    }
    if hex(&Sha256::digest(out)) != record["out_sha256"].as_str().unwrap_or_default() {
        return Err(format!("run {at}: other output: {}", hex(out)));
    }
    Ok(())
}

/// True if the result may hold an address, stale stack bytes or fields of a structure of the kernel it was recorded on: such programs are refused to
/// loaders without CAP_PERFMON, and nobody else can give the same result.
fn shows_kernel_memory(row: &Value) -> bool {
    const MARKS: &[&str] = &[
        "pointer",
        "read from stack",
        "stack access",
        "leak",
        "access is allowed only to CAP_PERFMON",
    ];
    /// `ffffffff8` and `ffffffff9` in the hexadecimal of a dump: printed addresses of the kernel's code and data on x86-64.
    const PRINTED: &[&str] = &["666666666666666638", "666666666666666639"];
    let log = row["cap_bpf"]["log_last"].as_str().unwrap_or_default();
    let refused = row["cap_bpf"]["verdict"] == "reject";
    let maps = row["maps"].to_string();
    refused && (MARKS.iter().any(|m| log.contains(m)) || PRINTED.iter().any(|p| maps.contains(p)))
}

/// Runs the comparison; fails if any row differs.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let options = parse(arguments)?;
    let objects = rows::objects_dir(&options.dir, &rows::read(&options.dir, None)?)?;
    let inputs = Inputs::read(&options.dir)?;
    let kernel_btf = Arc::new(skep::target::running_btf().map_err(|e| e.to_string())?);
    if options.checked {
        return run_checked(&options, &objects, &inputs, &kernel_btf);
    }
    let path = options.dir.join("verdicts.jsonl");
    let file = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (mut agree, mut differ) = (0u32, BTreeMap::<String, u32>::new());
    let mut leaks = 0u32;
    for line in file.lines() {
        let row: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let name = format!("{} {}", row["object"], row["program"]).replace('"', "");
        let skipped = options.filter.as_ref().is_some_and(|f| !name.contains(f));
        if row["runs"].is_null() || skipped {
            continue;
        }
        match run_row(&row, &objects, &inputs, options.target, &kernel_btf) {
            Ok(()) => agree += 1,
            Err(why) if shows_kernel_memory(&row) => {
                if options.list {
                    println!("{name}: shows addresses or stale bytes of the kernel: {why}");
                }
                leaks += 1;
            }
            Err(why) => {
                if options.list {
                    println!("{name}: {why}");
                }
                *differ.entry(super::compare::shape(&why)).or_default() += 1;
            }
        }
    }
    let mut groups: Vec<_> = differ.iter().collect();
    groups.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (why, count) in groups {
        let short: String = why.chars().take(160).collect();
        println!("{count:6} {short}");
    }
    let differing: u32 = differ.values().sum();
    println!(
        "{}",
        json!({"corpus_run": agree + differing + leaks, "agree": agree, "differ": differing, "kernel_memory": leaks})
    );
    if differing == 0 {
        Ok(())
    } else {
        Err(format!("{differing} rows differ"))
    }
}

/// Compares every instruction of every run with the verifier's states; fails on contradictions.
fn run_checked(
    options: &Options,
    objects: &Path,
    inputs: &Inputs,
    kernel_btf: &Arc<skep_btf::Btf>,
) -> Result<(), TaskError> {
    let check = CheckOptions {
        kernel_btf: Some((**kernel_btf).clone()),
        ..CheckOptions::default()
    };
    let path = options.dir.join("verdicts.jsonl");
    let file = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (mut fit, mut steps, mut skipped, mut contradictions) = (0u32, 0u64, 0u32, 0u32);
    for line in file.lines() {
        let row: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
        let name = format!("{} {}", row["object"], row["program"]).replace('"', "");
        let unwanted = options.filter.as_ref().is_some_and(|f| !name.contains(f));
        if row["runs"].is_null() || unwanted {
            continue;
        }
        match checked::check_row(&row, objects, inputs, &check) {
            Ok(Checked::Fits(more)) => {
                fit += 1;
                steps += more;
            }
            Ok(Checked::Skipped(why)) => {
                skipped += 1;
                if options.list {
                    println!("{name}: skipped: {why}");
                }
            }
            Err(what) => {
                contradictions += 1;
                println!("{name}: {what}");
            }
        }
    }
    println!(
        "{}",
        json!({"checked": fit, "steps": steps, "skipped": skipped, "contradictions": contradictions})
    );
    if contradictions == 0 {
        Ok(())
    } else {
        Err(format!("{contradictions} rows contradict their proof"))
    }
}
