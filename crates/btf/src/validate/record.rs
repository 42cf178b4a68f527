//! Rules for one record on its own.

use crate::error::{BtfError, BtfProblem};
use crate::parsed::Btf;
use crate::raw::{Info, MAX_TYPE};
use crate::types::{Int, Kind, Linkage, Type};

/// Bytes of a name with its terminating zero (`KSYM_NAME_LEN`).
const NAME_BYTES_MAX: usize = 512;
/// Bits of the widest integer.
const INT_BITS_MAX: u32 = 128;

/// What a kind's name must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    /// Nothing is asked of it.
    Any,
    Absent,
    /// Absent or an identifier.
    Optional,
    Identifier,
    /// Printable.
    Section,
    /// Not empty.
    Text,
}

/// What a kind's vlen must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vlen {
    Zero,
    Any,
    /// A linkage, static or global.
    Linkage,
}

/// Whether a kind has a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flag {
    No,
    May,
}

/// What a record's third word must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Third {
    Zero,
    /// A size, checked with the rest of the record.
    Size,
    /// A type, `void` included.
    Type,
    /// A type other than `void`.
    NotVoid,
}

/// What each kind's record must look like, in the kernel's order of kinds.
#[rustfmt::skip] // one kind per line
const RULES: &[(Kind, Name, Vlen, Flag, Third)] = &[
    (Kind::Int,       Name::Any,        Vlen::Zero,    Flag::No,  Third::Size),
    (Kind::Ptr,       Name::Absent,     Vlen::Zero,    Flag::No,  Third::Type),
    (Kind::Array,     Name::Absent,     Vlen::Zero,    Flag::No,  Third::Zero),
    (Kind::Struct,    Name::Optional,   Vlen::Any,     Flag::May, Third::Size),
    (Kind::Union,     Name::Optional,   Vlen::Any,     Flag::May, Third::Size),
    (Kind::Enum,      Name::Optional,   Vlen::Any,     Flag::May, Third::Size),
    (Kind::Fwd,       Name::Identifier, Vlen::Zero,    Flag::May, Third::Zero),
    (Kind::Typedef,   Name::Identifier, Vlen::Zero,    Flag::No,  Third::Type),
    (Kind::Volatile,  Name::Absent,     Vlen::Zero,    Flag::No,  Third::Type),
    (Kind::Const,     Name::Absent,     Vlen::Zero,    Flag::No,  Third::Type),
    (Kind::Restrict,  Name::Absent,     Vlen::Zero,    Flag::No,  Third::Type),
    (Kind::Func,      Name::Identifier, Vlen::Linkage, Flag::No,  Third::Type),
    (Kind::FuncProto, Name::Absent,     Vlen::Any,     Flag::No,  Third::Type),
    (Kind::Var,       Name::Identifier, Vlen::Zero,    Flag::No,  Third::NotVoid),
    (Kind::Datasec,   Name::Section,    Vlen::Any,     Flag::No,  Third::Size),
    (Kind::Float,     Name::Any,        Vlen::Zero,    Flag::No,  Third::Size),
    (Kind::DeclTag,   Name::Text,       Vlen::Zero,    Flag::May, Third::Type),
    (Kind::TypeTag,   Name::Text,       Vlen::Zero,    Flag::May, Third::Type),
    (Kind::Enum64,    Name::Optional,   Vlen::Any,     Flag::May, Third::Size),
];

/// Checks one record.
pub(super) fn check(btf: &Btf, ty: Type<'_>) -> Result<(), BtfError> {
    one(btf, ty).map_err(|problem| BtfError::at(ty.id(), problem))
}

fn one(btf: &Btf, ty: Type<'_>) -> Result<(), BtfProblem> {
    let info = ty.info();
    if info.0 & Info::RESERVED != 0 {
        return Err(BtfProblem::Info { info: info.0 });
    }
    let row = RULES.iter().find(|row| row.0 == ty.kind());
    let Some(&(_, name, vlen, flag, third)) = row else {
        let kind = info.kind_number();
        return Err(BtfProblem::Kind { kind });
    };
    let vlen_fits = match vlen {
        Vlen::Zero => info.vlen() == 0,
        Vlen::Any => true,
        Vlen::Linkage if info.vlen() > Linkage::Global as u32 => {
            let linkage = info.vlen();
            return Err(BtfProblem::Linkage { linkage });
        }
        Vlen::Linkage => true,
    };
    if !vlen_fits || flag == Flag::No && info.flag() {
        return Err(BtfProblem::InfoNotZero);
    }
    check_name(btf, ty.name_off(), name)?;
    let word = ty.size_or_type();
    match third {
        Third::Zero if word != 0 => return Err(BtfProblem::Size { size: word }),
        Third::NotVoid if word == 0 => return Err(BtfProblem::TypeId { id: 0 }),
        Third::Type | Third::NotVoid => type_id(word)?,
        _ => {}
    }
    rest(btf, ty)
}

fn rest(btf: &Btf, ty: Type<'_>) -> Result<(), BtfProblem> {
    match ty.kind() {
        Kind::Int => integer(ty),
        Kind::Array => array(ty),
        Kind::Struct | Kind::Union => members(btf, ty),
        Kind::Enum | Kind::Enum64 => {
            let size = ty.size_or_type();
            if size > 8 || !size.is_power_of_two() {
                return Err(BtfProblem::Size { size });
            }
            let mut values = ty.enum_values();
            values.try_for_each(|v| check_name(btf, v.name_off, Name::Identifier))
        }
        Kind::Float => match ty.size_or_type() {
            2 | 4 | 8 | 12 | 16 => Ok(()),
            size => Err(BtfProblem::Size { size }),
        },
        Kind::Var if ty.extra(0) > Linkage::Global as u32 => {
            let linkage = ty.extra(0);
            Err(BtfProblem::Linkage { linkage })
        }
        Kind::Datasec => variables(ty),
        Kind::DeclTag => match ty.extra(0).cast_signed() {
            component if component < -1 => Err(BtfProblem::Component { component }),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn type_id(id: u32) -> Result<(), BtfProblem> {
    if id > MAX_TYPE {
        return Err(BtfProblem::TypeId { id });
    }
    Ok(())
}

/// A letter to the kernel, whose characters are those of ISO 8859-1.
const fn is_letter(b: u8) -> bool {
    b.is_ascii_alphabetic() || (b >= 0xc0 && b != 0xd7 && b != 0xf7)
}

/// Letters, digits, `_` and `.`, no digit in front.
pub(super) fn is_identifier(name: &[u8]) -> bool {
    let fits = |(i, b): (usize, &u8)| {
        is_letter(*b) || *b == b'_' || *b == b'.' || i > 0 && b.is_ascii_digit()
    };
    !name.is_empty() && name.len() < NAME_BYTES_MAX && name.iter().enumerate().all(fits)
}

fn is_section(name: &[u8]) -> bool {
    let printable = |b: &u8| (0x20..0x7f).contains(b) || *b >= 0xa0;
    !name.is_empty() && name.len() < NAME_BYTES_MAX && name.iter().all(printable)
}

fn check_name(btf: &Btf, offset: u32, rule: Name) -> Result<(), BtfProblem> {
    let name = btf.str_bytes(offset).ok_or(BtfProblem::Name)?;
    let fits = match rule {
        Name::Any => true,
        Name::Absent => offset == 0,
        Name::Optional => offset == 0 || is_identifier(name),
        Name::Identifier => offset != 0 && is_identifier(name),
        Name::Section => offset != 0 && is_section(name),
        Name::Text => !name.is_empty(),
    };
    if fits { Ok(()) } else { Err(BtfProblem::Name) }
}

fn integer(ty: Type<'_>) -> Result<(), BtfProblem> {
    let int = Int { word: ty.extra(0) };
    let word = int.word;
    if word & 0xf000_0000 != 0 {
        return Err(BtfProblem::IntBits);
    }
    let bits = int.bits() + int.bit_offset();
    if bits > INT_BITS_MAX || bits.div_ceil(8) > ty.size_or_type() {
        return Err(BtfProblem::IntBits);
    }
    match int.encoding() {
        0 | Int::SIGNED | Int::CHAR | Int::BOOL => Ok(()),
        _ => Err(BtfProblem::Int { word }),
    }
}

fn array(ty: Type<'_>) -> Result<(), BtfProblem> {
    let (element, index) = (ty.extra(0), ty.extra(1));
    for id in [element, index] {
        type_id(id)?;
        if id == 0 {
            return Err(BtfProblem::TypeId { id });
        }
    }
    Ok(())
}

fn members(btf: &Btf, ty: Type<'_>) -> Result<(), BtfProblem> {
    let mut last = 0;
    for (member, m) in (0u32..).zip(ty.members()) {
        check_name(btf, m.name_off, Name::Optional)?;
        type_id(m.type_id)?;
        if m.type_id == 0 {
            return Err(BtfProblem::TypeId { id: 0 });
        }
        let in_union = ty.kind() == Kind::Union && m.bit_offset != 0;
        let outside = m.bit_offset.div_ceil(8) > ty.size_or_type();
        if in_union || outside || m.bit_offset < last {
            return Err(BtfProblem::Member { member });
        }
        last = m.bit_offset;
    }
    Ok(())
}

fn variables(ty: Type<'_>) -> Result<(), BtfProblem> {
    let size = ty.size_or_type();
    if size == 0 {
        return Err(BtfProblem::Size { size });
    }
    let mut end = 0u32;
    for (variable, v) in (0u32..).zip(ty.vars()) {
        let wrong = || BtfProblem::SecVar { variable };
        type_id(v.type_id)?;
        let misplaced = v.offset < end || v.offset >= size;
        if v.type_id == 0 || misplaced || v.size == 0 || v.size > size {
            return Err(wrong());
        }
        end = v.offset.checked_add(v.size).ok_or_else(wrong)?;
        if end > size {
            return Err(wrong());
        }
    }
    Ok(())
}
