//! Maps that are declared: section `.maps` with their attributes in BTF, and section `maps` with `struct bpf_map_def`.
//! Source: Documentation/bpf/btf.rst, Documentation/bpf/libbpf/libbpf_overview.rst.

use crate::elf::{Elf, Section};
use crate::error::ObjectError;
use crate::spec::{MapKind, MapSpec, SlotInit};
use skep_abi::MapType;
use skep_abi::map_flags::BPF_F_NUMA_NODE;
use skep_btf::{Btf, Kind, Member, Type};

/// `LIBBPF_PIN_BY_NAME`
const PIN_BY_NAME: u32 = 1;
/// Words of a map definition in section `maps` that every loader has.
const LEGACY_WORDS: usize = 5;
/// Place of `pinning` in the longer definition.
const LEGACY_PINNING: usize = 6;

/// A declared map and where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) spec: MapSpec,
    /// ELF index of its section.
    pub(crate) section: usize,
    /// Byte offset in the section.
    pub(crate) offset: u64,
    /// Bytes in the section.
    pub(crate) size: u64,
    /// Byte offset of `values` in the definition.
    values_offset: Option<u32>,
}

/// The maps of section `.maps`, in the order of BTF.
pub(crate) fn declared(elf: &Elf<'_>, btf: Option<&Btf>) -> Result<Vec<Declared>, ObjectError> {
    let Some((section, _)) = elf.section(".maps").filter(|(_, s)| s.size > 0) else {
        return Ok(Vec::new());
    };
    let missing = || ObjectError::damaged("section .maps has no type information in .BTF");
    let btf = btf.ok_or_else(missing)?;
    let datasec = btf.find(".maps", Kind::Datasec).ok_or_else(missing)?;
    let mut maps = Vec::new();
    for info in datasec.vars() {
        let var = btf.get(info.type_id).filter(|v| v.kind() == Kind::Var);
        let var = var.ok_or_else(missing)?;
        let definition = var.target().ok_or_else(missing)?.resolve();
        let name = var.name();
        let (spec, values_offset) = read_definition(name, definition, Nesting::Outer)?;
        check(&spec)?;
        maps.push(Declared {
            spec,
            section,
            offset: u64::from(info.offset),
            size: u64::from(info.size),
            values_offset,
        });
    }
    Ok(maps)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Nesting {
    Outer,
    Inner,
}

/// Reads the attributes: `__uint(name, N)` is a pointer to an array of N, `__ulong` an enum with one value,
/// `__type(name, T)` a pointer to T, `__array(values, T)` an array of pointers to T.
fn read_definition(
    name: &str,
    definition: Type<'_>,
    nesting: Nesting,
) -> Result<(MapSpec, Option<u32>), ObjectError> {
    let fail = |what: String| ObjectError::map(name, what);
    if definition.kind() != Kind::Struct {
        return Err(fail("its definition is not a struct".to_owned()));
    }
    let mut spec = MapSpec::new(name, MapKind::Declared, MapType::Unspec);
    let mut values_offset = None;
    for member in definition.members() {
        let number = || integer(definition, &member).map_err(|what| fail(what.to_owned()));
        let small = || u32::try_from(number()?).map_err(|_| fail(too_big(&member)));
        match member.name {
            "type" => {
                let id = small()?;
                spec.map_type = MapType::from_id(id)
                    .ok_or_else(|| fail(format!("map type {id} does not exist")))?;
            }
            "max_entries" => spec.max_entries = small()?,
            "map_flags" => spec.map_flags = small()?,
            "numa_node" => {
                spec.numa_node = Some(small()?);
                spec.map_flags |= BPF_F_NUMA_NODE;
            }
            "map_extra" => spec.map_extra = number()?,
            "key_size" => set_size(&mut spec.key_size, small()?, "key", name)?,
            "value_size" => set_size(&mut spec.value_size, small()?, "value", name)?,
            "key" => {
                let (id, size) = pointee(definition, &member).map_err(&fail)?;
                spec.key_type_id = id;
                set_size(&mut spec.key_size, size, "key", name)?;
            }
            "value" => {
                let (id, size) = pointee(definition, &member).map_err(&fail)?;
                spec.value_type_id = id;
                set_size(&mut spec.value_size, size, "value", name)?;
            }
            "pinning" => {
                let by = small()?;
                if by > PIN_BY_NAME {
                    return Err(fail(format!("pinning {by} does not exist")));
                }
                spec.pin_by_name = by == PIN_BY_NAME;
            }
            "values" if nesting == Nesting::Outer => {
                values_offset = Some(member.offset());
                spec.inner = values(definition, &member, name)?.map(Box::new);
                set_size(&mut spec.value_size, 4, "value", name)?;
            }
            other => return Err(fail(format!("attribute {other} does not exist"))),
        }
    }
    if spec.map_type == MapType::Unspec {
        return Err(fail("its definition has no type".to_owned()));
    }
    Ok((spec, values_offset))
}

fn too_big(member: &Member<'_>) -> String {
    format!("{} does not fit 32 bits", member.name)
}

/// Sizes may be said twice if they agree.
fn set_size(place: &mut u32, size: u32, what: &str, map: &str) -> Result<(), ObjectError> {
    if *place != 0 && *place != size {
        let text = format!("{what} size is both {place} and {size}");
        return Err(ObjectError::map(map, text));
    }
    *place = size;
    Ok(())
}

fn integer(definition: Type<'_>, member: &Member<'_>) -> Result<u64, &'static str> {
    let ty = definition.btf().resolve(member.type_id);
    let ty = ty.ok_or("an attribute has no type")?;
    if ty.kind().is_enum() {
        let mut values = ty.enum_values();
        return match (values.next(), values.next()) {
            (Some(only), None) => Ok(only.value.cast_unsigned()),
            _ => Err("an attribute is an enum with more than one value"),
        };
    }
    let array = ty.target().and_then(|t| t.array());
    match (ty.kind(), array) {
        (Kind::Ptr, Some(array)) => Ok(u64::from(array.len)),
        _ => Err("an attribute is not written with __uint"),
    }
}

fn pointee(definition: Type<'_>, member: &Member<'_>) -> Result<(u32, u32), String> {
    let btf = definition.btf();
    let ty = btf
        .resolve(member.type_id)
        .filter(|t| t.kind() == Kind::Ptr);
    let id = ty
        .and_then(|t| t.type_id())
        .ok_or_else(|| format!("{} is not written with __type", member.name))?;
    let size = btf.size_of(id);
    let size = size.map_err(|e| format!("{}: {e}", member.name))?;
    Ok((id, size))
}

/// The template of inner maps, or `None` if the values are programs.
fn values(
    definition: Type<'_>,
    member: &Member<'_>,
    name: &str,
) -> Result<Option<MapSpec>, ObjectError> {
    let fail = || ObjectError::map(name, "values is not written with __array");
    let btf = definition.btf();
    let array = btf.resolve(member.type_id).and_then(|t| t.array());
    let element = array.and_then(|a| btf.resolve(a.element));
    let element = element.filter(|e| e.kind() == Kind::Ptr).ok_or_else(fail)?;
    let template = element.target().ok_or_else(fail)?.resolve();
    match template.kind() {
        Kind::FuncProto => Ok(None),
        Kind::Struct => {
            let inner_name = format!("{name}.inner");
            let (spec, _) = read_definition(&inner_name, template, Nesting::Inner)?;
            Ok(Some(spec))
        }
        _ => Err(fail()),
    }
}

fn check(spec: &MapSpec) -> Result<(), ObjectError> {
    let of_maps = matches!(spec.map_type, MapType::ArrayOfMaps | MapType::HashOfMaps);
    if spec.inner.is_some() && !of_maps {
        return Err(ObjectError::map(
            &spec.name,
            "it has inner maps but is no map of maps",
        ));
    }
    Ok(())
}

/// Fills slots from the relocations of section `.maps`: `values` names maps or programs.
pub(crate) fn fill_slots(elf: &Elf<'_>, maps: &mut [Declared]) -> Result<(), ObjectError> {
    let Some((section, data)) = elf.section(".maps") else {
        return Ok(());
    };
    for reloc in &data.relocs {
        let holder = maps.iter().position(|m| {
            m.section == section && reloc.offset >= m.offset && reloc.offset < m.offset + m.size
        });
        let target = elf.symbols.get(reloc.symbol);
        let (Some(holder), Some(target)) = (holder, target) else {
            let what = "section .maps: a relocation lies in no map or names no symbol";
            return Err(ObjectError::damaged(what));
        };
        let map = &maps[holder];
        let fail = |what: &str| ObjectError::map(&map.spec.name, what);
        let inside = reloc.offset - map.offset;
        let index = map
            .values_offset
            .and_then(|values| inside.checked_sub(u64::from(values)))
            .filter(|bytes| bytes.is_multiple_of(8))
            .and_then(|bytes| u32::try_from(bytes / 8).ok())
            .ok_or_else(|| fail("an initial value lies outside of values"))?;
        let init = match map.spec.map_type {
            MapType::ArrayOfMaps | MapType::HashOfMaps => {
                let inner = maps
                    .iter()
                    .position(|m| Some(m.section) == target.section && m.offset == target.value);
                SlotInit::Map(inner.ok_or_else(|| fail("an initial value is no map"))?)
            }
            _ if target.section.is_some() => SlotInit::Program(target.name.to_owned()),
            _ => return Err(fail("an initial value is no program")),
        };
        maps[holder].spec.slots.push((index, init));
    }
    Ok(())
}

/// The maps of section `maps`.
pub(crate) fn legacy(elf: &Elf<'_>) -> Result<Vec<Declared>, ObjectError> {
    let Some((section, data)) = elf.section("maps") else {
        return Ok(Vec::new());
    };
    let mut symbols: Vec<_> = elf
        .symbols
        .iter()
        .filter(|s| s.section == Some(section) && !s.name.is_empty())
        .filter(|s| s.kind != crate::elf::SymbolKind::Section)
        .collect();
    symbols.sort_by_key(|s| s.value);
    let mut maps = Vec::new();
    for (i, symbol) in symbols.iter().enumerate() {
        let next = symbols.get(i + 1).map_or(data.size, |s| s.value);
        let end = match symbol.size {
            0 => next,
            size => symbol.value.saturating_add(size),
        };
        let spec = legacy_definition(symbol.name, data, symbol.value, end)?;
        maps.push(Declared {
            spec,
            section,
            offset: symbol.value,
            size: end - symbol.value,
            values_offset: None,
        });
    }
    Ok(maps)
}

fn legacy_definition(
    name: &str,
    section: &Section<'_>,
    start: u64,
    end: u64,
) -> Result<MapSpec, ObjectError> {
    let bytes = usize::try_from(start)
        .ok()
        .zip(usize::try_from(end).ok())
        .and_then(|(start, end)| section.data.get(start..end))
        .filter(|bytes| bytes.len() >= 4 * LEGACY_WORDS)
        .ok_or_else(|| ObjectError::map(name, "its definition is shorter than bpf_map_def"))?;
    let word = |i: usize| skep_btf::Order::HOST.u32_at(bytes, 4 * i);
    let map_type = MapType::from_id(word(0)).filter(|&t| t != MapType::Unspec);
    let map_type = map_type
        .ok_or_else(|| ObjectError::map(name, format!("map type {} does not exist", word(0))))?;
    Ok(MapSpec {
        key_size: word(1),
        value_size: word(2),
        max_entries: word(3),
        map_flags: word(4),
        pin_by_name: word(LEGACY_PINNING) == PIN_BY_NAME,
        ..MapSpec::new(name, MapKind::Legacy, map_type)
    })
}
