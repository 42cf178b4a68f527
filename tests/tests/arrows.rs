//! Crate dependencies run one way, system calls are made in one crate, and `unsafe` stays where it was promised.

use skep_tests::{source_files, workspace_root};
use std::fs;

/// Crate folder → what it may depend on, of ours. ARCHITECTURE.md has the reasons.
#[rustfmt::skip] // one crate per line
const ARROWS: &[(&str, &[&str])] = &[
    ("abi",      &[]),
    ("isa",      &[]),
    ("bpf",      &["abi", "isa"]),
    ("btf",      &["abi"]),
    ("cbpf",     &["isa"]),
    ("sys",      &["abi"]),
    ("object",   &["btf", "abi", "isa"]),
    ("gen",      &["object", "btf", "abi"]),
    ("profile",  &["btf", "abi"]),
    ("verifier", &["btf", "abi", "isa"]),
    ("maps",     &["btf", "abi", "sys"]),
    ("vm",       &["verifier", "maps", "btf", "cbpf", "abi", "isa", "sys"]),
    ("user",     &["vm", "maps", "verifier", "btf", "bpf", "abi", "isa", "sys"]),
    ("skep",     &["user", "object", "profile", "cbpf", "bpf", "verifier", "vm", "maps", "btf", "sys", "abi", "isa"]),
    ("net",      &["skep", "isa"]),
    ("cli",      &["skep", "net", "gen", "user", "object", "cbpf", "bpf", "verifier", "vm", "maps", "btf", "sys", "abi", "isa"]),
];

/// Crates whose `lib.rs` forbids unsafe code; their examples and tests have none either.
const SAFE: &[&str] = &[
    "abi", "isa", "bpf", "btf", "cbpf", "object", "gen", "profile", "verifier", "net",
];

/// How unsafe code begins.
const UNSAFE: &[&str] = &["unsafe {", "unsafe impl", "unsafe fn", "unsafe extern"];

/// Crates that talk to the OS; only `sys` may use them.
const OS_CRATES: &[&str] = &["libc", "rustix", "nix", "linux-raw-sys"];

/// Names of the dependencies in a manifest's `[dependencies]` and `[dev-dependencies]`: (section, name).
fn dependencies(manifest: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
            continue;
        }
        if !section.ends_with("dependencies") || line.starts_with('#') {
            continue;
        }
        if let Some((key, _)) = line.split_once('=') {
            let name = key.trim().split('.').next().unwrap_or_default();
            found.push((section.clone(), name.to_owned()));
        }
    }
    found
}

#[test]
fn crates_depend_one_way() {
    let crates = workspace_root().join("crates");
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&crates).unwrap() {
        let folder = entry.unwrap().file_name().into_string().unwrap();
        let manifest = fs::read_to_string(crates.join(&folder).join("Cargo.toml")).unwrap();
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == folder) else {
            wrong.push(format!("crate {folder} has no row in ARROWS"));
            continue;
        };
        for (section, name) in dependencies(&manifest) {
            let ours = if name == "skep" {
                Some("skep")
            } else {
                name.strip_prefix("skep-")
            };
            if let Some(ours) = ours
                && section == "dependencies"
                && !allowed.contains(&ours)
            {
                wrong.push(format!("{folder} depends on {ours}"));
            }
            if OS_CRATES.contains(&name.as_str()) && folder != "sys" {
                wrong.push(format!(
                    "{folder} depends on {name}; system calls belong in sys"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn promised_crates_forbid_unsafe() {
    let crates = workspace_root().join("crates");
    let mut wrong = Vec::new();
    for name in SAFE {
        let lib = fs::read_to_string(crates.join(name).join("src/lib.rs")).unwrap();
        if !lib.contains("#![forbid(unsafe_code)]") {
            wrong.push(format!("{name} must forbid unsafe code"));
        }
        // Examples and tests are crates of their own, for which `lib.rs` does not speak.
        for file in source_files(&crates.join(name), &["rs"]) {
            let text = fs::read_to_string(&file).unwrap();
            if UNSAFE.iter().any(|word| text.contains(word)) {
                wrong.push(format!("unsafe code in {}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
