//! `cargo xtask conformance DIR`: the public bpf_conformance suite, built in DIR, against both engines and the kernel.
//!
//! DIR is the suite's build folder, with `bin/bpf_conformance_runner`, `bin/libbpf_plugin` and `tests`. Every CPU version
//! and conformance group but indirect calls runs, which Linux does not have. What the kernel passes, we must.

use crate::{TaskError, target_dir, workspace_root};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const CPU_VERSIONS: &[&str] = &["v1", "v2", "v3", "v4"];

/// Plugins: name, and options of the runner.
const PLUGINS: &[(&str, &[&str])] = &[
    ("interp", &["--plugin_options", "--interp"]),
    ("jit", &["--plugin_options", "--jit"]),
    ("kernel", &["--xdp_prolog", "true"]),
];

/// Runs the suite; fails if a test fails that passes in the kernel.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let [dir] = arguments else {
        return Err("usage: conformance DIR".to_owned());
    };
    let dir = PathBuf::from(dir);
    let status = Command::new("cargo")
        .args(["build", "-q", "-p", "skep-cli", "--bin", "skep-conformance"])
        .current_dir(workspace_root())
        .status();
    if !status.is_ok_and(|status| status.success()) {
        return Err("skep-conformance does not build".to_owned());
    }
    let ours = target_dir().join("debug/skep-conformance");
    let mut report = serde_json::Map::new();
    let mut missing = Vec::new();
    for version in CPU_VERSIONS {
        let mut passed = Vec::new();
        for (name, options) in PLUGINS {
            let theirs = dir.join("bin/libbpf_plugin");
            let plugin = if *name == "kernel" { &theirs } else { &ours };
            let (tests, all) = passing(&dir, plugin, version, options)?;
            println!("{version} {name}: {} of {all} tests pass", tests.len());
            report.insert(format!("{version}_{name}"), tests.len().into());
            passed.push(tests);
        }
        if let [interp, jit, kernel] = &passed[..] {
            missing.extend(kernel.difference(interp).cloned());
            missing.extend(kernel.difference(jit).cloned());
        }
    }
    report.insert("missing".to_owned(), missing.len().into());
    println!("{}", serde_json::Value::Object(report));
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("the kernel passes {}", missing.join(", ")))
    }
}

/// The tests that pass, and how many ran.
fn passing(
    dir: &Path,
    plugin: &Path,
    version: &str,
    options: &[&str],
) -> Result<(BTreeSet<String>, usize), TaskError> {
    let runner = dir.join("bin/bpf_conformance_runner");
    let output = Command::new(&runner)
        .arg("--test_file_directory")
        .arg(dir.join("tests"))
        .arg("--plugin_path")
        .arg(plugin)
        .args(["--cpu_version", version, "--exclude_groups", "callx"])
        .args(options)
        .output()
        .map_err(|e| format!("{}: {e}", runner.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let count = |word: &str| text.lines().filter(|l| l.starts_with(word)).count();
    let passed: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("PASS: "))
        .map(str::to_owned)
        .collect();
    let all = passed.len() + count("FAIL: ") + count("ERROR: ");
    if all == 0 {
        return Err(format!("{} ran no test", runner.display()));
    }
    Ok((passed, all))
}
