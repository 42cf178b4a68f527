//! Two threads on different keys of one map, against two threads on maps of their own.

use super::{KEYS, Side, median};
use crate::TaskError;
use skep::load::Loaded;
use skep_bpf::TestRun;
use skep_sys::clock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// CPUs of the universe: as many as threads.
pub(super) const CPUS: u32 = 2;
/// Program, and the least share of the private maps' throughput.
pub(super) const ROWS: &[(&str, f64)] = &[("half_lookup", 0.9), ("half_update", 0.75)];
/// Rounds, and samples of each kind in a round.
const ROUNDS: usize = 7;
const SAMPLES: usize = 12;
/// A sample counts if both threads had their CPU for this share of the time: else they did not run side by side.
const UNDISTURBED: f64 = 0.95;
/// Samples tried for one that counts.
const TRIES: usize = 3000;

/// A sample that counts.
fn undisturbed(loaded: [&Loaded; 2], program: &str) -> Result<f64, TaskError> {
    for _ in 0..TRIES {
        if let Some(took) = together(loaded, program)? {
            return Ok(took);
        }
    }
    Err("other processes keep two threads from running side by side".to_owned())
}

/// Runs `program` on both CPUs at once, each with its half of the keys; how long the slower one took, `None` if something
/// else ran meanwhile.
///
/// The threads stay on a CPU of their own and wait for each other without sleep: otherwise one may be done before the other
/// one is awake, and nothing is measured of what they cost each other.
fn together(loaded: [&Loaded; 2], program: &str) -> Result<Option<f64>, TaskError> {
    let ready = &AtomicU32::new(0);
    let run = |half: u64, loaded: &Loaded| -> Result<Option<f64>, TaskError> {
        let pinned = skep_sys::task::stay_on(half as u32);
        let handle = loaded.program(program).map(|p| p.handle);
        let mut packet = vec![0; 64];
        packet[16..24]
            .copy_from_slice(&(half + 1).wrapping_mul(0x1234_5678_9abc_def1).to_ne_bytes());
        packet[24..32].copy_from_slice(&(half * (KEYS / 2)).to_ne_bytes());
        let run = TestRun {
            data_in: Some(packet),
            repeat: 1,
            ..TestRun::default()
        };
        ready.fetch_add(1, Ordering::SeqCst);
        while ready.load(Ordering::SeqCst) < CPUS {
            std::hint::spin_loop();
        }
        pinned.map_err(|e| format!("CPU {half}: {e}"))?;
        let handle = handle.ok_or("no such program")?;
        let (start, ran) = (Instant::now(), clock::thread_ns());
        let result = loaded.backend().prog_test_run(handle, &run);
        let (ran, took) = (clock::thread_ns() - ran, start.elapsed());
        result.map_err(|e| e.to_string())?;
        let alone = ran as f64 >= UNDISTURBED * took.as_nanos() as f64;
        Ok(alone.then_some(took.as_secs_f64()))
    };
    std::thread::scope(|scope| {
        let both = [0, 1].map(|half| scope.spawn(move || run(half, loaded[half as usize])));
        let [one, other] = both.map(|thread| thread.join().map_err(|_| "a thread panicked"));
        let (one, other) = (one??, other??);
        Ok(one.zip(other).map(|(one, other)| one.max(other)))
    })
}

/// Throughput of two threads on one map as a share of that on two maps.
pub(super) fn scaling(sides: &[Side; 2], program: &str) -> Result<f64, TaskError> {
    let [one, other] = [&sides[0].loaded, &sides[1].loaded];
    let mut shares = Vec::new();
    for _ in 0..ROUNDS {
        let (mut shared, mut private) = (f64::MAX, f64::MAX);
        for _ in 0..SAMPLES {
            private = private.min(undisturbed([one, other], program)?);
            shared = shared.min(undisturbed([one, one], program)?);
        }
        shares.push(private / shared);
    }
    Ok(median(shares))
}
