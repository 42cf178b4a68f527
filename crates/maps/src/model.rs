//! Hash maps and ring buffers under every interleaving of two threads that switches them twice, and every value that the
//! memory model lets a load return: `cargo test --release -p skep-maps --features loom --lib model`
//! (without optimisation the frames of tries do not fit onto the stacks of loom's threads).
//!
//! What is tried are the real algorithms on loom's atomics. Keys and values are plain memory here as there.

use crate::body::Body;
use crate::calls::RecordEnd;
use crate::header::{MapHeader, Runner};
use crate::map::Map;
use crate::region::Memory;
use crate::ring;
use crate::spec::MapSpec;
use loom::thread;
use skep_abi::map_flags::{BPF_ANY, BPF_EXIST, BPF_F_ZERO_SEED, BPF_NOEXIST};
use skep_abi::{Errno, MapType};
use std::ops::ControlFlow;

/// Switches between threads where one could go on: one reaches the middle of an operation, the other one the middle of the
/// other thread's.
const PREEMPTIONS: usize = 2;

/// Orders that are tried at most: of the largest models those that part latest.
const PERMUTATIONS: usize = 10_000;

pub(crate) fn try_all(body: impl Fn() + Send + Sync + 'static) {
    try_with(PREEMPTIONS, body);
}

/// Tries `body` with so many switches.
pub(crate) fn try_with(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.max_permutations = Some(PERMUTATIONS);
    builder.check(body);
}

/// Values that are in elements twice, and such that are not.
const VALUE_BYTES: [u32; 2] = [8, 72];

fn hash(map_type: MapType, value_bytes: u32, entries: u32) -> Map {
    let spec = MapSpec::new(map_type, 8, value_bytes, entries, 3).with_flags(BPF_F_ZERO_SEED);
    Map::create(&spec, &Memory::Anonymous).expect("a map")
}

/// Tries `body` with both kinds of elements.
pub(crate) fn try_both(body: impl Fn(u32) + Send + Sync + Copy + 'static) {
    for value_bytes in VALUE_BYTES {
        try_all(move || body(value_bytes));
    }
}

pub(crate) fn who(cpu: u32) -> Runner {
    Runner {
        cpu,
        token: cpu + 1,
    }
}

fn put(map: &MapHeader, key: u64, value: u64, flags: u64, cpu: u32) -> i64 {
    let key = key.to_ne_bytes();
    let value = value.to_ne_bytes().repeat(map.value_size as usize / 8);
    // SAFETY: key and value have the map's sizes.
    unsafe { map.update(key.as_ptr(), value.as_ptr(), flags, who(cpu)) }
}

fn take_out(map: &MapHeader, key: u64, cpu: u32) -> i64 {
    let key = key.to_ne_bytes();
    // SAFETY: the key has 8 bytes.
    unsafe { map.delete(key.as_ptr(), who(cpu)) }
}

fn get(map: &MapHeader, key: u64, cpu: u32) -> Option<u64> {
    let key = key.to_ne_bytes();
    // SAFETY: the key has 8 bytes; values are 8 bytes, aligned.
    unsafe {
        let value = map.lookup(key.as_ptr(), who(cpu)).cast::<u64>();
        value.as_ref().copied()
    }
}

/// Nine keys of one bucket: one of them hangs on the chain.
fn same_bucket(map: &MapHeader) -> Vec<u64> {
    let Body::Hash(hash) = &map.body else {
        return Vec::new();
    };
    let bucket = |key: u64| hash.bucket_number(&key.to_ne_bytes());
    (0..)
        .filter(|key| bucket(*key) == bucket(0))
        .take(9)
        .collect()
}

/// Runs `other` in a second thread beside `body`.
pub(crate) fn beside<T: 'static>(
    map: &Map,
    other: impl FnOnce(&MapHeader) -> T + Send + 'static,
    body: impl FnOnce(&MapHeader),
) -> T {
    let theirs = map.clone();
    let thread = thread::spawn(move || other(&theirs));
    body(map);
    thread.join().expect("the other thread ends")
}

#[test]
fn a_key_that_is_updated_is_always_found() {
    try_both(|value_bytes| {
        let map = hash(MapType::Hash, value_bytes, 2);
        put(&map, 1, 10, BPF_ANY, 0);
        beside(
            &map,
            |map| (11..13).for_each(|value| assert_eq!(put(map, 1, value, BPF_ANY, 1), 0)),
            |map| {
                let found = get(map, 1, 0);
                assert!(matches!(found, Some(10..=12)), "{found:?}");
            },
        );
        assert_eq!(get(&map, 1, 0), Some(12));
    });
}

#[test]
fn a_key_stays_found_while_its_neighbours_go() {
    try_both(|value_bytes| {
        let map = hash(MapType::Hash, value_bytes, 4);
        put(&map, 1, 1, BPF_ANY, 0);
        put(&map, 2, 2, BPF_ANY, 0);
        beside(
            &map,
            |map| {
                assert_eq!(take_out(map, 1, 1), 0);
                assert_eq!(put(map, 3, 3, BPF_ANY, 1), 0);
            },
            |map| {
                assert_eq!(get(map, 2, 0), Some(2));
                assert!(matches!(get(map, 3, 0), None | Some(3)));
            },
        );
        assert_eq!([get(&map, 1, 0), get(&map, 3, 0)], [None, Some(3)]);
    });
}

#[test]
fn a_key_on_the_chain_stays_found_while_it_moves_into_a_slot() {
    try_both(|value_bytes| {
        let map = hash(MapType::Hash, value_bytes, 40);
        let keys = same_bucket(&map);
        for key in &keys {
            put(&map, *key, *key, BPF_ANY, 0);
        }
        let (first, last) = (keys[0], keys[8]);
        beside(
            &map,
            move |map| assert_eq!(take_out(map, first, 1), 0),
            |map| assert_eq!(get(map, last, 0), Some(last)),
        );
        assert_eq!(
            [get(&map, first, 0), get(&map, last, 0)],
            [None, Some(last)]
        );
    });
}

#[test]
fn one_of_two_insertions_of_a_new_key_wins() {
    try_both(|value_bytes| {
        let map = hash(MapType::Hash, value_bytes, 4);
        let mut mine = 0;
        let theirs = beside(
            &map,
            |map| put(map, 5, 50, BPF_NOEXIST, 1),
            |map| mine = put(map, 5, 51, BPF_NOEXIST, 0),
        );
        let lost = Errno::EEXIST.neg();
        assert!([(0, lost), (lost, 0)].contains(&(mine, theirs)));
        let winner = if mine == 0 { 51 } else { 50 };
        assert_eq!(get(&map, 5, 0), Some(winner));
    });
}

#[test]
fn the_last_free_element_goes_to_one() {
    try_both(|value_bytes| {
        let map = hash(MapType::Hash, value_bytes, 1);
        let mut mine = 0;
        let theirs = beside(
            &map,
            |map| put(map, 5, 50, BPF_ANY, 1),
            |map| mine = put(map, 6, 60, BPF_ANY, 0),
        );
        let lost = Errno::E2BIG.neg();
        assert!(
            [(0, lost), (lost, 0)].contains(&(mine, theirs)),
            "{mine} {theirs}"
        );
    });
}

#[test]
fn what_is_deleted_twice_is_freed_once() {
    try_both(|value_bytes| {
        let map = hash(MapType::Hash, value_bytes, 2);
        put(&map, 1, 1, BPF_ANY, 0);
        let mut mine = 0;
        let theirs = beside(
            &map,
            |map| take_out(map, 1, 1),
            |map| mine = take_out(map, 1, 0),
        );
        let lost = Errno::ENOENT.neg();
        assert!([(0, lost), (lost, 0)].contains(&(mine, theirs)));
        // Both elements can be had again, and no third one.
        assert_eq!(
            [7, 8, 9].map(|key| put(&map, key, 0, BPF_ANY, 0)),
            [0, 0, Errno::E2BIG.neg()]
        );
    });
}

#[test]
fn an_lru_map_takes_both_of_two_new_keys() {
    try_both(|value_bytes| {
        let map = hash(MapType::LruHash, value_bytes, 1);
        let theirs = beside(
            &map,
            |map| put(map, 5, 50, BPF_ANY, 1),
            |map| assert_eq!(put(map, 6, 60, BPF_ANY, 0), 0),
        );
        assert_eq!(theirs, 0);
        let found = [get(&map, 5, 0), get(&map, 6, 0)];
        assert!(
            [[Some(50), None], [None, Some(60)]].contains(&found),
            "{found:?}"
        );
    });
}

#[test]
fn of_two_updates_of_a_key_one_is_the_last() {
    try_both(|value_bytes| {
        let map = hash(MapType::Hash, value_bytes, 2);
        put(&map, 1, 10, BPF_ANY, 0);
        let theirs = beside(
            &map,
            |map| put(map, 1, 11, BPF_EXIST, 1),
            |map| {
                assert_eq!(put(map, 1, 12, BPF_EXIST, 0), 0);
                assert!(matches!(get(map, 1, 0), Some(11 | 12)));
            },
        );
        assert_eq!(theirs, 0);
        assert!(matches!(get(&map, 1, 0), Some(11 | 12)));
    });
}

#[test]
fn an_update_never_reaches_the_key_that_took_the_element() {
    try_both(|value_bytes| {
        let map = hash(MapType::Hash, value_bytes, 1);
        put(&map, 1, 10, BPF_ANY, 0);
        let mut mine = 0;
        beside(
            &map,
            |map| {
                assert_eq!(take_out(map, 1, 1), 0);
                assert_eq!(put(map, 2, 20, BPF_ANY, 1), 0);
            },
            |map| mine = put(map, 1, 11, BPF_EXIST, 0),
        );
        assert!([0, Errno::ENOENT.neg()].contains(&mine));
        assert_eq!([get(&map, 1, 0), get(&map, 2, 0)], [None, Some(20)]);
    });
}

#[test]
fn an_update_of_a_key_that_comes_back_is_lost_or_seen_whole() {
    try_both(|value_bytes| {
        let map = hash(MapType::Hash, value_bytes, 1);
        put(&map, 1, 10, BPF_ANY, 0);
        let mut mine = 0;
        beside(
            &map,
            |map| {
                assert_eq!(take_out(map, 1, 1), 0);
                assert_eq!(put(map, 1, 20, BPF_NOEXIST, 1), 0);
            },
            |map| mine = put(map, 1, 11, BPF_EXIST, 0),
        );
        let found = get(&map, 1, 0);
        let missed = mine == Errno::ENOENT.neg();
        assert!(
            found == Some(20) || found == Some(11) && !missed,
            "{found:?}"
        );
    });
}

#[test]
fn updates_of_two_keys_of_a_bucket_are_both_there() {
    try_both(|value_bytes| {
        let map = hash(MapType::Hash, value_bytes, 2);
        put(&map, 1, 10, BPF_ANY, 0);
        put(&map, 2, 20, BPF_ANY, 0);
        beside(
            &map,
            |map| assert_eq!(put(map, 1, 11, BPF_ANY, 1), 0),
            |map| assert_eq!(put(map, 2, 21, BPF_ANY, 0), 0),
        );
        assert_eq!([get(&map, 1, 0), get(&map, 2, 0)], [Some(11), Some(21)]);
    });
}

fn ring() -> Map {
    Map::create(
        &MapSpec::new(MapType::Ringbuf, 0, 0, 4096, 3),
        &Memory::Anonymous,
    )
    .expect("a ring")
}

fn send(map: &MapHeader, number: u64, cpu: u32, end: RecordEnd) {
    let record = map.ringbuf_reserve(8, 0, who(cpu));
    assert!(!record.is_null());
    // SAFETY: a record of 8 bytes, aligned; it is given back once.
    unsafe {
        record.cast::<u64>().write(number);
        ring::commit(record, 0, end);
    }
}

fn receive(map: &MapHeader, all: &mut Vec<u64>) {
    map.ringbuf_consume(&mut |record| {
        let (words, _) = record.as_chunks::<8>();
        all.push(u64::from_ne_bytes(words[0]));
        ControlFlow::Continue(())
    });
}

#[test]
fn records_arrive_whole_once_and_in_order() {
    try_all(|| {
        let map = ring();
        let mut all = Vec::new();
        beside(
            &map,
            |map| {
                send(map, 1, 1, RecordEnd::Submit);
                send(map, 2, 1, RecordEnd::Submit);
            },
            |map| receive(map, &mut all),
        );
        receive(&map, &mut all);
        assert_eq!(all, [1, 2]);
    });
}

#[test]
fn two_producers_lose_nothing_and_discarded_records_are_skipped() {
    try_all(|| {
        let map = ring();
        beside(
            &map,
            |map| send(map, 1, 1, RecordEnd::Submit),
            |map| {
                send(map, 9, 0, RecordEnd::Discard);
                send(map, 2, 0, RecordEnd::Submit);
            },
        );
        let mut all = Vec::new();
        receive(&map, &mut all);
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
    });
}
