//! Objects of programs go with what they own.

use skep::load::{LoadOptions, load};
use skep_bpf::{Backend, TestRun};
use skep_object::{Object, Options};
use skep_user::Universe;
use skep_vm::Engine;
use std::sync::Arc;

/// Runs of each program.
const RUNS: u32 = 5;

#[test]
fn what_an_object_owns_goes_with_it() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/objects/objects.bpf.o"
    );
    let name = "objects".to_owned();
    let object = Object::parse(&std::fs::read(path).unwrap(), &Options { name }).unwrap();
    let linked = object
        .relocate(&skep::target::reference(&object.needs(), None))
        .unwrap();
    for engine in [Engine::Interp, Engine::Jit] {
        let universe = Universe::new(skep_user::Options {
            engine,
            kernel_btf: Some(Arc::new(skep::target::reference_btf(&object.needs()))),
            ..skep_user::Options::default()
        });
        let universe = universe.unwrap();
        let heap = universe.heap().unwrap();
        let object_bytes = || heap.live_bytes();
        let backend: Arc<dyn Backend> = Arc::new(universe);
        let loaded = load(&linked, &backend, &LoadOptions::default()).unwrap();
        let run = |program: &str| {
            let test = TestRun {
                data_in: Some(vec![0; 64]),
                repeat: RUNS,
                ..TestRun::default()
            };
            let handle = loaded.program(program).unwrap().handle;
            assert_eq!(backend.prog_test_run(handle, &test).unwrap().retval, 0);
            object_bytes()
        };
        assert_eq!(run("dropped"), 0);
        let kept = run("kept");
        assert!(kept > 0);
        assert_eq!(run("kept"), kept, "the one before it went");
        let map = loaded.map("branches").unwrap().handle;
        backend.map_delete(map, &1u32.to_ne_bytes()).unwrap();
        assert_eq!(object_bytes(), 0, "those of a deleted element");
        assert_eq!(run("kept"), kept);
        drop(loaded);
        drop(backend);
        assert_eq!(object_bytes(), 0, "those of a map that is gone");
    }
}
