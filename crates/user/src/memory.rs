//! `mmap(2)` of a map's values.

use crate::map_object::MapObject;
use crate::state::Mode;
use skep_abi::map_flags::{BPF_F_MMAPABLE, BPF_F_RDONLY_PROG};
use skep_abi::{Errno, MapType};
use skep_bpf::{MapAccess, MapMemory};
use skep_sys::filelock::{FileLock, Sharing};
use skep_sys::mem::{Access, Mapping};
use std::sync::Arc;

/// Mapped values, and the map that they belong to.
#[derive(Debug)]
struct Memory {
    mapping: Mapping,
    /// As long as there is one, nobody freezes the map, in whichever process.
    _writes: Option<FileLock>,
    /// The memory of a map is there as long as the map.
    _map: Arc<MapObject>,
}

impl MapMemory for Memory {
    fn base(&self) -> *mut u8 {
        self.mapping.base()
    }

    fn len(&self) -> usize {
        self.mapping.len()
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
    let writes = writable.then(|| FileLock::take(map.map.file(), Sharing::Shared));
    let writes = writes.transpose().map_err(|e| errno(&e))?;
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
    Ok(Box::new(Memory {
        mapping: mapping.map_err(|e| errno(&e))?,
        _writes: writes,
        _map: Arc::clone(map),
    }))
}

fn errno(e: &std::io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::ENOMEM, Errno)
}
