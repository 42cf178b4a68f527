//! Every helper and kernel function that the user backend has does what the kernel's does.

use skep::Kernel;
use skep_bpf::Backend;
use skep_tests::ENGINES;
use skep_tests::need::{Need, met};
use skep_tests::objects::none_differ;
use skep_tests::random::Random;
use skep_tests::sweep::{
    ELSEWHERE, Edge, OBJECTS, Side, YOUNGER, calls, helpers, input, random_calls,
};
use skep_tests::workspace_root;
use skep_user::{Options, Universe};
use skep_vm::compat::helper_reason;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Runs of each program, unless `SKEP_SWEEPS` says otherwise.
const RUNS: u64 = 200;

fn runs() -> u64 {
    let asked = std::env::var("SKEP_SWEEPS").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(RUNS)
}

/// Where an object comes out differently in this engine than in the kernel; programs and random numbers are the same there.
fn differences(name: &str, user: &Arc<dyn Backend>, runs: u64) -> Vec<String> {
    let kernel: Arc<dyn Backend> = Arc::new(Kernel::new());
    let (mut ours, mut theirs) = (Side::new(name, user), Side::new(name, &kernel));
    let edge = Edge::new();
    let mut different = Vec::new();
    for program in ours.programs() {
        for n in 0..runs {
            let (words, packet) = input(&mut Random::new(n), &edge);
            let found = ours.outcome(&program, &words, &packet);
            let expected = theirs.outcome(&program, &words, &packet);
            if let Some(difference) = found.difference(&expected) {
                different.push(format!("{program} {n}: {difference}\n  {words:x?}"));
                break;
            }
        }
    }
    different
}

#[test]
fn helpers_and_kernel_functions_do_what_the_kernels_do() {
    if !met(&[Need::Bpf, Need::Root]) {
        return;
    }
    // A thread of its own, on one processor: values of processors are looked at.
    let different = std::thread::spawn(|| {
        skep_sys::task::stay_on(0).unwrap();
        let mut different = Vec::new();
        for (engine, tiers) in ENGINES {
            for name in OBJECTS {
                let kernel_btf =
                    skep::target::reference_btf(&skep_tests::objects::object(name).needs());
                let universe = Universe::new(Options {
                    engine,
                    tiers,
                    kernel_btf: Some(Arc::new(kernel_btf)),
                    ..Options::default()
                });
                let user: Arc<dyn Backend> = Arc::new(universe.unwrap());
                let found = differences(name, &user, runs());
                different.extend(
                    found
                        .into_iter()
                        .map(|d| format!("{engine:?} {tiers:?} {d}")),
                );
            }
        }
        different
    });
    none_differ(&different.join().unwrap());
}

#[test]
fn every_helper_and_kernel_function_is_compared() {
    if !met(&[Need::Bpf, Need::Root]) {
        return;
    }
    let kernel = Kernel::new();
    let objects = ELSEWHERE
        .iter()
        .map(|(object, _)| *object)
        .chain(OBJECTS.iter().copied());
    let mut compared = random_calls();
    for object in objects {
        compared.extend(calls(object, &kernel));
    }
    compared.extend(YOUNGER.iter().map(|name| (*name).to_owned()));
    let mut wanted: BTreeSet<String> = helpers()
        .into_iter()
        .filter(|name| helper_reason(name).is_none())
        .map(str::to_owned)
        .collect();
    let page = std::fs::read_to_string(workspace_root().join("docs/compat.md")).unwrap();
    let (_, kfuncs) = page.split_once("## Kfuncs").unwrap();
    let names = kfuncs.lines().filter_map(|l| l.strip_prefix("| bpf_"));
    wanted.extend(names.filter_map(|l| Some(format!("bpf_{}", l.strip_suffix(" |")?))));
    let missing: Vec<&String> = wanted.difference(&compared).collect();
    assert!(missing.is_empty(), "compared by no test: {missing:?}");
}

/// The tests that [`ELSEWHERE`] names are there.
#[test]
fn comparisons_elsewhere_exist() {
    let sources = skep_tests::source_files(&workspace_root().join("tests/tests"), &["rs"]);
    let text: String = sources
        .iter()
        .map(|p| std::fs::read_to_string(p).unwrap())
        .collect();
    for (object, test) in ELSEWHERE {
        assert!(text.contains(&format!("fn {test}()")), "{object}: {test}");
    }
}
