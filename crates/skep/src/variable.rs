//! Global variables of an object, set before it is loaded.
//!
//! ```
//! # let bytes = std::fs::read("../../tests/objects/emit.bpf.o")?;
//! # let options = skep_object::Options { name: "emit.bpf.o".to_owned() };
//! # let mut object = skep_object::Object::parse(&bytes, &options)?;
//! # let backend: std::sync::Arc<dyn skep_bpf::Backend> =
//! #     std::sync::Arc::new(skep_user::Universe::new(skep_user::Options::default())?);
//! skep::variable::set(&mut object, "step", "5")?; // const volatile __u32 step
//! assert!(skep::variable::set(&mut object, "stop", "5").is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use skep_btf::{Btf, Kind, Type};
use skep_object::{MapSpec, Object};
use std::fmt;

/// A variable cannot be set.
///
/// ```
/// use skep::variable::{VariableError, set};
///
/// let bytes = std::fs::read("../../tests/objects/emit.bpf.o")?;
/// let mut object = skep::typed::open(&bytes, "emit.bpf.o")?;
/// let error = set(&mut object, "stride", "5").unwrap_err();
/// assert_eq!(error, VariableError::Missing("stride".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VariableError {
    /// The object has no such variable.
    Missing(String),
    /// The variable is not a number, or the value not one that fits.
    Unfit {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
}

impl fmt::Display for VariableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "the object has no global variable \"{name}\""),
            Self::Unfit { name, why } => write!(f, "variable \"{name}\": {why}"),
        }
    }
}

impl std::error::Error for VariableError {}

/// Where a variable lies.
struct Place<'a> {
    section: &'a str,
    offset: usize,
    ty: Type<'a>,
    size: usize,
}

fn find<'a>(btf: &'a Btf, name: &str) -> Option<Place<'a>> {
    for section in btf.types().filter(|t| t.kind() == Kind::Datasec) {
        for var in section.vars() {
            let Some(declared) = btf.get(var.type_id).filter(|t| t.name() == name) else {
                continue;
            };
            return Some(Place {
                section: section.name(),
                offset: var.offset as usize,
                ty: declared.target()?.resolve(),
                size: var.size as usize,
            });
        }
    }
    None
}

/// True if the object declares a global variable of this name.
#[must_use]
pub fn exists(object: &Object, name: &str) -> bool {
    object.btf().and_then(|btf| find(btf, name)).is_some()
}

/// Sets a variable from text: a number in decimal or `0x` hexadecimal, `true`, `false`, or text for character arrays.
///
/// # Errors
/// [`VariableError`]
pub fn set(object: &mut Object, name: &str, text: &str) -> Result<(), VariableError> {
    let missing = || VariableError::Missing(name.to_owned());
    let unfit = |why: String| VariableError::Unfit {
        name: name.to_owned(),
        why,
    };
    let btf = object.btf().ok_or_else(missing)?.clone();
    let place = find(&btf, name).ok_or_else(missing)?;
    let bytes = encode(place.ty, place.size, text).map_err(unfit)?;
    let (section, offset) = (place.section, place.offset);
    let map = object
        .maps_mut()
        .iter_mut()
        .find(|m: &&mut MapSpec| m.is_data() && m.name == section);
    let map = map.ok_or_else(|| unfit(format!("its section {section} has no map")))?;
    let end = offset + bytes.len();
    if end > map.value_size as usize {
        return Err(unfit("it lies outside of its section".to_owned()));
    }
    if map.contents.len() < end {
        map.contents.resize(end, 0);
    }
    map.contents[offset..end].copy_from_slice(&bytes);
    Ok(())
}

/// The bytes of a value.
fn encode(ty: Type<'_>, size: usize, text: &str) -> Result<Vec<u8>, String> {
    match ty.kind() {
        Kind::Int | Kind::Enum | Kind::Enum64 if size <= 8 => number(text, size),
        Kind::Array if ty.array().is_some_and(|a| a.len as usize == size) => {
            if text.len() >= size {
                return Err(format!(
                    "the text is longer than {} bytes",
                    size.saturating_sub(1)
                ));
            }
            let mut bytes = text.as_bytes().to_vec();
            bytes.resize(size, 0);
            Ok(bytes)
        }
        kind => Err(format!(
            "a {} cannot be set from the command line",
            kind.name()
        )),
    }
}

fn number(text: &str, size: usize) -> Result<Vec<u8>, String> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |d| (true, d));
    let value = match (digits, digits.strip_prefix("0x")) {
        ("true", _) => Ok(1),
        ("false", _) => Ok(0),
        (_, Some(hex)) => u64::from_str_radix(hex, 16),
        (decimal, None) => decimal.parse::<u64>(),
    };
    let value = value.map_err(|_| format!("\"{text}\" is not a number"))?;
    let bits = size as u32 * 8;
    let limit = if negative {
        1u64 << (bits - 1)
    } else {
        u64::MAX >> (64 - bits)
    };
    if value > limit {
        return Err(format!("{text} does not fit {size} bytes"));
    }
    let value = if negative {
        value.wrapping_neg()
    } else {
        value
    };
    let bytes = value.to_le_bytes();
    let mut bytes = bytes[..size].to_vec();
    if cfg!(target_endian = "big") {
        bytes.reverse();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_fit_or_not() {
        assert_eq!(number("258", 4), Ok(vec![2, 1, 0, 0]));
        assert_eq!(number("-1", 2), Ok(vec![0xff, 0xff]));
        assert_eq!(number("0xff", 1), Ok(vec![0xff]));
        assert_eq!(number("true", 1), Ok(vec![1]));
        assert!(number("256", 1).is_err() && number("-129", 1).is_err() && number("x", 4).is_err());
    }
}
