//! What programs hold of a map: the process-private header with its function pointers.
//!
//! Engines may read the public fields directly: an array element is at `data + index * elem_size` once
//! `index < max_entries`, and the current CPU's copy of a per-CPU one `cpu * percpu_stride` bytes further.

use crate::body::Body;
use crate::fields::FieldHook;
use crate::objects::ObjectTable;
use crate::region::Region;
use crate::spec::MapSpec;
use skep_abi::{Errno, MapType};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// Who performs an operation. One register wide: the CPU in the lower half.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Runner {
    /// The per-CPU slot that is leased.
    pub cpu: u32,
    /// Token of the thread ([`skep_sys::task::token`]), never 0.
    pub token: u32,
}

/// `bpf_map_lookup_elem`: the value in place, or null. For a map of maps the `*const MapHeader` of the inner map.
pub type LookupFn = unsafe extern "C" fn(*const MapHeader, *const u8, Runner) -> *mut u8;
/// `bpf_map_update_elem`: map, key, value, flags; 0 or a negative errno.
pub type UpdateFn =
    unsafe extern "C" fn(*const MapHeader, *const u8, *const u8, u64, Runner) -> i64;
/// `bpf_map_delete_elem`: 0 or a negative errno.
pub type DeleteFn = unsafe extern "C" fn(*const MapHeader, *const u8, Runner) -> i64;

/// The functions of one map type (and key size).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ops {
    pub(crate) lookup: LookupFn,
    pub(crate) update: UpdateFn,
    pub(crate) delete: DeleteFn,
}

/// What a map was created as, with the kernel's numbers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// `map_extra`
    pub map_extra: u64,
    /// `map_type`
    pub map_type: u32,
    /// `key_size`
    pub key_size: u32,
    /// `value_size`
    pub value_size: u32,
    /// `max_entries`
    pub max_entries: u32,
    /// `map_flags`
    pub map_flags: u32,
}

impl Told {
    /// Of a map of `spec`.
    pub(crate) fn of(spec: &MapSpec) -> Self {
        Self {
            map_extra: spec.map_extra,
            map_type: spec.map_type.id(),
            key_size: spec.key_size,
            value_size: spec.value_size,
            max_entries: spec.max_entries,
            map_flags: spec.map_flags,
        }
    }
}

/// The process-private side of a map. It stays where it is as long as any [`crate::Map`] of it lives.
#[repr(C)]
#[derive(Debug)]
pub struct MapHeader {
    /// Looks a key up.
    pub lookup_fn: LookupFn,
    /// Updates an element.
    pub update_fn: UpdateFn,
    /// Deletes an element.
    pub delete_fn: DeleteFn,
    /// Arrays: element 0 (of CPU 0). Other types: start of the data area.
    pub data: *mut u8,
    /// Bytes from one CPU's copy to the next one's; 0 if values are not per CPU.
    pub percpu_stride: u64,
    /// Arrays: bytes from one element to the next.
    pub elem_size: u32,
    /// Maximal number of elements.
    pub max_entries: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Map type.
    pub map_type: MapType,
    /// Creation flags.
    pub map_flags: u32,
    /// The universe's id of this map, 0 until it has one.
    pub id: AtomicU32,
    /// What programs read in the kernel's structure of a map.
    pub told: Told,
    pub(crate) spec: MapSpec,
    pub(crate) hook: OnceLock<FieldHook>,
    pub(crate) objects: OnceLock<Arc<ObjectTable>>,
    pub(crate) body: Body,
    pub(crate) region: Region,
}

// SAFETY: `data` points into `region`, which lives as long; all shared memory is accessed by atomics, or by plain copies
// of values whose races the kernel allows as well (see the top of each type's file).
unsafe impl Send for MapHeader {}
// SAFETY: as above.
unsafe impl Sync for MapHeader {}

impl MapHeader {
    /// A header over `region`, whose data starts with element 0.
    pub(crate) fn new(spec: &MapSpec, ops: Ops, body: Body, region: Region) -> Self {
        Self {
            lookup_fn: ops.lookup,
            update_fn: ops.update,
            delete_fn: ops.delete,
            data: region.data(),
            percpu_stride: 0,
            elem_size: u32::try_from(spec.value_stride()).unwrap_or(u32::MAX),
            max_entries: spec.max_entries,
            key_size: spec.key_size,
            value_size: spec.value_size,
            map_type: spec.map_type,
            map_flags: spec.map_flags,
            id: AtomicU32::new(0),
            told: Told::of(spec),
            spec: spec.clone(),
            hook: OnceLock::new(),
            objects: OnceLock::new(),
            body,
            region,
        }
    }

    /// `bpf_map_lookup_elem`
    ///
    /// # Safety
    /// `key` must be valid for reads of `key_size` bytes.
    #[inline]
    pub unsafe fn lookup(&self, key: *const u8, runner: Runner) -> *mut u8 {
        // SAFETY: the function belongs to this header; the key is the caller's promise.
        unsafe { (self.lookup_fn)(self, key, runner) }
    }

    /// `bpf_map_lookup_percpu_elem`: the value of another CPU, null for maps that are not per CPU or CPUs there are not.
    ///
    /// # Safety
    /// As [`Self::lookup`].
    pub unsafe fn lookup_percpu(&self, key: *const u8, cpu: u32, runner: Runner) -> *mut u8 {
        if self.percpu_stride == 0 || cpu >= self.spec.cpus {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promised.
        unsafe { self.lookup(key, Runner { cpu, ..runner }) }
    }

    /// `bpf_map_update_elem`
    ///
    /// # Safety
    /// `key` and `value` must be valid for reads of `key_size` and `value_size` bytes.
    #[inline]
    pub unsafe fn update(
        &self,
        key: *const u8,
        value: *const u8,
        flags: u64,
        runner: Runner,
    ) -> i64 {
        // SAFETY: as for `lookup`.
        unsafe { (self.update_fn)(self, key, value, flags, runner) }
    }

    /// `bpf_map_delete_elem`
    ///
    /// # Safety
    /// `key` must be valid for reads of `key_size` bytes.
    #[inline]
    pub unsafe fn delete(&self, key: *const u8, runner: Runner) -> i64 {
        // SAFETY: as for `lookup`.
        unsafe { (self.delete_fn)(self, key, runner) }
    }

    /// What the map was created as.
    #[must_use]
    pub fn spec(&self) -> &MapSpec {
        &self.spec
    }

    /// Is `address` inside the memory of this map?
    #[must_use]
    pub fn contains(&self, address: usize) -> bool {
        self.region.mapping().contains(address)
    }

    /// Where the memory of this map is.
    #[must_use]
    pub fn bytes(&self) -> std::ops::Range<usize> {
        let mapping = self.region.mapping();
        let start = mapping.base() as usize;
        start..start + mapping.len()
    }

    /// The key bytes that `key` points to.
    ///
    /// # Safety
    /// `key` must be valid for reads of `key_size` bytes for `'a`.
    pub(crate) unsafe fn key<'a>(&self, key: *const u8) -> &'a [u8] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(key, self.key_size as usize) }
    }

    /// `BPF_MAP_FREEZE`: from now on user space may not write, in whichever process.
    pub fn freeze(&self) {
        self.region.frozen().store(1, Ordering::SeqCst);
    }

    /// Was the map frozen?
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.region.frozen().load(Ordering::SeqCst) != 0
    }

    /// The file that the map lives in.
    #[must_use]
    pub fn file(&self) -> &std::fs::File {
        self.region.file()
    }

    /// Who looks after special fields; set once, before the map is used.
    pub fn set_field_hook(&self, hook: FieldHook) {
        drop(self.hook.set(hook));
    }

    /// Where ids in this map's elements are looked up; set once, before the map is used.
    pub fn set_objects(&self, table: Arc<ObjectTable>) {
        drop(self.objects.set(table));
    }

    /// The universe's id of this map.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed)
    }
}

/// `lookup` of types that programs cannot look up in.
pub(crate) unsafe extern "C" fn no_lookup(_: *const MapHeader, _: *const u8, _: Runner) -> *mut u8 {
    std::ptr::null_mut()
}

/// `update` of types that programs cannot update.
pub(crate) unsafe extern "C" fn no_update(
    _: *const MapHeader,
    _: *const u8,
    _: *const u8,
    _: u64,
    _: Runner,
) -> i64 {
    Errno::EOPNOTSUPP.neg()
}

/// `delete` of types without deletion.
pub(crate) unsafe extern "C" fn no_delete(_: *const MapHeader, _: *const u8, _: Runner) -> i64 {
    Errno::EINVAL.neg()
}
