//! `cargo xtask probe-objects [SEED]`: rules between objects, our answers against the running kernel's (root; nothing
//! is attached): pairs of programs that meet one map of programs, pairs of maps of which one goes into a map of the other; damaged BTF
//! and damaged records of functions and lines.
//!
//! Of the pairs some are tried, others with each seed: of programs there are half a million with all that they can do, and maps
//! that fit cost the kernel a grace period each.

use crate::TaskError;
use skep::Kernel;
use skep::target::running_btf;
use skep_tests::btf_rules::{damaged_records, damaged_types};
use skep_tests::object_rules::{Report, Sample, maps_in_maps, programs_of_one_map};
use skep_tests::random::Random;
use skep_user::{Options, Universe};
use std::sync::Arc;

/// Pairs of programs and of maps that are tried: one in so many.
const PROGRAMS_ONE_IN: u64 = 16;
const MAPS_ONE_IN: u64 = 8;

/// Damaged blobs, and programs with damaged records.
const BTF_COUNT: u64 = 100_000;
const RECORDS_COUNT: u64 = 50_000;

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Result<(), TaskError> {
    let seed = match arguments.first() {
        Some(n) => n.parse().map_err(|e| format!("{n}: {e}"))?,
        None => std::process::id().into(),
    };
    let btf = running_btf().map_err(|e| e.to_string())?;
    let options = Options {
        kernel_btf: Some(Arc::new(btf.clone())),
        ..Options::default()
    };
    let user = Universe::new(options).map_err(|e| e.to_string())?;
    let kernel = Kernel::new();
    let mut sample = Sample {
        one_in: PROGRAMS_ONE_IN,
        random: Random::new(seed),
    };
    let programs = programs_of_one_map(&kernel, &btf, &mut sample);
    let programs = programs.map_err(|e| e.to_string())?;
    sample.one_in = MAPS_ONE_IN;
    let maps = maps_in_maps(&user, &kernel, &mut sample).map_err(|e| e.to_string())?;
    let types = damaged_types(&user, &kernel, BTF_COUNT, seed);
    let records = damaged_records(&user, &kernel, RECORDS_COUNT, seed);
    let print = |report: &Report| -> usize {
        for (kind, (count, place)) in &report.differences {
            println!("{count:6}  {kind}\n        {place}");
        }
        report.differences.values().map(|(count, _)| count).sum()
    };
    let differences = print(&programs) + print(&maps) + print(&types) + print(&records);
    println!(
        "{}",
        serde_json::json!({
            "probe": "objects", "program_pairs": programs.cells, "program_pairs_done": programs.accepted,
            "map_cells": maps.cells, "map_cells_done": maps.accepted, "btf": types.cells,
            "btf_loaded": types.accepted, "records": records.cells, "records_loaded": records.accepted, "seed": seed,
            "differences": differences,
        })
    );
    if differences == 0 {
        Ok(())
    } else {
        Err(format!("{differences} differences"))
    }
}
