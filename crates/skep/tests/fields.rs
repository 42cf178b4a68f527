//! Programs that read fields of the kernel which no process has.

use skep_abi::helper::id;
use skep_abi::{Errno, MapType, ProgType};
use skep_bpf::{Backend, MapCreate, ProgLoad, TestRun};
use skep_isa::{Slot, opcode as op};
use skep_object::Needs;
use skep_user::{Options, Universe};
use skep_vm::Engine;
use std::sync::Arc;

/// Loads from a map's structure in the kernel: a pointer that only a kernel has.
const FIELD: Slot = Slot::new(op::LDX | op::MEM | op::DW, 2, 1, 0, 0);

const fn mov(dst: u8, imm: i32) -> Slot {
    Slot::new(op::ALU64 | op::MOV, dst, 0, 0, imm)
}

const EXIT: Slot = Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0);

/// A universe that verifies with the types of a kernel.
fn universe(engine: Engine) -> Universe {
    let universe = Universe::new(Options {
        engine,
        kernel_btf: Some(Arc::new(skep::target::reference_btf(&Needs::default()))),
        ..Options::default()
    });
    universe.expect("the options are valid")
}

/// A map, and the instructions that put its address into `r1`.
fn map_in_r1(universe: &Universe) -> [Slot; 2] {
    let array = MapCreate::new(MapType::Array, 4, 8, 1);
    let map = universe.map_create(&array).expect("a small array");
    [
        Slot::new(op::LDDW, 1, op::PSEUDO_MAP_FD, 0, map.0),
        Slot::new(0, 0, 0, 0, 0),
    ]
}

fn is_refused(universe: &Universe, insns: Vec<Slot>) {
    let load = universe.prog_load(&ProgLoad::plain(ProgType::SocketFilter, insns));
    let refused = load.expect_err("only a kernel has the pointer");
    assert_eq!(refused.errno, Errno::EOPNOTSUPP);
    assert!(refused.to_string().contains("U0005"), "{refused}");
}

#[test]
fn a_field_that_only_a_kernel_has_is_refused_if_its_value_is_used() {
    for engine in [Engine::Interp, Engine::Jit] {
        let universe = universe(engine);
        let [map, rest] = map_in_r1(&universe);
        let insns = |last: Slot| vec![map, rest, FIELD, mov(0, 7), last, EXIT];
        is_refused(
            &universe,
            insns(Slot::new(op::ALU64 | op::ADD | op::X, 0, 2, 0, 0)),
        );
        let unused = ProgLoad::plain(ProgType::SocketFilter, insns(mov(2, 0)));
        let unused = universe.prog_load(&unused).unwrap();
        let test = TestRun {
            data_in: Some(vec![0; 64]),
            ..TestRun::default()
        };
        assert_eq!(universe.prog_test_run(unused, &test).unwrap().retval, 7);
    }
}

#[test]
fn a_field_that_is_printed_is_used() {
    const FORMAT: i32 = i32::from_le_bytes(*b"%lx\0");
    let universe = universe(Engine::Interp);
    for printed in 3..=5 {
        let mut insns = map_in_r1(&universe).to_vec();
        let others = (3..=5).filter(|r| *r != printed);
        insns.extend(others.map(|r| mov(r, 0)));
        insns.extend([
            Slot::new(op::LDX | op::MEM | op::DW, printed, 1, 0, 0),
            Slot::new(op::ST | op::MEM | op::W, 10, 0, -8, FORMAT),
            Slot::new(op::ALU64 | op::MOV | op::X, 1, 10, 0, 0),
            Slot::new(op::ALU64 | op::ADD, 1, 0, 0, -8),
            mov(2, 4),
            Slot::new(op::JMP | op::CALL, 0, 0, 0, id::TRACE_PRINTK.cast_signed()),
            mov(0, 0),
            EXIT,
        ]);
        is_refused(&universe, insns);
    }
}
