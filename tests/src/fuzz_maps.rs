//! A peer that may write to a map's file writes anything there, while the map is used.

use skep_abi::MapType;
use skep_maps::{Errno, Map, MapSpec, Memory, RecordEnd, Runner, ringbuf_commit};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

/// Types and sizes: key, value, elements.
const KINDS: &[(MapType, u32, u32, u32)] = &[
    (MapType::Hash, 8, 8, 40),
    (MapType::Hash, 20, 100, 7),
    (MapType::PercpuHash, 4, 12, 40),
    (MapType::LruHash, 8, 8, 30),
    (MapType::LruPercpuHash, 16, 8, 30),
    (MapType::LpmTrie, 8, 8, 60),
    (MapType::LpmTrie, 20, 8, 60),
    (MapType::Array, 4, 24, 10),
    (MapType::PercpuArray, 4, 24, 10),
    (MapType::Queue, 0, 24, 10),
    (MapType::Stack, 0, 24, 10),
    (MapType::BloomFilter, 0, 8, 100),
    (MapType::Ringbuf, 0, 0, 4096),
    (MapType::UserRingbuf, 0, 0, 4096),
    (MapType::StackTrace, 4, 64, 20),
    (MapType::Devmap, 4, 8, 20),
    (MapType::DevmapHash, 4, 8, 20),
    (MapType::ProgArray, 4, 4, 20),
    (MapType::Arena, 0, 0, 16),
];
const CPUS: u32 = 2;
/// Elements that one walk may visit at most: more is a loop.
const WALK_MAX: usize = 100_000;

/// Bytes as numbers, zeros at the end.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }
}

/// Uses a map whose memory is written at random places: nothing may be touched outside of it, nothing may go on for ever.
///
/// # Panics
/// If a walk does not end, or a record is longer than its ring.
pub fn corrupted_map(data: &[u8]) {
    let mut script = Script(data);
    let (map_type, key, value, entries) = KINDS[script.byte() as usize % KINDS.len()];
    let flags = match map_type {
        MapType::LpmTrie => 1,
        MapType::Arena => 1 << 10,
        _ => 0,
    };
    let spec = MapSpec::new(map_type, key, value, entries, CPUS).with_flags(flags);
    let Ok(map) = Map::create(&spec, &Memory::Anonymous) else {
        return;
    };
    let len = map.file().metadata().map_or(0, |m| m.len());
    let mut user = User {
        map,
        runner: Runner {
            cpu: 0,
            token: skep_sys::task::token(),
        },
        key: vec![0; key as usize],
    };
    for _ in 0..16 {
        user.fill(&mut script);
    }
    while !script.0.is_empty() {
        for _ in 0..script.byte() % 4 {
            scribble(&user.map, len, user.runner.token, &mut script);
        }
        user.operate(&mut script);
    }
}

/// Writes one word, most often a small one, most often to the control words.
fn scribble(map: &Map, len: u64, own_token: u32, script: &mut Script<'_>) {
    let place = u64::from(script.word());
    let at = if place & 1 == 0 || map.map_type == MapType::Ringbuf {
        place % len
    } else {
        // The control words stand at the end of the file.
        len - 1 - place % len.min(16 * 1024)
    };
    let number = script.word();
    let value = match number & 7 {
        0..4 => number >> 3 & 0x7f,
        4 => 1 << (number >> 3 & 31),
        5 => u32::MAX - (number >> 3 & 0xf),
        _ => number,
    };
    // A lock that seems to be held by a living thread is waited for, as it has to be.
    if value != own_token && !skep_sys::task::is_alive(value) {
        // The last page describes the map and is read when it is opened only.
        drop(map.file().write_at(&value.to_le_bytes(), at & !3));
    }
}

struct User {
    map: Map,
    runner: Runner,
    key: Vec<u8>,
}

impl User {
    fn next_key(&mut self, script: &mut Script<'_>) {
        let number = script.byte() & 0x3f;
        self.key.fill(0);
        match (self.map.map_type, self.key.len()) {
            (_, 0) => {}
            (MapType::LpmTrie, len) => {
                self.key[0] = (u32::from(number) % ((len as u32 - 4) * 8 + 1)) as u8;
                self.key[5] = script.byte() & 3;
                self.key[7] = script.byte();
            }
            _ => self.key[0] = number,
        }
    }

    fn fill(&mut self, script: &mut Script<'_>) {
        self.next_key(script);
        let value = vec![7; self.map.user_value_bytes()];
        let _ = self.map.update_elem(&self.key, &value, 0, self.runner);
    }

    fn operate(&mut self, script: &mut Script<'_>) {
        let mut value = vec![0; self.map.user_value_bytes()];
        match script.byte() % 10 {
            0 | 1 => self.fill(script),
            2 => {
                self.next_key(script);
                let _ = self.map.delete_elem(&self.key, self.runner);
            }
            3 => {
                self.next_key(script);
                let _ = self.map.lookup_elem(&self.key, &mut value, 0, self.runner);
            }
            4 => {
                self.next_key(script);
                let _ = self
                    .map
                    .lookup_and_delete_elem(&self.key, &mut value, 0, self.runner);
            }
            5 => self.walk(),
            6 => self.ring(script),
            7 => {
                let _ = self
                    .map
                    .stack_id(&[1, 2, u64::from(script.byte())], 0, self.runner);
                if let Some(page) = self.map.arena_allocate(None, 2, self.runner) {
                    self.map.arena_free(page, 2, self.runner);
                }
            }
            8 => self.as_program(script),
            _ => {
                let mut count = 0;
                self.map.for_each(0, self.runner, &mut |_, _| {
                    count += 1;
                    assert!(count < WALK_MAX, "a walk over elements does not end");
                    ControlFlow::Continue(())
                });
            }
        }
    }

    fn walk(&self) {
        let mut key: Option<Vec<u8>> = None;
        let mut next = vec![0; self.key.len()];
        // A corrupted map may lead in circles: callers of walks have to bound them, as in the kernel.
        for _ in 0..200 {
            if self.map.next_key(key.as_deref(), &mut next, self.runner) != Ok(()) {
                break;
            }
            key = Some(next.clone());
        }
    }

    fn ring(&self, script: &mut Script<'_>) {
        let map = &self.map;
        match script.byte() % 4 {
            0 | 1 => {
                let record = map.ringbuf_reserve(u64::from(script.byte()), 0, self.runner);
                if !record.is_null() {
                    // SAFETY: the record was reserved just now.
                    unsafe { ringbuf_commit(record, 0, RecordEnd::Submit) };
                }
            }
            2 => {
                let mut left = 64;
                map.ringbuf_consume(&mut |record| {
                    assert!(record.len() <= 4096, "a record longer than its ring");
                    std::hint::black_box(record.iter().fold(0u8, |a, b| a ^ b));
                    left -= 1;
                    if left == 0 {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                });
            }
            _ => {
                map.user_ringbuf_drain(0, &mut |sample| {
                    std::hint::black_box(sample.iter().fold(0u8, |a, b| a ^ b));
                    ControlFlow::Continue(())
                });
            }
        }
        let _ = map.ringbuf_query(u64::from(script.byte()));
    }

    /// What programs do: the value in place.
    fn as_program(&mut self, script: &mut Script<'_>) {
        self.next_key(script);
        let header = &self.map;
        if self.key.is_empty() {
            let mut value = vec![0; header.value_size as usize];
            // SAFETY: the value has the map's size.
            unsafe {
                header.push(value.as_ptr(), 0, self.runner);
                header.pop(value.as_mut_ptr(), self.runner);
                header.peek(value.as_mut_ptr(), self.runner);
            }
            return;
        }
        // SAFETY: the key has the map's size.
        let value = unsafe { header.lookup(self.key.as_ptr(), self.runner) };
        let is_value = !value.is_null() && self.map.map_type != MapType::ProgArray;
        if is_value {
            let inside = header.contains(value as usize)
                && header.contains(value as usize + header.value_size as usize - 1);
            assert!(inside, "a value outside of the map");
            // SAFETY: a value of the map.
            unsafe { value.write_bytes(1, header.value_size as usize) };
        }
        let new = vec![3; header.value_size as usize];
        // SAFETY: key and value have the map's sizes.
        let done = unsafe { header.update(self.key.as_ptr(), new.as_ptr(), 0, self.runner) };
        assert!(done <= 0 && done > -4096, "{done}");
        // SAFETY: as above.
        let done = unsafe { header.delete(self.key.as_ptr(), self.runner) };
        assert!(done == 0 || done == Errno::ENOENT.neg() || done < 0);
    }
}
