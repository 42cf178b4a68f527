//! Where a run begins and what it leaves.

use super::generate::{ARENA, ARRAY, HASH, PERCPU, VALUE};
use crate::fuzz_verify::Random;
use skep_abi::MapType;
use skep_abi::map_flags::BPF_F_MMAPABLE;
use skep_isa::{Slot, opcode as op};

/// The maps that programs use: type, bytes of a key and of a value, elements; by index.
#[rustfmt::skip] // one map a line
pub(super) const MAPS: &[(MapType, u32, u32, u32)] = &[
    (MapType::Array, 4, VALUE as u32, 1),
    (MapType::PercpuArray, 4, ELEMENT as u32, PERCPU_ENTRIES),
    (MapType::Hash, 8, ELEMENT as u32, 6),
    (MapType::ProgArray, 4, 4, TARGETS),
    (MapType::Arena, 0, 0, ARENA_PAGES),
];
/// Where the arena is in this process: far from all else, with a lower half that programs need to know.
pub(super) const ARENA_ADDRESS: u64 = (1 << 40) + (1 << 20);
/// Pages of the arena, of which the first one is there.
pub(super) const ARENA_PAGES: u32 = 4;
/// The bytes of the arena that programs use and that are there: the last ones of the first page.
pub(super) const ARENA_BYTES: usize = 64;
pub(super) const ARENA_START: usize = PAGE - ARENA_BYTES;
const PAGE: usize = 4096;
/// Elements of the prog array; the first ones hold the targets.
pub(super) const TARGETS: u32 = 4;
/// Bytes of an element of the maps but the array.
pub(super) const ELEMENT: usize = 16;
/// Elements of the per-CPU array.
pub(super) const PERCPU_ENTRIES: u32 = 3;
/// Keys of the hash that programs use.
pub(super) const KEYS: u64 = 8;
/// Bytes of `struct __sk_buff`, and of the longest packet.
pub(super) const CTX_BYTES: u32 = 192;
const PACKET_MAX: usize = 96;

/// An element of a map.
pub(super) type Element = [u8; ELEMENT];

/// What maps hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Contents {
    /// The only value of the array.
    pub(super) array: Vec<u8>,
    /// By key, each CPU's value; sorted, since runs are on any CPU.
    pub(super) percpu: Vec<Vec<Element>>,
    /// By key.
    pub(super) hash: Vec<Option<Element>>,
    /// [`ARENA_BYTES`] of the arena.
    pub(super) arena: Vec<u8>,
}

/// Where a run begins.
#[derive(Clone)]
pub(super) struct Start {
    pub(super) packet: Vec<u8>,
    pub(super) maps: Contents,
}

/// What a run leaves. Maps that the program does not name stay as they were, and are not read.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct End {
    pub(super) retval: u32,
    pub(super) packet: Vec<u8>,
    pub(super) ctx: Vec<u8>,
    pub(super) maps: Contents,
}

impl Start {
    /// A random packet and random maps, per-CPU values the same on all CPUs.
    pub(super) fn random(random: &mut Random, cpus: usize) -> Self {
        let mut bytes = |n: usize| -> Vec<u8> { (0..n).map(|_| random.next() as u8).collect() };
        let mut packet = bytes(PACKET_MAX);
        // An Ethernet type without a header of its own.
        packet[12..14].copy_from_slice(&[0x88, 0xb5]);
        let (array, arena) = (bytes(VALUE), bytes(ARENA_BYTES));
        let mut element = || -> Element { std::array::from_fn(|_| random.next() as u8) };
        let percpu = (0..PERCPU_ENTRIES).map(|_| vec![element(); cpus]).collect();
        let mut hash = vec![None; KEYS as usize];
        for key in [1, 4, 6] {
            hash[key] = Some(element());
        }
        packet.truncate(64 + random.below(PACKET_MAX - 64));
        Self {
            packet,
            maps: Contents {
                array,
                percpu,
                hash,
                arena,
            },
        }
    }
}

/// Which maps a program names, by index.
#[derive(Clone, Copy, Default)]
pub(super) struct Named([bool; MAPS.len()]);

impl Named {
    /// The maps that `insns` name by index.
    pub(super) fn of(insns: &[Slot]) -> Self {
        let mut named = [false; MAPS.len()];
        for slot in insns {
            if is_map(slot) {
                named[slot.imm as usize] = true;
            }
        }
        Self(named)
    }

    pub(super) fn array(self) -> bool {
        self.0[ARRAY as usize]
    }

    pub(super) fn percpu(self) -> bool {
        self.0[PERCPU as usize]
    }

    pub(super) fn arena(self) -> bool {
        self.0[ARENA as usize]
    }

    pub(super) fn hash(self) -> bool {
        self.0[HASH as usize]
    }
}

/// True if the slot names a map.
pub(super) fn is_map(slot: &Slot) -> bool {
    slot.code == op::LDDW && slot.src() == op::PSEUDO_MAP_FD
}

/// True if the slot calls `bpf_throw`, whose BTF id goes into its immediate.
pub(super) fn is_throw(slot: &Slot) -> bool {
    slot.code == op::JMP | op::CALL && slot.src() == op::PSEUDO_KFUNC_CALL
}

/// Puts in `insns` what their maps and `bpf_throw` are called by one side.
pub(super) fn name_operands(insns: &mut [Slot], throw: u32, map: impl Fn(i32) -> Slot) {
    for slot in insns {
        if is_map(slot) {
            let to = map(slot.imm);
            *slot = Slot::new(op::LDDW, slot.dst(), to.src(), 0, to.imm);
        } else if is_throw(slot) {
            slot.imm = throw.cast_signed();
        }
    }
}

/// Element commands of one side's maps, by index of the map.
pub(super) trait Elements {
    fn lookup(&self, map: i32, key: &[u8], value: &mut [u8]) -> Result<(), String>;
    fn update(&self, map: i32, key: &[u8], value: &[u8]) -> Result<(), String>;
    fn delete(&self, map: i32, key: &[u8]) -> Result<(), String>;
    /// The first page of the arena, of which there is memory.
    fn arena(&self) -> *mut u8;
}

/// `map_extra` of a map of a type.
pub(super) const fn extra(map_type: MapType) -> u64 {
    match map_type {
        MapType::Arena => ARENA_ADDRESS,
        _ => 0,
    }
}

/// Flags that a map of a type is made with.
pub(super) const fn flags(map_type: MapType) -> u32 {
    match map_type {
        MapType::Arena => BPF_F_MMAPABLE,
        _ => 0,
    }
}

/// One side's maps and what is known to be in them, so that only differences are written.
pub(super) struct Maps<E> {
    elements: E,
    cpus: usize,
    known: Contents,
}

impl<E: Elements> Maps<E> {
    /// Over maps that were just made.
    pub(super) fn new(elements: E, cpus: usize) -> Self {
        Self {
            elements,
            cpus,
            known: Contents {
                array: Vec::new(),
                percpu: vec![Vec::new(); PERCPU_ENTRIES as usize],
                hash: vec![None; KEYS as usize],
                arena: Vec::new(),
            },
        }
    }

    /// Gives the named maps the contents of `start`.
    pub(super) fn reset(&mut self, start: &Contents, named: Named) -> Result<(), String> {
        let e = &self.elements;
        if named.array() && self.known.array != start.array {
            e.update(ARRAY, &0u32.to_ne_bytes(), &start.array)?;
        }
        if named.arena() && self.known.arena != start.arena {
            // SAFETY: the first page is there, and nothing runs.
            let at = unsafe { e.arena().add(ARENA_START) };
            // SAFETY: as above.
            unsafe { at.copy_from_nonoverlapping(start.arena.as_ptr(), ARENA_BYTES) };
        }
        if named.percpu() {
            for (key, (known, cpus)) in (0u32..).zip(self.known.percpu.iter().zip(&start.percpu)) {
                if known != cpus {
                    e.update(PERCPU, &key.to_ne_bytes(), &cpus.concat())?;
                }
            }
        }
        if named.hash() {
            let both = || (0u64..).zip(self.known.hash.iter().zip(&start.hash));
            for (key, _) in both().filter(|(_, (known, to))| known.is_some() && to.is_none()) {
                e.delete(HASH, &key.to_ne_bytes())?;
            }
            for (key, (known, to)) in both() {
                if let (true, Some(element)) = (known != to, to) {
                    e.update(HASH, &key.to_ne_bytes(), element)?;
                }
            }
        }
        Ok(())
    }

    /// What the named maps hold now.
    pub(super) fn read(&mut self, named: Named) -> Result<Contents, String> {
        let e = &self.elements;
        let mut now = Contents::default();
        if named.array() {
            now.array = vec![0; VALUE];
            e.lookup(ARRAY, &0u32.to_ne_bytes(), &mut now.array)?;
            self.known.array.clone_from(&now.array);
        }
        if named.arena() {
            // SAFETY: the first page is there, and nothing runs.
            let at = unsafe { e.arena().add(ARENA_START) };
            // SAFETY: as above.
            now.arena = unsafe { std::slice::from_raw_parts(at, ARENA_BYTES) }.to_vec();
            self.known.arena.clone_from(&now.arena);
        }
        if named.percpu() {
            for key in 0..PERCPU_ENTRIES {
                let mut all = vec![0; ELEMENT * self.cpus];
                e.lookup(PERCPU, &key.to_ne_bytes(), &mut all)?;
                let mut cpus = all.as_chunks::<ELEMENT>().0.to_vec();
                cpus.sort_unstable();
                now.percpu.push(cpus);
            }
            self.known.percpu.clone_from(&now.percpu);
        }
        if named.hash() {
            now.hash.extend((0..KEYS).map(|key| {
                let mut value = [0; ELEMENT];
                let found = e.lookup(HASH, &key.to_ne_bytes(), &mut value);
                found.is_ok().then_some(value)
            }));
            self.known.hash.clone_from(&now.hash);
        }
        Ok(now)
    }
}
