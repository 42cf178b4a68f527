//! Which helper calls become instructions, or calls of code made for the map: seen by what the images refer to.

use super::image::{CodeImage, MapOp, Runtime, Symbol, Tier};
use crate::lower::{Fold, lower};
use skep_abi::{MapType, ProgType};
use skep_isa::{Slot, opcode as op};
use skep_maps::{Map, MapSpec, Memory};
use skep_verifier::{MapDesc, Request, verify};
use std::sync::Arc;

/// Helpers.
const LOOKUP: i32 = 1;
const KTIME_GET_NS: i32 = 5;
const GET_SMP_PROCESSOR_ID: i32 = 8;
const GET_CURRENT_PID_TGID: i32 = 14;

fn map(map_type: MapType, key_size: u32) -> MapDesc {
    MapDesc {
        name: "map".to_owned(),
        map_type,
        key_size,
        value_size: 8,
        max_entries: 4,
        map_flags: 0,
        map_extra: 0,
        record: Arc::default(),
        has_btf: false,
        btf: None,
        inner: None,
        frozen: None,
        owner: None,
        id: 0,
    }
}

/// A program that calls `helper`, a look-up in map 0 if it is one.
fn calling(helper: i32, maps: &[MapDesc], tier: Tier) -> CodeImage {
    let mut insns = vec![
        Slot::new(op::ST | op::MEM | op::DW, 10, 0, -8, 0),
        Slot::new(op::ST | op::MEM | op::DW, 10, 0, -16, 0),
    ];
    if helper == LOOKUP {
        insns.extend([
            Slot::new(op::LDDW, 1, op::PSEUDO_MAP_IDX, 0, 0),
            Slot::new(0, 0, 0, 0, 0),
            Slot::new(op::ALU64 | op::MOV | op::X, 2, 10, 0, 0),
            Slot::new(op::ALU64 | op::ADD, 2, 0, 0, -16),
        ]);
    }
    insns.extend([
        Slot::new(op::JMP | op::CALL, 0, 0, 0, helper),
        Slot::new(op::JMP | op::JEQ, 0, 0, 1, 0),
        Slot::new(op::ALU64 | op::MOV, 0, 0, 0, 1),
        Slot::new(op::JMP | op::EXIT, 0, 0, 0, 0),
    ]);
    let request = Request {
        maps,
        ..Request::plain("case", ProgType::RawTracepoint, &insns)
    };
    let verified = verify(&request).expect("accepted");
    super::compile(
        &lower(&verified, Fold::Facts, None).expect("lowers"),
        tier,
        false,
    )
}

/// What the code refers to.
fn symbols(image: &CodeImage) -> Vec<Symbol> {
    image.relocs.iter().map(|r| r.symbol).collect()
}

fn calls_a_helper(image: &CodeImage) -> bool {
    let is_callee = |s: &Symbol| matches!(s, Symbol::Callee(_));
    symbols(image).iter().any(is_callee)
}

#[test]
fn processor_and_process_are_read_from_the_environment() {
    for helper in [GET_SMP_PROCESSOR_ID, GET_CURRENT_PID_TGID] {
        let image = calling(helper, &[], Tier::Optimised);
        assert!(image.relocs.is_empty(), "{helper}: {:?}", symbols(&image));
    }
    // The clock is the system's, which is called without a detour.
    let image = calling(KTIME_GET_NS, &[], Tier::Optimised);
    assert_eq!(symbols(&image), [Symbol::Runtime(Runtime::KtimeGetNs)]);
}

#[test]
fn look_ups_in_arrays_are_instructions() {
    for map_type in [MapType::Array, MapType::PercpuArray] {
        let image = calling(LOOKUP, &[map(map_type, 4)], Tier::Optimised);
        let is_address = |s: &Symbol| {
            matches!(
                s,
                Symbol::MapValue { map: 0, .. } | Symbol::MapStride(0) | Symbol::MapCpus(0)
            )
        };
        assert!(
            symbols(&image).iter().all(is_address),
            "{map_type:?}: {:?}",
            symbols(&image)
        );
    }
}

#[test]
fn look_ups_in_hashes_call_code_made_for_the_key() {
    let wanted = Symbol::MapCode {
        map: 0,
        op: MapOp::Lookup,
    };
    let mut codes = Vec::new();
    for key_size in [4, 8, 16] {
        let desc = map(MapType::Hash, key_size);
        let image = calling(LOOKUP, std::slice::from_ref(&desc), Tier::Optimised);
        assert!(symbols(&image).contains(&wanted) && !calls_a_helper(&image));
        let spec = MapSpec::new(
            desc.map_type,
            key_size,
            desc.value_size,
            desc.max_entries,
            1,
        );
        let live = Map::create(&spec, &Memory::Anonymous).expect("a map");
        codes.push(live.lookup_fn as usize);
    }
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), 3, "each key size has code of its own");
}
