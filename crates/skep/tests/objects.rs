//! Objects of programs go with what they own.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use skep::load::{LoadOptions, load};
use skep_bpf::{Backend, TestRun};
use skep_btf::Btf;
use skep_object::{Linked, Object, Options};
use skep_user::Universe;
use skep_vm::Engine;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Runs of each program.
const RUNS: u32 = 5;

/// The object `objects`, linked, and the types of the kernel that it needs.
fn linked() -> (Linked, Arc<Btf>) {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/objects/objects.bpf.o"
    );
    let name = "objects".to_owned();
    let object = Object::parse(&std::fs::read(path).unwrap(), &Options { name }).unwrap();
    let target = skep::target::reference(&object.needs(), None);
    let types = skep::target::reference_btf(&object.needs());
    (object.relocate(&target).unwrap(), Arc::new(types))
}

#[test]
fn what_an_object_owns_goes_with_it() {
    let (linked, kernel_btf) = linked();
    for engine in [Engine::Interp, Engine::Jit] {
        let universe = Universe::new(skep_user::Options {
            engine,
            kernel_btf: Some(Arc::clone(&kernel_btf)),
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

/// A folder for pins, removed at the end.
struct Pins(PathBuf);

impl Pins {
    fn new(engine: Engine) -> std::io::Result<Self> {
        let name = format!("skep-objects-{}-{}", engine.name(), std::process::id());
        let path = PathBuf::from("/dev/shm").join(name);
        let mut folder = std::fs::DirBuilder::new();
        folder.mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _nothing_depends_on_it = std::fs::remove_dir_all(&self.0);
    }
}

/// A pinned map keeps what its values own when all that have it let it go; without its pin it goes with the last of them.
#[test]
fn what_a_pinned_map_owns_stays() {
    let (linked, kernel_btf) = linked();
    for engine in [Engine::Interp, Engine::Jit] {
        let pins = Pins::new(engine).unwrap();
        let pin = pins.0.join("branches");
        let universe = || {
            let options = skep_user::Options {
                engine,
                kernel_btf: Some(Arc::clone(&kernel_btf)),
                pin_dir: Some(pins.0.clone()),
                ..skep_user::Options::default()
            };
            Universe::new(options).unwrap()
        };
        let backend: Arc<dyn Backend> = Arc::new(universe());
        let loaded = load(&linked, &backend, &LoadOptions::default()).unwrap();
        let test = TestRun {
            data_in: Some(vec![0; 64]),
            ..TestRun::default()
        };
        let program = loaded.program("kept").unwrap().handle;
        assert_eq!(backend.prog_test_run(program, &test).unwrap().retval, 0);
        let map = loaded.map("branches").unwrap().handle;
        backend.obj_pin(map, &pin).unwrap();
        drop(loaded);
        drop(backend);

        let universe = universe();
        let map = universe.obj_get(&pin).unwrap();
        let heap = universe.heap().unwrap();
        assert!(heap.live_bytes() > 0, "its objects are there");
        std::fs::remove_file(&pin).unwrap();
        assert!(heap.live_bytes() > 0, "it is still open");
        universe.close(map);
        drop(universe);
        assert_eq!(heap.live_bytes(), 0, "nobody has it any more");
    }
}
