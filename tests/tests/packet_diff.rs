//! Packets and contexts of the user backend against the kernel's. `cargo xtask packets` does more of the same.

use skep::Kernel;
use skep_tests::need::{Need, met};
use skep_tests::packet_diff::Case;
use skep_tests::random::Random;
use skep_user::{Options, Universe};
use skep_vm::{Engine, Tiers};

/// Random programs of each engine.
const PROGRAMS: u64 = 150;

#[test]
fn packets_and_contexts_come_out_as_from_the_kernel() {
    if !met(&[Need::Bpf, Need::Root]) {
        return;
    }
    let kernel = Kernel::new();
    let mut differences = Vec::new();
    for (n, engine) in [Engine::Interp, Engine::Jit].into_iter().enumerate() {
        let tiers = Tiers::Optimised;
        let user = Universe::new(Options {
            engine,
            tiers,
            ..Options::default()
        });
        let user = user.unwrap();
        for seed in 0..PROGRAMS {
            let case = Case::random(&mut Random::new(seed * 2 + n as u64));
            differences.extend(case.smallest_difference(&user, &kernel));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
