//! `cargo xtask bench maps [PROGRAM...]`: map operations from inside a program, ours (JIT) beside the kernel's, the rest of the loop subtracted.

mod pair;

use crate::TaskError;
use serde_json::json;
use skep::Kernel;
use skep::load::{LoadOptions, Loaded, load};
use skep_bpf::{Backend, EventReader, TestRun};
use skep_object::{Linked, Object};
use skep_tests::random::Random;
use skep_user::{Options, Universe};
use std::sync::Arc;

/// Rounds, and samples of each backend in a round.
const ROUNDS: usize = 5;
const SAMPLES: usize = 8;
/// Less than this is noise: an inlined operation may even come out as nothing.
const NOISE_NS: f64 = 1.0;
/// As in the programs' source.
const ITERATIONS: f64 = 10_000.0;
const KEYS: u64 = 10_000;
const MANY: u64 = 1_000_000;

/// Program, the program to subtract, the most it may take as a share of the kernel's time.
#[rustfmt::skip] // one row per line
const ROWS: &[(&str, &str, f64)] = &[
    ("hash_lookup",  "empty",          0.25),
    ("hash_update",  "empty",          0.25),
    ("hash_delete",  "empty_in_order", 0.25),
    ("hash_insert",  "empty_in_order", 0.25),
    ("lru_lookup",   "empty",          0.34),
    ("lru_update",   "empty",          0.34),
    ("many_lookup",  "empty",          0.5),
    ("lpm_lookup",   "empty_lpm",      0.2),
    ("array_lookup", "empty",          1.0),
    ("ring_submit",  "empty",          0.5),
];

/// One backend with the programs and filled maps.
struct Side {
    loaded: Loaded,
    ring: Box<dyn EventReader>,
}

fn spread(n: u64) -> [u8; 8] {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes()
}

fn build() -> Result<Linked, TaskError> {
    let folder = crate::workspace_root().join("xtask/objects");
    let object = crate::target_dir().join("maps.bpf.o");
    std::fs::create_dir_all(crate::target_dir()).map_err(|e| e.to_string())?;
    skep_tests::examples::build(&folder, "maps.bpf.c", &object.to_string_lossy())?;
    let bytes = std::fs::read(&object).map_err(|e| e.to_string())?;
    let parsed = Object::parse(
        &bytes,
        &skep_object::Options {
            name: "maps".to_owned(),
        },
    );
    let parsed = parsed.map_err(|e| e.to_string())?;
    let target = skep::target::reference(&parsed.needs(), None);
    parsed.relocate(&target).map_err(|e| e.to_string())
}

impl Side {
    fn new(linked: &Linked, backend: &Arc<dyn Backend>) -> Result<Self, TaskError> {
        let loaded = load(linked, backend, &LoadOptions::default()).map_err(|e| e.to_string())?;
        let ring = loaded.map("ring").ok_or("no ring")?.handle;
        let ring = backend.events_open(ring).map_err(|e| e.to_string())?;
        let side = Self { loaded, ring };
        let keys = |count: u64| (0..count).map(spread);
        side.fill("hash", keys(KEYS))?;
        side.fill("lru", keys(KEYS))?;
        side.fill("many", keys(MANY))?;
        let mut random = Random::new(1);
        let mut addresses = Vec::new();
        let mut prefixes = Vec::new();
        for _ in 0..KEYS {
            let address = random.next_u64() as u32;
            let len = *random.of(&[8u32, 12, 16, 18, 20, 22, 24, 24, 24, 28, 32]);
            addresses.push(u64::from(address));
            let key = u64::from(len) | u64::from(address) << 32;
            prefixes.push(key.to_ne_bytes());
        }
        side.fill("lpm", prefixes.into_iter())?;
        let map = side.loaded.map("addresses").ok_or("no addresses")?.handle;
        for (i, address) in (0u32..).zip(addresses) {
            backend
                .map_update(map, &i.to_ne_bytes(), &address.to_ne_bytes(), 0)
                .map_err(|e| e.to_string())?;
        }
        Ok(side)
    }

    fn fill(&self, name: &str, keys: impl Iterator<Item = [u8; 8]>) -> Result<(), TaskError> {
        let map = self.loaded.map(name).ok_or("no such map")?.handle;
        for key in keys {
            self.loaded
                .backend()
                .map_update(map, &key, &[1; 8], 0)
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Nanoseconds of one iteration.
    fn run(&mut self, program: &str) -> Result<f64, TaskError> {
        let handle = self
            .loaded
            .program(program)
            .ok_or("no such program")?
            .handle;
        let run = TestRun {
            data_in: Some(vec![0; 64]),
            repeat: 1,
            ..TestRun::default()
        };
        let result = self
            .loaded
            .backend()
            .prog_test_run(handle, &run)
            .map_err(|e| e.to_string())?;
        self.ring.drain(&mut |_| {}).map_err(|e| e.to_string())?;
        Ok(result.duration.as_nanos() as f64 / ITERATIONS)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What brings the memory of `program`'s map into the caches without changing what it measures.
fn warm_up(program: &str) -> &str {
    match program {
        "hash_delete" | "hash_insert" => "hash_lookup",
        other => other,
    }
}

/// Per backend the time of each program: minimum of interleaved samples, median over rounds. The last column is the kernel again.
fn measure(sides: &mut [Side; 2], programs: &[&str]) -> Result<Vec<[f64; 3]>, TaskError> {
    let mut rounds = vec![[const { Vec::new() }; 3]; programs.len()];
    for _ in 0..ROUNDS {
        let mut best = vec![[f64::MAX; 3]; programs.len()];
        for _ in 0..SAMPLES {
            for (slot, side) in [0, 1, 1].into_iter().enumerate() {
                for (best, program) in best.iter_mut().zip(programs) {
                    sides[side].run(warm_up(program))?;
                    best[slot] = best[slot].min(sides[side].run(program)?);
                }
            }
        }
        for (round, best) in rounds.iter_mut().zip(&best) {
            round.iter_mut().zip(best).for_each(|(all, b)| all.push(*b));
        }
    }
    Ok(rounds.into_iter().map(|r| r.map(median)).collect())
}

/// Runs the bench.
pub(crate) fn run(only: &[String]) -> Result<(), TaskError> {
    let wanted = |program: &str| only.is_empty() || only.iter().any(|o| o == program);
    let linked = build()?;
    let user = Universe::new(Options::default()).map_err(|e| e.to_string())?;
    let mut sides = [
        Side::new(&linked, &(Arc::new(user) as Arc<dyn Backend>))?,
        Side::new(&linked, &(Arc::new(Kernel::new()) as Arc<dyn Backend>))?,
    ];
    let mut programs: Vec<&str> = vec!["empty", "empty_in_order", "empty_lpm"];
    let rows = ROWS.iter().filter(|(program, _, _)| wanted(program));
    programs.extend(rows.clone().map(|(program, _, _)| *program));
    let times = measure(&mut sides, &programs)?;
    let time = |name: &str| {
        programs
            .iter()
            .position(|p| *p == name)
            .map_or([f64::NAN; 3], |i| times[i])
    };
    let mut summary = serde_json::Map::new();
    summary.insert("bench".to_owned(), json!("maps"));
    let mut missed = 0;
    for (program, empty, limit) in rows {
        let (full, rest) = (time(program), time(empty));
        let net: Vec<f64> = full
            .iter()
            .zip(rest)
            .map(|(a, b)| (a - b).max(0.0))
            .collect();
        let ratio = net[0] / net[1].max(NOISE_NS);
        missed += u32::from(ratio > *limit);
        println!(
            "{program:14} user {:6.1} ns, kernel {:6.1} ns, ratio {ratio:.2} (at most {limit}), kernel against itself {:.2}",
            net[0],
            net[1],
            net[2] / net[1]
        );
        summary.insert(
            (*program).to_owned(),
            json!((ratio * 1000.0).round() / 1000.0),
        );
    }
    let threads: Arc<dyn Backend> = Arc::new(
        Universe::new(Options {
            cpus: pair::CPUS,
            ..Options::default()
        })
        .map_err(|e| e.to_string())?,
    );
    let both = [Side::new(&linked, &threads)?, Side::new(&linked, &threads)?];
    for (program, least) in pair::ROWS.iter().filter(|(program, _)| wanted(program)) {
        let share = pair::scaling(&both, program)?;
        missed += u32::from(share < *least);
        println!(
            "{program:14} two threads on one map: {share:.2} of two threads on two maps (at least {least})"
        );
        summary.insert(
            (*program).to_owned(),
            json!((share * 1000.0).round() / 1000.0),
        );
    }
    summary.insert("missed".to_owned(), json!(missed));
    println!("{}", serde_json::Value::Object(summary));
    Ok(())
}
