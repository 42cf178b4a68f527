//! Programs that read fields of the kernel which no process has.

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

#[test]
fn a_field_that_only_a_kernel_has_is_refused_if_its_value_is_used() {
    for engine in [Engine::Interp, Engine::Jit] {
        let universe = Universe::new(Options {
            engine,
            kernel_btf: Some(Arc::new(skep::target::reference_btf(&Needs::default()))),
            ..Options::default()
        });
        let universe = universe.unwrap();
        let array = MapCreate::new(MapType::Array, 4, 8, 1);
        let map = universe.map_create(&array).unwrap();
        let load = |last: Slot| {
            let insns = vec![
                Slot::new(op::LDDW, 1, op::PSEUDO_MAP_FD, 0, map.0),
                Slot::new(0, 0, 0, 0, 0),
                FIELD,
                mov(0, 7),
                last,
                Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0),
            ];
            universe.prog_load(&ProgLoad::plain(ProgType::SocketFilter, insns))
        };
        let used = load(Slot::new(op::ALU64 | op::ADD | op::X, 0, 2, 0, 0));
        let refused = used.expect_err("only a kernel has the pointer");
        assert_eq!(refused.errno, Errno::EOPNOTSUPP);
        assert!(refused.to_string().contains("U0005"), "{refused}");
        let unused = load(mov(2, 0)).unwrap();
        let test = TestRun {
            data_in: Some(vec![0; 64]),
            ..TestRun::default()
        };
        assert_eq!(universe.prog_test_run(unused, &test).unwrap().retval, 7);
    }
}
