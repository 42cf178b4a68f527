//! All elements of a map.
//!
//! ```
//! use skep::element::{Element, elements};
//! use skep_bpf::{Backend, MapCreate};
//!
//! let universe = skep_user::Universe::new(skep_user::Options::default())?;
//! let map = universe.map_create(&MapCreate::new(skep_abi::MapType::Hash, 4, 4, 8))?;
//! universe.map_update(map, &[1, 0, 0, 0], &[2, 0, 0, 0], 0)?;
//! let all: Vec<Element> = elements(&universe, map, &universe.map_info(map)?)?;
//! assert_eq!(all[0].value, [2, 0, 0, 0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use skep_abi::MapType;
use skep_bpf::{Backend, Errno, Handle, MapInfo, Result};

/// Elements read at most: a map that is filled faster than read ends the walk.
const ELEMENTS_MAX: usize = 1 << 24;

/// One element.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../examples/packets.bpf.o")?, "packets.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::element::{Element, elements};
///
/// let services = loaded.map("services").ok_or("no such map")?.handle;
/// backend.map_update(services, &[7; 4], &[1; 16], 0)?;
/// let info = backend.map_info(services)?;
/// let Element { key, value } = &elements(backend.as_ref(), services, &info)?[0];
/// assert_eq!((key.as_slice(), value.as_slice()), (&[7; 4][..], &[1; 16][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Element {
    /// Its key; empty for queues and stacks.
    pub key: Vec<u8>,
    /// Its value, one a CPU for per-CPU maps, each padded to 8 bytes.
    pub value: Vec<u8>,
}

/// True for map types with a value a CPU.
#[must_use]
pub fn is_per_cpu(map_type: MapType) -> bool {
    skep_sys::bpf_map::is_per_cpu(map_type.id())
}

/// True for map types whose elements user space can walk.
#[must_use]
pub fn is_walkable(map_type: MapType) -> bool {
    !matches!(
        map_type,
        MapType::Ringbuf
            | MapType::UserRingbuf
            | MapType::Queue
            | MapType::Stack
            | MapType::BloomFilter
            | MapType::Arena
            | MapType::PerfEventArray
            | MapType::CgroupArray
            | MapType::SkStorage
            | MapType::TaskStorage
            | MapType::InodeStorage
            | MapType::CgrpStorage
            | MapType::StructOps
    )
}

/// Bytes of a value as element commands move them.
#[must_use]
pub fn value_bytes(backend: &dyn Backend, info: &MapInfo) -> usize {
    let size = info.value_size as usize;
    if is_per_cpu(info.map_type) {
        size.next_multiple_of(8) * backend.possible_cpus()
    } else {
        size
    }
}

/// Splits a per-CPU value: CPU and value, cut to the value size. One part for other maps, without CPU.
#[must_use]
pub fn per_cpu<'a>(info: &MapInfo, value: &'a [u8]) -> Vec<(usize, &'a [u8])> {
    let size = info.value_size as usize;
    let stride = size.next_multiple_of(8).max(8);
    value
        .chunks_exact(stride)
        .map(|v| &v[..size.min(v.len())])
        .enumerate()
        .collect()
}

/// Reads every element. Elements that vanish or cannot be read are left out; an element that is deleted while the walk
/// stands on it makes it start over, as `BPF_MAP_GET_NEXT_KEY` does.
///
/// # Errors
/// Those of the backend.
pub fn elements(backend: &dyn Backend, map: Handle, info: &MapInfo) -> Result<Vec<Element>> {
    let mut found = Vec::new();
    if !is_walkable(info.map_type) {
        return Ok(found);
    }
    let limit = ELEMENTS_MAX.min(2 * info.max_entries as usize + 1);
    let (mut key, mut next) = (None, vec![0u8; info.key_size as usize]);
    for _ in 0..limit {
        match backend.map_next_key(map, key.as_deref(), &mut next) {
            Ok(()) => {}
            Err(error) if error.errno == Errno::ENOENT => break,
            Err(error) => return Err(error),
        }
        let mut value = vec![0u8; value_bytes(backend, info)];
        match backend.map_lookup(map, &next, &mut value, 0) {
            Ok(()) => found.push(Element {
                key: next.clone(),
                value,
            }),
            Err(error)
                if matches!(
                    error.errno,
                    Errno::ENOENT | Errno::EOPNOTSUPP | Errno::ENOTSUPP
                ) => {}
            Err(error) => return Err(error),
        }
        key = Some(next.clone());
    }
    Ok(found)
}
