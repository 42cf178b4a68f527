//! Maps inside maps.

use crate::map_object::MapObject;
use crate::objects::Object;
use crate::universe::Shared;
use skep_abi::map_flags::{BPF_F_INNER_MAP, BPF_F_RDONLY, BPF_F_WRONLY};
use skep_abi::{Errno, MapType};
use skep_bpf::MapCreate;
use skep_maps::MapSpec;
use skep_verifier::MapDesc;
use std::sync::Arc;

fn is_outer(map_type: MapType) -> bool {
    matches!(map_type, MapType::ArrayOfMaps | MapType::HashOfMaps)
}

/// Types that cannot be inside another map (those without `map_meta_equal`).
fn can_be_inner(map_type: MapType) -> bool {
    !matches!(
        map_type,
        MapType::ProgArray
            | MapType::StructOps
            | MapType::CgroupStorage
            | MapType::PercpuCgroupStorage
    )
}

/// Checks what a map of maps and the special fields of values ask for.
pub(crate) fn check_values(spec: &MapSpec, created: &MapCreate) -> Result<(), Errno> {
    if spec.record.fields.is_empty() {
        return Ok(());
    }
    let program_read_only = created.map_flags
        & (skep_abi::map_flags::BPF_F_RDONLY_PROG | skep_abi::map_flags::BPF_F_WRONLY_PROG);
    if program_read_only != 0 {
        return Err(Errno::EACCES);
    }
    match created.map_type {
        MapType::Hash
        | MapType::PercpuHash
        | MapType::LruHash
        | MapType::LruPercpuHash
        | MapType::Array
        | MapType::PercpuArray
        | MapType::SkStorage
        | MapType::TaskStorage
        | MapType::InodeStorage
        | MapType::CgrpStorage => Ok(()),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// The description of the inner maps of the map `spec`.
pub(crate) fn template(shared: &Shared, spec: &MapCreate) -> Result<Option<Arc<MapDesc>>, Errno> {
    if !is_outer(spec.map_type) {
        return Ok(None);
    }
    let handle = spec.inner_map.ok_or(Errno::EINVAL)?;
    let Object::Map(inner) = shared.state().entry(handle)?.object else {
        return Err(Errno::EINVAL);
    };
    if is_outer(inner.map.map_type) {
        return Err(Errno::EINVAL);
    }
    if !can_be_inner(inner.map.map_type) {
        return Err(Errno::ENOTSUPP);
    }
    Ok(Some(Arc::new(inner.describe())))
}

/// Flags without those that only say what user space may do with the map.
const fn program_flags(map_flags: u32) -> u32 {
    map_flags & !(BPF_F_RDONLY | BPF_F_WRONLY)
}

/// Is `map` like the template (`bpf_map_meta_equal`)?
pub(crate) fn check_fits(template: Option<&MapDesc>, map: &MapObject) -> Result<(), Errno> {
    let template = template.ok_or(Errno::EINVAL)?;
    let m = &map.created;
    let same = template.map_type == m.map_type
        && template.key_size == m.key_size
        && template.value_size == m.value_size
        && program_flags(template.map_flags) == program_flags(m.map_flags)
        && *template.record == *map.map.spec().record;
    let any_length = m.map_type != MapType::Array || m.map_flags & BPF_F_INNER_MAP != 0;
    if same && (any_length || template.max_entries == m.max_entries) {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}
