//! What the bytes of a variable are: its size and members, as far as they have names.

use super::{Budget, Slice};
use gimli::{AttributeValue, Dwarf, Unit, UnitOffset};

/// Typedefs and qualifiers around a type.
const MAX_HOPS: usize = 16;
/// Members of a variable.
const MAX_MEMBERS: usize = 256;
/// Structures within structures.
const MAX_DEPTH: usize = 8;
/// Bytes of a pointer.
const POINTER_BYTES: u64 = 8;

/// The type of a variable on the stack.
///
/// ```
/// # use skep_object::debug::Debug;
/// #
/// # let file = std::fs::read("../../tests/diagnose/debug/locals.bpf.o")?;
/// # let debug = Debug::parse(&file).ok_or("built without -g")?;
/// for function in debug.functions() {
///     for variable in debug.variables(function) {
///         let bytes = variable.shape.map(|s| s.bytes);
///         println!("{}: {bytes:?} bytes", variable.name);
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Bytes.
    pub bytes: u64,
    /// The members of a structure, those of inner structures with their path; empty for other types.
    pub members: Vec<Member>,
}

/// A member of a structure that has no members itself.
///
/// ```
/// # use skep_object::debug::Debug;
/// #
/// # let file = std::fs::read("../../tests/diagnose/debug/locals.bpf.o")?;
/// # let debug = Debug::parse(&file).ok_or("built without -g")?;
/// for function in debug.functions() {
///     for variable in debug.variables(function) {
///         for member in variable.shape.into_iter().flat_map(|s| s.members) {
///             println!("{}{} at byte {}", variable.name, member.path, member.offset);
///         }
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its name, with those of the structures around it: `addr.port`.
    pub path: String,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The shape of the type at `at`.
pub(super) fn of<'a>(
    (dwarf, unit): (&Dwarf<Slice<'a>>, &Unit<Slice<'a>>),
    at: UnitOffset,
    budget: &Budget,
) -> Option<Shape> {
    let reader = Reader {
        dwarf,
        unit,
        budget,
    };
    let mut members = Vec::new();
    reader.members(at, ("", 0), &mut members, 0);
    Some(Shape {
        bytes: reader.bytes(at, 0)?,
        members,
    })
}

struct Reader<'r, 'a> {
    dwarf: &'r Dwarf<Slice<'a>>,
    unit: &'r Unit<Slice<'a>>,
    budget: &'r Budget,
}

impl Reader<'_, '_> {
    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut at: UnitOffset) -> Option<UnitOffset> {
        for _ in 0..MAX_HOPS {
            let entry = self.unit.entry(at).ok().filter(|_| self.budget.spend())?;
            match entry.tag() {
                gimli::DW_TAG_typedef | gimli::DW_TAG_const_type | gimli::DW_TAG_volatile_type => {
                    at = reference(entry.attr_value(gimli::DW_AT_type)?)?;
                }
                _ => return Some(at),
            }
        }
        None
    }

    fn bytes(&self, at: UnitOffset, depth: usize) -> Option<u64> {
        let at = self.resolve(at).filter(|_| depth < MAX_DEPTH)?;
        let entry = self.unit.entry(at).ok()?;
        if let Some(bytes) = entry.attr_value(gimli::DW_AT_byte_size) {
            return bytes.udata_value();
        }
        match entry.tag() {
            gimli::DW_TAG_pointer_type => Some(POINTER_BYTES),
            gimli::DW_TAG_array_type => {
                let of = reference(entry.attr_value(gimli::DW_AT_type)?)?;
                let mut bytes = self.bytes(of, depth + 1)?;
                let mut entries = self.unit.entries_at_offset(at).ok()?;
                let top = entries.next_dfs().ok()??.depth();
                while let Some(dimension) = entries.next_dfs().ok()? {
                    if dimension.depth() <= top || !self.budget.spend() {
                        break;
                    }
                    if dimension.tag() == gimli::DW_TAG_subrange_type {
                        let count = dimension.attr_value(gimli::DW_AT_count);
                        let last = dimension.attr_value(gimli::DW_AT_upper_bound);
                        let count = count.and_then(|c| c.udata_value());
                        let last = last.and_then(|l| l.udata_value()?.checked_add(1));
                        bytes = bytes.checked_mul(count.or(last)?)?;
                    }
                }
                Some(bytes)
            }
            _ => None,
        }
    }

    /// Collects the members of a structure that begins at byte `base` and is reached by `path`.
    fn members(
        &self,
        at: UnitOffset,
        (path, base): (&str, u64),
        found: &mut Vec<Member>,
        depth: usize,
    ) -> Option<()> {
        let at = self.resolve(at).filter(|_| depth < MAX_DEPTH)?;
        let mut entries = self.unit.entries_at_offset(at).ok()?;
        let structure = entries.next_dfs().ok()??;
        if structure.tag() != gimli::DW_TAG_structure_type {
            return None;
        }
        let top = structure.depth();
        while let Some(entry) = entries.next_dfs().ok()? {
            let is_behind = entry.depth() <= top || found.len() >= MAX_MEMBERS;
            if is_behind || !self.budget.spend() {
                break;
            }
            if entry.tag() != gimli::DW_TAG_member || entry.depth() != top + 1 {
                continue;
            }
            let offset = entry.attr_value(gimli::DW_AT_data_member_location);
            let offset = base.checked_add(offset.and_then(|o| o.udata_value()).unwrap_or(0))?;
            let of = reference(entry.attr_value(gimli::DW_AT_type)?)?;
            let name = entry.attr_value(gimli::DW_AT_name);
            let name = name.and_then(|n| self.dwarf.attr_string(self.unit, n).ok());
            let name = name.map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            let inner = match (path, name.as_str()) {
                (path, "") => path.to_owned(),
                ("", name) => name.to_owned(),
                (path, name) => format!("{path}.{name}"),
            };
            let before = found.len();
            self.members(of, (&inner, offset), found, depth + 1);
            if found.len() == before {
                found.push(Member {
                    path: inner,
                    offset,
                    bytes: self.bytes(of, 0)?,
                });
            }
        }
        Some(())
    }
}

fn reference(value: AttributeValue<Slice<'_>>) -> Option<UnitOffset> {
    match value {
        AttributeValue::UnitRef(at) => Some(at),
        _ => None,
    }
}
