//! Timers do in the user backend what they do in the kernel.

use skep::Kernel;
use skep::load::Loaded;
use skep::target::running_version;
use skep_bpf::{Backend, TestRun};
use skep_tests::need::{Need, met};
use skep_tests::objects::loaded;
use skep_tests::table::works;
use skep_user::{Options, Universe};
use skep_vm::Engine;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a callback may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

fn run(loaded: &Loaded, program: &str) {
    let handle = loaded.program(program).unwrap().handle;
    let result = loaded
        .backend()
        .prog_test_run(handle, &TestRun::default())
        .unwrap();
    assert_eq!(result.retval, 0, "{program}");
}

/// Values of a map by key, `None` where there is none.
fn values(
    loaded: &Loaded,
    map: &str,
    keys: std::ops::Range<u32>,
    len: usize,
) -> Vec<Option<Vec<u8>>> {
    let handle = loaded.map(map).unwrap().handle;
    let value = |key: u32| {
        let mut value = vec![0; len];
        let found = loaded
            .backend()
            .map_lookup(handle, &key.to_ne_bytes(), &mut value, 0);
        found.is_ok().then_some(value)
    };
    keys.map(value).collect()
}

/// Waits until `done` and says what is there then.
fn wait_for<T>(look: impl Fn() -> T, done: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let now = look();
        if done(&now) || start.elapsed() > PATIENCE {
            return now;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a backend makes of the programs.
struct Outcome {
    /// What the calls answered, and what the callbacks left behind.
    answers: String,
    slots: Vec<Option<Vec<u8>>>,
    table: Vec<Option<Vec<u8>>>,
}

impl Outcome {
    /// All of it as text; for a kernel without absolute times only what does not need them.
    fn text(&self, absolute: bool) -> String {
        let Self {
            answers,
            slots,
            table,
        } = self;
        if absolute {
            format!("{answers} {slots:?} {table:?}")
        } else {
            format!("{:?} {table:?}", slots[0])
        }
    }
}

/// `BPF_F_TIMER_ABS` came with Linux 6.4.
const ABSOLUTE_TIMES: u32 = 6 << 16 | 4 << 8;

/// Everything a backend makes of the programs.
fn outcome(backend: &Arc<dyn Backend>, absolute: bool) -> Outcome {
    let loaded = loaded("deferred", backend);
    run(&loaded, "answers_of_calls");
    let fired = |slots: &Vec<Option<Vec<u8>>>, at: usize| slots[at].as_ref().unwrap()[0];
    let slots = wait_for(
        || values(&loaded, "slots", 0..4, 32),
        |slots| fired(slots, 0) >= 1 && (fired(slots, 1) >= 3 || !absolute),
    );
    std::thread::sleep(Duration::from_millis(20));
    run(&loaded, "in_table");
    let table = wait_for(
        || values(&loaded, "table", 0..40, 32),
        |table| table[7].is_none() && table[8].is_some(),
    );
    std::thread::sleep(Duration::from_millis(50));
    let later = values(&loaded, "table", 0..40, 32);
    assert_eq!(table, later, "the timer of a deleted element came");
    let answers: Vec<i64> = values(&loaded, "answers", 0..32, 8)
        .into_iter()
        .flatten()
        .map(|v| i64::from_ne_bytes(v.try_into().unwrap()))
        .collect();
    Outcome {
        answers: format!("{answers:?}"),
        slots,
        table,
    }
}

#[test]
fn timers_do_as_in_the_kernel() {
    if !met(&[Need::Bpf, Need::Root]) {
        return;
    }
    let absolute = running_version() >= ABSOLUTE_TIMES;
    let all = |backend: Arc<dyn Backend>| outcome(&backend, absolute).text(absolute);
    let expected = all(Arc::new(Kernel::new()));
    for engine in [Engine::Interp, Engine::Jit] {
        let universe = Universe::new(Options {
            engine,
            ..Options::default()
        });
        let found = all(Arc::new(universe.unwrap()));
        assert_eq!(found, expected, "{}", engine.name());
    }
    works("timer");
}

#[test]
fn timers_stop_with_the_last_user_of_their_map() {
    let universe = Universe::new(Options::default()).unwrap();
    let backend: Arc<dyn Backend> = Arc::new(universe.clone());
    let loaded = loaded("deferred", &backend);
    run(&loaded, "answers_of_calls");
    let map = loaded.map("slots").unwrap().handle;
    let live = universe.live_map(map).unwrap();
    let program = loaded.program("answers_of_calls").unwrap().handle;
    backend.close(map);
    let word = |at: usize| {
        // SAFETY: a value of the map, which `live` keeps.
        unsafe { live.data.add(at).cast::<u64>().read() }
    };
    assert_eq!(word(8), 0, "the timer is still there");
    // Without users no timer can be made.
    let again = backend.prog_test_run(program, &TestRun::default()).unwrap();
    assert_eq!(again.retval, 0);
    assert_eq!(word(8), 0);
}
