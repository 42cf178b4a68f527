//! Two threads on different keys of one map, against two threads on maps of their own.

use super::{KEYS, Side, median};
use crate::TaskError;
use skep::load::Loaded;
use skep_bpf::TestRun;
use std::sync::Barrier;
use std::time::Instant;

/// CPUs of the universe: as many as threads.
pub(super) const CPUS: u32 = 2;
/// Program, and the least share of the private maps' throughput (issue 5).
pub(super) const ROWS: &[(&str, f64)] = &[("half_lookup", 0.9), ("half_update", 0.75)];
/// Rounds, and samples of each kind in a round.
const ROUNDS: usize = 7;
const SAMPLES: usize = 12;

/// Runs `program` on both CPUs at once, each with its half of the keys; how long the slower one took.
fn together(loaded: [&Loaded; 2], program: &str) -> Result<f64, TaskError> {
    let barrier = Barrier::new(2);
    let run = |half: u64, loaded: &Loaded| -> Result<f64, TaskError> {
        let handle = loaded.program(program).ok_or("no such program")?.handle;
        let mut packet = vec![0; 64];
        packet[16..24]
            .copy_from_slice(&(half + 1).wrapping_mul(0x1234_5678_9abc_def1).to_ne_bytes());
        packet[24..32].copy_from_slice(&(half * (KEYS / 2)).to_ne_bytes());
        let run = TestRun {
            data_in: Some(packet),
            repeat: 1,
            ..TestRun::default()
        };
        barrier.wait();
        let start = Instant::now();
        let result = loaded.backend().prog_test_run(handle, &run);
        let took = start.elapsed();
        result.map_err(|e| e.to_string())?;
        Ok(took.as_secs_f64())
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| run(1, loaded[1]));
        let mine = run(0, loaded[0])?;
        let other = other.join().map_err(|_| "a thread panicked")??;
        Ok(mine.max(other))
    })
}

/// Throughput of two threads on one map as a share of that on two maps.
pub(super) fn scaling(sides: &[Side; 2], program: &str) -> Result<f64, TaskError> {
    let [one, other] = [&sides[0].loaded, &sides[1].loaded];
    let mut shares = Vec::new();
    for _ in 0..ROUNDS {
        let (mut shared, mut private) = (f64::MAX, f64::MAX);
        for _ in 0..SAMPLES {
            private = private.min(together([one, other], program)?);
            shared = shared.min(together([one, one], program)?);
        }
        shares.push(private / shared);
    }
    Ok(median(shares))
}
