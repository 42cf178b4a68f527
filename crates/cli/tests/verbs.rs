//! The noun commands that change something: each does it, shows it, and undoes it, on objects of the test's own.

use serde_json::Value as Json;
use skep::cgroup::Group;
use skep::load::{LoadOptions, Loaded, load};
use skep::{Kernel, target};
use skep_bpf::Backend;
use skep_object::{Object, Options};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A folder in the bpf filesystem that goes with the test.
struct Pins(PathBuf);

impl Pins {
    /// `None`, after saying so, where maps cannot be made.
    fn new(name: &str) -> Option<Self> {
        if !can_bpf() {
            println!("skipped: bpf");
            return None;
        }
        let folder = PathBuf::from(format!(
            "/sys/fs/bpf/skep-verbs-{}-{name}",
            std::process::id()
        ));
        skep::pins::mount_for(&folder).expect("a bpf filesystem");
        std::fs::create_dir_all(&folder).expect("a folder in the bpf filesystem");
        Some(Self(folder))
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // What is left is said by the next run, which has another name.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn can_bpf() -> bool {
    let array = skep_bpf::MapCreate::new(skep_abi::MapType::Array, 4, 4, 1);
    let kernel = Kernel::new();
    kernel
        .map_create(&array)
        .map(|map| kernel.close(map))
        .is_ok()
}

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .ancestors()
        .nth(2)
        .expect("the workspace")
        .to_owned()
}

/// Runs skep; what it prints, or what it complains about.
fn skep(words: &str) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    let output = command
        .args(words.split_whitespace())
        .current_dir(root())
        .output();
    let output = output.expect("skep runs");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn json(words: &str) -> Json {
    let text = skep(&format!("-j {words}")).expect("an answer");
    serde_json::from_str(text.trim()).expect("JSON")
}

/// Everything of bpftool's answer is in ours, under the same names; `kept` chooses rows of lists that others change, too.
fn agrees(words: &str, kept: impl Fn(&Json) -> bool) {
    let mut command = Command::new("bpftool");
    let output = command.arg("-j").args(words.split_whitespace()).output();
    let Ok(output) = output else {
        println!("skipped: bpftool");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let theirs: Json = serde_json::from_str(text.trim()).expect("JSON of bpftool");
    let rows = |all: &Json| -> Json {
        match all.as_array() {
            Some(rows) => rows.iter().filter(|r| kept(r)).cloned().collect(),
            None => all.clone(),
        }
    };
    let (theirs, ours) = (rows(&theirs), rows(&json(words)));
    assert_ne!(
        theirs,
        Json::Array(Vec::new()),
        "{words}: nothing to compare"
    );
    covers(&theirs, &ours, words);
}

/// `ours` has at least what `theirs` has.
fn covers(theirs: &Json, ours: &Json, place: &str) {
    match (theirs, ours) {
        (Json::Object(fields), Json::Object(_)) => {
            for (name, value) in fields {
                let same = ours.get(name);
                let same = same.unwrap_or_else(|| panic!("{place}: no {name} in {ours}"));
                covers(value, same, &format!("{place}.{name}"));
            }
        }
        (Json::Array(items), Json::Array(own)) => {
            assert_eq!(items.len(), own.len(), "{place}: {theirs} {ours}");
            for (a, b) in items.iter().zip(own) {
                covers(a, b, place);
            }
        }
        _ => assert_eq!(theirs, ours, "{place}"),
    }
}

/// One program of an object, loaded and pinned.
fn pinned(object: &str, program: &str, path: &str) -> Loaded {
    let bytes = std::fs::read(root().join(object)).expect("an object");
    let object = Object::parse(
        &bytes,
        &Options {
            name: object.to_owned(),
        },
    )
    .expect("an object");
    let target = target::running(&object.needs()).expect("a target");
    let linked = object.relocate(&target).expect("links");
    let backend: Arc<dyn Backend> = Arc::new(Kernel::new());
    let options = LoadOptions {
        program: Some(program.to_owned()),
        ..LoadOptions::default()
    };
    let loaded = load(&linked, &backend, &options).expect("loads");
    let handle = loaded.programs[0].handle;
    backend.obj_pin(handle, Path::new(path)).expect("is pinned");
    loaded
}

const ATTACH: &str = "tests/objects/attach.bpf.o";

#[test]
fn maps_are_created_filled_and_read() {
    let Some(pins) = Pins::new("maps") else {
        return;
    };
    let map = pins.path("hash");
    skep(&format!(
        "map create {map} type hash key 4 value 8 entries 4 name verbs"
    ))
    .expect("a map");
    skep(&format!(
        "map update pinned {map} key 1 0 0 0 value 1 2 3 4 5 6 7 8"
    ))
    .expect("an element");
    let again = skep(&format!(
        "map update pinned {map} key 1 0 0 0 value 0 0 0 0 0 0 0 0 noexist"
    ));
    assert!(again.expect_err("it is there").contains("EEXIST"));
    let found = json(&format!("map lookup pinned {map} key 1 0 0 0"));
    assert_eq!(found["value"][7], "0x08", "{found}");
    assert_eq!(
        json(&format!("map getnext pinned {map}"))["next_key"][0],
        "0x01"
    );
    assert_eq!(
        json(&format!("map dump pinned {map}"))
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    assert_eq!(json(&format!("map show pinned {map}"))["name"], "verbs");
    skep(&format!("map delete pinned {map} key 1 0 0 0")).expect("deletes");
    assert_eq!(
        json(&format!("map dump pinned {map}"))
            .as_array()
            .map(Vec::len),
        Some(0)
    );
    let second = pins.path("second");
    skep(&format!("map pin pinned {map} {second}")).expect("a second pin");
    skep(&format!("map freeze pinned {second}")).expect("freezes");
    let frozen = skep(&format!(
        "map update pinned {map} key 1 0 0 0 value 1 2 3 4 5 6 7 8"
    ));
    assert!(frozen.expect_err("it is frozen").contains("EPERM"));
}

#[test]
fn queues_and_stacks_are_pushed_and_popped() {
    let Some(pins) = Pins::new("queues") else {
        return;
    };
    // Type, and which of the two elements comes first.
    for (kind, first, second) in [("queue", "0x01", "0x02"), ("stack", "0x02", "0x01")] {
        let map = pins.path(kind);
        skep(&format!(
            "map create {map} type {kind} key 0 value 4 entries 2 name q"
        ))
        .expect(kind);
        for value in ["1 0 0 0", "2 0 0 0"] {
            skep(&format!("map push pinned {map} value {value}")).expect("is pushed");
        }
        assert_eq!(
            json(&format!("map peek pinned {map}"))["value"][0],
            first,
            "{kind}"
        );
        assert_eq!(
            json(&format!("map pop pinned {map}"))["value"][0],
            first,
            "{kind}"
        );
        assert_eq!(
            json(&format!("map dequeue pinned {map}"))["value"][0],
            second,
            "{kind}"
        );
        assert_eq!(
            json(&format!("map pop pinned {map}"))["error"],
            "empty",
            "{kind}"
        );
    }
}

#[test]
fn groups_get_and_lose_programs() {
    let Some(pins) = Pins::new("groups") else {
        return;
    };
    let Ok(group) = Group::create() else {
        println!("skipped: root");
        return;
    };
    let (path, program) = (group.path().display().to_string(), pins.path("egress"));
    let _loaded = pinned(ATTACH, "on_cgroup_egress", &program);
    skep(&format!(
        "cgroup attach {path} egress pinned {program} multi"
    ))
    .expect("attaches");
    let shown = json(&format!("cgroup show {path}"));
    assert_eq!(shown[0]["attach_type"], "cgroup_inet_egress", "{shown}");
    assert_eq!(shown[0]["attach_flags"], "multi");
    agrees(&format!("cgroup show {path}"), |_| true);
    agrees(&format!("cgroup tree {path}"), |_| true);
    assert_eq!(
        json(&format!("cgroup tree {path}"))[0]["cgroup"],
        path.as_str()
    );
    skep(&format!("cgroup detach {path} egress pinned {program}")).expect("detaches");
    assert_eq!(
        json(&format!("cgroup show {path}"))
            .as_array()
            .map(Vec::len),
        Some(0)
    );
    let wrong = skep(&format!("cgroup attach {path} nowhere pinned {program}"));
    assert!(
        wrong
            .expect_err("no such hook")
            .contains("no hook of groups")
    );
}

#[test]
fn devices_get_and_lose_programs() {
    let Some(pins) = Pins::new("devices") else {
        return;
    };
    // Commands inherit this thread's namespace, where only a loopback device is.
    let own = skep_sys::namespace::enter_new_network();
    if own
        .and_then(|()| skep_sys::netlink::Socket::open()?.up(1))
        .is_err()
    {
        println!("skipped: netns");
        return;
    }
    let (program, tcx) = (pins.path("xdp"), pins.path("tcx"));
    let _loaded = (
        pinned(ATTACH, "on_xdp", &program),
        pinned(ATTACH, "on_tcx_ingress", &tcx),
    );
    skep(&format!("net attach xdpgeneric pinned {program} dev lo")).expect("attaches");
    let shown = json("net show dev lo");
    assert_eq!(shown[0]["xdp"][0]["mode"], "generic", "{shown}");
    agrees("net show", |_| true);
    assert!(skep(&format!("net attach xdpgeneric pinned {program} dev lo")).is_err());
    skep(&format!(
        "net attach xdpgeneric pinned {program} dev lo overwrite"
    ))
    .expect("replaces");
    skep("net detach xdpgeneric dev lo").expect("detaches");
    skep(&format!("net attach tcx_ingress pinned {tcx} dev lo")).expect("attaches");
    let shown = json("net show");
    assert_eq!(shown[0]["tc"][0]["devname"], "lo", "{shown}");
    assert_eq!(shown[0]["xdp"].as_array().map(Vec::len), Some(0), "{shown}");
    let other = pins.path("tcx_before");
    let _other = pinned(ATTACH, "on_tcx_ingress", &other);
    skep(&format!(
        "net attach tcx_ingress pinned {other} dev lo before pinned {tcx}"
    ))
    .expect("attaches");
    let row = json("net show")[0]["tc"].clone();
    let id = |path: &str| json(&format!("prog show pinned {path}"))["id"].clone();
    assert_eq!([&row[0]["id"], &row[1]["id"]], [&id(&other), &id(&tcx)]);
    let wrong = format!("net attach tcx_ingress pinned {other} dev lo overwrite");
    assert!(skep(&wrong).is_err());
    skep(&format!("net detach tcx_ingress pinned {other} dev lo")).expect("detaches");
    skep(&format!("net detach tcx_ingress pinned {tcx} dev lo")).expect("detaches");
    assert_eq!(json("net show")[0]["tc"].as_array().map(Vec::len), Some(0));
}

#[test]
fn programs_are_attached_as_they_are_loaded() {
    let Some(pins) = Pins::new("autoattach") else {
        return;
    };
    let link = pins.path("link");
    skep(&format!(
        "prog load tests/objects/attach.bpf.o {link} --autoattach"
    ))
    .expect("loads");
    let shown = json(&format!("link show pinned {link}"));
    assert_eq!(shown["type"], "perf_event", "{shown}");
    // What its section name leaves open keeps a program from being attached: it is pinned itself.
    let program = pins.path("program");
    skep(&format!(
        "prog load examples/packets.bpf.o {program} --autoattach"
    ))
    .expect("loads");
    assert_eq!(json(&format!("prog show pinned {program}"))["type"], "xdp");
}

#[test]
fn links_are_given_other_programs() {
    let Some(pins) = Pins::new("update") else {
        return;
    };
    let own = skep_sys::namespace::enter_new_network();
    if own.is_err() {
        println!("skipped: netns");
        return;
    }
    let (first, second) = (pins.path("first"), pins.path("second"));
    let loaded = pinned(ATTACH, "on_xdp", &first);
    let _second = pinned(ATTACH, "on_xdp", &second);
    let hook = skep::attach::Hook::Xdp {
        ifindex: 1,
        mode: skep::attach::XdpMode::Generic,
    };
    let link = skep::attach::attach(loaded.backend(), loaded.programs[0].handle, &hook);
    let path = pins.path("link");
    link.expect("attaches").pin(path.as_ref()).expect("pins");
    skep(&format!("link update pinned {path} pinned {second}")).expect("updates");
    let (shown, wanted) = (
        json(&format!("link show pinned {path}")),
        json(&format!("prog show pinned {second}")),
    );
    assert_eq!(shown["prog_id"], wanted["id"]);
    skep(&format!("link detach pinned {path}")).expect("detaches");
    assert!(skep(&format!("link update pinned {path} pinned {first}")).is_err());
}

#[test]
fn sockets_of_maps_get_and_lose_programs() {
    let Some(pins) = Pins::new("sockets") else {
        return;
    };
    let (map, program) = (pins.path("map"), pins.path("verdict"));
    skep(&format!(
        "map create {map} type sockmap key 4 value 4 entries 1 name socks"
    ))
    .expect("a map");
    let _loaded = pinned(ATTACH, "on_sk_msg", &program);
    let words = format!("pinned {program} msg_verdict pinned {map}");
    skep(&format!("prog attach {words}")).expect("attaches");
    skep(&format!("prog detach {words}")).expect("detaches");
    assert!(
        skep(&format!("prog detach {words}")).is_err(),
        "it is detached already"
    );
}

#[test]
fn iterators_are_pinned_and_read() {
    let Some(pins) = Pins::new("iterators") else {
        return;
    };
    let text = skep("iter run tests/objects/iter.bpf.o").expect("runs");
    assert!(
        text.lines()
            .any(|l| l.trim() == std::process::id().to_string()),
        "{text}"
    );
    let path = pins.path("tasks");
    skep(&format!("iter pin tests/objects/iter.bpf.o {path}")).expect("pins");
    let read = std::fs::read_to_string(path).expect("is read");
    assert!(
        read.lines()
            .any(|l| l.trim() == std::process::id().to_string()),
        "{read}"
    );
}

#[test]
fn structures_of_operations_are_registered() {
    let Some(pins) = Pins::new("structures") else {
        return;
    };
    // The other test of this object is in another process; names are the kernel's, so they take turns.
    let lock = File::create(std::env::temp_dir().join("skep-struct-ops.lock")).expect("a lock");
    lock.lock().expect("a lock");
    let folder = pins.0.display().to_string();
    let registered = match skep(&format!(
        "struct_ops register tests/objects/struct_ops.bpf.o {folder}"
    )) {
        Ok(text) => text,
        Err(text) => {
            println!("skipped: {text}");
            return;
        }
    };
    let id = registered
        .lines()
        .find(|l| l.contains("by_value"))
        .and_then(|l| l.rsplit(' ').next());
    let id = id.expect("an id");
    let shown = json(&format!("struct_ops show id {id}"));
    assert_eq!(shown["kernel_struct_ops"], "tcp_congestion_ops", "{shown}");
    agrees(&format!("struct_ops show id {id}"), |_| true);
    let dumped = json(&format!("struct_ops dump id {id}"));
    assert!(dumped.to_string().contains("skep_value"), "{dumped}");
    skep(&format!("struct_ops unregister id {id}")).expect("unregisters");
    let link = pins.path("by_link");
    assert_eq!(
        json(&format!("link show pinned {link}"))["type"],
        "struct_ops"
    );
    skep(&format!("link detach pinned {link}")).expect("detaches");
}

#[test]
fn programs_on_events_are_listed() {
    let Some(pins) = Pins::new("perf") else {
        return;
    };
    let program = pins.path("tracepoint");
    let loaded = pinned(ATTACH, "on_tracepoint", &program);
    let hook = skep::attach::Hook::Tracepoint {
        category: "syscalls".to_owned(),
        name: "sys_enter_getpid".to_owned(),
    };
    let link = skep::attach::attach(loaded.backend(), loaded.programs[0].handle, &hook);
    let _link = link.expect("attaches");
    let pid = std::process::id();
    agrees("perf show", |row| row["pid"] == pid);
}

#[test]
fn many_elements_are_moved_at_once() {
    let Some(pins) = Pins::new("batch") else {
        return;
    };
    let (map, file) = (pins.path("map"), std::env::temp_dir());
    let file = file.join(format!("skep-batch-{}", std::process::id()));
    let file = file.display();
    skep(&format!(
        "map create {map} type hash key 4 value 8 entries 100 name batch"
    ))
    .expect("a map");
    for key in 0..50 {
        skep(&format!(
            "map update pinned {map} key {key} 0 0 0 value {key} 2 3 4 5 6 7 8"
        ))
        .expect("an element");
    }
    let count = |words: &str| json(words).as_array().map(Vec::len);
    let dumped = skep(&format!("-j map batch pinned {map} dump --count 7")).expect("a dump");
    std::fs::write(file.to_string(), &dumped).expect("a file");
    assert_eq!(count(&format!("map dump pinned {map}")), Some(50));
    let one_by_one = json(&format!("map dump pinned {map}"));
    let mut rows: Vec<String> = one_by_one
        .as_array()
        .expect("rows")
        .iter()
        .map(Json::to_string)
        .collect();
    let many: Json = serde_json::from_str(dumped.trim()).expect("JSON");
    let mut same: Vec<String> = many
        .as_array()
        .expect("rows")
        .iter()
        .map(Json::to_string)
        .collect();
    rows.sort();
    same.sort();
    assert_eq!(rows, same);
    skep(&format!("map batch pinned {map} delete {file}")).expect("deletes");
    assert_eq!(count(&format!("map dump pinned {map}")), Some(0));
    skep(&format!("map batch pinned {map} update {file} --count 8")).expect("updates");
    assert_eq!(count(&format!("map batch pinned {map} take")), Some(50));
    assert_eq!(count(&format!("map dump pinned {map}")), Some(0));
    std::fs::write(file.to_string(), "[{\"key\":[\"0x01\"]}]").expect("a file");
    let wrong = skep(&format!("map batch pinned {map} update {file}"));
    assert!(wrong.expect_err("a short key").contains("element 0"));
    std::fs::remove_file(file.to_string()).expect("is removed");
}

#[test]
fn events_are_piped() {
    let Some(pins) = Pins::new("pipe") else {
        return;
    };
    let program = pins.path("sample");
    let loaded = pinned("tests/objects/samples.bpf.o", "sample", &program);
    let backend = loaded.backend();
    for (map, kind) in [("records", "record"), ("samples", "sample")] {
        let path = pins.path(map);
        let handle = loaded.map(map).expect("a map").handle;
        backend
            .obj_pin(handle, Path::new(&path))
            .expect("is pinned");
        let piping = std::thread::spawn(move || {
            skep(&format!("-j map event_pipe pinned {path} --duration 1"))
        });
        let run = skep_bpf::TestRun {
            data_in: Some(vec![0; 64]),
            ..skep_bpf::TestRun::default()
        };
        while !piping.is_finished() {
            let handle = loaded.programs[0].handle;
            backend.prog_test_run(handle, &run).expect("runs");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let text = piping.join().expect("no panic").expect("pipes");
        let row: Json = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
        assert_eq!(row["type"], kind, "{row}");
        assert!(
            row["data"].as_array().is_some_and(|d| d.len() >= 8),
            "{row}"
        );
    }
}

#[test]
fn rows_say_whose_they_are() {
    let Some(pins) = Pins::new("owners") else {
        return;
    };
    let program = pins.path("packets");
    let _loaded = pinned("examples/packets.bpf.o", "packets", &program);
    let universe = skep_user::Universe::new(skep_user::Options::default()).expect("a universe");
    let map = skep_bpf::MapCreate {
        name: "whose".to_owned(),
        ..skep_bpf::MapCreate::new(skep_abi::MapType::Hash, 4, 4, 1)
    };
    universe.map_create(&map).expect("a map");
    let listed = skep_user::registry::announce(&universe, None).expect("is listed");
    let rows = json("map show name whose");
    assert_eq!(rows[0]["backend"], "user", "{rows}");
    assert_eq!(rows[0]["pid"], std::process::id(), "{rows}");
    let text = skep("map show name whose").expect("a row");
    assert!(text.contains("backend user"), "{text}");
    drop(listed);
    assert!(skep("map show name whose").is_err());
    for noun in ["prog", "map", "link"] {
        let rows = json(&format!("{noun} show"));
        let named = |r: &Json| r["backend"] == "kernel" || r["backend"] == "user";
        assert!(rows.as_array().expect("rows").iter().all(named), "{rows}");
    }
}

#[test]
fn runs_are_counted_and_prints_are_read() {
    let Some(pins) = Pins::new("runs") else {
        return;
    };
    let program = pins.path("runs");
    let _loaded = pinned("examples/packets.bpf.o", "packets", &program);
    let counting = std::thread::spawn({
        let words = format!("-j prog stat pinned {program} --duration 1");
        move || skep(&words)
    });
    let kernel = Kernel::new();
    let handle = kernel.obj_get(Path::new(&program)).expect("the program");
    let run = skep_bpf::TestRun {
        data_in: Some(vec![0; 64]),
        repeat: 1000,
        ..skep_bpf::TestRun::default()
    };
    while !counting.is_finished() {
        kernel.prog_test_run(handle, &run).expect("runs");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let counted = counting.join().expect("no panic").expect("counts");
    assert!(counted.contains("run_cnt"), "{counted}");
    skep("prog tracelog --duration 0.1").expect("ends by itself");
}

#[test]
fn the_part_of_a_kernels_btf_that_an_object_needs_is_enough_for_it() {
    const OBJECT: &str = "tests/objects/relocations.bpf.o";
    const KERNEL: &str = "/sys/kernel/btf/vmlinux";
    let Some(pins) = Pins::new("reduced") else {
        return;
    };
    let small = std::env::temp_dir().join(format!("skep-verbs-{}.btf", std::process::id()));
    let small = small.display().to_string();
    skep(&format!("gen min_core_btf {KERNEL} {small} {OBJECT}")).expect("writes");
    assert!(std::fs::metadata(&small).expect("written").len() < 1000);
    let loaded = |types: &str, name: &str| {
        let folder = pins.path(name);
        skep(&format!("prog loadall {OBJECT} {folder} --btf {types}")).expect("loads");
        let programs = ["fields", "packets", "whole_types", "enum_values"];
        programs.map(|p| skep(&format!("prog dump xlated pinned {folder}/{p}")).expect("code"))
    };
    assert_eq!(loaded(&small, "small"), loaded(KERNEL, "whole"));
    // Only a copy; nothing depends on its removal.
    let _ = std::fs::remove_file(&small);
}
