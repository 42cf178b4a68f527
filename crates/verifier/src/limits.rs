//! Tests: each limit of a verification, met by a program that goes just beyond it.

use crate::request::{MapDesc, Request};
use crate::verify::verify;
use skep_abi::prog_flags::BPF_F_TEST_STATE_FREQ;
use skep_abi::{MapType, ProgType};
use skep_isa::{Slot, opcode as op};

const EXIT: Slot = Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0);

fn set(dst: u8, imm: i32) -> Slot {
    Slot::new(op::ALU64 | op::MOV | op::K, dst, 0, 0, imm)
}

fn code_of(insns: &[Slot], prog_flags: u32, maps: &[MapDesc]) -> &'static str {
    let request = Request {
        prog_flags,
        maps,
        ..Request::plain("limits", ProgType::SocketFilter, insns)
    };
    verify(&request).map_or_else(|no| no.code, |_| "accepted")
}

/// Counts `r1` to `rounds`.
fn counting(rounds: i32) -> Vec<Slot> {
    vec![
        set(0, 0),
        set(1, 0),
        Slot::new(op::ALU64 | op::ADD | op::K, 1, 0, 0, 1),
        Slot::new(op::JMP | op::JNE | op::K, 1, 0, -2, rounds),
        EXIT,
    ]
}

#[test]
fn a_million_instructions_are_walked() {
    assert_eq!(code_of(&counting(400_000), 0, &[]), "accepted");
    assert_eq!(code_of(&counting(600_000), 0, &[]), "C0102");
}

#[test]
fn states_alive_are_bounded() {
    let flags = BPF_F_TEST_STATE_FREQ;
    assert_eq!(code_of(&counting(1000), flags, &[]), "accepted");
    assert_eq!(code_of(&counting(200_000), flags, &[]), "C0106");
}

#[test]
fn branches_that_wait_are_bounded() {
    let branching = |count| {
        let load = Slot::new(op::LDX | op::MEM | op::W, 1, 1, 0, 0);
        let jumps = (0..count).map(|i| Slot::new(op::JMP | op::JEQ | op::K, 1, 0, 0, i));
        [set(0, 0), load].into_iter().chain(jumps).chain([EXIT])
    };
    // Each of those that wait walks all that follows.
    let insns: Vec<Slot> = branching(8192).collect();
    assert_eq!(code_of(&insns, 0, &[]), "C0102");
    let insns: Vec<Slot> = branching(8193).collect();
    assert_eq!(code_of(&insns, 0, &[]), "C0103");
}

/// A function that calls the one behind it, `depth` times.
fn nested(depth: usize) -> Vec<Slot> {
    let call = Slot::new(op::JMP | op::CALL, 0, op::PSEUDO_CALL, 0, 1);
    let mut insns: Vec<Slot> = (0..depth).flat_map(|_| [call, EXIT]).collect();
    insns.extend([set(0, 0), EXIT]);
    insns
}

#[test]
fn calls_nest_eight_deep() {
    assert_eq!(code_of(&nested(7), 0, &[]), "accepted");
    assert_eq!(code_of(&nested(8), 0, &[]), "V0308");
}

#[test]
fn functions_are_counted() {
    let calling = |count: i32| {
        let call = |i| {
            let distance = count - 1 - i + 1 + 2 * i;
            Slot::new(op::JMP | op::CALL, 0, op::PSEUDO_CALL, 0, distance)
        };
        let mut insns: Vec<Slot> = (0..count).map(call).collect();
        insns.push(EXIT);
        insns.extend((0..count).flat_map(|_| [set(0, 0), EXIT]));
        insns
    };
    assert_eq!(code_of(&calling(255), 0, &[]), "accepted");
    assert_eq!(code_of(&calling(256), 0, &[]), "C0104");
}

#[test]
fn maps_are_counted() {
    let map = MapDesc {
        name: "map".to_owned(),
        map_type: MapType::Array,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
        map_flags: 0,
        map_extra: 0,
        record: std::sync::Arc::default(),
        has_btf: false,
        btf: None,
        inner: None,
        frozen: None,
        owner: None,
        id: 0,
    };
    let naming = |count: i32| {
        let load = |i| {
            [
                Slot::new(op::LDDW, 1, op::PSEUDO_MAP_FD, 0, i),
                Slot::new(0, 0, 0, 0, 0),
            ]
        };
        let mut insns: Vec<Slot> = (0..count).flat_map(load).collect();
        insns.extend([set(0, 0), EXIT]);
        insns
    };
    let maps = vec![map; 65];
    assert_eq!(code_of(&naming(64), 0, &maps), "accepted");
    assert_eq!(code_of(&naming(65), 0, &maps), "C0105");
}
