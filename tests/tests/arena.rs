//! Variables that an object keeps in its arena have their values in both backends.

use crate::attach::needs;
use skep::load::{LoadOptions, load};
use skep::{Kernel, target};
use skep_bpf::{Backend, TestRun};
use skep_object::{Object, Options};
use skep_tests::workspace_root;
use skep_user::Universe;
use std::sync::Arc;

/// What `add` returns in its first two runs: 100 + 3 + 7, and again.
const SUMS: [u32; 2] = [110, 120];

fn sums(backend: &Arc<dyn Backend>) {
    let bytes = std::fs::read(workspace_root().join("tests/objects/arena.bpf.o")).unwrap();
    let name = "arena.bpf.o".to_owned();
    let object = Object::parse(&bytes, &Options { name }).unwrap();
    let target = target::of(backend.as_ref(), &object.needs()).unwrap();
    let linked = object.relocate(&target).unwrap();
    let loaded = match load(&linked, backend, &LoadOptions::default()) {
        Ok(loaded) => loaded,
        // Kernels before 6.9 have no arenas.
        Err(error) if target.kernel_version < 6 << 16 | 9 << 8 => {
            println!("arena: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    for sum in SUMS {
        let handle = loaded.programs[0].handle;
        let run = backend.prog_test_run(handle, &TestRun::default()).unwrap();
        assert_eq!(run.retval, sum, "{}", backend.kind());
    }
}

#[test]
fn variables_have_their_values() {
    sums(&(Arc::new(Universe::new(skep_user::Options::default()).unwrap()) as Arc<dyn Backend>));
    if needs() {
        sums(&(Arc::new(Kernel::new()) as Arc<dyn Backend>));
    }
}
