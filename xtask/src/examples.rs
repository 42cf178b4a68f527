//! `cargo xtask examples [--check]`: builds the objects in `examples/`, `tests/objects/` and the like from their C sources.
//!
//! Needs clang-19, llvm-strip-19 and the headers of libbpf. The objects are committed, so that users need none of these;
//! `--check` tells whether they are stale.

use crate::TaskError;
use skep_tests::examples::{FOLDERS, build, file_name, sources, stale};

/// Builds or checks all examples.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let check = match arguments {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => return Err("usage: examples [--check]".to_owned()),
    };
    let mut old = Vec::new();
    for folder in FOLDERS.iter().map(|f| crate::workspace_root().join(f)) {
        if check {
            old.extend(stale(&folder)?);
            continue;
        }
        for source in sources(&folder)? {
            build(
                &folder,
                &file_name(&source),
                &file_name(&source.with_extension("o")),
            )?;
        }
    }
    if old.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "stale: {}; run cargo xtask examples",
            old.join(", ")
        ))
    }
}
