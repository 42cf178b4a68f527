//! The noun commands carry the fields of bpftool's JSON, under the same names and with the same values.

use serde_json::Value as Json;
use skep::attach::{Hook, Where, attach, hook};
use skep::cgroup::Group;
use skep::load::{LoadOptions, Loaded, load};
use skep::{Kernel, target};
use skep_abi::map_flags::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use skep_abi::{AttachType, MapType};
use skep_bpf::{Backend, LinkCreate, LinkTarget, MapCreate};
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

/// One program of the tests' object.
fn loaded(program: &str) -> Option<Loaded> {
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
        program: Some(program.to_owned()),
        ..LoadOptions::default()
    };
    load(&linked, &backend, &only).ok()
}

/// False, after saying so, where there is nothing to compare with.
fn can_compare() -> bool {
    if loaded("on_raw_tracepoint").is_none() {
        println!("skipped: bpf");
        return false;
    }
    if rows("bpftool", &["-j", "prog", "show"]).is_none() {
        println!("skipped: bpftool");
        return false;
    }
    true
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

/// Ours has all of bpftool's row. One by one: in lists bpftool repeats fields of earlier rows.
fn compare(noun: &str, id: u32) {
    let id = id.to_string();
    let one = |program: &str| {
        let found = rows(program, &["-j", noun, "show", "id", &id]).expect("an answer");
        found.into_iter().next().expect("a row")
    };
    let (theirs, ours) = (one("bpftool"), one(env!("CARGO_BIN_EXE_skep")));
    for (field, value) in theirs.as_object().expect("a row is an object") {
        let same = ours.get(field);
        assert!(same.is_some(), "{noun}: no {field} in {ours}");
        // An older bpftool prints types that it does not know as numbers.
        let unknown = field.ends_with("type") && value.is_number();
        if !unknown && !VOLATILE.contains(&field.as_str()) {
            let same = same.map(unordered);
            assert_eq!(same, Some(unordered(value)), "{noun}: {field} of {theirs}");
        }
    }
}

#[test]
fn rows_have_bpftools_fields() {
    if !can_compare() {
        return;
    }
    let loaded = loaded("on_raw_tracepoint").expect("it loads");
    let prog = loaded.backend().prog_info(loaded.programs[0].handle);
    let prog = prog.expect("a program");
    compare("prog", prog.id);
    compare("btf", prog.btf_id);
    for id in prog.map_ids {
        compare("map", id);
    }
}

/// Bytes of key and value, entries and flags of maps that are not like most.
fn shape(map_type: MapType) -> (u32, u32, u32, u32) {
    match map_type {
        MapType::LpmTrie => (8, 8, 4, BPF_F_NO_PREALLOC),
        MapType::Queue | MapType::Stack | MapType::BloomFilter => (0, 8, 4, 0),
        MapType::Ringbuf | MapType::UserRingbuf => (0, 0, 4096, 0),
        MapType::Arena => (0, 0, 1, BPF_F_MMAPABLE),
        MapType::CgroupStorage | MapType::PercpuCgroupStorage => (8, 8, 0, 0),
        MapType::Array | MapType::Hash | MapType::PercpuArray | MapType::PercpuHash => (4, 8, 4, 0),
        MapType::LruHash | MapType::LruPercpuHash | MapType::StackTrace => (4, 8, 4, 0),
        _ => (4, 4, 4, 0),
    }
}

#[test]
fn maps_of_every_type_have_bpftools_fields() {
    if !can_compare() {
        return;
    }
    let kernel = Kernel::new();
    let inner = kernel.map_create(&MapCreate::new(MapType::Array, 4, 4, 1));
    let inner = inner.expect("an array");
    let mut compared = 0;
    for map_type in MapType::ALL {
        let (key, value, entries, flags) = shape(*map_type);
        let mut create = MapCreate::new(*map_type, key, value, entries);
        create.name = "skep_row".to_owned();
        create.map_flags = flags;
        create.inner_map = Some(inner);
        if !matches!(map_type, MapType::ArrayOfMaps | MapType::HashOfMaps) {
            create.inner_map = None;
        }
        // Storage of sockets, tasks and the like needs types; a structure of operations needs more.
        let Ok(map) = kernel.map_create(&create) else {
            println!("{map_type}: not made of sizes alone");
            continue;
        };
        compare("map", kernel.map_info(map).expect("a map").id);
        kernel.close(map);
        compared += 1;
    }
    assert!(compared >= 20, "{compared} types");
}

/// Programs whose links are compared, beside iterators.
#[rustfmt::skip] // as many as fit
const LINKED: &[&str] = &[
    "raw_tracepoint", "tp_btf", "tracepoint", "kprobe", "uprobe", "uprobe_multi", "kprobe_multi", "fentry", "perf_event", "xdp",
    "tcx_ingress", "netfilter", "sk_lookup", "cgroup_ingress", "connect4",
];

#[test]
fn links_of_every_kind_have_bpftools_fields() {
    if !can_compare() {
        return;
    }
    // Commands inherit this thread's namespace, where only a loopback device is.
    let group = Group::create();
    if skep_sys::namespace::enter_new_network().is_err() {
        println!("skipped: netns");
        return;
    }
    let place = Where {
        ifindex: Some(1),
        cgroup: group.as_ref().ok().map(|g| g.path().to_owned()),
        ..Where::default()
    };
    let mut kinds = Vec::new();
    for name in LINKED {
        let Some(loaded) = loaded(&format!("on_{name}")) else {
            println!("{name}: this kernel has none");
            continue;
        };
        let backend = loaded.backend();
        let hook = match *name {
            "netfilter" => Hook::Netfilter {
                family: 2,
                hook: 1,
                priority: -10,
                defrag: false,
            },
            _ => hook(&loaded.programs[0].spec, &place).expect("a hook"),
        };
        let Ok(link) = attach(backend, loaded.programs[0].handle, &hook) else {
            println!("{name}: this kernel has none");
            continue;
        };
        for handle in link.handles() {
            let info = backend.link_info(handle).expect("a link");
            compare("link", info.id);
            kinds.push(info.link_type);
        }
    }
    for (name, is_of_map) in [("iterator", false), ("iter_element", true)] {
        let loaded = loaded(&format!("on_{name}")).expect("iterators load");
        let map = loaded.map("hits").expect("a map").handle;
        let info = is_of_map.then(|| map.0.to_ne_bytes().to_vec());
        let create = LinkCreate {
            prog: loaded.programs[0].handle,
            attach_type: AttachType::TraceIter,
            target: LinkTarget::Iter {
                info: info.unwrap_or_default(),
            },
            flags: 0,
        };
        let link = loaded.backend().link_create(&create).expect("a link");
        let info = loaded.backend().link_info(link).expect("a link");
        compare("link", info.id);
        kinds.push(info.link_type);
        loaded.backend().close(link);
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert!(kinds.len() >= 6, "{kinds:?}");
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
