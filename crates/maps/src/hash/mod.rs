//! Hash maps: hash, per-CPU hash, LRU hash, per-CPU LRU hash, and the hash of hashes of maps and devices.
//!
//! Concurrency (the kernel's, for preallocated maps; ours has no other kind):
//! * Lookups take no lock and never wait. They return the value in place; it stays valid memory of this map, but once the
//!   element is deleted or replaced it may become another key's.
//! * An update of an existing key writes a spare element and then swaps it in, or the other one of two values (`twin.rs`):
//!   a lookup sees the old value or the new one. With `BPF_F_LOCK`, and in per-CPU maps, the value is changed in place.
//! * Updates and deletes lock one bucket, or one element. The lock names its owner: one whose thread died is taken over, and
//!   what the dead thread had in hand is found again by a sweep once it is missed.
//! * At most `max_entries` elements, exactly (`BPF_F_NO_PREALLOC` changes nothing but when memory is touched, which is
//!   always at first use).
//!
//! A lookup touches two cache lines: the bucket (tags and indexes of 8 elements) and the element.

mod alloc;
mod bucket;
mod key;
mod lru;
mod ops;
mod twin;
mod walk;

use crate::body::Body;
use crate::header::{MapHeader, Ops, Told};
use crate::lease::USER_SLOTS;
use crate::region::{Layout, Memory, Region};
use crate::spec::MapSpec;
#[cfg(feature = "loom")]
use crate::sync::make;
use crate::sync::{AtomicU8, AtomicU32, AtomicU64};
use alloc::{CpuLine, SharedLine};
use bucket::Bucket;
use key::{Key, Key4, Key8, Key16, KeyN};
use ops::Kind;
use skep_abi::{Errno, MapType};
use skep_sys::mem::PAGE;
use std::sync::atomic::Ordering;

/// Elements a bucket has on average at most, when the map is full.
const LOAD: u32 = 4;

/// The process-private side of a hash map: addresses and sizes, computed here, never read from shared memory.
#[derive(Debug)]
pub(crate) struct Hash {
    buckets: *const Bucket,
    /// Number of buckets less one.
    mask: u32,
    /// Elements: `capacity` and the spares.
    total: u32,
    elems: *mut u8,
    elem_size: usize,
    /// Bytes of a key in an element; its value follows, or the two of which one holds.
    key_stride: usize,
    twins: bool,
    seed: u64,
    /// CPU 0's value of element 0 (per-CPU maps).
    percpu: *mut u8,
    percpu_stride: usize,
    value_stride: usize,
    /// One "used lately" byte an element (LRU).
    recent: *const AtomicU8,
    links: *const AtomicU32,
    marks: *const AtomicU64,
    cpu_lines: *const CpuLine,
    shared: *const SharedLine,
    capacity: u32,
    cpus: u32,
    /// Lines: CPUs, then the slots for user space.
    lines: u32,
}

/// Byte offsets of the parts in a map's file.
struct Parts {
    elem_size: usize,
    key_stride: usize,
    /// Do elements have two values?
    twins: bool,
    total: u32,
    buckets: u32,
    /// Data: elements, then per-CPU values.
    percpu_at: usize,
    percpu_stride: usize,
    data: usize,
    /// Control: lines, buckets, links, marks, recent.
    links_at: usize,
    marks_at: usize,
    recent_at: usize,
    control: usize,
}

pub(crate) fn is_lru(map_type: MapType) -> bool {
    matches!(map_type, MapType::LruHash | MapType::LruPercpuHash)
}

impl Parts {
    /// `None` if the sizes overflow.
    fn of(spec: &MapSpec) -> Option<Self> {
        let percpu = spec.is_percpu();
        let twins = twin::elem_size(spec);
        let spares = if percpu || twins.is_some() {
            0
        } else {
            spec.cpus + USER_SLOTS
        };
        let total = spec.max_entries.checked_add(spares)?;
        let buckets = spec
            .max_entries
            .div_ceil(LOAD)
            .checked_next_power_of_two()?;
        let n = total as usize;
        let key_stride = (spec.key_size as usize).next_multiple_of(8);
        let value_stride = spec.value_stride();
        let elem_size = match twins {
            Some(size) => size,
            None if percpu => key_stride,
            None => key_stride.checked_add(value_stride)?,
        };
        let elems = n.checked_mul(elem_size)?.checked_next_multiple_of(PAGE)?;
        let percpu_stride = if percpu {
            n.checked_mul(value_stride)?
                .checked_next_multiple_of(PAGE)?
        } else {
            0
        };
        let links_at = Self::buckets_at(spec) + buckets as usize * size_of::<Bucket>();
        let marks_at = links_at + (n * size_of::<AtomicU32>()).next_multiple_of(64);
        let recent_at = marks_at + n.div_ceil(64) * size_of::<AtomicU64>();
        Some(Self {
            elem_size,
            key_stride,
            twins: twins.is_some(),
            total,
            buckets,
            percpu_at: elems,
            percpu_stride,
            data: elems.checked_add(percpu_stride.checked_mul(spec.cpus as usize)?)?,
            links_at,
            marks_at,
            recent_at,
            control: recent_at
                + if is_lru(spec.map_type) {
                    n * size_of::<AtomicU8>()
                } else {
                    0
                },
        })
    }

    fn buckets_at(spec: &MapSpec) -> usize {
        size_of::<SharedLine>() + (spec.cpus + USER_SLOTS) as usize * size_of::<CpuLine>()
    }
}

/// Bytes of data and control of a hash map's file, and its number of elements; `None` if they overflow.
pub(crate) struct Sizes {
    pub(crate) data: usize,
    pub(crate) control: usize,
    pub(crate) total: u32,
}

pub(crate) fn sizes(spec: &MapSpec) -> Option<Sizes> {
    Parts::of(spec).map(|p| Sizes {
        data: p.data,
        control: p.control,
        total: p.total,
    })
}

/// Loom's atomics do not begin as zero bytes.
#[cfg(feature = "loom")]
pub(crate) fn make_atomics(spec: &MapSpec, data: *mut u8, control: *mut u8) {
    let Some(parts) = Parts::of(spec) else { return };
    let n = parts.total as usize;
    let lines = (spec.cpus + USER_SLOTS) as usize;
    let at = |offset: usize| control.wrapping_add(offset);
    make::<SharedLine>(control.cast(), 1);
    make::<CpuLine>(at(size_of::<SharedLine>()).cast(), lines);
    make::<Bucket>(at(Parts::buckets_at(spec)).cast(), parts.buckets as usize);
    make::<AtomicU32>(at(parts.links_at).cast(), n);
    make::<AtomicU64>(at(parts.marks_at).cast(), n.div_ceil(64));
    if is_lru(spec.map_type) {
        make::<AtomicU8>(at(parts.recent_at).cast(), n);
    }
    let states = if parts.twins { n } else { 0 };
    for i in 0..states {
        let at = i * parts.elem_size + parts.key_stride;
        make::<twin::State>(data.wrapping_add(at).cast(), 1);
    }
}

/// Chooses the seed of a new map, the first word of its control area.
pub(crate) fn seed(spec: &MapSpec, control: *mut u8) {
    if spec.map_flags & skep_abi::map_flags::BPF_F_ZERO_SEED == 0 {
        // SAFETY: the map is new; the shared line comes first.
        unsafe { &*control.cast::<SharedLine>() }
            .seed
            .store(random_seed(), Ordering::Relaxed);
    }
}

/// A number nobody can guess (the standard library's keys are random a process).
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(skep_sys::task::thread_id())
}

/// Owners that one local-storage map has storage for; the kernel keeps as many as there are owners.
const OWNERS_MAX: u32 = 1 << 16;

/// Local storage: a hash map whose keys are numbers of owners that the universe chooses. Its header says `key_size` 8.
pub(crate) fn create_storage(spec: &MapSpec, memory: &Memory) -> Result<MapHeader, Errno> {
    let inside = MapSpec {
        key_size: 8,
        max_entries: OWNERS_MAX,
        ..spec.clone()
    };
    let mut header = create(&inside, memory)?;
    header.spec = spec.clone();
    header.told = Told::of(spec);
    header.lookup_fn = crate::header::no_lookup;
    header.update_fn = crate::header::no_update;
    header.delete_fn = crate::header::no_delete;
    Ok(header)
}

pub(crate) fn create(spec: &MapSpec, memory: &Memory) -> Result<MapHeader, Errno> {
    let sizes = sizes(spec).ok_or(Errno::E2BIG)?;
    let region = Region::create(
        spec,
        Layout::new(Some(sizes.data), Some(sizes.control))?,
        memory,
    )?;
    #[cfg(feature = "loom")]
    make_atomics(spec, region.data(), region.control());
    if region.is_fresh() {
        seed(spec, region.control());
    }
    let hash = Hash::new(spec, region.data(), region.control()).ok_or(Errno::E2BIG)?;
    if region.is_fresh() {
        hash.give_spares();
    }
    let mut ops = match spec.key_size {
        4 => ops_of::<Key4>(spec.map_type, hash.twins),
        8 => ops_of::<Key8>(spec.map_type, hash.twins),
        16 => ops_of::<Key16>(spec.map_type, hash.twins),
        _ => ops_of::<KeyN>(spec.map_type, hash.twins),
    };
    if spec.map_type == MapType::HashOfMaps {
        ops.lookup = crate::objects::lookup_inner_hashed;
    }
    let percpu_stride = hash.percpu_stride as u64;
    let mut header = MapHeader::new(spec, ops, Body::Hash(hash), region);
    header.percpu_stride = percpu_stride;
    Ok(header)
}

fn ops_of<K: Key>(map_type: MapType, twins: bool) -> Ops {
    match map_type {
        MapType::Hash if twins => ops::table::<K, ops::Twins>(),
        MapType::LruHash if twins => ops::table::<K, ops::TwinsLru>(),
        MapType::PercpuHash => ops::table::<K, ops::Percpu>(),
        MapType::LruHash => ops::table::<K, ops::Lru>(),
        MapType::LruPercpuHash => ops::table::<K, ops::PercpuLru>(),
        _ => ops::table::<K, ops::Plain>(),
    }
}

impl Hash {
    /// Over the memory at `data` and `control`, which is as long as [`sizes`] says and lives as long as the result.
    pub(crate) fn new(spec: &MapSpec, data: *mut u8, control: *mut u8) -> Option<Self> {
        let parts = Parts::of(spec)?;
        let at = |offset: usize| control.wrapping_add(offset).cast_const();
        // SAFETY: the shared line is the first of the control area.
        let seed = unsafe { &*control.cast::<SharedLine>() }
            .seed
            .load(Ordering::Relaxed);
        Some(Self {
            buckets: at(Parts::buckets_at(spec)).cast(),
            mask: parts.buckets - 1,
            total: parts.total,
            elems: data,
            elem_size: parts.elem_size,
            key_stride: parts.key_stride,
            twins: parts.twins,
            seed,
            percpu: data.wrapping_add(parts.percpu_at),
            percpu_stride: parts.percpu_stride,
            value_stride: spec.value_stride(),
            recent: at(parts.recent_at).cast(),
            links: at(parts.links_at).cast(),
            marks: at(parts.marks_at).cast(),
            cpu_lines: at(size_of::<SharedLine>()).cast(),
            shared: at(0).cast(),
            capacity: spec.max_entries,
            cpus: spec.cpus,
            lines: spec.cpus + USER_SLOTS,
        })
    }

    /// Number of elements, the spares included.
    #[inline]
    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    #[inline(always)]
    fn bucket(&self, number: u32) -> &Bucket {
        // SAFETY: `mask + 1` buckets lie there, shared memory of atomics only.
        unsafe { &*self.buckets.add((number & self.mask) as usize) }
    }

    /// Key of element `index`, which was checked.
    #[inline(always)]
    fn key_at(&self, index: u32) -> *mut u8 {
        self.elems.wrapping_add(index as usize * self.elem_size)
    }

    /// The key that is stored before the value at `value`.
    pub(crate) fn key_of_value(&self, value: *const u8) -> *const u8 {
        value.wrapping_sub(self.key_stride)
    }

    /// The value of element `index` (of `cpu` in per-CPU maps).
    #[inline(always)]
    fn value_at<V: Kind>(&self, index: u32, cpu: u32) -> *mut u8 {
        if V::TWINS {
            self.holding(self.key_at(index), self.key_stride)
        } else if V::PERCPU {
            let cpu = if cpu < self.cpus { cpu } else { 0 };
            self.percpu.wrapping_add(
                cpu as usize * self.percpu_stride + index as usize * self.value_stride,
            )
        } else {
            self.key_at(index).wrapping_add(self.key_stride)
        }
    }
}
