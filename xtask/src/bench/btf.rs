//! `cargo xtask bench btf`: reading and indexing the running kernel's BTF, unpacking the reference kernel's, looking up names.
//!
//! The first time is what counts, since a loader does it once: `cold` is measured in processes of their own (`--once`), each of
//! which reads, indexes and looks up one name.

use crate::TaskError;
use skep::target::running_btf;
use skep_btf::{Btf, Kind};
use skep_profile::Profile;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

const SAMPLES: usize = 20;
/// Processes that do it for the first time.
const PROCESSES: usize = 21;
/// What is looked up.
const TYPE: (&str, Kind) = ("task_struct", Kind::Struct);
const FUNCTION: (&str, Kind) = ("vfs_read", Kind::Func);

/// How long `work` takes.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = black_box(work());
    (result, start.elapsed())
}

/// Shortest time of `SAMPLES` calls.
fn shortest<T>(mut work: impl FnMut() -> T) -> Duration {
    let sample = |_| timed(&mut work).1;
    (0..SAMPLES).map(sample).min().unwrap_or_default()
}

/// Time to read and index, and from there to the first answer.
fn first(what: (&str, Kind)) -> Result<[Duration; 2], TaskError> {
    let (btf, read) = timed(running_btf);
    let btf: Btf = btf.map_err(|e| e.to_string())?;
    let (found, lookup) = timed(|| btf.find_by_name_kind(what.0, what.1));
    found.ok_or_else(|| format!("no {}", what.0))?;
    Ok([read, lookup])
}

/// The shortest times of each part.
fn shortest_first(what: (&str, Kind)) -> Result<[Duration; 2], TaskError> {
    let mut least = [Duration::MAX; 2];
    for _ in 0..SAMPLES {
        for (least, sample) in least.iter_mut().zip(first(what)?) {
            *least = sample.min(*least);
        }
    }
    Ok(least)
}

/// Milliseconds of the parts, and of both, in fresh processes: the median of each.
fn cold() -> Result<[f64; 3], TaskError> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut samples = [const { Vec::new() }; 3];
    for _ in 0..PROCESSES {
        let mut once = Command::new(&program);
        once.args(["bench", "btf", "--once"]);
        let output = once.output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let parts: Vec<f64> = text
            .split_whitespace()
            .filter_map(|w| w.parse().ok())
            .collect();
        let &[read, lookup] = &parts[..] else {
            return Err(format!("no times in {text:?}"));
        };
        for (all, ms) in samples.iter_mut().zip([read, lookup, read + lookup]) {
            all.push(ms);
        }
    }
    Ok(samples.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    }))
}

/// Runs the bench.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    if arguments.iter().any(|a| a == "--once") {
        let [read, lookup] = first(TYPE)?;
        println!("{} {}", ms(read), ms(lookup));
        return Ok(());
    }
    let btf = running_btf().map_err(|e| e.to_string())?;
    println!("{} types in {} bytes", btf.type_count(), btf.bytes().len());
    let [cold_read, cold_lookup, cold] = cold()?;
    println!("fresh process: read and index {cold_read:.2} ms, first lookup {cold_lookup:.2} ms");
    let [read, lookup] = shortest_first(TYPE)?.map(ms);
    let function = ms(shortest_first(FUNCTION)?[1]);
    println!(
        "again: read and index {read:.2} ms, first lookup of a type (builds the index of their names) {lookup:.2} ms, of a \
         function {function:.2} ms"
    );
    let types = ms(shortest(|| Profile::linux_6_18().btf().type_count()));
    let all = ms(shortest(|| {
        Profile::linux_6_18().btf_with_functions().type_count()
    }));
    println!("reference kernel: types {types:.2} ms, with functions {all:.2} ms");
    let round = |ms: f64| (ms * 1e3).round() / 1e3;
    println!(
        "{}",
        serde_json::json!({
            "bench": "btf", "cold_read_index_ms": round(cold_read), "cold_first_lookup_ms": round(cold_lookup),
            "cold_ms": round(cold), "read_index_ms": round(read), "first_lookup_ms": round(lookup),
            "first_function_ms": round(function), "total_ms": round(read + lookup), "profile_types_ms": round(types),
            "profile_all_ms": round(all),
        })
    );
    Ok(())
}
