//! `cargo xtask disasm-compare [DIR]`: `skep disasm` against llvm-objdump-19, instruction for instruction.
//!
//! DIR holds objects, or an unpacked corpus (then its base objects count); the default is the dev corpus beside the
//! checkout. llvm-objdump runs as it is, and with `--mcpu=v4`: without it, it prints 32-bit atomics that fetch as
//! `<unknown>` or, worse, as if they did not fetch. What it does not know is excluded; what it misreads must equal its
//! own text for v4. Malformed instructions, whose reserved fields it does not look at, are `<unknown>` to us. All three
//! are counted; base objects have none of the last kind.

use crate::{TaskError, target_dir, workspace_root};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const OBJDUMP: &str = "llvm-objdump-19";
/// Where the dev corpus is, from the workspace.
const DEFAULT_DIR: &str = "../shared/corpus/dev";
/// What both print instead of an instruction that does not exist.
const UNKNOWN: &str = "<unknown>";
/// Differences that are printed.
const MAX_SHOWN: usize = 20;

/// Instruction text by section and number.
type Listing = BTreeMap<(String, u64), String>;

#[derive(Default)]
struct Counts {
    objects: usize,
    insns: usize,
    equal: usize,
    unknown: usize,
    misread: usize,
    malformed: usize,
    different: usize,
}

/// Compares; fails on any difference.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let dir = match arguments {
        [] => workspace_root().join(DEFAULT_DIR),
        [dir] => PathBuf::from(dir),
        _ => return Err("usage: disasm-compare [DIR]".to_owned()),
    };
    let objects = if dir.join("verdicts.jsonl").is_file() {
        objects(&crate::corpus::objects_dir(&dir)?)?
    } else {
        objects(&dir)?
    };
    let skep = build()?;
    let mut counts = Counts::default();
    for object in &objects {
        compare(&skep, object, &mut counts)?;
    }
    println!(
        "{}",
        serde_json::json!({
            "task": "disasm-compare", "objects": counts.objects, "insns": counts.insns, "equal": counts.equal,
            "unknown_to_llvm": counts.unknown, "misread_by_llvm": counts.misread,
            "malformed": counts.malformed, "different": counts.different,
        })
    );
    match counts.different {
        0 => Ok(()),
        different => Err(format!("{different} instructions differ")),
    }
}

/// The objects in a folder, or in its folder `base`.
fn objects(dir: &Path) -> Result<Vec<PathBuf>, TaskError> {
    let base = dir.join("base");
    let dir = if base.is_dir() { &base } else { dir };
    let entries = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "o"))
        .collect();
    found.sort();
    if found.is_empty() {
        return Err(format!("{} holds no objects", dir.display()));
    }
    Ok(found)
}

/// Builds `skep` and returns its path.
fn build() -> Result<PathBuf, TaskError> {
    let status = Command::new("cargo")
        .args(["build", "-q", "-p", "skep-cli"])
        .current_dir(workspace_root())
        .status()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    if !status.success() {
        return Err("skep does not build".to_owned());
    }
    Ok(target_dir().join("debug").join("skep"))
}

fn listing(program: &Path, arguments: &[&str], object: &Path) -> Result<Listing, TaskError> {
    let output = Command::new(program)
        .args(arguments)
        .arg(object)
        .output()
        .map_err(|e| format!("cannot run {}: {e}", program.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "{} {}: {text}",
            program.display(),
            object.display()
        ));
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads `   7:\t0c 80 00 00 00 00 00 00\tw0 += w8`.
fn parse(text: &str) -> Listing {
    let mut section = String::new();
    let mut found = Listing::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("Disassembly of section ") {
            section = name.trim_end_matches(':').to_owned();
            continue;
        }
        let mut parts = line.trim_start().splitn(3, '\t');
        let number = parts.next().and_then(|n| n.strip_suffix(':')?.parse().ok());
        if let (Some(number), Some(_), Some(text)) = (number, parts.next(), parts.next()) {
            found.insert((section.clone(), number), text.to_owned());
        }
    }
    found
}

fn compare(skep: &Path, object: &Path, counts: &mut Counts) -> Result<(), TaskError> {
    let objdump = Path::new(OBJDUMP);
    let ours = listing(skep, &["disasm"], object)?;
    let theirs = listing(objdump, &["-d"], object)?;
    let mut v4 = None;
    counts.objects += 1;
    for key in theirs
        .keys()
        .chain(ours.keys().filter(|k| !theirs.contains_key(*k)))
    {
        counts.insns += 1;
        let (our, their) = (ours.get(key), theirs.get(key));
        if our == their {
            counts.equal += 1;
            continue;
        }
        if their.is_some_and(|text| text == UNKNOWN) {
            counts.unknown += 1;
            continue;
        }
        if our.is_some_and(|text| text.starts_with(UNKNOWN)) {
            counts.malformed += 1;
            continue;
        }
        if v4.is_none() {
            v4 = Some(listing(objdump, &["-d", "--mcpu=v4"], object)?);
        }
        if our.is_some() && our == v4.as_ref().and_then(|v4| v4.get(key)) {
            counts.misread += 1;
            continue;
        }
        counts.different += 1;
        if counts.different <= MAX_SHOWN {
            let name = object.file_name().unwrap_or_default().display();
            eprintln!("{name} {} {}: {our:?}, {OBJDUMP}: {their:?}", key.0, key.1);
        }
    }
    Ok(())
}
