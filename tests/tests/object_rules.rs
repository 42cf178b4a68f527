//! Rules between objects and of BTF, a part of what `cargo xtask probe-objects` compares.

use skep::Kernel;
use skep::target::running_btf;
use skep_tests::btf_rules::{damaged_records, damaged_types};
use skep_tests::need::{Need, met};
use skep_tests::object_rules::{Report, Sample, maps_in_maps, programs_of_one_map};
use skep_tests::random::Random;
use skep_user::{Options, Universe};
use std::sync::Arc;

const SEED: u64 = 5;
/// Pairs of programs and of maps: one in so many.
const PROGRAMS_ONE_IN: u64 = 60;
const MAPS_ONE_IN: u64 = 400;
const BTF_COUNT: u64 = 2000;
const RECORDS_COUNT: u64 = 1000;

fn assert_same(report: &Report) {
    assert!(report.accepted > 0, "nothing was carried out");
    let differences: Vec<String> = report
        .differences
        .iter()
        .map(|(kind, (count, place))| format!("{count}  {kind}\n  {place}"))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// A universe that knows the running kernel's types.
fn universe() -> Universe {
    let options = Options {
        kernel_btf: running_btf().ok().map(Arc::new),
        ..Options::default()
    };
    Universe::new(options).unwrap()
}

fn sample(one_in: u64) -> Sample {
    Sample {
        one_in,
        random: Random::new(SEED),
    }
}

#[test]
fn a_map_of_programs_belongs_to_one_kind_as_in_the_kernel() {
    if !met(&[Need::Bpf]) {
        return;
    }
    let btf = running_btf().unwrap();
    let mut sample = sample(PROGRAMS_ONE_IN);
    let report = programs_of_one_map(&Kernel::new(), &btf, &mut sample);
    assert_same(&report.unwrap());
}

#[test]
fn maps_fit_into_maps_as_in_the_kernel() {
    if !met(&[Need::Bpf]) {
        return;
    }
    let report = maps_in_maps(&universe(), &Kernel::new(), &mut sample(MAPS_ONE_IN));
    assert_same(&report.unwrap());
}

#[test]
fn damaged_btf_is_refused_as_by_the_kernel() {
    if !met(&[Need::Bpf]) {
        return;
    }
    let (user, kernel) = (universe(), Kernel::new());
    assert_same(&damaged_types(&user, &kernel, BTF_COUNT, SEED));
    let records = damaged_records(&user, &kernel, RECORDS_COUNT, SEED);
    assert_same(&records);
    // The program is good, and so is some damage.
    assert!(records.accepted > RECORDS_COUNT as usize / 10);
}
