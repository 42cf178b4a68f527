//! Interleaved samples.

use crate::engines::Runner;
use std::time::{Duration, Instant};

/// Rounds of which the median counts.
pub(crate) const ROUNDS: usize = 5;
/// Samples of each engine in a round, of which the minimum counts.
const SAMPLES: usize = 12;
/// Length of a sample.
const SAMPLE: Duration = Duration::from_micros(1500);

/// Nanoseconds per run of each runner, by round.
pub(crate) type Times = Vec<Option<Vec<f64>>>;

/// Measures all runners.
pub(crate) fn measure(runners: &mut [Option<Box<dyn Runner>>], rounds: usize) -> Times {
    let counts: Vec<u32> = runners
        .iter_mut()
        .map(|r| r.as_mut().map_or(0, |r| calibrate(r.as_mut())))
        .collect();
    let mut times: Times = runners
        .iter()
        .map(|r| r.as_ref().map(|_| Vec::new()))
        .collect();
    for _ in 0..rounds {
        let mut best = vec![f64::MAX; runners.len()];
        for _ in 0..SAMPLES {
            for (at, runner) in runners.iter_mut().enumerate() {
                if let Some(r) = runner {
                    best[at] = best[at].min(sample(r.as_mut(), counts[at]));
                }
            }
        }
        for (list, best) in times.iter_mut().zip(best) {
            if let Some(list) = list {
                list.push(best);
            }
        }
    }
    times
}

fn sample(r: &mut dyn Runner, count: u32) -> f64 {
    let start = Instant::now();
    std::hint::black_box(r.run(count));
    start.elapsed().as_nanos() as f64 / f64::from(count)
}

/// How many runs make a sample.
fn calibrate(r: &mut dyn Runner) -> u32 {
    let mut count = 16;
    loop {
        let start = Instant::now();
        std::hint::black_box(r.run(count));
        let took = start.elapsed();
        if took * 4 > SAMPLE {
            let scaled = f64::from(count) * SAMPLE.as_secs_f64() / took.as_secs_f64();
            return (scaled as u32).max(1);
        }
        count *= 4;
    }
}

/// The middle one of some numbers.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
