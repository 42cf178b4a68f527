//! Where a compiler would put the members of a struct, and what must be written so that it puts them where they are.

use crate::{Btf, Kind, Member, Type};

/// Bits of a byte.
const BYTE: u64 = 8;
/// Nesting of arrays, typedefs and structs within each other; deeper types count as bytes.
const DEPTH_MAX: usize = 64;
/// Padding lines of one struct; no compiler makes more.
const PADDING_MAX: usize = 1 << 13;
/// Alignment of `long double` and `__int128`, the largest of any number.
const ALIGN_MAX: u32 = 16;

/// What a struct needs beside its members.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// Before each member.
    pub(super) gaps: Vec<Vec<String>>,
    /// After the last one.
    pub(super) tail: Vec<String>,
    /// Members stand closer than their types allow.
    pub(super) packed: bool,
    /// An alignment that is larger than that of any member.
    pub(super) aligned: Option<u32>,
}

/// Alignments that are known already, by id.
pub(super) struct Cache {
    aligns: Vec<Option<u32>>,
}

/// Bits of a bitfield member; `None` for other members.
pub(super) fn bitfield(btf: &Btf, member: &Member<'_>) -> Option<u32> {
    if member.bit_size != 0 {
        return Some(member.bit_size);
    }
    // Before structs could say it, the integer had the bits.
    let int = btf.get(member.type_id).filter(|t| t.kind() == Kind::Int)?;
    let bits = int.int()?.bits();
    (u64::from(bits) != BYTE * u64::from(int.size()?)).then_some(bits)
}

impl Cache {
    pub(super) fn new(count: usize) -> Self {
        Self {
            aligns: vec![None; count],
        }
    }

    /// Bytes that a compiler aligns `ty` to.
    fn align(&mut self, ty: Type<'_>, depth: usize) -> u32 {
        let Some(depth) = depth.checked_sub(1) else {
            return 1;
        };
        let ty = ty.resolve();
        match ty.kind() {
            Kind::Ptr => 8,
            Kind::Int | Kind::Float | Kind::Enum | Kind::Enum64 => {
                let size = ty.size().unwrap_or(1).max(1);
                size.min(ALIGN_MAX).next_power_of_two()
            }
            Kind::Array => {
                let element = ty.array().and_then(|a| ty.btf().get(a.element));
                element.map_or(1, |e| self.align(e, depth))
            }
            Kind::Struct | Kind::Union => {
                let id = ty.id() as usize;
                if let Some(known) = self.aligns[id] {
                    return known;
                }
                self.aligns[id] = Some(1); // of a struct that contains itself
                let align = if self.is_packed(ty, depth) {
                    1
                } else {
                    self.widest(ty, depth)
                };
                self.aligns[id] = Some(align);
                align
            }
            _ => 1,
        }
    }

    /// The largest alignment of any member.
    fn widest(&mut self, ty: Type<'_>, depth: usize) -> u32 {
        let mut widest = 1;
        for member in ty.members() {
            // Bitfields without name do not count, and there are none in BTF.
            if let Some(inner) = ty.btf().get(member.type_id) {
                widest = widest.max(self.align(inner, depth));
            }
        }
        widest
    }

    /// A member stands where its type may not, or the size is none that the members' alignment allows.
    fn is_packed(&mut self, ty: Type<'_>, depth: usize) -> bool {
        let size = ty.size().unwrap_or(0);
        if !size.is_multiple_of(self.widest(ty, depth)) {
            return true;
        }
        ty.members().any(|member| {
            let Some(inner) = ty.btf().get(member.type_id) else {
                return false;
            };
            match bitfield(ty.btf(), &member) {
                Some(bits) => {
                    // It must lie in one unit of its type.
                    let unit = BYTE * u64::from(ty.btf().size_of(inner.id()).unwrap_or(1).max(1));
                    let offset = u64::from(member.bit_offset);
                    offset / unit != (offset + u64::from(bits).max(1) - 1) / unit
                }
                None => {
                    let align = BYTE * u64::from(self.align(inner, depth));
                    !u64::from(member.bit_offset).is_multiple_of(align)
                }
            }
        })
    }

    /// The layout of a struct or union.
    pub(super) fn of(&mut self, ty: Type<'_>) -> Layout {
        let packed = self.is_packed(ty, DEPTH_MAX);
        let size = BYTE * u64::from(ty.size().unwrap_or(0));
        let align = if packed {
            1
        } else {
            self.widest(ty, DEPTH_MAX)
        };
        let mut layout = Layout {
            packed,
            ..Layout::default()
        };
        let mut at = 0u64;
        let mut lines = PADDING_MAX;
        for member in ty.members() {
            let offset = u64::from(member.bit_offset);
            let (natural, bits) = self.natural(ty, &member, at, packed);
            let gap = if ty.kind() == Kind::Struct && natural < offset {
                padding(at, offset, align, lines)
            } else {
                Vec::new()
            };
            lines -= gap.len();
            layout.gaps.push(gap);
            at = match ty.kind() {
                Kind::Struct => offset + bits,
                _ => at.max(bits),
            };
        }
        let end = at.next_multiple_of(BYTE * u64::from(align));
        if end < size && ty.kind() == Kind::Struct {
            layout.tail = padding(at, size, align, lines);
        } else if end < size {
            let bytes = size / BYTE;
            let fits = (1..=u32::BITS).map(|bit| 1u64 << bit);
            let aligned = fits
                .take_while(|a| *a <= bytes)
                .find(|a| at.next_multiple_of(BYTE * a) == size);
            layout.aligned = aligned.and_then(|a| u32::try_from(a).ok());
        }
        layout
    }

    /// Where a compiler puts a member after `at` bits, and the bits that it takes.
    fn natural(&mut self, ty: Type<'_>, member: &Member<'_>, at: u64, packed: bool) -> (u64, u64) {
        let Some(inner) = ty.btf().get(member.type_id) else {
            return (at, BYTE);
        };
        let size = BYTE * u64::from(ty.btf().size_of(inner.id()).unwrap_or(0));
        match bitfield(ty.btf(), member) {
            Some(bits) => {
                let bits = u64::from(bits);
                let unit = size.max(BYTE);
                let crosses = at / unit != (at + bits.max(1) - 1) / unit;
                let place = if crosses && !packed {
                    at.next_multiple_of(unit)
                } else {
                    at
                };
                (place, bits)
            }
            None => {
                let align = if packed {
                    1
                } else {
                    self.align(inner, DEPTH_MAX)
                };
                (at.next_multiple_of(BYTE * u64::from(align)), size)
            }
        }
    }
}

/// Integers that padding is made of: bits, name.
const UNITS: &[(u64, &str)] = &[(64, "long"), (32, "int"), (16, "short"), (8, "char")];

/// Bitfields without name that fill from `at` to `end`; none is of a type wider than the struct's own alignment.
fn padding(mut at: u64, end: u64, align: u32, lines_max: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while at < end && lines.len() < lines_max {
        let whole = UNITS.iter().find(|(bits, _)| {
            at.is_multiple_of(*bits) && end - at >= *bits && *bits <= BYTE * u64::from(align).max(1)
        });
        let (bits, name) = match whole {
            Some((bits, name)) => (*bits, *name),
            // Up to the next byte.
            None => ((BYTE - at % BYTE).min(end - at), "char"),
        };
        lines.push(format!("{name}: {bits}"));
        at += bits;
    }
    lines
}
