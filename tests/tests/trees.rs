//! Trees and lists of objects are in the user backend what they are in the kernel, to the shape of each tree.

use skep::Kernel;
use skep::load::Loaded;
use skep_bpf::{Backend, TestRun};
use skep_tests::need::{Need, met};
use skep_tests::objects::{loaded, object};
use skep_tests::random::Random;
use skep_user::{Options, Universe};
use skep_vm::Engine;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Changes, and looks at the tree after each.
const CHANGES: usize = 1500;
const LOOKS: usize = 3;
/// Where the call lies in the packet.
const CALL_AT: usize = 16;

/// What a program returns for a call.
fn run(loaded: &Loaded, program: &str, call: [u32; 3]) -> i32 {
    let mut packet = vec![0; 64];
    for (to, word) in packet[CALL_AT..].chunks_exact_mut(4).zip(call) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    let test = TestRun {
        data_in: Some(packet),
        ..TestRun::default()
    };
    let handle = loaded.program(program).unwrap().handle;
    let result = loaded.backend().prog_test_run(handle, &test).unwrap();
    result.retval.cast_signed()
}

/// Everything a backend answers to one sequence of calls.
fn answers(backend: &Arc<dyn Backend>) -> Vec<(&'static str, [u32; 3], i32)> {
    let loaded = loaded("trees", backend);
    let mut random = Random::new(11);
    let mut all = Vec::new();
    let mut call = |program: &'static str, random: &mut Random| {
        let words = [
            random.below(40) as u32,
            random.next_u64() as u32,
            random.below(6) as u32,
        ];
        all.push((program, words, run(&loaded, program, words)));
    };
    for at in 0..CHANGES {
        // The tree grows and shrinks in turn.
        let grows = if at / 100 % 2 == 0 { 3 } else { 1 };
        let program = if random.below(4) < grows {
            "grow"
        } else {
            "cut"
        };
        call(program, &mut random);
        for _ in 0..LOOKS {
            call("look", &mut random);
        }
        let program = if random.below(4) < grows {
            "push"
        } else {
            "pop"
        };
        call(program, &mut random);
        let program = if random.below(3) == 0 { "keep" } else { "peek" };
        call(program, &mut random);
    }
    all
}

/// A universe with the types that the programs need.
fn universe(engine: Engine) -> Universe {
    let types = skep::target::reference_btf(&object("trees").needs());
    let options = Options {
        engine,
        kernel_btf: Some(Arc::new(types)),
        ..Options::default()
    };
    Universe::new(options).unwrap()
}

#[test]
fn a_stored_pointer_leads_to_an_object_or_nowhere() {
    for engine in [Engine::Interp, Engine::Jit] {
        let universe = universe(engine);
        let backend: Arc<dyn Backend> = Arc::new(universe.clone());
        let loaded = loaded("trees", &backend);
        run(&loaded, "keep", [7, 0, 0]);
        assert_eq!(run(&loaded, "peek", [0; 3]), 7);
        let map = universe
            .live_map(loaded.map("stashes").unwrap().handle)
            .unwrap();
        // SAFETY: the pointer in the only value of the map.
        let place = unsafe { AtomicU64::from_ptr(map.data.cast()) };
        let object = place.load(Ordering::Relaxed);
        let elsewhere = [
            1,
            8,
            (&raw const object) as u64,
            object ^ 1 << 40,
            object.wrapping_sub(1 << 32),
            object.wrapping_add(1 << 32),
            u64::MAX,
            object.swap_bytes(),
        ];
        for address in elsewhere {
            place.store(address, Ordering::Relaxed);
            assert_eq!(run(&loaded, "peek", [0; 3]), -3, "{address:x}");
        }
        let base = universe.heap().unwrap().base();
        for offset in [
            0,
            8,
            1 << 20,
            1 << 30,
            3 << 30,
            (4 << 30) - 8,
            (4 << 30) - 1,
        ] {
            // Something of the heap, whatever it is.
            place.store(base + offset, Ordering::Relaxed);
            let _read = run(&loaded, "peek", [0; 3]);
        }
        place.store(object, Ordering::Relaxed);
        assert_eq!(run(&loaded, "peek", [0; 3]), 7);
    }
}

#[test]
fn trees_have_the_kernels_shape() {
    if !met(&[Need::Bpf, Need::Root]) {
        return;
    }
    let expected = answers(&(Arc::new(Kernel::new()) as Arc<dyn Backend>));
    assert!(
        expected
            .iter()
            .any(|(name, _, r)| *name == "look" && *r > 1 << 20)
    );
    for engine in [Engine::Interp, Engine::Jit] {
        let universe = universe(engine);
        let heap = universe.heap().unwrap();
        let found = answers(&(Arc::new(universe) as Arc<dyn Backend>));
        let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
        assert!(
            differs.is_none(),
            "{}: call {differs:?}: {:?} and {:?}",
            engine.name(),
            differs.map(|at| found[at]),
            differs.map(|at| expected[at])
        );
        assert_eq!(heap.live_bytes(), 0, "objects go with their map");
    }
}
