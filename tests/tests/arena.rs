//! Variables that an object keeps in its arena have their values in both backends.

use crate::attach::needs;
use skep::load::{LoadOptions, load};
use skep::{Kernel, target};
use skep_bpf::{Backend, TestRun};
use skep_tests::objects::object;
use skep_tests::table;
use skep_user::Universe;
use skep_vm::{Engine, Tiers};
use std::sync::Arc;

/// What `add` returns in its first two runs: 100 + 3 + 7, and again.
const SUMS: [u32; 2] = [110, 120];
/// What is left of `r0 = 0x500000003` where a 32-bit operation finds no memory.
const LARGE_R0: (&str, u32) = ("hole_with_large_r0", 3);
/// Runs of each program.
const RUNS: usize = 5;

/// What each program of an object returns in its runs; `None` if the kernel is older than `since` and refuses it.
fn results(backend: &Arc<dyn Backend>, name: &str, since: u32) -> Option<Vec<(String, Vec<u32>)>> {
    let object = object(name);
    let target = target::of(backend.as_ref(), &object.needs()).unwrap();
    let linked = object.relocate(&target).unwrap();
    let loaded = match load(&linked, backend, &LoadOptions::default()) {
        Ok(loaded) => loaded,
        Err(error) if target.kernel_version < since => {
            // The user backend refuses nothing here.
            table::refused(name, &error);
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    let run = |handle| {
        backend
            .prog_test_run(handle, &TestRun::default())
            .unwrap()
            .retval
    };
    let runs = loaded.programs.iter().map(|p| {
        let results = (0..RUNS).map(|_| run(p.handle)).collect();
        (p.spec.name.clone(), results)
    });
    Some(runs.collect())
}

/// The results in every engine and the kernel, which must be equal, but for an error of the kernel (docs/kernels.md): what
/// [`LARGE_R0`] names is not among them.
fn equal_results(name: &str, since: u32) -> Vec<(String, Vec<u32>)> {
    let mut all = Vec::new();
    for (engine, tiers) in [
        (Engine::Interp, Tiers::Adaptive),
        (Engine::Jit, Tiers::Templates),
        (Engine::Jit, Tiers::Optimised),
    ] {
        let options = skep_user::Options {
            engine,
            tiers,
            ..skep_user::Options::default()
        };
        let universe = Universe::new(options).unwrap();
        all.extend(results(
            &(Arc::new(universe) as Arc<dyn Backend>),
            name,
            since,
        ));
    }
    for (program, runs) in all.iter().flatten() {
        assert!(program != LARGE_R0.0 || runs.iter().all(|r| *r == LARGE_R0.1));
    }
    if needs() {
        let kernel = Arc::new(Kernel::new()) as Arc<dyn Backend>;
        if let Some(found) = results(&kernel, name, since) {
            all.push(found);
            table::works(name);
        }
    }
    for results in &mut all {
        results.retain(|(program, _)| program != LARGE_R0.0);
    }
    assert!(all.iter().all(|results| *results == all[0]), "{all:x?}");
    all.swap_remove(0)
}

const fn version(major: u32, minor: u32) -> u32 {
    major << 16 | minor << 8
}

#[test]
fn programs_see_the_same_memory_in_every_engine() {
    let found = equal_results("arena", version(6, 9));
    let add = found.iter().find(|(name, _)| name == "add").unwrap();
    assert_eq!(add.1[..SUMS.len()], SUMS);
}

#[test]
fn ordered_accesses_are_the_same_in_every_engine() {
    equal_results("arena_order", version(6, 15));
}
