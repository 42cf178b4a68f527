//! Interleaved samples.

use crate::engines::Runner;
use std::time::{Duration, Instant};

/// Rounds of which the median counts.
pub(crate) const ROUNDS: usize = 5;
/// Samples of each engine in a round, of which the minimum counts: enough that some are undisturbed on a busy machine.
const SAMPLES: usize = 30;
/// Length of a sample.
const SAMPLE: Duration = Duration::from_micros(1500);

/// Attempts at finding out how many runs make a sample.
const ATTEMPTS: usize = 5;

/// A program in an engine, and the engine's empty program.
pub(crate) struct Pair {
    pub(crate) program: Box<dyn Runner>,
    pub(crate) empty: Box<dyn Runner>,
}

/// Nanoseconds per run in one round.
#[derive(Clone, Copy)]
pub(crate) struct Time {
    /// Of the program, with what a call costs.
    pub(crate) gross_ns: f64,
    /// Of the empty program.
    pub(crate) empty_ns: f64,
}

/// By engine, the rounds; `None` where the engine cannot run the program.
pub(crate) type Times = Vec<Option<Vec<Time>>>;

/// Measures a program in all engines; the samples of all engines, and those of their empty programs, alternate.
pub(crate) fn measure(pairs: &mut [Option<Pair>], rounds: usize) -> Times {
    let counts: Vec<(u32, u32)> = pairs
        .iter_mut()
        .map(|p| match p {
            Some(p) => (calibrate(p.program.as_mut()), calibrate(p.empty.as_mut())),
            None => (0, 0),
        })
        .collect();
    let mut times: Times = pairs
        .iter()
        .map(|p| p.as_ref().map(|_| Vec::new()))
        .collect();
    for _ in 0..rounds {
        for (list, best) in times.iter_mut().zip(round(pairs, &counts)) {
            if let Some(list) = list {
                list.push(best);
            }
        }
    }
    times
}

/// The minima of one round.
fn round(pairs: &mut [Option<Pair>], counts: &[(u32, u32)]) -> Vec<Time> {
    let none = Time {
        gross_ns: f64::MAX,
        empty_ns: f64::MAX,
    };
    let mut best = vec![none; pairs.len()];
    for _ in 0..SAMPLES {
        for ((pair, best), &(count, empty_count)) in pairs.iter_mut().zip(&mut best).zip(counts) {
            if let Some(p) = pair {
                best.gross_ns = best.gross_ns.min(sample(p.program.as_mut(), count));
                best.empty_ns = best.empty_ns.min(sample(p.empty.as_mut(), empty_count));
            }
        }
    }
    best
}

fn sample(r: &mut dyn Runner, count: u32) -> f64 {
    let start = Instant::now();
    std::hint::black_box(r.run(count));
    start.elapsed().as_nanos() as f64 / f64::from(count)
}

/// How many runs make a sample; at the end whatever an engine does on first runs is over. The shortest of some attempts counts:
/// after an interruption samples would be so short that what a test run costs once shows in them.
fn calibrate(r: &mut dyn Runner) -> u32 {
    let mut count = 16;
    loop {
        let attempt = || {
            let start = Instant::now();
            std::hint::black_box(r.run(count));
            start.elapsed()
        };
        let took = std::iter::repeat_with(attempt).take(ATTEMPTS).min();
        let took = took.unwrap_or_default();
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
