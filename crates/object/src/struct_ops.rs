//! Variables of sections `.struct_ops` and `.struct_ops.link`: structures of operations that the kernel calls.
//! Source: Documentation/bpf/libbpf, include/uapi/linux/bpf.h (`BPF_MAP_TYPE_STRUCT_OPS`).
//!
//! The program's structure and the kernel's need not have the same layout: members go by name. A structure may leave
//! members out, and may have members that the kernel does not know as long as they are zero.

use crate::elf::{Elf, SymbolKind};
use crate::error::ObjectError;
use crate::function::{Function, SLOT_BYTES};
use crate::spec::{MapKind, MapSpec, SlotInit};
use crate::target::Target;
use skep_abi::MapType;
use skep_abi::map_flags::BPF_F_LINK;
use skep_btf::{Btf, Kind, Member, Type, essential_name};

/// Sections, and the flags of the maps in them.
const SECTIONS: &[(&str, u32)] = &[
    (".struct_ops", 0),
    (".struct_ops.link", BPF_F_LINK),
    ("?.struct_ops", 0),
    ("?.struct_ops.link", BPF_F_LINK),
];
/// The kernel's structure around a structure of operations has this before its name.
const WRAPPER: &str = "bpf_struct_ops_";
/// The member of the wrapper that is the structure itself.
const DATA: &str = "data";
/// Bytes of a pointer to a program.
const POINTER_BYTES: u64 = 8;

/// A structure and where it lies in the file.
pub(crate) struct Placed {
    pub(crate) spec: MapSpec,
    pub(crate) section: usize,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// The structures of the object. [`MapSpec::slots`] has the programs at their bytes of the program's own structure.
pub(crate) fn collect(
    elf: &Elf<'_>,
    btf: Option<&Btf>,
    functions: &[Function],
) -> Result<Vec<Placed>, ObjectError> {
    let mut found = Vec::new();
    for (name, flags) in SECTIONS {
        let Some((index, section)) = elf.section(name).filter(|(_, s)| s.size > 0) else {
            continue;
        };
        let missing = || ObjectError::damaged(format!("section {name} has no types in .BTF"));
        let btf = btf.ok_or_else(missing)?;
        let datasec = btf.find(name, Kind::Datasec).ok_or_else(missing)?;
        for info in datasec.vars() {
            let var = btf.get(info.type_id).ok_or_else(missing)?;
            let ty = var.target().ok_or_else(missing)?.resolve();
            let fail = |what: &str| ObjectError::map(var.name(), what);
            if ty.kind() != Kind::Struct {
                return Err(fail("it lies in a section of operations but is no struct"));
            }
            let range =
                info.offset as usize..(info.offset as usize).saturating_add(info.size as usize);
            let contents = match section.data.get(range) {
                Some(bytes) => bytes.to_vec(),
                None => return Err(fail("it does not lie in its section")),
            };
            let mut spec = MapSpec {
                key_size: 4,
                value_size: info.size,
                max_entries: 1,
                map_flags: *flags,
                value_type_id: ty.id(),
                contents,
                ..MapSpec::new(var.name(), MapKind::StructOps, MapType::StructOps)
            };
            let (offset, size) = (u64::from(info.offset), u64::from(info.size));
            let inside = |at: u64| at >= offset && at < offset + size;
            for reloc in section.relocs.iter().filter(|r| inside(r.offset)) {
                let program = program_at(elf, functions, section.data, reloc);
                let program = program.ok_or_else(|| fail("a member points to no program"))?;
                let at = u32::try_from(reloc.offset - offset).unwrap_or(u32::MAX);
                spec.slots.push((at, SlotInit::Program(program)));
            }
            found.push(Placed {
                spec,
                section: index,
                offset,
                size,
            });
        }
    }
    Ok(found)
}

/// The function that a member points to: by its own symbol, or by its section's and the bytes in place.
fn program_at(
    elf: &Elf<'_>,
    functions: &[Function],
    data: &[u8],
    reloc: &crate::elf::Reloc,
) -> Option<String> {
    let symbol = elf.symbols.get(reloc.symbol)?;
    let section = symbol.section?;
    let mut place = symbol.value;
    if symbol.kind == SymbolKind::Section {
        let at = usize::try_from(reloc.offset).ok()?;
        let addend = data.get(at..at.checked_add(POINTER_BYTES as usize)?)?;
        place = place.checked_add(u64::from_ne_bytes(addend.try_into().ok()?))?;
    }
    let slot = usize::try_from(place).ok()? / SLOT_BYTES;
    let named = |f: &&Function| f.section == section && f.start == slot;
    functions.iter().find(named).map(|f| f.name.clone())
}

/// What a program is in the kernel's structure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Operation {
    pub(crate) program: String,
    /// Name of the structure and of the member.
    pub(crate) structure: String,
    pub(crate) structure_id: u32,
    pub(crate) member: u32,
}

/// Fits a structure to the target: sizes, contents and slots become those of the kernel's wrapper. Without the kernel's types
/// nothing changes.
pub(crate) fn link(
    spec: &mut MapSpec,
    local: &Btf,
    target: &Target,
) -> Result<Vec<Operation>, ObjectError> {
    let Some((btf, local)) = target.btf.as_ref().zip(local.get(spec.value_type_id)) else {
        return Ok(Vec::new());
    };
    let name = essential_name(local.name());
    let Some(kernel) = btf.find(name, Kind::Struct) else {
        return Ok(Vec::new());
    };
    let mut operations = Vec::new();
    let mut slots = Vec::new();
    // A kernel whose types are cut down still tells which member a program is.
    let wrapper = btf.find(&format!("{WRAPPER}{name}"), Kind::Struct);
    let data = wrapper.and_then(|w| w.members().find(|m| m.name == DATA));
    let base = data.as_ref().map_or(0, |d| d.bit_offset / 8);
    let size = wrapper.unwrap_or(kernel).size().unwrap_or(0);
    let mut contents = vec![0u8; size as usize];
    for member in local.members() {
        let bytes = bytes_of(spec, local, &member);
        let start = member.bit_offset / 8;
        let in_member =
            |at: u32| at >= start && at < start.saturating_add(bytes.len().max(1) as u32);
        let program = spec.slots.iter().find(|(at, _)| in_member(*at));
        let there = (0..)
            .zip(kernel.members())
            .find(|(_, m)| m.name == member.name);
        let fail = |what: &str| {
            ObjectError::map(&spec.name, format!("member \"{}\": {what}", member.name))
        };
        let Some((index, there)) = there else {
            if program.is_some() || bytes.iter().any(|b| *b != 0) {
                return Err(fail("the kernel's structure has none of this name"));
            }
            continue;
        };
        let at = base + there.bit_offset / 8;
        if let Some((_, SlotInit::Program(program))) = program {
            slots.push((at, SlotInit::Program(program.clone())));
            operations.push(Operation {
                program: program.clone(),
                structure: name.to_owned(),
                structure_id: kernel.id(),
                member: index,
            });
            continue;
        }
        if bytes.iter().all(|b| *b == 0) {
            continue;
        }
        if btf.size_of(there.type_id).ok() != u32::try_from(bytes.len()).ok() {
            return Err(fail("it has another size in the kernel"));
        }
        let place = contents.get_mut(at as usize..at as usize + bytes.len());
        let place = place.ok_or_else(|| fail("it lies outside of the kernel's structure"))?;
        place.copy_from_slice(&bytes);
    }
    if let Some(wrapper) = wrapper {
        spec.vmlinux_value_type_id = wrapper.id();
        spec.value_size = size;
        spec.contents = contents;
        spec.slots = slots;
    }
    Ok(operations)
}

fn bytes_of(spec: &MapSpec, local: Type<'_>, member: &Member<'_>) -> Vec<u8> {
    let start = (member.bit_offset / 8) as usize;
    let size = local.btf().size_of(member.type_id).unwrap_or(0) as usize;
    let end = start.saturating_add(size).min(spec.contents.len());
    spec.contents.get(start..end).unwrap_or_default().to_vec()
}
