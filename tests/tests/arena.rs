//! Variables that an object keeps in its arena have their values in both backends.

use crate::attach::needs;
use skep::load::{LoadOptions, load};
use skep::{Kernel, target};
use skep_bpf::{Backend, TestRun};
use skep_tests::objects::object;
use skep_user::Universe;
use skep_vm::{Engine, Tiers};
use std::sync::Arc;

/// What `add` returns in its first two runs: 100 + 3 + 7, and again.
const SUMS: [u32; 2] = [110, 120];
/// Runs of each program.
const RUNS: usize = 5;

/// What each program returns in its runs; `None` if the kernel has no arenas.
fn results(backend: &Arc<dyn Backend>) -> Option<Vec<(String, Vec<u32>)>> {
    let object = object("arena");
    let target = target::of(backend.as_ref(), &object.needs()).unwrap();
    let linked = object.relocate(&target).unwrap();
    let loaded = match load(&linked, backend, &LoadOptions::default()) {
        Ok(loaded) => loaded,
        // Kernels before 6.9 have no arenas.
        Err(error) if target.kernel_version < 6 << 16 | 9 << 8 => {
            println!("arena: {error}");
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

#[test]
fn programs_see_the_same_memory_in_every_engine() {
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
        all.extend(results(&(Arc::new(universe) as Arc<dyn Backend>)));
    }
    if needs() {
        all.extend(results(&(Arc::new(Kernel::new()) as Arc<dyn Backend>)));
    }
    let first = &all[0];
    let add = first.iter().find(|(name, _)| name == "add").unwrap();
    assert_eq!(add.1[..SUMS.len()], SUMS);
    assert!(all.iter().all(|results| results == first), "{all:x?}");
}
