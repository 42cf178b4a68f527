//! Every object of the development corpus parses and links; accepted programs have as many instructions as libbpf gave them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use skep_btf::Btf;
use skep_object::{Linked, Object, Options, Target};
use std::collections::HashMap;
use std::path::PathBuf;

/// Where an unpacked corpus lies; the tests have nothing to do without one.
fn corpus() -> Option<PathBuf> {
    let root = std::env::var_os("SKEP_CORPUS").map(PathBuf::from)?;
    root.join("base").is_dir().then_some(root)
}

fn host() -> Target {
    let btf = std::fs::read("/sys/kernel/btf/vmlinux").ok();
    Target {
        btf: btf.map(|b| Btf::parse(b).unwrap()),
        kernel_version: 6 << 16 | 18 << 8,
        cpus: 2,
        page_size: 4096,
        ..Target::default()
    }
}

fn link(path: &std::path::Path, target: &Target) -> Result<Linked, String> {
    let bytes = std::fs::read(path).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let object = Object::parse(&bytes, &Options { name }).map_err(|e| e.to_string())?;
    object.relocate(target).map_err(|e| e.to_string())
}

/// The value of `"key":` in a line of JSON, up to the next comma or quote.
fn field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let start = line.find(&format!("\"{key}\":"))? + key.len() + 3;
    let rest = line[start..].trim_start_matches('"');
    Some(&rest[..rest.find([',', '"', '}'])?])
}

#[test]
fn every_object_links_to_the_size_that_was_loaded() {
    let Some(root) = corpus() else { return };
    let verdicts = std::fs::read_to_string(root.join("verdicts.jsonl")).unwrap();
    let target = host();
    let mut linked: HashMap<&str, Linked> = HashMap::new();
    let (mut rows, mut wrong) = (0, Vec::new());
    for line in verdicts.lines() {
        let object = field(line, "object").unwrap();
        if !linked.contains_key(object) {
            match link(&root.join(object), &target) {
                Ok(l) => drop(linked.insert(object, l)),
                Err(e) => {
                    wrong.push(format!("{object}: {e}"));
                    continue;
                }
            }
        }
        rows += 1;
        let name = field(line, "program").unwrap();
        let program = linked[object].programs.iter().find(|p| p.name == name);
        let Some(program) = program else {
            wrong.push(format!("{object}: no program {name}"));
            continue;
        };
        let slots = match field(line, "verdict") {
            Some("accept") => program.insns.len(),
            _ => program.entry_slots,
        };
        let expected = field(line, "insns").unwrap();
        if slots.to_string() != expected {
            wrong.push(format!("{object} {name}: {slots} slots, {expected} loaded"));
        }
        let prog_type = field(line, "prog_type").unwrap();
        if program.prog_type.name() != prog_type {
            wrong.push(format!(
                "{object} {name}: {} is {prog_type}",
                program.prog_type
            ));
        }
    }
    println!("{rows} programs of {} objects", linked.len());
    assert!(
        wrong.is_empty(),
        "{}\n{}",
        wrong.len(),
        wrong[..wrong.len().min(30)].join("\n")
    );
}
