//! What the kernel does with objects beside running and attaching them: types of maps, batches, freezing, pins, counting of
//! runs, and the code it made.

use crate::attach::needs;
use skep::feature::{Answer, probe};
use skep::target::running_version;
use skep::{CodeKind, Kernel};
use skep_abi::{MapType, ProgType, since};
use skep_bpf::{Backend, BatchCursor, Errno, Handle, MapCreate, ObjKind, ProgLoad, TestRun};
use skep_isa::asm::{NoFacts, assemble_insns};
use skep_tests::table::{refused, works};
use std::path::PathBuf;

/// Elements of a batch.
const ELEMENTS: u32 = 100;
/// Runs that are counted.
const RUNS: u32 = 10;

fn hash(kernel: &Kernel) -> Handle {
    let create = MapCreate::new(MapType::Hash, 4, 8, 2 * ELEMENTS);
    kernel.map_create(&create).unwrap()
}

/// A program of some instructions that takes a packet.
fn program(kernel: &Kernel) -> Handle {
    let insns = assemble_insns("r0 = *(u32 *)(r1 + 0)\nr0 = 2\nexit", &NoFacts).unwrap();
    kernel
        .prog_load(&ProgLoad::plain(ProgType::SocketFilter, insns))
        .unwrap()
}

fn run(kernel: &Kernel, prog: Handle, repeat: u32) {
    let run = TestRun {
        data_in: Some(vec![0; 64]),
        repeat,
        ..TestRun::default()
    };
    assert_eq!(kernel.prog_test_run(prog, &run).unwrap().retval, 2);
}

#[test]
fn map_types_are_as_old_as_they_are_said_to_be() {
    if !needs() {
        return;
    }
    let running = running_version();
    let mut wrong = Vec::new();
    for (map_type, answer) in probe().map_types {
        let Some((major, minor)) = since::map_type(map_type) else {
            continue;
        };
        let there = running >= u32::from(major) << 16 | u32::from(minor) << 8;
        let expected = if there { Answer::Yes } else { Answer::No };
        if answer != expected {
            wrong.push(map_type.to_string());
        }
    }
    if wrong.is_empty() {
        works("map_types");
    } else {
        // Kernels can be built without some.
        refused("map_types", &wrong.join(", "));
    }
}

#[test]
fn elements_go_in_batches() {
    if !needs() {
        return;
    }
    let kernel = Kernel::new();
    let map = hash(&kernel);
    let keys: Vec<u8> = (0..ELEMENTS).flat_map(u32::to_ne_bytes).collect();
    let values: Vec<u8> = (0..ELEMENTS)
        .flat_map(|n| u64::from(n * n).to_ne_bytes())
        .collect();
    assert_eq!(
        kernel.map_update_batch(map, &keys, &values, 0),
        (ELEMENTS, Ok(()))
    );
    let mut value = [0; 8];
    kernel
        .map_lookup(map, &9u32.to_ne_bytes(), &mut value, 0)
        .unwrap();
    assert_eq!(value, 81u64.to_ne_bytes());
    let some = &keys[..40];
    assert_eq!(kernel.map_delete_batch(map, some, 0), (10, Ok(())));
    let (mut seen, mut cursor) = (0, BatchCursor::default());
    let (mut some_keys, mut some_values) = (vec![0; 4 * 200], vec![0; 8 * 200]);
    while !cursor.done {
        seen += kernel
            .map_lookup_batch(map, &mut cursor, &mut some_keys, &mut some_values, true, 0)
            .unwrap();
    }
    assert_eq!(seen, ELEMENTS - 10);
    let first = kernel.map_next_key(map, None, &mut [0; 4]);
    assert_eq!(first.unwrap_err().errno, Errno::ENOENT, "all were deleted");
    works("batch");
}

#[test]
fn a_frozen_map_is_not_written() {
    if !needs() {
        return;
    }
    let kernel = Kernel::new();
    let map = hash(&kernel);
    kernel.map_update(map, &[1; 4], &[1; 8], 0).unwrap();
    kernel.map_freeze(map).unwrap();
    let refused = kernel.map_update(map, &[1; 4], &[2; 8], 0).unwrap_err();
    assert_eq!(refused.errno, Errno::EPERM);
    let mut value = [0; 8];
    kernel.map_lookup(map, &[1; 4], &mut value, 0).unwrap();
    assert_eq!(value, [1; 8]);
    works("freeze");
}

#[test]
fn pins_keep_maps_and_programs() {
    if !needs() {
        return;
    }
    let kernel = Kernel::new();
    let (map, prog) = (hash(&kernel), program(&kernel));
    kernel.map_update(map, &[1; 4], &[7; 8], 0).unwrap();
    let id = kernel.prog_info(prog).unwrap().id;
    let path = |name| PathBuf::from(format!("/sys/fs/bpf/skep-{}-{name}", std::process::id()));
    let (map_pin, prog_pin) = (path("map"), path("prog"));
    kernel.obj_pin(map, &map_pin).unwrap();
    kernel.obj_pin(prog, &prog_pin).unwrap();
    kernel.close(map);
    kernel.close(prog);
    let found = (kernel.obj_get(&map_pin), kernel.obj_get(&prog_pin));
    std::fs::remove_file(&map_pin).unwrap();
    std::fs::remove_file(&prog_pin).unwrap();
    let (map, prog) = (found.0.unwrap(), found.1.unwrap());
    let mut value = [0; 8];
    kernel.map_lookup(map, &[1; 4], &mut value, 0).unwrap();
    assert_eq!(value, [7; 8]);
    works("pin_map");
    run(&kernel, prog, 1);
    assert_eq!(kernel.prog_info(prog).unwrap().id, id);
    let same = kernel.by_id(ObjKind::Prog, id).unwrap();
    assert_eq!(
        kernel.prog_info(same).unwrap().tag,
        kernel.prog_info(prog).unwrap().tag
    );
    works("pin_prog");
}

#[test]
fn runs_are_counted_and_code_is_shown() {
    if !needs() {
        return;
    }
    let kernel = Kernel::new();
    let prog = program(&kernel);
    let count = || kernel.prog_info(prog).unwrap().run_cnt;
    run(&kernel, prog, 1);
    let on = kernel.enable_stats().unwrap();
    let before = count();
    run(&kernel, prog, RUNS);
    assert_eq!(count() - before, u64::from(RUNS));
    kernel.close(on);
    works("stats");
    let xlated = kernel.prog_code(prog, CodeKind::Xlated).unwrap();
    assert_eq!(xlated.len(), 3 * 8);
    // The last instruction is `exit`, as it was written.
    assert_eq!(xlated[16..], [0x95, 0, 0, 0, 0, 0, 0, 0]);
    works("xlated");
    let jited = kernel.prog_code(prog, CodeKind::Jited).unwrap();
    assert!(jited.iter().any(|b| *b != 0), "no machine code");
    works("jited");
}
