//! Maps whose elements name other objects: prog array, perf event array, cgroup array, array and hash of maps, and the
//! redirect targets (devmap, cpumap, xskmap).
//!
//! An element holds an id; what the id means to programs (an inner map's header, a program) is found in the universe's
//! [`ObjectTable`]. Who holds references is the universe's business: [`Map::set_object`] returns the id that was there.
//!
//! Concurrency (the kernel's): an element is one word, replaced atomically; what was replaced may be in use until the runs
//! that saw it end.

use crate::body::Body;
use crate::confine::confine;
use crate::header::{MapHeader, Ops, Runner, no_delete, no_lookup, no_update};
use crate::map::Map;
use crate::region::{Layout, Memory, Region};
use crate::spec::MapSpec;
use crate::target;
use skep_abi::map_flags::{BPF_ANY, BPF_EXIST, BPF_NOEXIST};
use skep_abi::{Errno, MapType};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Ids in one chunk of the table.
const CHUNK: usize = 1024;
/// Chunks of the table; ids end at their product.
const CHUNKS: usize = 1024;

/// What the ids of one stretch mean.
type Chunk = Box<[AtomicPtr<u8>]>;

/// What ids mean: written by the universe, read by running programs without a lock.
#[derive(Debug)]
pub struct ObjectTable {
    chunks: Box<[OnceLock<Chunk>]>,
}

impl Default for ObjectTable {
    fn default() -> Self {
        Self {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
        }
    }
}

impl ObjectTable {
    /// What `id` means, or null.
    #[inline]
    #[must_use]
    pub fn get(&self, id: u32) -> *mut u8 {
        let id = id as usize;
        self.chunks
            .get(id / CHUNK)
            .and_then(OnceLock::get)
            .map_or(std::ptr::null_mut(), |chunk| {
                chunk[id % CHUNK].load(Ordering::Acquire)
            })
    }

    /// Lets `id` mean nothing.
    pub fn clear(&self, id: u32) {
        let id = id as usize;
        if let Some(chunk) = self.chunks.get(id / CHUNK).and_then(OnceLock::get) {
            chunk[id % CHUNK].store(std::ptr::null_mut(), Ordering::Release);
        }
    }

    /// Lets `id` mean `object`, null for nothing. The object must outlive every run that may have seen it.
    ///
    /// # Errors
    /// `ENOSPC` if ids are used up.
    pub fn set(&self, id: u32, object: *mut u8) -> Result<(), Errno> {
        let id = id as usize;
        let chunk = self.chunks.get(id / CHUNK).ok_or(Errno::ENOSPC)?;
        let chunk = chunk.get_or_init(|| (0..CHUNK).map(|_| AtomicPtr::default()).collect());
        chunk[id % CHUNK].store(object, Ordering::Release);
        Ok(())
    }
}

/// Process-private side of the arrays among these maps.
#[derive(Debug)]
pub(crate) struct Objects {
    /// One word an element: the id in the lower half for maps of programs, maps, rings; else the value as user space wrote it.
    words: *const AtomicU64,
    slots: u32,
    /// Devmap hash: keys are not indexes.
    sparse: bool,
}

pub(crate) fn create(spec: &MapSpec, memory: &Memory) -> Result<MapHeader, Errno> {
    let layout = Layout::new((spec.max_entries as usize).checked_mul(8), Some(0))?;
    let region = Region::create(spec, layout, memory)?;
    let words = region.data().cast_const().cast();
    let body = Body::Objects(Objects {
        words,
        slots: spec.max_entries,
        sparse: false,
    });
    let lookup = match spec.map_type {
        MapType::ArrayOfMaps => lookup_inner,
        MapType::Devmap | MapType::Cpumap => lookup_word,
        _ => no_lookup,
    };
    let ops = Ops {
        lookup,
        update: no_update,
        delete: no_delete,
    };
    let mut header = MapHeader::new(spec, ops, body, region);
    header.elem_size = 8;
    Ok(header)
}

unsafe extern "C" fn lookup_inner(map: *const MapHeader, key: *const u8, _: Runner) -> *mut u8 {
    // SAFETY: engines call with the header the function came from and a key of 4 bytes.
    let (map, index) = unsafe { (&*map, key.cast::<u32>().read_unaligned()) };
    map.object(map.object_id(u64::from(index)))
}

unsafe extern "C" fn lookup_word(map: *const MapHeader, key: *const u8, _: Runner) -> *mut u8 {
    // SAFETY: as above.
    let (map, index) = unsafe { (&*map, key.cast::<u32>().read_unaligned()) };
    if map.object_id(u64::from(index)) == 0 {
        return std::ptr::null_mut();
    }
    map.data.wrapping_add(index as usize * 8)
}

/// Lookup in a hash of maps.
pub(crate) unsafe extern "C" fn lookup_inner_hashed(
    map: *const MapHeader,
    key: *const u8,
    _: Runner,
) -> *mut u8 {
    // SAFETY: engines call with the header the function came from and a key of its size.
    let map = unsafe { &*map };
    let Body::Hash(hash) = &map.body else {
        return std::ptr::null_mut();
    };
    // SAFETY: as above.
    let key = unsafe { map.key(key) };
    hash.user_find(map, key)
        .map_or(std::ptr::null_mut(), |index| {
            // SAFETY: values of hashes of maps have 4 bytes.
            map.object(unsafe { hash.user_value(index).cast::<u32>().read_volatile() })
        })
}

impl MapHeader {
    /// The id at `index`, 0 for none.
    #[inline]
    #[must_use]
    pub fn object_id(&self, index: u64) -> u32 {
        match &self.body {
            Body::Objects(objects) => objects
                .word(index)
                .map_or(0, |w| w.load(Ordering::Acquire) as u32),
            _ => 0,
        }
    }

    /// The control group at `index`, 0 for none.
    #[must_use]
    pub fn cgroup_id(&self, index: u32) -> u64 {
        match &self.body {
            Body::Objects(objects) => objects
                .word(u64::from(index))
                .map_or(0, |w| w.load(Ordering::Acquire)),
            _ => 0,
        }
    }

    /// What the universe registered for `id`.
    #[inline]
    pub(crate) fn object(&self, id: u32) -> *mut u8 {
        match (id, self.objects.get()) {
            (1.., Some(table)) => table.get(id),
            _ => std::ptr::null_mut(),
        }
    }
}

impl Objects {
    #[inline]
    fn word(&self, index: u64) -> Option<&AtomicU64> {
        let index = u32::try_from(index).ok().filter(|i| *i < self.slots)?;
        // SAFETY: there are `slots` words.
        Some(unsafe { &*self.words.add(confine(index, self.slots) as usize) })
    }

    fn at(&self, key: &[u8]) -> Option<&AtomicU64> {
        self.word(u64::from(u32::from_ne_bytes(key.try_into().ok()?)))
    }

    pub(crate) fn user_read(
        &self,
        map: &MapHeader,
        key: &[u8],
        value: &mut [u8],
    ) -> Result<(), Errno> {
        match map.map_type {
            MapType::Xskmap => return Err(Errno::EOPNOTSUPP),
            MapType::PerfEventArray | MapType::CgroupArray => return Err(Errno::ENOTSUPP),
            _ => {}
        }
        let word = self.at(key).map_or(0, |w| w.load(Ordering::Acquire));
        if word as u32 == 0 {
            return Err(Errno::ENOENT);
        }
        let bytes = word.to_ne_bytes();
        value.copy_from_slice(bytes.get(..value.len()).ok_or(Errno::EINVAL)?);
        Ok(())
    }

    /// Writes a redirect target.
    pub(crate) fn user_write(
        &self,
        map: &MapHeader,
        key: &[u8],
        value: &[u8],
        flags: u64,
    ) -> Result<(), Errno> {
        if crate::elem::holds_objects(map.map_type) {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0u8; 8];
        bytes
            .get_mut(..value.len())
            .ok_or(Errno::EINVAL)?
            .copy_from_slice(value);
        self.swap(map, key, u64::from_ne_bytes(bytes), flags)
            .map(drop)
    }

    fn swap(&self, map: &MapHeader, key: &[u8], new: u64, flags: u64) -> Result<u64, Errno> {
        let target = matches!(
            map.map_type,
            MapType::Devmap | MapType::Cpumap | MapType::Xskmap
        );
        if flags > if target { BPF_EXIST } else { BPF_ANY } {
            return Err(Errno::EINVAL);
        }
        let word = self.at(key).ok_or(Errno::E2BIG)?;
        if flags == BPF_NOEXIST && map.map_type != MapType::Xskmap {
            return Err(Errno::EEXIST);
        }
        target::check(map, key, new)?;
        let there = word.load(Ordering::Acquire) != 0;
        if map.map_type == MapType::Xskmap && there == (flags == BPF_NOEXIST) && flags != BPF_ANY {
            return Err(if there { Errno::EEXIST } else { Errno::ENOENT });
        }
        Ok(word.swap(new, Ordering::AcqRel))
    }

    pub(crate) fn remove(&self, map: &MapHeader, key: &[u8]) -> Result<u32, Errno> {
        let old = self.at(key).map(|w| w.swap(0, Ordering::AcqRel));
        let lenient = matches!(
            map.map_type,
            MapType::Devmap | MapType::Cpumap | MapType::Xskmap
        );
        match old {
            None if map.map_type == MapType::Devmap || map.map_type == MapType::Xskmap => {
                Err(Errno::EINVAL)
            }
            None if map.map_type == MapType::Cpumap => Err(Errno::EINVAL),
            None => Err(Errno::E2BIG),
            Some(0) if !lenient => Err(Errno::ENOENT),
            Some(id) => Ok(id as u32),
        }
    }

    /// For maps that are not arrays: the next key. `None` for arrays.
    pub(crate) fn next_key(
        &self,
        _: &MapHeader,
        _: Option<&[u8]>,
        _: &mut [u8],
    ) -> Option<Result<(), Errno>> {
        self.sparse.then_some(Err(Errno::ENOENT))
    }
}

impl Map {
    /// Stores the id of an object under `key`, as `BPF_MAP_UPDATE_ELEM` does for a descriptor; the id that was there, or 0.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_object(
        &self,
        key: &[u8],
        id: u32,
        flags: u64,
        runner: Runner,
    ) -> Result<u32, Errno> {
        if key.len() != self.key_size as usize {
            return Err(Errno::EINVAL);
        }
        match &self.body {
            Body::Objects(objects) => objects
                .swap(self, key, u64::from(id), flags)
                .map(|old| old as u32),
            Body::Hash(hash) => {
                let old = self.hashed_id(key);
                hash.user_update(self, key, &id.to_ne_bytes(), flags, runner)?;
                Ok(old)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Stores the id of a control group in an array of them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_cgroup(&self, key: &[u8], id: u64, flags: u64) -> Result<(), Errno> {
        match &self.body {
            Body::Objects(objects) if self.map_type == MapType::CgroupArray => {
                objects.swap(self, key, id, flags).map(drop)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Removes what is under `key`: its id.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove_object(&self, key: &[u8], runner: Runner) -> Result<u32, Errno> {
        if key.len() != self.key_size as usize {
            return Err(Errno::EINVAL);
        }
        match &self.body {
            Body::Objects(objects) => objects.remove(self, key),
            Body::Hash(hash) => {
                let mut id = [0u8; 4];
                hash.user_remove(self, key, &mut id, runner)?;
                Ok(u32::from_ne_bytes(id))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn hashed_id(&self, key: &[u8]) -> u32 {
        let Body::Hash(hash) = &self.body else {
            return 0;
        };
        let mut id = [0u8; 4];
        if let Some(index) = hash.user_find(self, key) {
            hash.user_read(self, index, &mut id);
        }
        u32::from_ne_bytes(id)
    }

    /// Every id in the map, 0 left out.
    #[must_use]
    pub fn object_ids(&self) -> Vec<u32> {
        match &self.body {
            Body::Objects(_) => (0..u64::from(self.max_entries))
                .map(|i| self.object_id(i))
                .filter(|&id| id != 0)
                .collect(),
            Body::Hash(hash) => {
                let mut ids = Vec::new();
                hash.for_each_index(&mut |index| {
                    let mut id = [0u8; 4];
                    hash.user_read(self, index, &mut id);
                    ids.push(u32::from_ne_bytes(id));
                });
                ids
            }
            _ => Vec::new(),
        }
    }
}
