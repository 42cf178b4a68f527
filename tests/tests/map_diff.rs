//! Maps of the user backend against the kernel's. `cargo xtask maps` does more of the same.

use skep::Kernel;
use skep_bpf::{Backend, MapCreate};
use skep_tests::map_diff;
use skep_user::{Options, Universe};

/// Operations on each map type.
const OPERATIONS: u64 = 3000;

/// Both backends, if this process may use the kernel's.
fn backends() -> Option<(Universe, Kernel)> {
    let kernel = Kernel::new();
    let probe = MapCreate::new(skep_abi::MapType::Array, 4, 4, 1);
    let handle = kernel.map_create(&probe).ok()?;
    kernel.close(handle);
    Some((Universe::new(Options::default()).unwrap(), kernel))
}

#[test]
fn maps_behave_as_the_kernels() {
    let Some((user, kernel)) = backends() else {
        return;
    };
    // A thread each: the changes of some wait for grace periods.
    let differences: Vec<String> = std::thread::scope(|scope| {
        let compare = |t| map_diff::compare(&user, &kernel, t, OPERATIONS, 1).err();
        let all = map_diff::TYPES
            .iter()
            .map(|t| scope.spawn(move || compare(*t)));
        let all: Vec<_> = all.collect();
        all.into_iter().filter_map(|t| t.join().unwrap()).collect()
    });
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn odd_maps_are_refused_as_by_the_kernel() {
    let Some((user, kernel)) = backends() else {
        return;
    };
    map_diff::compare_creation(&user, &kernel, 3000, 7).unwrap();
}
