//! Which structure an event record is taken for.

use skep::events::Decoder;
use skep::value::Value;
use skep_abi::MapType;
use skep_btf::build::Builder;
use skep_btf::{Btf, Int, Order};
use skep_object::{MapKind, MapSpec};

/// `struct flow` (2), a map's key, and `struct seen` (3): 8 and 12 bytes.
fn btf() -> Btf {
    let mut builder = Builder::new(Order::HOST);
    let int = builder.add_int("int", 4, Int::SIGNED);
    builder.add_struct("flow", 8, &[("a", int, 0), ("b", int, 32)]);
    builder.add_struct("seen", 12, &[("a", int, 0), ("b", int, 32), ("c", int, 64)]);
    Btf::parse(builder.finish()).expect("types")
}

fn decoded(name: &str, map_type: MapType, bytes: usize) -> bool {
    let btf = btf();
    let events = MapSpec::new(name, MapKind::Declared, map_type);
    let mut flows = MapSpec::new("flows", MapKind::Declared, MapType::Hash);
    flows.key_type_id = 2;
    let mut decoder = Decoder::new(&btf, &events, [&events, &flows]);
    !matches!(decoder.decode(&vec![0; bytes]), Value::Bytes(_))
}

#[test]
fn only_a_structure_with_no_other_use_is_a_record() {
    assert!(decoded("rb", MapType::Ringbuf, 12));
    assert!(!decoded("rb", MapType::Ringbuf, 8), "the key of a map");
    assert!(
        !decoded("rb", MapType::Ringbuf, 16),
        "records are not padded"
    );
    assert!(
        decoded("rb", MapType::PerfEventArray, 16),
        "samples are padded"
    );
    assert!(
        decoded("new_flows", MapType::Ringbuf, 8),
        "its name says so"
    );
}
