//! The number that a relocation puts into an instruction.

use super::CoreError;
use super::access::Access;
use super::kind::RelocKind;
use skep_btf::{Kind, Order, Type};

/// What a relocation means for one BTF.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'a> {
    pub(crate) number: u64,
    /// The instruction must hold the local value before.
    pub(crate) checked: bool,
    /// Type and bytes of the field that a load or store with this offset accesses.
    pub(crate) field: Option<(Type<'a>, u32)>,
}

impl Value<'_> {
    fn plain(number: u64) -> Self {
        Self {
            number,
            checked: true,
            field: None,
        }
    }
}

/// The value of `kind` at `access`; `None` means that it cannot be had and the instruction must not be reached.
pub(crate) fn value<'a>(
    kind: RelocKind,
    access: Option<&Access<'a>>,
) -> Result<Option<Value<'a>>, CoreError> {
    use RelocKind as R;
    let Some(access) = access else {
        let zero = matches!(
            kind,
            R::FieldExists
                | R::TypeExists
                | R::TypeMatches
                | R::TypeSize
                | R::TypeIdTarget
                | R::EnumValueExists
        );
        return Ok(zero.then(|| Value::plain(0)));
    };
    Ok(Some(match kind {
        R::FieldExists | R::TypeExists | R::TypeMatches | R::EnumValueExists => Value::plain(1),
        R::TypeIdLocal | R::TypeIdTarget => Value {
            checked: false,
            ..Value::plain(u64::from(access.root.id()))
        },
        R::TypeSize => {
            let size = access.root.btf().size_of(access.root.id());
            Value::plain(u64::from(size.map_err(CoreError::Btf)?))
        }
        R::EnumValue => {
            let step = access.steps.first();
            let value = step.and_then(|s| s.ty.enum_values().nth(s.index as usize));
            let value = value.ok_or_else(|| CoreError::Path("0".to_owned()))?;
            Value::plain(value.value.cast_unsigned())
        }
        R::FieldOffset | R::FieldSize | R::FieldSigned | R::FieldLeftShift | R::FieldRightShift => {
            return field(kind, access).map(Some);
        }
    }))
}

/// Where the bits of a field lie.
struct Place {
    /// Byte offset of the load that contains it.
    byte_offset: u64,
    /// Bytes of that load.
    bytes: u64,
    /// Offset in bits.
    bit_offset: u64,
    bits: u64,
}

fn field<'a>(kind: RelocKind, access: &Access<'a>) -> Result<Value<'a>, CoreError> {
    use RelocKind as R;
    let unsupported = || CoreError::Unsupported(kind);
    let last = access.steps.last().ok_or_else(unsupported)?;
    if last.name.is_empty() {
        let size = last.ty.btf().size_of(last.ty.id());
        let size = size.map_err(CoreError::Btf)?;
        return match kind {
            R::FieldOffset => Ok(Value {
                field: Some((last.ty, size)),
                ..Value::plain(access.bit_offset / 8)
            }),
            R::FieldSize => Ok(Value::plain(u64::from(size))),
            _ => Err(unsupported()),
        };
    }
    let btf = last.ty.btf();
    let member = last.ty.member(last.index).ok_or_else(unsupported)?;
    let ty = btf.resolve(member.type_id).ok_or_else(unsupported)?;
    let size = btf.size_of(member.type_id).map_err(CoreError::Btf)?;
    let is_bitfield = member.bit_size > 0;
    let place = place(access.bit_offset, member.bit_size, size)?;
    let end = place.bit_offset + place.bits - place.byte_offset * 8;
    let value = |number, checked| Value {
        checked,
        ..Value::plain(number)
    };
    Ok(match kind {
        R::FieldOffset => Value {
            field: (!is_bitfield).then_some((ty, size)),
            ..value(place.byte_offset, !is_bitfield)
        },
        R::FieldSize => value(place.bytes, !is_bitfield),
        R::FieldSigned => {
            let signed = match ty.kind() {
                Kind::Enum | Kind::Enum64 => ty.flag(),
                _ => ty.int().is_some_and(skep_btf::Int::is_signed),
            };
            value(u64::from(signed), true)
        }
        R::FieldLeftShift if Order::HOST == Order::Little => value(64 - end, false),
        R::FieldLeftShift => {
            let before = place.bit_offset - place.byte_offset * 8;
            value((8 - place.bytes) * 8 + before, false)
        }
        R::FieldRightShift => value(64 - place.bits, true),
        _ => return Err(unsupported()),
    })
}

/// The smallest aligned load of 1, 2, 4 or 8 bytes (at least `size` for a bitfield) around a field.
fn place(bit_offset: u64, bit_size: u32, size: u32) -> Result<Place, CoreError> {
    let too_wide = || CoreError::Path("bitfield does not fit a load of 8 bytes".to_owned());
    if bit_size == 0 {
        return Ok(Place {
            byte_offset: bit_offset / 8,
            bytes: u64::from(size),
            bit_offset,
            // Only fields of up to 8 bytes can be loaded with shifts.
            bits: u64::from(size.min(8)) * 8,
        });
    }
    let bits = u64::from(bit_size);
    let mut bytes = u64::from(size);
    if !bytes.is_power_of_two() || bytes > 8 || bits > 64 {
        return Err(too_wide());
    }
    loop {
        let byte_offset = bit_offset / 8 / bytes * bytes;
        if bit_offset + bits - byte_offset * 8 <= bytes * 8 {
            return Ok(Place {
                byte_offset,
                bytes,
                bit_offset,
                bits,
            });
        }
        if bytes >= 8 {
            return Err(too_wide());
        }
        bytes *= 2;
    }
}
