//! Maps of the kernel: a descriptor together with the sizes that make element calls safe.

use crate::attr::{Cmd, MapBatch, MapCreate, MapElem, One};
use crate::bpf::{self, Info, address, address_mut};
use crate::mem::{Mapping, PAGE};
use skep_abi::MapType;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// `struct bpf_map_info`
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub struct MapInfo {
    pub map_type: u32,
    pub id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
    pub name: [u8; 16],
    pub ifindex: u32,
    pub btf_vmlinux_value_type_id: u32,
    pub netns_dev: u64,
    pub netns_ino: u64,
    pub btf_id: u32,
    pub btf_key_type_id: u32,
    pub btf_value_type_id: u32,
    pub btf_vmlinux_id: u32,
    pub map_extra: u64,
}

// SAFETY: numbers only; 4-byte fields come in pairs before 8-byte ones.
unsafe impl Info for MapInfo {}

/// An open map.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    /// Bytes the kernel reads of a key.
    key_bytes: usize,
    /// Bytes the kernel reads or writes of a value, all CPUs of per-CPU maps.
    value_bytes: usize,
    /// An arena has a place in this process: programs that use it cannot be loaded before it has one. It is mapped for loads
    /// only until somebody writes there: an arena that was ever mapped for stores cannot be frozen.
    arena: Option<Mapping>,
}

/// The lengths given do not fit the map.
fn wrong_length() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

/// True for types whose values have a copy a CPU.
#[must_use]
pub fn is_per_cpu(map_type: u32) -> bool {
    matches!(
        MapType::from_id(map_type),
        Some(
            MapType::PercpuHash
                | MapType::PercpuArray
                | MapType::LruPercpuHash
                | MapType::PercpuCgroupStorage
        )
    )
}

/// Bytes that an element call moves for a value of this type and size.
fn value_bytes(map_type: u32, value_size: u32) -> io::Result<usize> {
    let size = value_size as usize;
    if is_per_cpu(map_type) {
        return Ok(size.next_multiple_of(8) * crate::cpus::possible()?);
    }
    Ok(match MapType::from_id(map_type) {
        // What user space sees of a reference is its descriptor or id.
        Some(
            MapType::ProgArray
            | MapType::PerfEventArray
            | MapType::CgroupArray
            | MapType::ArrayOfMaps
            | MapType::HashOfMaps,
        ) => 4,
        // Cookies are 8 bytes where the value is a descriptor of 4.
        Some(MapType::Sockmap | MapType::Sockhash | MapType::ReuseportSockarray) => size.max(4),
        _ => size,
    })
}

/// Maps an arena as a whole, where its creator wants it.
fn arena(fd: BorrowedFd<'_>, attr: &MapCreate) -> io::Result<Mapping> {
    let len = (attr.max_entries as usize).checked_mul(PAGE);
    let len = len.ok_or_else(|| io::Error::from_raw_os_error(libc::E2BIG))?;
    Mapping::of_descriptor(fd, attr.map_extra as usize, len)
}

impl Map {
    /// `BPF_MAP_CREATE`
    pub fn create(attr: &MapCreate) -> io::Result<Self> {
        let mut attr = *attr;
        // SAFETY: no address in this structure.
        let fd = unsafe { bpf::bpf_fd(Cmd::MapCreate, &mut attr)? };
        Ok(Self {
            key_bytes: attr.key_size as usize,
            value_bytes: value_bytes(attr.map_type, attr.value_size)?,
            arena: match MapType::from_id(attr.map_type) {
                Some(MapType::Arena) => Some(arena(fd.as_fd(), &attr)?),
                _ => None,
            },
            fd,
        })
    }

    /// Writes `bytes` to the beginning of an arena that this process created.
    ///
    /// # Errors
    /// `EINVAL` for other maps, `E2BIG` if the arena is smaller; what `process_vm_writev` says of pages that cannot be had.
    pub fn arena_init(&self, bytes: &[u8]) -> io::Result<()> {
        let arena = self.arena.as_ref().ok_or_else(wrong_length)?;
        if bytes.len() > arena.len() {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        arena.make_writable(self.fd.as_fd())?;
        crate::mem::write_own(arena.base() as usize, bytes)
    }

    /// Takes a descriptor that may be a map's; the kernel is asked.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let info = Self::info_of(fd.as_fd())?;
        Ok(Self {
            key_bytes: info.key_size as usize,
            value_bytes: value_bytes(info.map_type, info.value_size)?,
            arena: None,
            fd,
        })
    }

    /// Bytes of a value in element calls, all CPUs of per-CPU maps.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// Bytes of a key.
    #[must_use]
    pub fn key_bytes(&self) -> usize {
        self.key_bytes
    }

    /// `BPF_OBJ_GET_INFO_BY_FD`
    pub fn info(&self) -> io::Result<MapInfo> {
        Self::info_of(self.fd.as_fd())
    }

    fn info_of(fd: BorrowedFd<'_>) -> io::Result<MapInfo> {
        let mut info = MapInfo::default();
        // SAFETY: no address in this structure.
        unsafe { bpf::info(fd, &mut info)? };
        Ok(info)
    }

    fn elem(&self, key: u64, value: u64, flags: u64) -> MapElem {
        MapElem {
            map_fd: self.fd.as_raw_fd().cast_unsigned(),
            reserved: 0,
            key,
            value,
            flags,
        }
    }

    fn check_key(&self, key: &[u8]) -> io::Result<()> {
        if key.len() == self.key_bytes {
            Ok(())
        } else {
            Err(wrong_length())
        }
    }

    fn check_value(&self, value: &[u8]) -> io::Result<()> {
        if value.len() == self.value_bytes {
            Ok(())
        } else {
            Err(wrong_length())
        }
    }

    /// `BPF_MAP_LOOKUP_ELEM`
    pub fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> io::Result<()> {
        self.check_key(key)?;
        if value.len() < self.value_bytes {
            return Err(wrong_length());
        }
        let mut attr = self.elem(address(key), address_mut(value), flags);
        // SAFETY: both lengths were checked.
        unsafe { bpf::bpf(Cmd::MapLookup, &mut attr).map(drop) }
    }

    /// `BPF_MAP_LOOKUP_AND_DELETE_ELEM`
    pub fn lookup_and_delete(&self, key: &[u8], value: &mut [u8], flags: u64) -> io::Result<()> {
        self.check_key(key)?;
        if value.len() < self.value_bytes {
            return Err(wrong_length());
        }
        let mut attr = self.elem(address(key), address_mut(value), flags);
        // SAFETY: both lengths were checked.
        unsafe { bpf::bpf(Cmd::MapLookupAndDelete, &mut attr).map(drop) }
    }

    /// `BPF_MAP_UPDATE_ELEM`
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
        self.check_key(key)?;
        self.check_value(value)?;
        let mut attr = self.elem(address(key), address(value), flags);
        // SAFETY: both lengths were checked.
        unsafe { bpf::bpf(Cmd::MapUpdate, &mut attr).map(drop) }
    }

    /// `BPF_MAP_DELETE_ELEM`
    pub fn delete(&self, key: &[u8]) -> io::Result<()> {
        self.check_key(key)?;
        let mut attr = self.elem(address(key), 0, 0);
        // SAFETY: the length was checked.
        unsafe { bpf::bpf(Cmd::MapDelete, &mut attr).map(drop) }
    }

    /// `BPF_MAP_GET_NEXT_KEY`
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<()> {
        if let Some(key) = key {
            self.check_key(key)?;
        }
        self.check_key(next)?;
        let mut attr = self.elem(key.map_or(0, address), address_mut(next), 0);
        // SAFETY: both lengths were checked.
        unsafe { bpf::bpf(Cmd::MapGetNextKey, &mut attr).map(drop) }
    }

    /// `BPF_MAP_FREEZE`
    pub fn freeze(&self) -> io::Result<()> {
        let mut attr = One {
            value: self.fd.as_raw_fd().cast_unsigned(),
        };
        // SAFETY: no address.
        unsafe { bpf::bpf(Cmd::MapFreeze, &mut attr).map(drop) }
    }

    /// `BPF_MAP_LOOKUP_BATCH` or `…_AND_DELETE_BATCH`: how many were read, and the errno that ended it (ENOENT at the end).
    pub fn lookup_batch(
        &self,
        positions: (Option<&[u8]>, &mut [u8]),
        keys: &mut [u8],
        values: &mut [u8],
        delete: bool,
        elem_flags: u64,
    ) -> (u32, io::Result<()>) {
        let (from, to) = positions;
        // A position is a key, or 4 bytes for hashes.
        let position_bytes = self.key_bytes.max(4);
        let count = self.batch_count(keys, values);
        if to.len() < position_bytes || from.is_some_and(|f| f.len() < position_bytes) {
            return (0, Err(wrong_length()));
        }
        let mut attr = MapBatch {
            in_batch: from.map_or(0, address),
            out_batch: address_mut(to),
            keys: address_mut(keys),
            values: address_mut(values),
            count,
            map_fd: self.fd.as_raw_fd().cast_unsigned(),
            elem_flags,
            flags: 0,
        };
        let cmd = if delete {
            Cmd::MapLookupAndDeleteBatch
        } else {
            Cmd::MapLookupBatch
        };
        // SAFETY: `count` elements fit both buffers; positions are long enough.
        let result = unsafe { bpf::bpf(cmd, &mut attr).map(drop) };
        (attr.count.min(count), result)
    }

    /// `BPF_MAP_UPDATE_BATCH`: how many were done, and why it stopped.
    pub fn update_batch(
        &self,
        keys: &[u8],
        values: &[u8],
        elem_flags: u64,
    ) -> (u32, io::Result<()>) {
        let mut attr = MapBatch {
            keys: address(keys),
            values: address(values),
            count: self.batch_count(keys, values),
            map_fd: self.fd.as_raw_fd().cast_unsigned(),
            elem_flags,
            ..MapBatch::default()
        };
        // SAFETY: `count` elements are in both buffers.
        let result = unsafe { bpf::bpf(Cmd::MapUpdateBatch, &mut attr).map(drop) };
        (attr.count, result)
    }

    /// `BPF_MAP_DELETE_BATCH`: how many were done, and why it stopped.
    pub fn delete_batch(&self, keys: &[u8], elem_flags: u64) -> (u32, io::Result<()>) {
        let mut attr = MapBatch {
            keys: address(keys),
            count: (keys.len() / self.key_bytes.max(1)) as u32,
            map_fd: self.fd.as_raw_fd().cast_unsigned(),
            elem_flags,
            ..MapBatch::default()
        };
        // SAFETY: `count` keys are in the buffer.
        let result = unsafe { bpf::bpf(Cmd::MapDeleteBatch, &mut attr).map(drop) };
        (attr.count, result)
    }

    /// Whole elements that fit both buffers.
    fn batch_count(&self, keys: &[u8], values: &[u8]) -> u32 {
        let by_key = keys.len() / self.key_bytes.max(1);
        let by_value = values.len() / self.value_bytes.max(1);
        u32::try_from(by_key.min(by_value)).unwrap_or(u32::MAX)
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
