//! What programs find of tasks, control groups, mappings and signals: in the user backend as in the kernel.

use skep::cgroup::Group;
use skep::check::{CheckOptions, Checker};
use skep::load::{LoadOptions, Loaded, load};
use skep::{Kernel, cgroup};
use skep_bpf::{Backend, TestRun};
use skep_sys::child::Child;
use skep_sys::signal::Interrupts;
use skep_sys::{ids, task};
use skep_tests::need::{Need, met};
use skep_tests::objects::{bytes, linked, loaded, object, path};
use skep_user::{Options, Universe};
use skep_verifier::Caps;
use skep_vm::Engine;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

/// Bytes of `struct call`.
const CALL_BYTES: usize = 3 * 8 + 20 * 8 + 32;
/// Where its answers begin.
const OUT_AT: usize = 3 * 8;
/// An id that no thread has: `PID_MAX_LIMIT`.
const NOBODY: u64 = 1 << 22;
/// Tries until something that takes a moment must have happened.
const TRIES: usize = 1000;
/// Between two of them.
const MOMENT: Duration = Duration::from_millis(5);

/// `-EBUSY` as programs return it.
const EBUSY: u32 = 16_u32.wrapping_neg();

/// The object in one backend.
struct Side {
    name: &'static str,
    loaded: Loaded,
}

/// What a program came to: its value and what it wrote into its context.
type Answer = Result<(u32, Vec<u8>), String>;

impl Side {
    fn call(&self, program: &str, asked: [u64; 3]) -> Answer {
        let mut ctx: Vec<u8> = asked.iter().flat_map(|n| n.to_ne_bytes()).collect();
        ctx.resize(CALL_BYTES, 0);
        self.run(program, ctx)
    }

    fn run(&self, program: &str, ctx: Vec<u8>) -> Answer {
        let run = TestRun {
            ctx_in: Some(ctx),
            ..TestRun::default()
        };
        let handle = self.loaded.program(program).unwrap().handle;
        let result = self.loaded.backend().prog_test_run(handle, &run);
        result
            .map(|r| (r.retval, r.ctx_out))
            .map_err(|e| e.errno.to_string())
    }

    /// The first `count` pairs that a program noted.
    fn found(&self, count: u32) -> Vec<[u64; 2]> {
        let map = self.loaded.map("found").unwrap().handle;
        let pair = |n: u32| {
            let mut value = [0; 16];
            let backend = self.loaded.backend();
            backend
                .map_lookup(map, &n.to_ne_bytes(), &mut value, 0)
                .unwrap();
            [0, 8].map(|at: usize| u64::from_ne_bytes(value[at..at + 8].try_into().unwrap()))
        };
        (0..count).map(pair).collect()
    }

    fn put_group(&self, index: u32, fd: RawFd, flags: u64) -> Result<(), String> {
        let map = self.loaded.map("groups").unwrap().handle;
        let (key, value) = (index.to_ne_bytes(), fd.to_ne_bytes());
        let result = self.loaded.backend().map_update(map, &key, &value, flags);
        result.map_err(|e| e.errno.to_string())
    }
}

fn number(answer: &Answer, at: usize) -> i64 {
    let ctx = &answer.as_ref().unwrap().1;
    let at = OUT_AT + at * 8;
    i64::from_ne_bytes(ctx[at..at + 8].try_into().unwrap())
}

/// A fresh user backend that knows the kernel's BTF.
fn user(engine: Engine) -> Arc<dyn Backend> {
    let kernel_btf = skep::target::reference_btf(&object("tasks").needs());
    let universe = Universe::new(Options {
        engine,
        kernel_btf: Some(Arc::new(kernel_btf)),
        ..Options::default()
    });
    Arc::new(universe.unwrap())
}

/// The kernel, and the user backend with each engine; empty if the machine does not let us.
fn sides() -> Vec<Side> {
    if !met(&[Need::Bpf, Need::Root]) {
        return Vec::new();
    }
    let kernel: Arc<dyn Backend> = Arc::new(Kernel::new());
    let mut sides = vec![Side {
        name: "kernel",
        loaded: loaded("tasks", &kernel),
    }];
    let users = [Engine::Interp, Engine::Jit].map(|engine| Side {
        name: engine.name(),
        loaded: loaded("tasks", &user(engine)),
    });
    sides.extend(users);
    sides
}

/// All sides come to the same, which is returned.
fn same(sides: &[Side], program: &str, asked: [u64; 3]) -> Option<Answer> {
    let (kernel, others) = sides.split_first()?;
    let mut expected = kernel.call(program, asked);
    for _ in 0..TRIES {
        // The kernel does not wait for a lock of the memory that another thread holds.
        let is_busy = expected.as_ref().is_ok_and(|(value, _)| *value == EBUSY)
            || expected.is_ok() && number(&expected, 0) == i64::from(EBUSY.cast_signed());
        if !is_busy {
            break;
        }
        std::thread::sleep(MOMENT);
        expected = kernel.call(program, asked);
    }
    for side in others {
        let found = side.call(program, asked);
        assert_eq!(found, expected, "{program} {asked:x?} {}", side.name);
    }
    Some(expected)
}

/// As [`same`], with what the programs noted.
fn same_notes(sides: &[Side], program: &str, asked: [u64; 3]) -> Vec<[u64; 2]> {
    let Some(answer) = same(sides, program, asked) else {
        return Vec::new();
    };
    let count = answer.unwrap().0.cast_signed().max(0).cast_unsigned();
    let expected = sides[0].found(count);
    for side in &sides[1..] {
        side.call(program, asked).unwrap();
        assert_eq!(side.found(count), expected, "{program} {}", side.name);
    }
    expected
}

/// A thread that waits until this is dropped.
struct Parked {
    id: u32,
    gate: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Parked {
    fn new() -> Self {
        let (gate, wait) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            tell.send(task::thread_id()).unwrap();
            let _closed = wait.recv();
        });
        Self {
            id: told.recv().unwrap(),
            gate: Some(gate),
            thread: Some(thread),
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.gate = None;
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// A child that sleeps, in a group of its own if there is one.
fn sleeper(group: Option<&Group>) -> Child {
    let procs = group.map(|g| g.procs().unwrap());
    let fd = procs.as_ref().map(AsRawFd::as_raw_fd);
    let mut child = Child::hold(&["sleep", "600"], fd).unwrap();
    child.release().unwrap();
    // It waits for nothing else than the time.
    let comm = format!("/proc/{}/comm", child.pid());
    wait_until(|| {
        let is_sleep = std::fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n");
        is_sleep && state(child.pid()) == Some(b'S')
    });
    child
}

fn wait_until(is_so: impl Fn() -> bool) {
    for _ in 0..TRIES {
        if is_so() {
            return;
        }
        std::thread::sleep(MOMENT);
    }
    panic!("it takes too long");
}

fn state(process: u32) -> Option<u8> {
    task::stat(process).map(|stat| stat.state)
}

#[test]
fn tasks_are_found_by_their_ids() {
    let sides = sides();
    if sides.is_empty() {
        return;
    }
    let group = Group::create().unwrap();
    let child = sleeper(Some(&group));
    let parked = Parked::new();
    let (process, thread) = ids::process_and_thread();
    let mut zombie = Child::hold(&["true"], None).unwrap();
    zombie.release().unwrap();
    wait_until(|| state(zombie.pid()) == Some(b'Z'));
    let kernel_thread = task::processes()
        .into_iter()
        .find(|id| task::stat(*id).is_some_and(|s| s.flags & 0x0020_0000 != 0) && *id > 2);
    let existing = [2, 3, process, thread, parked.id, child.pid(), zombie.pid()];
    for id in existing.into_iter().chain(kernel_thread) {
        let answer = same(&sides, "by_id", [u64::from(id), 0, 0]).unwrap();
        assert_eq!(number(&answer, 0), i64::from(id), "{answer:?}");
    }
    let of_child = same(&sides, "by_id", [u64::from(child.pid()), 0, 0]).unwrap();
    let id = cgroup::id(group.path()).unwrap();
    assert_eq!(number(&of_child, 11).cast_unsigned(), id);
    assert_eq!(number(&of_child, 10), 1);
    for id in [0, NOBODY, u64::MAX, 1 << 31] {
        assert_eq!(same(&sides, "by_id", [id, 0, 0]).unwrap().unwrap().0, 1);
    }
    same(&sides, "idle", [0; 3]);
    zombie.wait().unwrap();
    let gone = same(&sides, "by_id", [u64::from(zombie.pid()), 0, 0]);
    assert_eq!(gone.unwrap().unwrap().0, 1);
}

/// What is in both, in the order of the first.
fn common(one: &[[u64; 2]], other: &[[u64; 2]]) -> Vec<[u64; 2]> {
    let both = one.iter().filter(|pair| other.contains(pair));
    both.copied().collect()
}

#[test]
fn iterations_come_to_the_same_tasks() {
    let sides = sides();
    if sides.is_empty() {
        return;
    }
    let child = sleeper(None);
    let parked = [(); 3].map(|()| Parked::new());
    let (process, _) = ids::process_and_thread();
    // Other tests make and end threads and processes meanwhile: those that all sides saw are in the same order.
    for (program, asked) in [
        ("all", [0, 0, 0]),
        ("all", [1, 0, 0]),
        ("threads", [2, u64::from(process), 0]),
        ("threads", [2, u64::from(parked[1].id), 0]),
    ] {
        let seen = |side: &Side| {
            let count = side.call(program, asked).unwrap().0;
            side.found(count)
        };
        let before = seen(&sides[0]);
        let ours: Vec<_> = sides[1..].iter().map(seen).collect();
        let after = seen(&sides[0]);
        let expected = common(&before, &after);
        for (side, found) in sides[1..].iter().zip(&ours) {
            assert_eq!(
                common(found, &expected),
                expected,
                "{program} {asked:?} {}",
                side.name
            );
            let ids: BTreeSet<u32> = found.iter().map(|pair| pair[0] as u32).collect();
            assert_eq!(ids.len(), found.len(), "{program} {asked:?} {}", side.name);
        }
        let is_from_parked = asked[1] == u64::from(parked[1].id);
        let has = |id: u32| expected.iter().any(|pair| pair[0] as u32 == id);
        assert_eq!(has(process), !is_from_parked);
        assert_eq!(has(parked[2].id), asked[0] != 0);
        assert_eq!(has(child.pid()), program == "all");
    }
    same_notes(&sides, "threads", [2, u64::from(child.pid()), 0]);
    for flags in [2, 3, u64::from(u32::MAX)] {
        assert_eq!(number(&same(&sides, "all", [flags, 0, 0]).unwrap(), 0), -22);
    }
    assert_eq!(number(&same(&sides, "threads", [3, 2, 0]).unwrap(), 0), -22);
    let threads = |side: &Side| {
        let count = side.call("processes_and_threads", [0; 3]).unwrap().0;
        let found = side.found(count);
        let of = |id: u64| found.iter().find(|pair| pair[0] == id).map(|pair| pair[1]);
        [0, 3, 2, u64::from(child.pid())].map(of)
    };
    let expected = threads(&sides[0]);
    // The kernel's own task has no references to give out.
    assert_eq!(expected, [None, Some(1), Some(1), Some(1)]);
    for side in &sides[1..] {
        assert_eq!(threads(side), expected, "{}", side.name);
    }
}

#[test]
fn storage_belongs_to_tasks_found_by_id() {
    const CREATE: u64 = 1;
    let sides = sides();
    let child = (!sides.is_empty()).then(|| sleeper(None));
    let ids = [
        Some(2),
        child.as_ref().map(Child::pid),
        Some(task::thread_id()),
    ];
    for id in ids.into_iter().flatten().map(u64::from) {
        for (flags, delete) in [
            (0, 0),
            (0, 1),
            (CREATE, 0),
            (CREATE, 0),
            (0, 1),
            (0, 1),
            (2, 0),
        ] {
            same(&sides, "task_storage", [id, flags, delete]);
        }
    }
}

/// An empty folder, which goes with this.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // The asserts say whether it went.
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn groups_are_found_by_id_and_above_others() {
    let sides = sides();
    if sides.is_empty() {
        return;
    }
    let group = Group::create().unwrap();
    let inner = Folder(group.path().join("inner"));
    std::fs::create_dir(&inner.0).unwrap();
    let child = sleeper(Some(&group));
    let [id, inner_id] = [group.path(), &inner.0].map(|path| cgroup::id(path).unwrap());
    let process = u64::from(child.pid());
    for id in [1, id, inner_id] {
        for level in [0, 1, 2, 3, u64::from(u32::MAX)] {
            for task in [process, 2, NOBODY] {
                let answer = same(&sides, "group", [id, level, task]).unwrap();
                assert_eq!(number(&answer, 1).cast_unsigned(), id);
            }
        }
    }
    drop(inner);
    for id in [0, inner_id, u64::MAX] {
        assert_eq!(same(&sides, "group", [id, 0, 2]).unwrap().unwrap().0, 1);
    }
}

#[test]
fn the_running_task_is_in_the_groups_of_arrays() {
    let sides = sides();
    let Some((kernel, others)) = sides.split_first() else {
        return;
    };
    let group = Group::create().unwrap();
    let folder = File::open(group.path()).unwrap();
    let root = File::open(cgroup::mount_point().unwrap()).unwrap();
    let file = File::open("/proc/self/cgroup").unwrap();
    let elements = [
        (0, folder.as_raw_fd(), 0),
        (1, root.as_raw_fd(), 0),
        (2, file.as_raw_fd(), 0),
        (2, -1, 0),
        (2, root.as_raw_fd(), 1),
        (2, root.as_raw_fd(), 2),
        (4, root.as_raw_fd(), 0),
    ];
    for (index, fd, flags) in elements {
        let expected = kernel.put_group(index, fd, flags);
        for side in others {
            assert_eq!(
                side.put_group(index, fd, flags),
                expected,
                "{index} {fd} {}",
                side.name
            );
        }
    }
    for (index, level) in [(0, 0), (1, 1), (2, u64::MAX), (4, 2)] {
        let mut args = [index, level].map(u64::to_ne_bytes).concat();
        args.resize(12 * 8, 0);
        let answers = sides.iter().map(|side| {
            side.run("own_groups", args.clone()).unwrap();
            side.found(2)
        });
        let answers: Vec<_> = answers.collect();
        assert!(
            answers.iter().all(|a| *a == answers[0]),
            "{index}: {answers:x?}"
        );
    }
}

#[test]
fn groups_are_there_for_reads_alone() {
    let sides = sides();
    if sides.is_empty() {
        return;
    }
    let answers = sides.iter().map(|side| side.run("reads_group", Vec::new()));
    let answers: Vec<_> = answers.collect();
    assert!(
        answers.iter().all(|a| a.is_ok() && *a == answers[0]),
        "{answers:?}"
    );
    // No program of these universes loads the field.
    let alone = LoadOptions {
        program: Some("reads_group".to_owned()),
        ..LoadOptions::default()
    };
    for side in [Engine::Interp, Engine::Jit].map(user) {
        let linked = linked("tasks", side.as_ref());
        let loaded = load(&linked, &side, &alone).unwrap();
        let run = TestRun::default();
        let result = side.prog_test_run(loaded.programs[0].handle, &run);
        assert_eq!(result.unwrap().retval, answers[0].as_ref().unwrap().0);
    }
}

#[test]
fn signals_come_from_the_kernel() {
    const SIGHUP: u64 = 1;
    const SIGWINCH: u64 = 28;
    let sides = sides();
    // Nobody catches it, so that it is dropped: only the answers count.
    for number in [0, SIGWINCH, 65, 1 << 31, u64::from(u32::MAX)] {
        same(&sides, "sends", [number, 0, 0]);
        same(&sides, "sends_to_thread", [number, 0, 0]);
    }
    // Blocked in this thread, so that it waits there until it is read.
    let waiting = Interrupts::open().unwrap();
    let mut told = Vec::new();
    for side in &sides {
        assert_eq!(side.call("sends_to_thread", [SIGHUP, 0, 0]).unwrap().0, 0);
        let mut info = [0; 128];
        // SAFETY: open as long as `waiting` lives.
        let fd = unsafe { BorrowedFd::borrow_raw(waiting.descriptor()) };
        let mut file = File::from(fd.try_clone_to_owned().unwrap());
        file.read_exact(&mut info).unwrap();
        told.push(info);
    }
    assert!(told.iter().all(|info| *info == told[0]), "{told:?}");
}

#[test]
fn mappings_are_found() {
    let sides = sides();
    if sides.is_empty() {
        return;
    }
    static HERE: u32 = 7;
    let here = (&raw const HERE) as u64;
    let local = 0u8;
    for address in [here, (&raw const local) as u64, 0, 8, u64::MAX] {
        for flags in [0, 1] {
            same(&sides, "finds_vma", [address, flags, 0]);
            let expected = sides[0].found(2);
            for side in &sides[1..] {
                assert_eq!(side.found(2), expected, "{address:x} {}", side.name);
            }
        }
    }
    let child = sleeper(None);
    let process = u64::from(child.pid());
    let all = same_notes(&sides, "vmas", [process, 0, 0]);
    assert!(all.len() > 4, "{all:x?}");
    let inside = all[3][0] + 1;
    let rest = same_notes(&sides, "vmas", [process, inside, 0]);
    assert_eq!(rest, all[3..]);
    assert!(same_notes(&sides, "vmas", [process, u64::MAX, 0]).is_empty());
    // A thread of the kernel has none.
    same(&sides, "vmas", [2, 0, 0]);
    for (task, address, flags) in [
        (process, all[0][0], 0),
        (process, all[0][0], 1),
        (process, all[0][0], 2),
        (process, all[0][0] + 1, 1),
        (process, 8, 0),
        (u64::from(std::process::id()), here, 0),
        (2, here, 0),
    ] {
        same(&sides, "copies", [task, address, flags]);
    }
    same(&sides, "other_stack", [process, 0, 0]);
}

#[test]
fn test_packets_are_of_the_group_that_runs_the_test() {
    let sides = sides();
    let Ok(root) = cgroup::mount_point().and_then(File::open) else {
        return;
    };
    for side in &sides {
        side.put_group(1, root.as_raw_fd(), 0).unwrap();
    }
    let run = TestRun {
        data_in: Some(vec![0; 64]),
        ..TestRun::default()
    };
    let values = sides.iter().map(|side| {
        let program = side.loaded.program("skb_group").unwrap().handle;
        side.loaded
            .backend()
            .prog_test_run(program, &run)
            .unwrap()
            .retval
    });
    let values: Vec<_> = values.collect();
    assert!(values.iter().all(|v| *v == values[0]), "{values:?}");
}

#[test]
fn pointers_to_tasks_are_not_kept() {
    let checker = Checker::open(&bytes(&path("kptrs")), &CheckOptions::default()).unwrap();
    let why_not = |program| checker.check(program, Caps::All).unwrap().why_not;
    let why = why_not("ok_kptr_is_exchanged").unwrap();
    assert!(
        why.starts_with("U0007: a pointer to struct task_struct is kept"),
        "{why}"
    );
}
