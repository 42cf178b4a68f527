//! `cargo xtask loads DIR [--with PROGRAM]`: every object of a folder, loaded into the running kernel by libbpf and by skep.
//!
//! libbpf is bpftool's (`prog loadall`), or that of a program which takes an object's path and exits with 0 if it loads. What
//! only one of the two loads is listed; what only libbpf loads is a failure. Programs are loaded and let go, never attached.
//! Needs root.

use crate::TaskError;
use serde_json::json;
use skep::load::{LoadOptions, load};
use skep::{Kernel, target};
use skep_bpf::Backend;
use skep_object::{Object, Options};
use skep_tests::source_files;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Seconds that the other loader may take for one object.
const LIMIT_SECONDS: &str = "30";
/// How much of a reason is shown.
const REASON_CHARS: usize = 200;

/// Who else loads.
enum Other {
    Bpftool,
    Program(PathBuf),
}

/// One line of a reason.
fn line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(REASON_CHARS).collect()
}

impl Other {
    fn name(&self) -> String {
        match self {
            Self::Bpftool => "bpftool".to_owned(),
            Self::Program(path) => path.display().to_string(),
        }
    }

    fn load(&self, object: &Path) -> Result<Result<(), String>, TaskError> {
        let pins = PathBuf::from(format!("/sys/fs/bpf/skep-loads-{}", std::process::id()));
        let mut command = Command::new("timeout");
        command.arg(LIMIT_SECONDS);
        match self {
            Self::Bpftool => command
                .args(["bpftool", "prog", "loadall"])
                .arg(object)
                .arg(&pins),
            Self::Program(program) => command.arg(program).arg(object),
        };
        let output = command
            .output()
            .map_err(|e| format!("cannot run timeout: {e}"))?;
        // Without pins there is nothing to remove.
        let _ = fs::remove_dir_all(&pins);
        if output.status.success() {
            return Ok(Ok(()));
        }
        Ok(Err(line(&String::from_utf8_lossy(&output.stderr))))
    }
}

/// Loads an object with skep and lets it go.
fn ours(path: &Path) -> Result<(), String> {
    let bytes = fs::read(path).map_err(|e| e.to_string())?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let object = Object::parse(&bytes, &Options { name }).map_err(|e| e.to_string())?;
    let target = target::running(&object.needs()).map_err(|e| e.to_string())?;
    let linked = object.relocate(&target).map_err(|e| e.to_string())?;
    let backend: Arc<dyn Backend> = Arc::new(Kernel::new());
    let loaded = load(&linked, &backend, &LoadOptions::default());
    loaded.map(drop).map_err(|e| line(&e.to_string()))
}

/// Compares the loaders.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    const USAGE: &str = "usage: cargo xtask loads DIR [--with PROGRAM]";
    let (folder, other) = match arguments {
        [folder] => (folder, Other::Bpftool),
        [folder, option, program] if option == "--with" => (folder, Other::Program(program.into())),
        _ => return Err(USAGE.to_owned()),
    };
    let paths = source_files(Path::new(folder), &["o"]);
    if paths.is_empty() {
        return Err(format!("{folder}: no objects"));
    }
    let name = other.name();
    let (mut both, mut neither, mut only_ours, mut only_theirs) = (0, 0, 0, 0);
    for path in &paths {
        match (ours(path), other.load(path)?) {
            (Ok(()), Ok(())) => both += 1,
            (Err(_), Err(_)) => neither += 1,
            (Ok(()), Err(reason)) => {
                only_ours += 1;
                println!("only skep: {}: {reason}", path.display());
            }
            (Err(reason), Ok(())) => {
                only_theirs += 1;
                println!("only {name}: {}: {reason}", path.display());
            }
        }
    }
    println!(
        "{}",
        json!({"loads": paths.len(), "both": both, "neither": neither, "only_skep": only_ours, "only_other": only_theirs})
    );
    if only_theirs == 0 {
        Ok(())
    } else {
        Err(format!(
            "{name} loads {only_theirs} objects that skep does not load"
        ))
    }
}
