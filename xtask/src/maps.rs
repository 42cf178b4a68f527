//! `cargo xtask maps [OPERATIONS [TYPE...]]`: random operations on every map type, or these, ours against the kernel's.

use crate::TaskError;
use skep::Kernel;
use skep_abi::MapType;
use skep_bpf::{Backend, Handle, MapCreate};
use skep_tests::map_diff;
use skep_tests::random::Random;
use skep_user::{Options, Universe};
use std::time::Instant;

/// Operations on each map type unless told otherwise.
const OPERATIONS: u64 = 1_000_000;
/// Types whose changes wait for grace periods in the kernel, and how many threads wait for them at once.
const SLOW: &[MapType] = &[MapType::ArrayOfMaps, MapType::HashOfMaps, MapType::Cpumap];
const WAITING_THREADS: u64 = 64;
/// Maps made with odd arguments.
const CREATIONS: u64 = 50_000;
/// Elements of the LRU maps, keys of the trace, accesses.
const LRU_ENTRIES: u32 = 2000;
const TRACE_KEYS: usize = 20_000;
const TRACE_LEN: usize = 400_000;

pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let operations = match arguments.first() {
        Some(n) => n.parse().map_err(|e| format!("{n}: {e}"))?,
        None => OPERATIONS,
    };
    let user = Universe::new(Options::default()).map_err(|e| e.to_string())?;
    let kernel = Kernel::new();
    let seed = std::process::id().into();
    let mut differences = 0;
    let named = arguments.get(1..).unwrap_or_default();
    let wanted = |t: &&MapType| named.is_empty() || named.iter().any(|n| n == t.name());
    for map_type in map_diff::TYPES.iter().filter(wanted) {
        let start = Instant::now();
        let threads = if SLOW.contains(map_type) {
            WAITING_THREADS
        } else {
            1
        };
        let outcome = compare(&user, &kernel, *map_type, [operations, threads], seed);
        differences += u32::from(outcome.is_err());
        let said = outcome
            .err()
            .unwrap_or_else(|| format!("{operations} operations agree"));
        println!(
            "{:16} {:5.1} s  {said}",
            map_type.name(),
            start.elapsed().as_secs_f64()
        );
    }
    let creation = map_diff::compare_creation(&user, &kernel, CREATIONS, seed);
    differences += u32::from(creation.is_err());
    println!(
        "{:16} {}",
        "creation",
        creation
            .err()
            .unwrap_or_else(|| format!("{CREATIONS} agree"))
    );
    let (ours, theirs) = (hit_rate(&user, seed)?, hit_rate(&kernel, seed)?);
    println!(
        "{:16} hits of a Zipf trace: user {ours:.4}, kernel {theirs:.4}",
        "lru_hash"
    );
    println!(
        "{{\"task\":\"maps\",\"operations\":{operations},\"differences\":{differences},\"lru_user\":{ours:.4},\"lru_kernel\":{theirs:.4}}}"
    );
    if differences == 0 {
        Ok(())
    } else {
        Err(format!("{differences} differences"))
    }
}

/// So many operations on maps of a type, by so many threads on maps of their own.
fn compare(
    user: &Universe,
    kernel: &Kernel,
    map_type: MapType,
    [operations, threads]: [u64; 2],
    seed: u64,
) -> Result<(), map_diff::Difference> {
    let share = operations.div_ceil(threads);
    std::thread::scope(|scope| {
        let run = |n| map_diff::compare(user, kernel, map_type, share, seed.wrapping_add(n << 40));
        let all: Vec<_> = (0..threads).map(|n| scope.spawn(move || run(n))).collect();
        all.into_iter().try_for_each(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(_) => Err("a thread panicked".to_owned()),
        })
    })
}

/// Hits of an LRU map as a cache of a Zipf-distributed trace (exponent 1).
fn hit_rate(backend: &dyn Backend, seed: u64) -> Result<f64, TaskError> {
    let mut cumulative: Vec<f64> = Vec::with_capacity(TRACE_KEYS);
    let mut sum = 0.0;
    for rank in 1..=TRACE_KEYS {
        sum += 1.0 / rank as f64;
        cumulative.push(sum);
    }
    let map = backend
        .map_create(&MapCreate::new(MapType::LruHash, 8, 8, LRU_ENTRIES))
        .map_err(|e| e.to_string())?;
    let mut random = Random::new(seed);
    let mut hits = 0;
    for _ in 0..TRACE_LEN {
        let at = random.below(1 << 53) as f64 / (1u64 << 53) as f64 * sum;
        let rank = cumulative.partition_point(|c| *c < at) as u64;
        hits += u32::from(access(backend, map, rank).map_err(|e| e.to_string())?);
    }
    backend.close(map);
    Ok(f64::from(hits) / TRACE_LEN as f64)
}

/// Uses a key; true if it was in the map.
fn access(backend: &dyn Backend, map: Handle, key: u64) -> skep_bpf::Result<bool> {
    let key = key.to_ne_bytes();
    let mut value = [0; 8];
    if backend.map_lookup(map, &key, &mut value, 0).is_ok() {
        return Ok(true);
    }
    backend.map_update(map, &key, &value, 0)?;
    Ok(false)
}
