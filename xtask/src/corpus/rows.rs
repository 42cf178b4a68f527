//! The kernel's verdicts and the objects they speak of.

use crate::TaskError;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The two loaders of the corpus.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum CapSet {
    All,
    Bpf,
}

impl CapSet {
    /// Both, as they are reported.
    pub(super) const BOTH: [Self; 2] = [Self::All, Self::Bpf];

    /// As in `skep check --caps`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Bpf => "bpf",
        }
    }
}

/// What the kernel said to one loader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KernelVerdict {
    pub(super) accept: bool,
    pub(super) errno: i64,
    pub(super) log_last: String,
    pub(super) fail_insn: Option<u64>,
}

impl KernelVerdict {
    /// The refusal is about the limits of exploration.
    pub(super) fn is_complexity(&self) -> bool {
        const MARKS: &[&str] = &["BPF program is too large", "jumps is too complex"];
        !self.accept && MARKS.iter().any(|m| self.log_last.contains(m))
    }
}

/// One program of one object.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) object: String,
    pub(super) category: String,
    pub(super) base: String,
    pub(super) program: String,
    pub(super) prog_type: String,
    pub(super) all: KernelVerdict,
    pub(super) bpf: KernelVerdict,
}

impl Row {
    /// The kernel's verdict for one loader.
    pub(super) fn verdict(&self, caps: CapSet) -> &KernelVerdict {
        match caps {
            CapSet::All => &self.all,
            CapSet::Bpf => &self.bpf,
        }
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn verdict(value: &Value, fail_insn: Option<u64>) -> KernelVerdict {
    KernelVerdict {
        accept: value["verdict"] == "accept",
        errno: value["errno"].as_i64().unwrap_or(0),
        log_last: text(value, "log_last"),
        fail_insn,
    }
}

/// Reads `verdicts.jsonl`; rows keep the order of the file.
pub(super) fn read(dir: &Path, filter: Option<&str>) -> Result<Vec<Row>, TaskError> {
    let path = dir.join("verdicts.jsonl");
    let file = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut rows = Vec::new();
    for (number, line) in file.lines().enumerate() {
        let value: Value = serde_json::from_str(line)
            .map_err(|e| format!("{}:{}: {e}", path.display(), number + 1))?;
        let row = Row {
            object: text(&value, "object"),
            category: text(&value, "category"),
            base: text(&value, "base"),
            program: text(&value, "program"),
            prog_type: text(&value, "prog_type"),
            all: verdict(&value, value["fail_insn"].as_u64()),
            bpf: verdict(&value["cap_bpf"], value["cap_bpf"]["fail_insn"].as_u64()),
        };
        if filter.is_none_or(|f| row.object.contains(f) || row.program.contains(f)) {
            rows.push(row);
        }
    }
    if rows.is_empty() {
        Err("no row is left to check".to_owned())
    } else {
        Ok(rows)
    }
}

/// Rows by object, in the order of names.
pub(super) fn by_object(rows: &[Row]) -> BTreeMap<&str, Vec<usize>> {
    let mut objects: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        objects.entry(&row.object).or_default().push(index);
    }
    objects
}

/// The folder with the objects: the corpus itself, or where its archive was unpacked.
pub(super) fn objects_dir(dir: &Path, rows: &[Row]) -> Result<PathBuf, TaskError> {
    let has_objects = |d: &Path| rows.first().is_some_and(|r| d.join(&r.object).is_file());
    if has_objects(dir) {
        return Ok(dir.to_owned());
    }
    let archive = dir.join("objects.tar.zst");
    let stamp = fs::metadata(&archive)
        .map_err(|e| format!("{}: {e}", archive.display()))?
        .len();
    let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or("corpus");
    let target = crate::target_dir()
        .join("corpus")
        .join(format!("{name}-{stamp}"));
    if has_objects(&target) {
        return Ok(target);
    }
    unpack(&archive, &target)?;
    if has_objects(&target) {
        Ok(target)
    } else {
        Err(format!(
            "{} does not have the objects that the verdicts name",
            archive.display()
        ))
    }
}

fn unpack(archive: &Path, target: &Path) -> Result<(), TaskError> {
    fs::create_dir_all(target).map_err(|e| format!("{}: {e}", target.display()))?;
    let mut zstd = Command::new("zstd")
        .args(["-d", "--long=27", "-c"])
        .arg(archive)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run zstd: {e}"))?;
    let stream = zstd.stdout.take().ok_or("zstd has no output")?;
    let tar = Command::new("tar")
        .arg("x")
        .arg("-C")
        .arg(target)
        .stdin(stream)
        .status()
        .map_err(|e| format!("cannot run tar: {e}"))?;
    let zstd = zstd.wait().map_err(|e| format!("zstd: {e}"))?;
    if tar.success() && zstd.success() {
        Ok(())
    } else {
        Err(format!("cannot unpack {}", archive.display()))
    }
}
