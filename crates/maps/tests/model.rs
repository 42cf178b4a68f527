//! Random operation sequences against simple models of the standard library.
#![cfg(not(feature = "loom"))]

use skep_abi::MapType;
use skep_abi::map_flags::{BPF_ANY, BPF_EXIST, BPF_F_NO_PREALLOC, BPF_NOEXIST};
use skep_maps::{Errno, Map, MapSpec, Memory, RecordEnd, Runner, ringbuf_commit};
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

const CPUS: u32 = 2;

fn runner() -> Runner {
    Runner {
        cpu: 0,
        token: skep_sys::task::token(),
    }
}

fn make(spec: &MapSpec) -> Map {
    Map::create(spec, &Memory::Anonymous).expect("an anonymous map")
}

/// A small generator of numbers, the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0 >> 11) * u128::from(n)) >> 53) as u64
    }
}

fn bytes(n: u64, len: usize) -> Vec<u8> {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .to_le_bytes()
        .iter()
        .copied()
        .cycle()
        .take(len)
        .collect()
}

fn walk(map: &Map, key_len: usize) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    let mut next = vec![0; key_len];
    while map
        .next_key(keys.last().map(Vec::as_slice), &mut next, runner())
        .is_ok()
    {
        keys.push(next.clone());
        assert!(keys.len() <= 100_000, "the walk does not end");
    }
    keys
}

#[test]
fn hash_maps_do_what_a_table_does() {
    for (key_len, value_len, capacity) in [
        (4, 8, 50),
        (8, 8, 200),
        (16, 4, 33),
        (13, 24, 64),
        (1, 1, 3),
        (40, 7, 10),
    ] {
        let spec = MapSpec::new(
            MapType::Hash,
            key_len as u32,
            value_len as u32,
            capacity as u32,
            CPUS,
        );
        let map = make(&spec);
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut random = Random(key_len as u64);
        let who = runner();
        for step in 0..20_000u64 {
            let key = bytes(random.below(capacity * 3 / 2), key_len);
            let value = bytes(step, value_len);
            match random.below(8) {
                0..4 => {
                    let flags =
                        [BPF_ANY, BPF_ANY, BPF_NOEXIST, BPF_EXIST][random.below(4) as usize];
                    let known = model.contains_key(&key);
                    let expected = match flags {
                        BPF_NOEXIST if known => Err(Errno::EEXIST),
                        BPF_EXIST if !known => Err(Errno::ENOENT),
                        _ if !known && model.len() as u64 == capacity => Err(Errno::E2BIG),
                        _ => Ok(()),
                    };
                    assert_eq!(map.update_elem(&key, &value, flags, who), expected);
                    if expected.is_ok() {
                        model.insert(key, value);
                    }
                }
                4..6 => {
                    let mut out = vec![0; value_len];
                    let found = map.lookup_elem(&key, &mut out, 0, who);
                    assert_eq!(found.ok().map(|()| out), model.get(&key).cloned());
                }
                _ => {
                    let expected = model.remove(&key).map(|_| ()).ok_or(Errno::ENOENT);
                    assert_eq!(map.delete_elem(&key, who), expected);
                }
            }
        }
        let mut keys = walk(&map, key_len);
        keys.sort();
        assert_eq!(keys, model.into_keys().collect::<Vec<_>>());
    }
}

#[test]
fn an_updated_element_is_another_one_and_the_old_stays_readable() {
    let map = make(&MapSpec::new(MapType::Hash, 4, 8, 4, CPUS));
    let (who, key) = (runner(), 1u32.to_ne_bytes());
    map.update_elem(&key, &1u64.to_ne_bytes(), 0, who).unwrap();
    // SAFETY: the key has 4 bytes.
    let old = unsafe { map.lookup(key.as_ptr(), who) };
    map.update_elem(&key, &2u64.to_ne_bytes(), 0, who).unwrap();
    // SAFETY: as above.
    let new = unsafe { map.lookup(key.as_ptr(), who) };
    // SAFETY: values are never unmapped while the map lives.
    let read = unsafe { (old.cast::<u64>().read(), new.cast::<u64>().read()) };
    assert_eq!(read, (1, 2));
}

#[test]
fn lru_maps_keep_what_is_used() {
    let map = make(&MapSpec::new(MapType::LruHash, 4, 4, 100, CPUS));
    let who = runner();
    for i in 0..1000u32 {
        map.update_elem(&i.to_ne_bytes(), &i.to_ne_bytes(), 0, who)
            .unwrap();
        // SAFETY: the key has 4 bytes.
        let kept = unsafe { map.lookup(0u32.to_ne_bytes().as_ptr(), who) };
        assert!(!kept.is_null(), "after {i}");
    }
    assert!(walk(&map, 4).len() <= 100);
}

#[test]
fn lpm_finds_the_longest_prefix() {
    for address_len in [4usize, 3, 8] {
        let bits = address_len as u64 * 8;
        let spec = MapSpec::new(MapType::LpmTrie, 4 + address_len as u32, 4, 150, CPUS)
            .with_flags(BPF_F_NO_PREALLOC);
        let map = make(&spec);
        let mut model: BTreeMap<(u32, Vec<u8>), u32> = BTreeMap::new();
        let mut random = Random(bits);
        let who = runner();
        let key_of = |len: u32, address: &[u8]| [&len.to_ne_bytes()[..], address].concat();
        let masked = |len: u32, address: &[u8]| {
            let keep = |i: usize| (len as i32 - i as i32 * 8).clamp(0, 8) as u32;
            let byte = |(i, b): (usize, &u8)| (u16::from(*b) & (0xff00u16 >> keep(i))) as u8;
            (
                len,
                address.iter().enumerate().map(byte).collect::<Vec<_>>(),
            )
        };
        for step in 0..20_000u32 {
            let near = random.below(1 << 12) << 8 | random.below(4);
            let address = near.to_be_bytes()[8 - address_len.min(8)..]
                .iter()
                .copied()
                .chain(std::iter::repeat(0))
                .take(address_len)
                .collect::<Vec<_>>();
            let len = random.below(bits + 1) as u32;
            let key = key_of(len, &address);
            match random.below(4) {
                0 => {
                    let full = model.len() == 150 && !model.contains_key(&masked(len, &address));
                    let expected = if full { Err(Errno::ENOSPC) } else { Ok(()) };
                    assert_eq!(map.update_elem(&key, &step.to_ne_bytes(), 0, who), expected);
                    if !full {
                        model.insert(masked(len, &address), step);
                    }
                }
                1 if random.below(2) == 0 => {
                    let expected = model
                        .remove(&masked(len, &address))
                        .map(|_| ())
                        .ok_or(Errno::ENOENT);
                    assert_eq!(map.delete_elem(&key, who), expected);
                }
                _ => {
                    let query = if random.below(4) == 0 {
                        len
                    } else {
                        bits as u32
                    };
                    let expected = (0..=query)
                        .rev()
                        .find_map(|l| model.get(&masked(l, &address)));
                    // SAFETY: the key has the map's size.
                    let found = unsafe { map.lookup(key_of(query, &address).as_ptr(), who) };
                    // SAFETY: values have 4 bytes.
                    let found = (!found.is_null()).then(|| unsafe { found.cast::<u32>().read() });
                    assert_eq!(found.as_ref(), expected, "step {step}: {address:?}/{query}");
                }
            }
        }
        let mut expected: Vec<_> = model.keys().cloned().collect();
        let bit = |address: &[u8], at: u32| address[at as usize / 8] >> (7 - at % 8) & 1;
        expected.sort_by(|(len, a), (other_len, b)| {
            let parted = (0..*len.min(other_len)).find(|&i| bit(a, i) != bit(b, i));
            parted.map_or(other_len.cmp(len), |i| bit(a, i).cmp(&bit(b, i)))
        });
        let walked = walk(&map, 4 + address_len).into_iter().map(|key| {
            let (len, address) = key.split_first_chunk().expect("a key");
            masked(u32::from_ne_bytes(*len), address)
        });
        assert_eq!(walked.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn queues_and_stacks() {
    for map_type in [MapType::Queue, MapType::Stack] {
        let map = make(&MapSpec::new(map_type, 0, 4, 5, CPUS));
        let mut model: VecDeque<u32> = VecDeque::new();
        let mut random = Random(9);
        let who = runner();
        for step in 0..5000u32 {
            let value = step.to_ne_bytes();
            if random.below(2) == 0 {
                let flags = random.below(4);
                let expected = match flags {
                    1 | 3 => Err(Errno::EINVAL),
                    0 if model.len() == 5 => Err(Errno::E2BIG),
                    _ => Ok(()),
                };
                assert_eq!(map.update_elem(&[], &value, flags, who), expected);
                if expected.is_ok() {
                    if model.len() == 5 {
                        model.pop_front();
                    }
                    model.push_back(step);
                }
            } else {
                let mut out = [0xff; 4];
                let expected = if map_type == MapType::Stack {
                    model.pop_back()
                } else {
                    model.pop_front()
                };
                let got = map.lookup_and_delete_elem(&[], &mut out, 0, who);
                assert_eq!(got, expected.map(|_| ()).ok_or(Errno::ENOENT));
                assert_eq!(u32::from_ne_bytes(out), expected.unwrap_or(0));
            }
        }
    }
}

#[test]
fn ring_buffers_hand_records_over_in_order() {
    let map = make(&MapSpec::new(MapType::Ringbuf, 0, 0, 4096, CPUS));
    let mut random = Random(3);
    let who = runner();
    let mut sent: VecDeque<Vec<u8>> = VecDeque::new();
    for step in 0..20_000u64 {
        let len = random.below(200);
        let record = map.ringbuf_reserve(len, 0, who);
        if record.is_null() {
            let mut take = random.below(20) + 1;
            map.ringbuf_consume(&mut |data| {
                assert_eq!(Some(data.to_vec()), sent.pop_front());
                take -= 1;
                if take == 0 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            continue;
        }
        let data = bytes(step, len as usize);
        // SAFETY: the record has `len` bytes.
        unsafe { record.copy_from_nonoverlapping(data.as_ptr(), data.len()) };
        let end = if random.below(5) == 0 {
            RecordEnd::Discard
        } else {
            RecordEnd::Submit
        };
        if end == RecordEnd::Submit {
            sent.push_back(data);
        }
        // SAFETY: reserved above.
        unsafe { ringbuf_commit(record, 1, end) };
    }
    map.ringbuf_consume(&mut |data| {
        assert_eq!(Some(data.to_vec()), sent.pop_front());
        ControlFlow::Continue(())
    });
    assert!(sent.is_empty());
    assert_eq!(map.ringbuf_query(0), 0);
}
