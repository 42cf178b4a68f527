//! Cross-crate tests: ours against the kernel, engine against engine. This library is what the tests share.

pub mod btf_rules;
pub mod case;
pub mod examples;
pub mod format_diff;
pub mod fuzz;
pub mod fuzz_maps;
pub mod hammer;
pub mod helper_diff;
pub mod lifecycle;
pub mod map_diff;
pub mod need;
pub mod object_rules;
pub mod objects;
pub mod packet_diff;
pub mod pair;
pub mod random;
pub mod run_diff;
pub mod sweep;
pub mod table;
pub mod usdt;
pub mod verifier_case;

use skep_vm::{Engine, Tiers};
use std::path::{Path, PathBuf};

/// The engines of the user backend: the interpreter, and both compilers.
pub const ENGINES: [(Engine, Tiers); 3] = [
    (Engine::Interp, Tiers::Adaptive),
    (Engine::Jit, Tiers::Templates),
    (Engine::Jit, Tiers::Optimised),
];

/// The folder of the workspace.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Every file under `root` with one of the extensions, without build output, sorted.
#[must_use]
pub fn source_files(root: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(path);
                }
            } else if path
                .extension()
                .and_then(|e| e.to_str())
                .is_some_and(|e| extensions.contains(&e))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
