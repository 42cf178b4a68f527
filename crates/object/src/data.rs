//! Global variables: each data section becomes an array with one element.

use crate::elf::{Elf, SectionKind};
use crate::error::ObjectError;
use crate::spec::{MapKind, MapSpec, data_map_name};
use skep_abi::MapType;
use skep_abi::map_flags::{BPF_F_MMAPABLE, BPF_F_RDONLY_PROG};
use skep_btf::{Btf, Kind, Linkage};

/// Section names (alone, or with `.` and more behind), what they hold, how they are stored.
const SECTIONS: &[(&str, SectionKind, MapKind)] = &[
    (".data", SectionKind::Data, MapKind::Data),
    (".rodata", SectionKind::Data, MapKind::Rodata),
    (".bss", SectionKind::Zeroes, MapKind::Bss),
];

fn kind_of(name: &str, holds: SectionKind) -> Option<MapKind> {
    let row = SECTIONS.iter().find(|(prefix, kind, _)| {
        let rest = name.strip_prefix(prefix);
        *kind == holds && rest.is_some_and(|r| r.is_empty() || r.starts_with('.'))
    });
    row.map(|&(_, _, kind)| kind)
}

/// The maps of the data sections, each with its section's ELF index.
pub(crate) fn maps(
    elf: &Elf<'_>,
    btf: Option<&Btf>,
    object_name: &str,
) -> Result<Vec<(usize, MapSpec)>, ObjectError> {
    let mut found = Vec::new();
    for (index, section) in elf.sections.iter().enumerate() {
        let Some(kind) = kind_of(section.name, section.kind).filter(|_| section.size > 0) else {
            continue;
        };
        let value_size = u32::try_from(section.size)
            .map_err(|_| ObjectError::map(section.name, "the section has more than 4 GiB"))?;
        let contents = section.data.to_vec();
        found.push((
            index,
            data_map(section.name, kind, value_size, contents, btf, object_name),
        ));
    }
    Ok(found)
}

/// The map of one data section.
pub(crate) fn data_map(
    section: &str,
    kind: MapKind,
    value_size: u32,
    contents: Vec<u8>,
    btf: Option<&Btf>,
    object_name: &str,
) -> MapSpec {
    let datasec = btf.and_then(|b| b.find(section, Kind::Datasec));
    let shared = datasec.is_some_and(|d| {
        d.vars().any(|v| {
            let var = d.btf().get(v.type_id);
            var.and_then(|v| v.linkage()) != Some(Linkage::Static)
        })
    });
    let mut map_flags = 0;
    if matches!(kind, MapKind::Rodata | MapKind::Kconfig) {
        map_flags |= BPF_F_RDONLY_PROG;
    }
    if shared {
        map_flags |= BPF_F_MMAPABLE;
    }
    MapSpec {
        key_size: 4,
        value_size,
        max_entries: 1,
        map_flags,
        value_type_id: datasec.map_or(0, |d| d.id()),
        kernel_name: data_map_name(object_name, section),
        contents,
        ..MapSpec::new(section, kind, MapType::Array)
    }
}
