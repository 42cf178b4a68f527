//! The table, and the last line.

use crate::Bench;
use crate::compile::CompileTimes;
use crate::timing::{self, Times, median};
use serde_json::json;

/// Net times below this are noise.
const MIN_NS: f64 = 0.1;

/// The times of one program.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) times: Times,
}

/// A program's net time in each engine.
fn net(times: &Times) -> Vec<Option<f64>> {
    let net = |t: &timing::Time| (t.gross_ns - t.empty_ns).max(MIN_NS);
    let of = |rounds: &Vec<timing::Time>| median(rounds.iter().map(net).collect());
    times.iter().map(|t| t.as_ref().map(of)).collect()
}

/// Each engine's empty call.
fn empty(rows: &[Row], engine: usize) -> Option<f64> {
    let of_row = |r: &Row| {
        let rounds = r.times[engine].as_ref()?;
        Some(median(rounds.iter().map(|t| t.empty_ns).collect()))
    };
    let all: Vec<f64> = rows.iter().filter_map(of_row).collect();
    (!all.is_empty()).then(|| median(all))
}

/// Ratios of one engine to another over the programs both ran.
fn ratios(rows: &[Vec<Option<f64>>], of: usize, to: usize) -> Vec<f64> {
    rows.iter().filter_map(|r| Some(r[of]? / r[to]?)).collect()
}

fn geometric_mean(values: &[f64]) -> f64 {
    (values.iter().map(|v| v.ln()).sum::<f64>() / values.len().max(1) as f64).exp()
}

/// Without the smallest and the largest.
fn trimmed(values: &[f64]) -> Vec<f64> {
    let mut v = values.to_vec();
    v.sort_by(f64::total_cmp);
    match v.len() {
        0..=2 => v,
        n => v[1..n - 1].to_vec(),
    }
}

/// Prints the table and the line that scripts read.
pub(crate) fn print(bench: Bench, names: &[&str], rows: &[Row], compiled: Option<&CompileTimes>) {
    print!("{:10}", "ns");
    names.iter().for_each(|n| print!(" {n:>12}"));
    println!();
    let line = |name: &str, values: &[Option<f64>]| {
        print!("{name:10}");
        for v in values {
            match v {
                Some(v) => print!(" {v:12.1}"),
                None => print!(" {:>12}", "-"),
            }
        }
        println!();
    };
    let raw: Vec<Option<f64>> = (0..names.len()).map(|e| empty(rows, e)).collect();
    line("(empty)", &raw);
    let nets: Vec<Vec<Option<f64>>> = rows.iter().map(|r| net(&r.times)).collect();
    for (r, n) in rows.iter().zip(&nets) {
        line(r.name, n);
    }
    let at = |name: &str| names.iter().position(|n| *n == name);
    let Some(skep) = at("skep") else { return };
    let mut figures = serde_json::Map::new();
    figures.insert(
        "bench".into(),
        json!(if bench == Bench::Jit { "jit" } else { "interp" }),
    );
    let round = |v: f64| (v * 1000.0).round() / 1000.0;
    for (i, name) in names.iter().enumerate() {
        if i == skep {
            continue;
        }
        let r = ratios(&nets, skep, i);
        let name = name.replace([' ', '-'], "_");
        figures.insert(format!("vs_{name}"), json!(round(geometric_mean(&r))));
        if name == "kernel" {
            figures.insert(
                "vs_kernel_trimmed".into(),
                json!(round(geometric_mean(&trimmed(&r)))),
            );
            let worst = r.iter().copied().fold(0.0, f64::max);
            figures.insert("worst_vs_kernel".into(), json!(round(worst)));
        }
    }
    if let (Some(a), Some(b)) = (at("kernel"), at("kernel-again")) {
        let r = ratios(&nets, b, a);
        let spread = r
            .iter()
            .copied()
            .map(|x| x.max(1.0 / x))
            .fold(0.0, f64::max);
        println!(
            "kernel against itself: mean {:.3}, worst {spread:.3}",
            geometric_mean(&r)
        );
        figures.insert("kernel_aa_worst".into(), json!(round(spread)));
    }
    if let Some(c) = compiled {
        figures.insert("first_code_us".into(), json!(round(c.first_fixed_us)));
        figures.insert(
            "first_code_us_per_1000".into(),
            json!(round(c.first_per_1000_us)),
        );
        figures.insert(
            "better_code_us_per_1000".into(),
            json!(round(c.better_per_1000_us)),
        );
    }
    figures.insert("empty_ns".into(), json!(raw[skep].map(round)));
    println!("{}", serde_json::Value::Object(figures));
}
