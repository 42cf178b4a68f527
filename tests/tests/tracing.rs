//! Helpers of tracing: reading and writing memory, signals, stacks.

use crate::attach::{PATIENCE, getppid_file, needs};
use skep::Kernel;
use skep::attach::{Hook, Where, attach, hook};
use skep::load::{LoadOptions, Loaded, load};
use skep_bpf::{Backend, TestRun};
use skep_tests::objects::linked;
use skep_tests::table::{refused, works};
use std::os::unix::process::{ExitStatusExt, parent_id};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Places of results, as in the object.
const READS_KERNEL: u32 = 0;
const KERNEL_STACK: u32 = 1;
const USER_STACK: u32 = 2;
const SIGNALS: u32 = 3;
const COPIES: u32 = 4;
const SIGTERM: i32 = 15;
/// Frames that a stack has at most.
const FRAMES: usize = 16;
/// Milliseconds between two system calls of the child, and how many it makes if nobody ends it.
const PAUSE_MS: u64 = 10;
const CALLS_MAX: u32 = 1000;

/// Loads one program; `None` if this kernel refuses it, which is then said.
fn program(name: &str, row: &str) -> Option<(Arc<dyn Backend>, Loaded)> {
    let backend: Arc<dyn Backend> = Arc::new(Kernel::new());
    let options = LoadOptions {
        program: Some(name.to_owned()),
        ..LoadOptions::default()
    };
    match load(&linked("tracing", backend.as_ref()), &backend, &options) {
        Ok(loaded) => Some((backend, loaded)),
        Err(error) => {
            refused(row, &error);
            None
        }
    }
}

fn result(loaded: &Loaded, place: u32) -> i64 {
    let map = loaded.map("results").unwrap().handle;
    let mut value = [0; 8];
    loaded
        .backend()
        .map_lookup(map, &place.to_ne_bytes(), &mut value, 0)
        .unwrap();
    i64::from_ne_bytes(value)
}

fn set_address(loaded: &Loaded, value: u64) {
    let map = loaded.map("address").unwrap().handle;
    loaded
        .backend()
        .map_update(map, &[0; 4], &value.to_ne_bytes(), 0)
        .unwrap();
}

/// Runs a raw tracepoint's program here; what it returns.
fn run(loaded: &Loaded, arguments: &[u64]) -> u32 {
    let input = TestRun {
        ctx_in: Some(arguments.iter().flat_map(|a| a.to_ne_bytes()).collect()),
        ..TestRun::default()
    };
    loaded
        .backend()
        .prog_test_run(loaded.programs[0].handle, &input)
        .unwrap()
        .retval
}

/// Addresses of the stack whose number, plus one, is a result.
fn stack(loaded: &Loaded, place: u32) -> Vec<u64> {
    let number = u32::try_from(result(loaded, place) - 1).unwrap();
    let map = loaded.map("stacks").unwrap().handle;
    let mut value = [0; FRAMES * 8];
    loaded
        .backend()
        .map_lookup(map, &number.to_ne_bytes(), &mut value, 0)
        .unwrap();
    let words = value
        .as_chunks::<8>()
        .0
        .iter()
        .map(|w| u64::from_ne_bytes(*w));
    words.take_while(|w| *w != 0).collect()
}

/// Waits until a result is positive.
fn comes(loaded: &Loaded, place: u32, mut fire: impl FnMut()) {
    let deadline = Instant::now() + PATIENCE;
    while result(loaded, place) <= 0 {
        assert!(Instant::now() < deadline, "{}", result(loaded, place));
        fire();
    }
}

/// The hook that a program's section means, for one process.
fn hook_of(loaded: &Loaded, pid: u32) -> Hook {
    let place = Where {
        pid: Some(pid),
        ..Where::default()
    };
    let mut hook = hook(&loaded.programs[0].spec, &place).unwrap();
    if let Hook::Uprobe(probe) = &mut hook {
        probe.file = getppid_file();
    }
    hook
}

#[test]
fn memory_is_read_and_written() {
    if !needs() {
        return;
    }
    if let Some((_, loaded)) = program("reads_kernel", "probe_read_kernel") {
        set_address(&loaded, 0x1234_5678);
        run(&loaded, &[0]);
        assert_eq!(result(&loaded, READS_KERNEL), 0x1234_5678);
        works("probe_read_kernel");
    }
    if let Some((_, loaded)) = program("writes_user", "probe_write_user") {
        let word = Box::new(1u64);
        let address = (&raw const *word).expose_provenance() as u64;
        assert_eq!(run(&loaded, &[address]), 0);
        assert_eq!(std::hint::black_box(word).as_ref(), &7);
        works("probe_write_user");
    }
    if let Some((backend, loaded)) = program("copies", "copy_from_user") {
        let word = Box::new(0x0102_0304u64);
        set_address(&loaded, (&raw const *word).expose_provenance() as u64);
        let hook = hook_of(&loaded, std::process::id());
        let link = attach(&backend, loaded.programs[0].handle, &hook).unwrap();
        comes(&loaded, COPIES, || {
            let _ = parent_id();
        });
        assert_eq!(result(&loaded, COPIES), 0x0102_0304);
        drop(link);
        works("copy_from_user");
    }
}

#[test]
fn stacks_are_taken() {
    if !needs() {
        return;
    }
    if let Some((_, loaded)) = program("kernel_stack", "kernel_stack") {
        run(&loaded, &[0]);
        let stack = stack(&loaded, KERNEL_STACK);
        assert!(
            !stack.is_empty() && stack.iter().all(|a| *a >> 63 == 1),
            "{stack:x?}"
        );
        works("kernel_stack");
    }
    if let Some((backend, loaded)) = program("user_stack", "user_stack") {
        let hook = hook_of(&loaded, std::process::id());
        let link = attach(&backend, loaded.programs[0].handle, &hook).unwrap();
        comes(&loaded, USER_STACK, || {
            let until = Instant::now() + Duration::from_millis(10);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        });
        let stack = stack(&loaded, USER_STACK);
        assert!(
            !stack.is_empty() && stack.iter().all(|a| *a >> 63 == 0),
            "{stack:x?}"
        );
        drop(link);
        works("user_stack");
    }
}

/// Not a test of its own: the process that gets the signal.
#[test]
#[ignore = "the child of signals_are_sent"]
fn asks_again_and_again() {
    for _ in 0..CALLS_MAX {
        let _ = parent_id();
        std::thread::sleep(Duration::from_millis(PAUSE_MS));
    }
}

#[test]
fn signals_are_sent() {
    if !needs() {
        return;
    }
    let Some((backend, loaded)) = program("signals", "send_signal") else {
        return;
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "tracing::asks_again_and_again",
        "--ignored",
        "--quiet",
    ]);
    let mut child = command.spawn().unwrap();
    let link = attach(
        &backend,
        loaded.programs[0].handle,
        &hook_of(&loaded, child.id()),
    );
    let status = child.wait().unwrap();
    drop(link.unwrap());
    assert_eq!(status.signal(), Some(SIGTERM), "{status}");
    assert_eq!(result(&loaded, SIGNALS), 1, "the helper returned 0");
    works("send_signal");
}
