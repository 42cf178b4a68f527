//! The IPv4 trie under every interleaving (see `crate::model`): whoever looks an address up while prefixes come and go finds
//! the longest prefix as it was before or as it is after, and nothing else.
//!
//! Tables are small here (`table.rs`): an address may have the last of its first 16 bits, and the last two bits of its third
//! and fourth bytes.

use super::{Body, LEN_BYTES, Lpm, MapHeader, Prefix};
use crate::map::Map;
use crate::model::{beside, try_all, try_both, try_with, who};
use crate::region::Memory;
use crate::spec::MapSpec;
use crate::sync::died;
use skep_abi::map_flags::{BPF_ANY, BPF_F_NO_PREALLOC, BPF_F_ZERO_SEED};
use skep_abi::{Errno, MapType};

/// Bytes of a key: length and address.
type Key = [u8; 8];

fn key(len: u32, address: [u8; 4]) -> Key {
    let mut key = [0; 8];
    key[..LEN_BYTES].copy_from_slice(&len.to_ne_bytes());
    key[LEN_BYTES..].copy_from_slice(&address);
    key
}

/// A trie for so many prefixes.
fn trie(value_bytes: u32, entries: u32) -> Map {
    let flags = BPF_F_NO_PREALLOC | BPF_F_ZERO_SEED;
    let spec = MapSpec::new(MapType::LpmTrie, 8, value_bytes, entries, 3).with_flags(flags);
    Map::create(&spec, &Memory::Anonymous).expect("a trie")
}

fn lpm(map: &MapHeader) -> &Lpm {
    match &map.body {
        Body::Lpm(lpm) => lpm,
        _ => unreachable!("a trie"),
    }
}

fn put(map: &MapHeader, key: Key, value: u64, cpu: u32) {
    let value = value.to_ne_bytes().repeat(map.value_size as usize / 8);
    let done = lpm(map).user_update(map, &key, &value, BPF_ANY, who(cpu));
    assert_eq!(done, Ok(()));
}

fn take_out(map: &MapHeader, key: Key, cpu: u32) {
    assert_eq!(lpm(map).delete(map, &key, who(cpu)), Ok(()));
}

/// The value of the longest prefix of an address; all of its words must be the same.
fn get(map: &MapHeader, address: [u8; 4], cpu: u32) -> Option<u64> {
    let key = key(32, address);
    // SAFETY: the key has 8 bytes; values are whole words, aligned.
    unsafe {
        let value = map.lookup(key.as_ptr(), who(cpu)).cast::<u64>();
        let value = value.as_ref()?;
        let words = std::slice::from_raw_parts(value, map.value_size as usize / 8);
        assert!(words.iter().all(|w| w == value), "torn: {words:?}");
        Some(*value)
    }
}

const HOST: [u8; 4] = [0, 0, 1, 1];

#[test]
fn an_address_has_the_longest_prefix_before_or_after_it_comes() {
    for len in [16, 23, 24, 31, 32] {
        try_both(move |value_bytes| {
            let map = trie(value_bytes, 4);
            put(&map, key(15, HOST), 1, 0);
            beside(
                &map,
                move |map| put(map, key(len, HOST), 2, 1),
                |map| {
                    let found = get(map, HOST, 0);
                    assert!(matches!(found, Some(1 | 2)), "{found:?}");
                },
            );
            assert_eq!(get(&map, HOST, 0), Some(2));
        });
    }
}

#[test]
fn an_address_has_the_longest_prefix_before_or_after_it_goes() {
    for len in [16, 24, 32] {
        try_both(move |value_bytes| {
            let map = trie(value_bytes, 4);
            put(&map, key(15, HOST), 1, 0);
            put(&map, key(len, HOST), 2, 0);
            beside(
                &map,
                move |map| take_out(map, key(len, HOST), 1),
                |map| {
                    let found = get(map, HOST, 0);
                    assert!(matches!(found, Some(1 | 2)), "{found:?}");
                },
            );
            assert_eq!(get(&map, HOST, 0), Some(1));
        });
    }
}

#[test]
fn a_prefix_that_is_updated_has_its_old_or_its_new_value() {
    for len in [16, 32] {
        try_both(move |value_bytes| {
            let map = trie(value_bytes, 4);
            put(&map, key(len, HOST), 1, 0);
            beside(
                &map,
                move |map| put(map, key(len, HOST), 2, 1),
                |map| {
                    let found = get(map, HOST, 0);
                    assert!(matches!(found, Some(1 | 2)), "{found:?}");
                },
            );
            assert_eq!(get(&map, HOST, 0), Some(2));
        });
    }
}

/// Prefixes below one entry of the root: as many as a small node holds, and one that makes it overflow.
const BELOW: [(u32, [u8; 4]); 4] = [
    (24, [0, 0, 1, 0]),
    (24, [0, 0, 2, 0]),
    (32, [0, 0, 1, 1]),
    (32, [0, 0, 2, 3]),
];

fn put_below(map: &MapHeader, n: usize, cpu: u32) {
    let (len, address) = BELOW[n];
    put(map, key(len, address), n as u64 + 1, cpu);
}

#[test]
fn prefixes_stay_found_while_a_small_node_overflows() {
    for address in [[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 0]] {
        try_all(move || {
            let map = trie(8, 8);
            put(&map, key(16, [0, 0, 0, 0]), 9, 0);
            for n in 0..3 {
                put_below(&map, n, 0);
            }
            let expected = get(&map, address, 0);
            beside(
                &map,
                |map| put_below(map, 3, 1),
                |map| assert_eq!(get(map, address, 0), expected),
            );
            assert_eq!(get(&map, address, 0), expected);
            assert_eq!(get(&map, [0, 0, 2, 3], 0), Some(4));
        });
    }
}

#[test]
fn a_node_that_goes_elsewhere_does_not_take_its_addresses_along() {
    try_all(|| {
        let map = trie(8, 8);
        put(&map, key(16, [0, 0, 0, 0]), 9, 0);
        for n in 0..4 {
            put_below(&map, n, 0);
        }
        beside(
            &map,
            |map| {
                // The node of the last byte is given back, and another part of the trie takes it.
                take_out(map, key(32, [0, 0, 2, 3]), 1);
                put(map, key(16, [0, 1, 0, 0]), 8, 1);
                put(map, key(32, [0, 0, 3, 3]), 7, 1);
            },
            |map| {
                let found = get(map, [0, 0, 2, 3], 0);
                // 8 has the element that 4 had.
                assert!(matches!(found, Some(2 | 4 | 8)), "{found:?}");
            },
        );
        assert_eq!(get(&map, [0, 0, 2, 3], 0), Some(2));
        assert_eq!(get(&map, [0, 0, 3, 3], 0), Some(7));
    });
}

#[test]
fn a_small_node_that_goes_elsewhere_does_not_take_its_addresses_along() {
    try_all(|| {
        let map = trie(8, 8);
        put(&map, key(32, [0, 0, 1, 1]), 1, 0);
        beside(
            &map,
            |map| {
                take_out(map, key(32, [0, 0, 1, 1]), 1);
                put(map, key(16, [0, 1, 0, 0]), 8, 1);
                put(map, key(32, [0, 1, 1, 1]), 7, 1);
            },
            |map| {
                let found = get(map, [0, 0, 1, 1], 0);
                // 8 has the element that 1 had.
                assert!(matches!(found, None | Some(1 | 8)), "{found:?}");
            },
        );
        assert_eq!(get(&map, [0, 0, 1, 1], 0), None);
        assert_eq!(get(&map, [0, 1, 1, 1], 0), Some(7));
    });
}

#[test]
fn two_writers_lose_nothing() {
    try_all(|| {
        let map = trie(8, 8);
        beside(
            &map,
            |map| put(map, key(24, [0, 0, 1, 0]), 1, 1),
            |map| put(map, key(32, HOST), 2, 0),
        );
        assert_eq!(get(&map, HOST, 0), Some(2));
        assert_eq!(get(&map, [0, 0, 1, 2], 0), Some(1));
    });
}

/// Before what an owner died.
#[derive(Clone, Copy, Debug)]
enum Died {
    /// The element was in the hash, and noted nowhere.
    Noting,
    /// It was noted, but not in the table.
    Table,
    /// The prefix was out of the table only.
    Removal,
    /// It was out of everything but the hash.
    Freeing,
}

/// The token of the one that dies.
const DEAD: u32 = 2;

/// An owner of the lock that dies while it puts or takes out the prefix of `HOST`.
fn die(map: &MapHeader, at: Died) {
    let (lpm, runner) = (lpm(map), who(DEAD - 1));
    let prefix = Prefix::of(&key(32, HOST)).expect("a prefix");
    let held = lpm.lock(map, runner);
    let find = || lpm.hash.user_find(map, prefix.key());
    let table = lpm.table.as_ref().expect("a table");
    match at {
        Died::Noting | Died::Table => {
            let value = 2u64.to_ne_bytes();
            let put = lpm
                .hash
                .user_update(map, prefix.key(), &value, BPF_ANY, runner);
            assert_eq!(put, Ok(()));
            if let (Some(index), Died::Table) = (find(), at) {
                lpm.enter(map, &prefix, index);
            }
        }
        Died::Removal | Died::Freeing => {
            let old = find().expect("it is there");
            let len_of = |leaf: u32| lpm.len_of(map, leaf.wrapping_sub(1));
            let shorter = Prefix::of(&key(15, HOST)).expect("a prefix");
            let shorter = lpm.hash.user_find(map, shorter.key()).expect("it is there");
            table.remove(prefix.ipv4(), 32, old + 1, shorter + 1, &len_of);
            if matches!(at, Died::Freeing) {
                lpm.count(32, -1);
                lpm.order.remove(old);
            }
        }
    }
    std::mem::forget(held);
    died(DEAD);
}

/// Every prefix in the order of a walk.
fn walked(map: &MapHeader) -> Vec<Key> {
    let (mut all, mut last) = (Vec::new(), None);
    let mut next = [0; 8];
    while lpm(map)
        .next_key(map, last.as_ref().map(Key::as_slice), &mut next, who(0))
        .is_ok()
    {
        all.push(next);
        last = Some(next);
    }
    all
}

#[test]
fn a_trie_whose_owner_died_is_whole_again() {
    for at in [Died::Noting, Died::Table, Died::Removal, Died::Freeing] {
        // Long, so with one switch: the look-ups happen at every point of the repair.
        try_with(1, move || {
            died(0);
            let map = trie(8, 6);
            put(&map, key(15, HOST), 1, 0);
            put(&map, key(24, [0, 0, 2, 0]), 5, 0);
            if matches!(at, Died::Removal | Died::Freeing) {
                put(&map, key(32, HOST), 2, 0);
            }
            die(&map, at);
            beside(
                &map,
                move |map| {
                    let found = get(map, HOST, 2);
                    assert!(matches!(found, Some(1 | 2)), "{at:?}: {found:?}");
                },
                // Inherits the lock, and builds the table again.
                |map| put(map, key(24, [0, 0, 3, 0]), 6, 0),
            );
            // What is in the hash counts.
            assert_eq!(get(&map, HOST, 0), Some(2), "{at:?}");
            assert_eq!(get(&map, [0, 0, 3, 1], 0), Some(6));
            assert_eq!(walked(&map).len(), 4);
            take_out(&map, key(32, HOST), 0);
            assert_eq!(get(&map, HOST, 0), Some(1));
            let gone = lpm(&map).delete(&map, &key(32, HOST), who(0));
            assert_eq!(gone, Err(Errno::ENOENT));
        });
    }
}
