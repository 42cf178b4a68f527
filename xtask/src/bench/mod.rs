//! `cargo xtask bench NAME`: ours and the peers in one run. Per engine the minimum of interleaved samples, median over
//! rounds; the last line is one JSON object. One file a bench; to add one, add its file and a line to [`BENCHES`].

mod btf;
mod load;
mod maps;
mod peers;
mod shipped;
mod verify;

use crate::{Task, TaskError};

/// Name and function of every bench.
const BENCHES: &[(&str, Task)] = &[
    ("btf", btf::run),
    ("filter", crate::filter::bench),
    ("interp", peers::interp),
    ("jit", peers::jit),
    ("load", load::run),
    ("maps", maps::run),
    ("size", shipped::run),
    ("verify", verify::run),
];

/// Runs the bench that the first argument names.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let names = || {
        BENCHES
            .iter()
            .map(|(n, _)| *n)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (name, rest) = arguments
        .split_first()
        .ok_or_else(|| format!("name a bench: {}", names()))?;
    let (_, bench) = BENCHES
        .iter()
        .find(|(n, _)| n == name)
        .ok_or_else(|| format!("no bench \"{name}\"; there are: {}", names()))?;
    bench(rest)
}
