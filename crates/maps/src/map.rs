//! Making maps.

use crate::array;
use crate::header::MapHeader;
use crate::region::Memory;
use crate::spec::MapSpec;
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
            MapType::Array | MapType::PercpuArray => array::create(spec, memory),
            _ => Err(Errno::EINVAL),
        }?;
        Ok(Self(Arc::new(header)))
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
