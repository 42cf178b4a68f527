//! The noun commands carry the fields of bpftool's JSON, under the same names and with the same values.

use serde_json::Value as Json;
use skep::attach::{Hook, attach};
use skep::load::{LoadOptions, load};
use skep::{Kernel, target};
use skep_bpf::Backend;
use skep_object::{Object, Options};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Fields whose values change between two calls.
const VOLATILE: &[&str] = &["run_time_ns", "run_cnt", "bytes_memlock", "loaded_at"];

fn rows(program: &str, arguments: &[&str]) -> Option<Vec<Json>> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    match serde_json::from_str(text.trim()).ok()? {
        Json::Array(rows) => Some(rows),
        row => Some(vec![row]),
    }
}

/// An object of the tests, loaded and attached for as long as the test runs.
fn busy_kernel() -> Option<(skep::load::Loaded, skep::attach::Link)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    let bytes = std::fs::read(root.join("tests/objects/attach.bpf.o")).ok()?;
    let options = Options {
        name: "attach.bpf.o".to_owned(),
    };
    let object = Object::parse(&bytes, &options).ok()?;
    let linked = object
        .relocate(&target::running(&object.needs()).ok()?)
        .ok()?;
    let backend: Arc<dyn Backend> = Arc::new(Kernel::new());
    let only = LoadOptions {
        program: Some("on_raw_tracepoint".to_owned()),
        ..LoadOptions::default()
    };
    let loaded = load(&linked, &backend, &only).ok()?;
    let hook = Hook::RawTracepoint {
        name: "sys_enter".to_owned(),
    };
    let link = attach(&backend, loaded.programs[0].handle, &hook).ok()?;
    Some((loaded, link))
}

/// Lists without their order, which is that of the kernel's tables in bpftool.
fn unordered(value: &Json) -> Json {
    match value {
        Json::Array(items) => {
            let mut texts: Vec<String> = items.iter().map(Json::to_string).collect();
            texts.sort_unstable();
            texts.into_iter().collect()
        }
        other => other.clone(),
    }
}

#[test]
fn rows_have_bpftools_fields() {
    let Some((loaded, link)) = busy_kernel() else {
        println!("skipped: bpf");
        return;
    };
    if rows("bpftool", &["-j", "prog", "show"]).is_none() {
        println!("skipped: bpftool");
        return;
    }
    let backend = loaded.backend();
    let prog = backend
        .prog_info(loaded.programs[0].handle)
        .expect("a program");
    let link = backend
        .link_info(link.handle().expect("a link"))
        .expect("a link");
    let mut objects = vec![("prog", prog.id), ("link", link.id), ("btf", prog.btf_id)];
    objects.extend(prog.map_ids.iter().map(|id| ("map", *id)));
    for (noun, id) in objects {
        // One by one: in lists bpftool repeats fields of earlier rows.
        let id = id.to_string();
        let one = |program: &str| {
            let found = rows(program, &["-j", noun, "show", "id", &id]).expect("an answer");
            found.into_iter().next().expect("a row")
        };
        let (theirs, ours) = (one("bpftool"), one(env!("CARGO_BIN_EXE_skep")));
        for (field, value) in theirs.as_object().expect("a row is an object") {
            let same = ours.get(field);
            assert!(same.is_some(), "{noun}: no {field} in {ours}");
            if !VOLATILE.contains(&field.as_str()) {
                let same = same.map(unordered);
                assert_eq!(same, Some(unordered(value)), "{noun}: {field} of {theirs}");
            }
        }
    }
}

#[test]
fn types_are_dumped_as_bpftool_dumps_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let root = root.expect("the workspace");
    let dump = |program: &str, options: &[&str], file: &Path| {
        let mut command = Command::new(program);
        command
            .args(options)
            .args(["btf", "dump", "file"])
            .arg(file);
        let output = command.output().ok().filter(|o| o.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let objects = ["tests/objects", "examples"].map(|f| std::fs::read_dir(root.join(f)));
    let entries = objects.into_iter().flatten().flatten().flatten();
    let mut files: Vec<_> = entries.map(|e| e.path()).collect();
    files.retain(|p| p.to_string_lossy().ends_with(".bpf.o"));
    files.push("/sys/kernel/btf/vmlinux".into());
    for file in files {
        // The kernel has enumerations whose values bpftool 7.1 extends by their sign, only in JSON.
        let forms = match file.extension() {
            Some(_) => &[&[][..], &["-j"]][..],
            None => &[&[][..]],
        };
        for options in forms {
            let Some(theirs) = dump("bpftool", options, &file) else {
                println!("skipped: bpftool, or no BTF in {}", file.display());
                continue;
            };
            let ours = dump(env!("CARGO_BIN_EXE_skep"), options, &file);
            let ours = ours.expect("bpftool dumps it");
            let differs = theirs.lines().zip(ours.lines()).find(|(a, b)| a != b);
            assert_eq!(differs, None, "{} {options:?}", file.display());
            assert_eq!(theirs.lines().count(), ours.lines().count());
        }
    }
}
