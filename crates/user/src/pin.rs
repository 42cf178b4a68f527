//! Pins: maps as files of the pin directory.

use crate::error::refused;
use crate::map_object::MapObject;
use crate::universe::Shared;
use skep_abi::Errno;
use skep_bpf::Result;
use std::path::Path;
use std::sync::Arc;

impl Shared {
    /// `BPF_OBJ_PIN`
    pub(crate) fn pin_map(&self, _: &Arc<MapObject>, _: &Path) -> Result<()> {
        Err(refused(Errno::EOPNOTSUPP, "BPF_OBJ_PIN", ""))
    }

    /// `BPF_OBJ_GET`
    pub(crate) fn pinned_map(&self, _: &Path) -> Result<Arc<MapObject>> {
        Err(refused(Errno::ENOENT, "BPF_OBJ_GET", ""))
    }
}
