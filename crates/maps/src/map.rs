//! Making maps.

use crate::body::Body;
use crate::header::MapHeader;
use crate::region::Memory;
use crate::spec::MapSpec;
use crate::{arena, array, bloom, hash, lpm, objects, queue, ring, stacks};
use skep_abi::{Errno, MapType};
use std::ops::Deref;
use std::sync::Arc;

/// A map; clones are the same map. Dereferences to its [`MapHeader`], whose address programs hold.
#[derive(Clone, Debug)]
pub struct Map(Arc<MapHeader>);

impl Map {
    /// A new map.
    ///
    /// # Errors
    /// The errno of `BPF_MAP_CREATE`.
    pub fn create(spec: &MapSpec, memory: &Memory) -> Result<Self, Errno> {
        let header = match spec.map_type {
            MapType::Array | MapType::PercpuArray => array::create,
            MapType::Hash
            | MapType::PercpuHash
            | MapType::LruHash
            | MapType::LruPercpuHash
            | MapType::HashOfMaps
            | MapType::DevmapHash => hash::create,
            MapType::SkStorage
            | MapType::TaskStorage
            | MapType::InodeStorage
            | MapType::CgrpStorage => hash::create_storage,
            MapType::Arena => arena::create,
            MapType::Queue | MapType::Stack => queue::create,
            MapType::BloomFilter => bloom::create,
            MapType::LpmTrie => lpm::create,
            MapType::Ringbuf | MapType::UserRingbuf => ring::create,
            MapType::StackTrace => stacks::create,
            MapType::ProgArray
            | MapType::PerfEventArray
            | MapType::CgroupArray
            | MapType::ArrayOfMaps
            | MapType::Devmap
            | MapType::Cpumap
            | MapType::Xskmap => objects::create,
            _ => return Err(Errno::EOPNOTSUPP),
        }(spec, memory)?;
        let map = Self(Arc::new(header));
        match &map.body {
            Body::Ring(ring) => ring::list(ring)?,
            Body::Arena(arena) => arena::list(arena, &map),
            _ => {}
        }
        Ok(map)
    }

    /// What the map in `file` is, without its special fields, which only its BTF tells ([`MapSpec::notes`]). Create it
    /// with [`Memory::Existing`] to use it.
    ///
    /// # Errors
    /// `EINVAL` if `file` is not the file of a map.
    pub fn described_in(file: &std::fs::File) -> Result<MapSpec, Errno> {
        MapSpec::read_from(file)
    }

    /// What `r1` of a map helper is.
    #[must_use]
    pub fn as_ptr(&self) -> *const MapHeader {
        Arc::as_ptr(&self.0)
    }
}

impl Deref for Map {
    type Target = MapHeader;
    fn deref(&self) -> &MapHeader {
        &self.0
    }
}

impl Drop for MapHeader {
    fn drop(&mut self) {
        if let Body::Ring(ring) = &self.body {
            ring::unlist(ring);
        }
    }
}
