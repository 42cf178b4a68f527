//! Helpers on packets agree with the kernel's.

use skep::Kernel;
use skep_bpf::Backend;
use skep_net::capture;
use skep_tests::format_diff::Format;
use skep_tests::helper_diff::Program;
use skep_tests::need::{Need, met};
use skep_tests::random::Random;
use skep_tests::run_diff::Run;
use skep_tests::workspace_root;
use skep_user::{Options, Universe};
use skep_vm::{Engine, Tiers};

/// Random programs, unless `SKEP_HELPER_PROGRAMS` says otherwise.
const PROGRAMS: u64 = 300;

fn packets() -> Vec<Vec<u8>> {
    let capture = std::fs::read(workspace_root().join("examples/web.pcap")).unwrap();
    let all = capture::read(&capture).unwrap();
    let mut packets: Vec<Vec<u8>> = all.iter().step_by(20).map(|p| p.data.to_vec()).collect();
    // A tagged one.
    let mut tagged = packets[0].clone();
    tagged.splice(12..12, [0x81, 0x00, 0x20, 0x2a]);
    packets.push(tagged);
    packets
}

#[test]
fn random_programs_of_helper_calls_agree() {
    if !met(&[Need::Bpf, Need::Root]) {
        return;
    }
    let count = count("SKEP_HELPER_PROGRAMS", PROGRAMS);
    let kernel = Kernel::new();
    let user = |engine, tiers| {
        Universe::new(Options {
            engine,
            tiers,
            ..Options::default()
        })
        .unwrap()
    };
    let interp = user(Engine::Interp, Tiers::Adaptive);
    let templates = user(Engine::Jit, Tiers::Templates);
    let optimised = user(Engine::Jit, Tiers::Optimised);
    let sides = [
        ("interp", &interp),
        ("templates", &templates),
        ("optimised", &optimised),
    ];
    let packets = packets();
    let mut different = Vec::new();
    for seed in 0..count {
        let program = Program::random(&mut Random::new(seed));
        let expected = program.outcome(&kernel as &dyn Backend, &packets);
        for (name, backend) in sides {
            let found = program.outcome(backend as &dyn Backend, &packets);
            if found != expected {
                let at = |o: &Result<Vec<String>, String>| format!("{o:?}");
                let (found, expected) = (at(&found), at(&expected));
                let first = found
                    .bytes()
                    .zip(expected.bytes())
                    .take_while(|(a, b)| a == b)
                    .count();
                let near = |s: &str| {
                    s[first.saturating_sub(30).min(s.len())..(first + 60).min(s.len())].to_owned()
                };
                different.push(format!(
                    "seed {seed} {name}: {:?}\n  found    …{}\n  expected …{}",
                    program.calls,
                    near(&found),
                    near(&expected)
                ));
                break;
            }
        }
    }
    none_differ(&different, count);
}

/// Random formats, unless `SKEP_FORMATS` says otherwise.
const FORMATS: u64 = 1000;
/// Differences that are told.
const TOLD: usize = 20;

fn none_differ(different: &[String], count: u64) {
    let told = &different[..different.len().min(TOLD)];
    assert!(
        different.is_empty(),
        "{} of {count} differ:\n{}",
        different.len(),
        told.join("\n")
    );
}

/// Compares `outcome` of so many random cases in both backends.
fn agree<T: std::fmt::Display>(
    count: u64,
    case: impl Fn(&mut Random) -> T,
    outcome: impl Fn(&T, &dyn Backend) -> Result<String, String>,
) {
    let (kernel, user) = (Kernel::new(), Universe::new(Options::default()).unwrap());
    let mut different = Vec::new();
    for seed in 0..count {
        let case = case(&mut Random::new(seed));
        let (found, expected) = (outcome(&case, &user), outcome(&case, &kernel));
        if found != expected {
            different.push(format!(
                "{seed}: {case}\n  user   {found:?}\n  kernel {expected:?}"
            ));
        }
    }
    none_differ(&different, count);
}

/// How many cases: as the variable says.
fn count(variable: &str, otherwise: u64) -> u64 {
    let asked = std::env::var(variable).ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn random_formats_agree() {
    if met(&[Need::Bpf, Need::Root]) {
        let formats = count("SKEP_FORMATS", FORMATS);
        agree(formats, Format::random, Format::outcome);
    }
}

/// Random test runs, unless `SKEP_RUNS` says otherwise.
const RUNS: u64 = 1000;

#[test]
fn random_arguments_of_test_runs_agree() {
    if met(&[Need::Bpf, Need::Root]) {
        agree(count("SKEP_RUNS", RUNS), Run::random, Run::outcome);
    }
}
