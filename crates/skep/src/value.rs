//! Bytes as their BTF type says: map keys and values, event records.
//!
//! ```
//! use skep::value::{Value, decode};
//! use skep_btf::{Btf, Builder, Order};
//!
//! let mut types = Builder::new(Order::HOST);
//! let int = types.add_int("int", 4, 1);
//! let point = types.add_struct("point", 8, &[("x", int, 0), ("y", int, 32)]);
//! let btf = Btf::parse(types.finish())?;
//! let bytes: Vec<u8> = [3i32, -4].iter().flat_map(|n| n.to_ne_bytes()).collect();
//! let Value::Fields(fields) = decode(&btf, point, &bytes) else { panic!("a structure") };
//! assert_eq!(fields[1], ("y".to_owned(), Value::Signed(-4)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use skep_btf::{Btf, Int, Kind, Member, Type};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Types nested deeper than this are shown as bytes.
const DEPTH_MAX: u32 = 32;

/// A decoded value.
///
/// ```
/// use skep::value::{Value, decode};
/// use skep_btf::{Btf, Builder, Order};
///
/// let mut builder = Builder::new(Order::HOST);
/// let int = builder.add_int("int", 4, 1);
/// let pair = builder.add_struct("pair", 8, &[("a", int, 0), ("b", int, 32)]);
/// let btf = Btf::parse(builder.finish())?;
/// let value = decode(&btf, pair, &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
/// assert_eq!(
///     value,
///     Value::Fields(vec![("a".to_owned(), Value::Signed(1)), ("b".to_owned(), Value::Signed(-1))])
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A number.
    Unsigned(u64),
    /// A signed number.
    Signed(i64),
    /// A floating-point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// An address of memory.
    Pointer(u64),
    /// Text: characters, a name of an enumeration, a network address.
    Text(String),
    /// Elements of an array.
    List(Vec<Value>),
    /// Members of a structure or union; those without a name are merged in.
    Fields(Vec<(String, Value)>),
    /// Bytes without a type.
    Bytes(Vec<u8>),
}

/// Decodes `bytes` as type `type_id`; what the type does not explain stays bytes. Numbers are in the host's order.
#[must_use]
pub fn decode(btf: &Btf, type_id: u32, bytes: &[u8]) -> Value {
    decode_at(btf, type_id, bytes, DEPTH_MAX)
}

fn decode_at(btf: &Btf, type_id: u32, bytes: &[u8], depth: u32) -> Value {
    let raw = || Value::Bytes(bytes.to_vec());
    let (Some(outer), Some(depth)) = (btf.get(type_id), depth.checked_sub(1)) else {
        return raw();
    };
    if let Some(address) = network_order(outer, bytes) {
        return address;
    }
    let ty = outer.resolve();
    match ty.kind() {
        Kind::Int => ty.int().map_or_else(raw, |int| integer(int, bytes)),
        Kind::Float => float(bytes).unwrap_or_else(raw),
        Kind::Ptr => Value::Pointer(unsigned(bytes)),
        Kind::Enum | Kind::Enum64 => enumeration(ty, bytes),
        Kind::Array => array(btf, ty, bytes, depth).unwrap_or_else(raw),
        Kind::Struct | Kind::Union => structure(btf, ty, bytes, depth),
        Kind::Datasec => section(btf, ty, bytes, depth),
        _ => raw(),
    }
}

/// Typedefs and structures of uapi headers whose bytes are in network order: their name says how to read them.
fn network_order(ty: Type<'_>, bytes: &[u8]) -> Option<Value> {
    let mut at = Some(ty);
    for _ in 0..DEPTH_MAX {
        let here = at?;
        match (here.kind(), here.name()) {
            (Kind::Typedef, "__be16") => {
                return Some(Value::Unsigned(u64::from(u16::from_be_bytes(exact(
                    bytes,
                )?))));
            }
            (Kind::Typedef, "__be32") => {
                return Some(Value::Text(Ipv4Addr::from(exact::<4>(bytes)?).to_string()));
            }
            (Kind::Typedef, "__be64") => {
                return Some(Value::Unsigned(u64::from_be_bytes(exact(bytes)?)));
            }
            (Kind::Struct, "in_addr") => {
                return Some(Value::Text(Ipv4Addr::from(exact::<4>(bytes)?).to_string()));
            }
            (Kind::Struct, "in6_addr") => {
                return Some(Value::Text(Ipv6Addr::from(exact::<16>(bytes)?).to_string()));
            }
            (kind, _) if kind == Kind::Typedef || kind.is_modifier() => at = here.target(),
            _ => return None,
        }
    }
    None
}

/// Exactly `N` bytes.
fn exact<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.get(..N)?.try_into().ok()
}

/// Up to 8 bytes as a number in the host's order.
fn unsigned(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    let length = bytes.len().min(8);
    if cfg!(target_endian = "little") {
        word[..length].copy_from_slice(&bytes[..length]);
    } else {
        word[8 - length..].copy_from_slice(&bytes[..length]);
    }
    u64::from_ne_bytes(word)
}

/// The lower `bits` of a number with its sign.
fn sign_extend(value: u64, bits: u32) -> i64 {
    let shift = 64u32.saturating_sub(bits).min(63);
    (value << shift).cast_signed() >> shift
}

fn integer(int: Int, bytes: &[u8]) -> Value {
    let bits = int.bits();
    if bits > 64 || bytes.len() > 8 {
        return Value::Bytes(bytes.to_vec());
    }
    number(int, unsigned(bytes), bits)
}

fn number(int: Int, value: u64, bits: u32) -> Value {
    if int.is_bool() {
        Value::Bool(value != 0)
    } else if int.is_signed() {
        Value::Signed(sign_extend(value, bits))
    } else {
        Value::Unsigned(value)
    }
}

fn float(bytes: &[u8]) -> Option<Value> {
    match bytes.len() {
        4 => Some(Value::Float(f64::from(f32::from_ne_bytes(exact(bytes)?)))),
        8 => Some(Value::Float(f64::from_ne_bytes(exact(bytes)?))),
        _ => None,
    }
}

fn enumeration(ty: Type<'_>, bytes: &[u8]) -> Value {
    let value = unsigned(bytes);
    let bits = bytes.len().min(8) as u32 * 8;
    let named = ty.enum_values().find(|v| {
        let mask = u64::MAX.checked_shr(64 - bits).unwrap_or(0);
        v.value.cast_unsigned() & mask == value & mask
    });
    match named {
        Some(name) => Value::Text(name.name.to_owned()),
        None if ty.flag() => Value::Signed(sign_extend(value, bits)),
        None => Value::Unsigned(value),
    }
}

fn array(btf: &Btf, ty: Type<'_>, bytes: &[u8], depth: u32) -> Option<Value> {
    let array = ty.array()?;
    let size = btf.size_of(array.element).ok()? as usize;
    if size == 0 {
        return None;
    }
    if size == 1
        && is_char(btf, array.element)
        && let Some(text) = text(bytes)
    {
        return Some(Value::Text(text));
    }
    // A flexible array takes what is left.
    let count = if array.len == 0 {
        bytes.len() / size
    } else {
        array.len as usize
    };
    let elements = bytes.chunks_exact(size).take(count);
    Some(Value::List(
        elements
            .map(|e| decode_at(btf, array.element, e, depth))
            .collect(),
    ))
}

/// `char`, by encoding or by name (clang marks it as a plain integer).
fn is_char(btf: &Btf, type_id: u32) -> bool {
    btf.get(type_id).is_some_and(|t| {
        let t = t.resolve();
        t.kind() == Kind::Int && (t.name() == "char" || t.int().is_some_and(Int::is_char))
    })
}

/// Text up to its zero, if it is text.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text = std::str::from_utf8(bytes.get(..end)?).ok()?;
    text.chars()
        .all(|c| !c.is_control() || c == '\n' || c == '\t')
        .then(|| text.to_owned())
}

fn structure(btf: &Btf, ty: Type<'_>, bytes: &[u8], depth: u32) -> Value {
    let mut fields = Vec::new();
    for member in ty.members() {
        let value = member_value(btf, &member, bytes, depth);
        match (member.name, value) {
            ("", Value::Fields(inner)) => fields.extend(inner),
            ("", _) => {} // padding
            (name, value) => fields.push((name.to_owned(), value)),
        }
    }
    Value::Fields(fields)
}

/// The variables of a data section.
fn section(btf: &Btf, ty: Type<'_>, bytes: &[u8], depth: u32) -> Value {
    let variable = |var: skep_btf::VarSecInfo| {
        let declared = btf.get(var.type_id)?;
        let start = var.offset as usize;
        let slice = bytes.get(start..start.checked_add(var.size as usize)?)?;
        let value = decode_at(btf, declared.target()?.id(), slice, depth);
        Some((declared.name().to_owned(), value))
    };
    Value::Fields(ty.vars().filter_map(variable).collect())
}

fn member_value(btf: &Btf, member: &Member<'_>, bytes: &[u8], depth: u32) -> Value {
    let start = (member.bit_offset / 8) as usize;
    let rest = bytes.get(start..).unwrap_or_default();
    if member.bit_size == 0 {
        let size = btf.size_of(member.type_id).unwrap_or(0) as usize;
        // The last member may be a flexible array of size zero.
        let slice = if size == 0 {
            rest
        } else {
            rest.get(..size).unwrap_or(rest)
        };
        return decode_at(btf, member.type_id, slice, depth);
    }
    let value = bits(rest, member.bit_offset % 8, member.bit_size);
    match btf.resolve(member.type_id) {
        Some(ty) if ty.kind() == Kind::Int => match ty.int() {
            Some(int) => number(int, value, member.bit_size),
            None => Value::Unsigned(value),
        },
        Some(ty) if ty.kind().is_enum() => enumeration(ty, &value.to_ne_bytes()[..4]),
        _ => Value::Unsigned(value),
    }
}

/// `count` bits from bit `shift` on, little-endian.
fn bits(bytes: &[u8], shift: u32, count: u32) -> u64 {
    let mut word = [0u8; 16];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    let value = (u128::from_le_bytes(word) >> shift) as u64;
    value
        & u64::MAX
            .checked_shr(64u32.saturating_sub(count))
            .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{bits, sign_extend, text};

    #[test]
    fn pieces_are_read() {
        assert_eq!(bits(&[0b1010_0000, 1], 5, 4), 0b1101);
        assert_eq!(bits(&[0xff; 9], 1, 64), u64::MAX);
        assert_eq!(sign_extend(0xfff, 12), -1);
        assert_eq!(sign_extend(7, 64), 7);
        assert_eq!(text(b"cat\0x"), Some("cat".to_owned()));
        assert_eq!(text(b"\x01"), None);
    }
}
