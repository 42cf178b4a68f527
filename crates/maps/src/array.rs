//! Array and per-CPU array.
//!
//! Concurrency (the kernel's): elements exist from the start and are never deleted. Lookups are one bound check. Updates
//! copy in place, without a lock, word by word: a concurrent reader may see old and new words mixed unless both sides use
//! `BPF_F_LOCK`. Programs update the current CPU's copy of a per-CPU array, user space all copies.

use crate::body::Body;
use crate::confine::confine;
use crate::fields::copy_value;
use crate::header::{MapHeader, Ops, Runner, no_delete};
use crate::region::{Layout, Memory, Region};
use crate::spec::MapSpec;
use skep_abi::map_flags::{BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST};
use skep_abi::{Errno, MapType};
use skep_sys::mem::PAGE;

const OPS: Ops = Ops {
    lookup,
    update,
    delete: no_delete,
};
const PERCPU_OPS: Ops = Ops {
    lookup: lookup_percpu,
    update,
    delete: no_delete,
};

pub(crate) fn create(spec: &MapSpec, memory: &Memory) -> Result<MapHeader, Errno> {
    let one = spec.value_stride().checked_mul(spec.max_entries as usize);
    let (ops, data, percpu_stride) = if spec.map_type == MapType::PercpuArray {
        let stride = one.ok_or(Errno::ENOMEM)?.next_multiple_of(PAGE);
        (PERCPU_OPS, stride.checked_mul(spec.cpus as usize), stride)
    } else {
        (OPS, one, 0)
    };
    let region = Region::create(spec, Layout::new(data, Some(0))?, memory)?;
    let mut header = MapHeader::new(spec, ops, Body::Array, region);
    header.percpu_stride = percpu_stride as u64;
    Ok(header)
}

/// Byte offset of the element that `key` names, if there is one.
#[inline]
unsafe fn offset_of(map: &MapHeader, key: *const u8) -> Option<usize> {
    // SAFETY: keys of arrays have 4 bytes.
    let index = unsafe { key.cast::<u32>().read_unaligned() };
    (index < map.max_entries)
        .then(|| confine(index, map.max_entries) as usize * map.elem_size as usize)
}

unsafe extern "C" fn lookup(map: *const MapHeader, key: *const u8, _: Runner) -> *mut u8 {
    // SAFETY: engines call with the header the function came from and a key of its size.
    unsafe {
        let map = &*map;
        match offset_of(map, key) {
            Some(offset) => map.data.add(offset),
            None => std::ptr::null_mut(),
        }
    }
}

unsafe extern "C" fn lookup_percpu(map: *const MapHeader, key: *const u8, who: Runner) -> *mut u8 {
    // SAFETY: as in `lookup`; a CPU beyond the map's own number gets none.
    unsafe {
        let map = &*map;
        match offset_of(map, key) {
            Some(offset) if who.cpu < map.spec.cpus => map
                .data
                .add(offset + who.cpu as usize * map.percpu_stride as usize),
            _ => std::ptr::null_mut(),
        }
    }
}

/// The checks of an update, in the kernel's order.
pub(crate) fn check_update(map: &MapHeader, in_range: bool, flags: u64) -> Result<(), Errno> {
    if flags & !BPF_F_LOCK > BPF_EXIST {
        Err(Errno::EINVAL)
    } else if !in_range {
        Err(Errno::E2BIG)
    } else if flags & BPF_NOEXIST != 0 {
        Err(Errno::EEXIST)
    } else if flags & BPF_F_LOCK != 0 && crate::fields::spin_lock_offset(&map.spec.record).is_none()
    {
        Err(Errno::EINVAL)
    } else {
        Ok(())
    }
}

unsafe extern "C" fn update(
    map: *const MapHeader,
    key: *const u8,
    value: *const u8,
    flags: u64,
    who: Runner,
) -> i64 {
    // SAFETY: as in `lookup`; `value` has `value_size` bytes.
    unsafe {
        let map = &*map;
        let to = (map.lookup_fn)(map, key, who);
        if let Err(e) = check_update(map, !to.is_null(), flags) {
            return e.neg();
        }
        if flags & BPF_F_LOCK != 0 {
            map.copy_locked(value, to, to, who);
        } else {
            copy_value(&map.spec.record, value, to, map.value_size as usize);
        }
        // As if the element were another one: its timer stops.
        map.release_fields(to);
    }
    0
}
