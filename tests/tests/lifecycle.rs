//! Objects live by the same rules in both backends.

use skep::Kernel;
use skep::load::Loaded;
use skep_abi::ProgType;
use skep_bpf::{Backend, ProgLoad, TestRun};
use skep_isa::{Slot, opcode as op};
use skep_sys::child::Child;
use skep_tests::lifecycle::RULES;
use skep_tests::need::{Need, met};
use skep_tests::objects::loaded;
use skep_user::{Options, Universe};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn objects_live_by_the_kernels_rules() {
    if !met(&[Need::Bpf, Need::Root]) {
        return;
    }
    let (user, kernel) = (Universe::new(Options::default()).unwrap(), Kernel::new());
    let mut differences = Vec::new();
    for (name, rule) in RULES {
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        rule(&user, &mut found);
        rule(&kernel, &mut expected);
        assert!(!expected.is_empty(), "{name}: nothing seen");
        for i in 0..found.len().max(expected.len()) {
            if found.get(i) != expected.get(i) {
                let (user, kernel) = (found.get(i), expected.get(i));
                differences.push(format!("{name}, {i}: user {user:?}, kernel {kernel:?}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Longer than the timers of `in_a_while` take.
const A_WHILE: Duration = Duration::from_millis(300);

fn run(loaded: &Loaded, program: &str) -> Result<u32, String> {
    let handle = loaded.program(program).unwrap().handle;
    let result = loaded.backend().prog_test_run(handle, &TestRun::default());
    result.map(|r| r.retval).map_err(|e| e.to_string())
}

/// How often the timer of an element came.
fn fired(loaded: &Loaded, map: &str, key: u32) -> Option<u64> {
    let map = loaded.map(map).unwrap().handle;
    let mut value = [0; 32];
    let found = loaded
        .backend()
        .map_lookup(map, &key.to_ne_bytes(), &mut value, 0);
    let (words, _) = value.as_chunks::<8>();
    found.is_ok().then(|| u64::from_ne_bytes(words[0]))
}

/// What becomes of timers whose elements user space updates, and how many runs are counted.
fn updated_with_timers(backend: &Arc<dyn Backend>) -> String {
    let loaded = loaded("deferred", backend);
    let stats = backend.enable_stats().unwrap();
    assert_eq!(run(&loaded, "in_a_while"), Ok(0));
    for (map, key) in [("slots", 2u32), ("table", 35)] {
        let map = loaded.map(map).unwrap().handle;
        backend
            .map_update(map, &key.to_ne_bytes(), &[0; 32], 0)
            .unwrap();
    }
    std::thread::sleep(A_WHILE);
    let program = loaded.program("in_a_while").unwrap().handle;
    let info = backend.prog_info(program).unwrap();
    backend.close(stats);
    let [array, table] = [("slots", 2), ("table", 35)].map(|(map, key)| fired(&loaded, map, key));
    format!("{array:?} {table:?}, counted {}", info.run_cnt)
}

#[test]
fn updates_stop_timers_as_in_the_kernel() {
    if !met(&[Need::Bpf, Need::Root]) {
        return;
    }
    let user = Universe::new(Options::default()).unwrap();
    let found = updated_with_timers(&(Arc::new(user) as Arc<dyn Backend>));
    let expected = updated_with_timers(&(Arc::new(Kernel::new()) as Arc<dyn Backend>));
    assert_eq!(found, expected);
    assert!(expected.ends_with("counted 1"), "{expected}");
}

/// Children of the process of [`one_process`]: more than programs may run at once.
const CHILDREN: u32 = 40;

/// A process with a single thread makes copies of itself.
#[test]
fn a_copy_of_a_process_may_use_its_maps() {
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new(this);
    command.args([
        "--exact",
        "lifecycle::one_process",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    let output = command.env(ONE_PROCESS, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains(DONE), "{said}");
}

/// Says that this process is the one that makes copies, and that it came to its end.
const ONE_PROCESS: &str = "SKEP_TESTS_ONE_PROCESS";
const DONE: &str = "copies are done";

#[test]
#[ignore = "a part of the test above"]
fn one_process() {
    if std::env::var_os(ONE_PROCESS).is_none() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("skep-copies-{}", std::process::id()));
    let mut backends: Vec<(Arc<dyn Backend>, bool)> = Vec::new();
    let user = Universe::new(Options {
        pin_dir: Some(folder.clone()),
        ..Options::default()
    });
    backends.push((Arc::new(user.unwrap()), true));
    if met(&[Need::Bpf, Need::Root]) {
        backends.push((Arc::new(Kernel::new()), false));
    }
    let pinned = folder.join("pinned");
    for (backend, is_user) in &backends {
        copies(backend, is_user.then_some(pinned.as_path()));
    }
    // The test made it; that it stays would only be untidy.
    let _ = std::fs::remove_dir_all(&folder);
    println!("{DONE}");
}

/// A value of the map `slots` with this number in the word behind the timer.
fn value_of(n: u32) -> [u8; 32] {
    let mut value = [0; 32];
    value[24..28].copy_from_slice(&n.to_ne_bytes());
    value
}

fn copies(backend: &Arc<dyn Backend>, pin: Option<&Path>) {
    let loaded = loaded("deferred", backend);
    let slots = loaded.map("slots").unwrap().handle;
    if let Some(pin) = pin {
        let table = loaded.map("answers").unwrap().handle;
        backend.obj_pin(table, pin).unwrap();
    }
    assert_eq!(run(&loaded, "in_a_while"), Ok(0));
    let insns = vec![
        Slot::new(op::ALU64 | op::MOV, 0, 0, 0, 3),
        Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0),
    ];
    let three = backend.prog_load(&ProgLoad::plain(ProgType::SchedCls, insns));
    let three = three.unwrap();
    let packet = TestRun {
        data_in: Some(vec![0; 64]),
        ..TestRun::default()
    };
    let child = |n: u32| {
        let value = value_of(n);
        let put = backend.map_update(slots, &3u32.to_ne_bytes(), &value, 0);
        let result = backend.prog_test_run(three, &packet).map(|r| r.retval);
        i32::from(put.is_err() || result != Ok(3))
    };
    for n in 0..CHILDREN {
        // SAFETY: the tests run on the only thread of this process, but for the one that waits for timers, which holds no
        // lock while it sleeps.
        let mut copy = unsafe { Child::copy(|| child(n)) }.unwrap();
        assert_eq!(copy.wait().unwrap(), 0, "child {n}");
    }
    std::thread::sleep(A_WHILE);
    // Once, here.
    assert_eq!(fired(&loaded, "slots", 2), Some(1));
    assert_eq!(fired(&loaded, "table", 35), Some(1));
    let mut value = [0; 32];
    backend
        .map_lookup(slots, &3u32.to_ne_bytes(), &mut value, 0)
        .unwrap();
    assert_eq!(value, value_of(CHILDREN - 1), "what the last child wrote");
    backend.close(three);
    if let Some(pin) = pin {
        backend.obj_get(pin).map(|h| backend.close(h)).unwrap();
    }
}
