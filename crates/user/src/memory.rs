//! `mmap(2)` of a map's values.

use crate::map_object::MapObject;
use crate::state::Mode;
use crate::universe::lock;
use skep_abi::map_flags::{BPF_F_MMAPABLE, BPF_F_RDONLY_PROG};
use skep_abi::{Errno, MapType};
use skep_bpf::{MapAccess, MapMemory};
use skep_sys::mem::{Access, Mapping};
use std::sync::Arc;

/// Mapped values, and the map that they belong to.
#[derive(Debug)]
struct Memory {
    mapping: Mapping,
    map: Arc<MapObject>,
    writable: bool,
}

impl MapMemory for Memory {
    fn base(&self) -> *mut u8 {
        self.mapping.base()
    }

    fn len(&self) -> usize {
        self.mapping.len()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.writable {
            *lock(&self.map.writers) -= 1;
        }
    }
}

/// Maps the values of `map`.
pub(crate) fn map_values(
    map: &Arc<MapObject>,
    mode: Mode,
    access: MapAccess,
) -> Result<Box<dyn MapMemory>, Errno> {
    let writable = access == MapAccess::ReadWrite;
    if !mode.read || (writable && !mode.write) {
        return Err(Errno::EACCES);
    }
    if map.map.map_type != MapType::Array || !map.map.spec().record.fields.is_empty() {
        return Err(Errno::ENOTSUPP);
    }
    // Until it is counted, nobody freezes the map.
    let mut writers = lock(&map.writers);
    if writable && map.map.is_frozen() {
        return Err(Errno::EPERM);
    }
    if writable && map.map.map_flags & BPF_F_RDONLY_PROG != 0 {
        return Err(Errno::EACCES);
    }
    if map.map.map_flags & BPF_F_MMAPABLE == 0 {
        return Err(Errno::EINVAL);
    }
    let bytes = map.map.spec().value_stride() * map.map.max_entries as usize;
    let access = if writable {
        Access::ReadWrite
    } else {
        Access::Read
    };
    let mapping = Mapping::of_file(map.map.file(), 0, bytes, access);
    let mapping = mapping.map_err(|e| e.raw_os_error().map_or(Errno::ENOMEM, Errno))?;
    *writers += u32::from(writable);
    Ok(Box::new(Memory {
        mapping,
        map: Arc::clone(map),
        writable,
    }))
}
