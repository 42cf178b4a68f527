//! Values of `.kconfig` variables. Source: Documentation/bpf/libbpf/libbpf_overview.rst, behaviour of libbpf.

use crate::error::ObjectError;
use crate::externs::{ConfigForm, Extern, ExternKind, config_bytes};
use crate::target::Target;

/// The content of the map `.kconfig`, and what could not be had (errors of single variables).
pub(crate) fn contents(externs: &[Extern], target: &Target) -> (Vec<u8>, Vec<ObjectError>) {
    let mut bytes = vec![0; config_bytes(externs) as usize];
    let mut errors = Vec::new();
    for external in externs {
        let ExternKind::Config { form, size, offset } = external.kind else {
            continue;
        };
        let start = offset as usize;
        let place = &mut bytes[start..start + size as usize];
        if let Err(error) = set(external, form, place, target) {
            errors.push(error);
        }
    }
    (bytes, errors)
}

fn set(
    external: &Extern,
    form: ConfigForm,
    place: &mut [u8],
    target: &Target,
) -> Result<(), ObjectError> {
    let name = external.name.as_str();
    let fail = |what: String| Err(ObjectError::variable(name, what));
    let known = match name {
        "LINUX_KERNEL_VERSION" => Some(u64::from(target.kernel_version)),
        "LINUX_HAS_BPF_COOKIE" => Some(u64::from(target.bpf_cookie)),
        "LINUX_HAS_SYSCALL_WRAPPER" => Some(u64::from(target.syscall_wrapper)),
        _ => None,
    };
    if let Some(number) = known {
        return set_number(name, form, place, number);
    }
    let Some(text) = target.config(name) else {
        if external.weak {
            return Ok(());
        }
        return fail(match target.kconfig {
            None => "the kernel's configuration is not known".to_owned(),
            Some(_) => "the kernel's configuration has no such option".to_owned(),
        });
    };
    match text {
        "y" | "n" | "m" => set_letter(name, form, place, text.as_bytes()[0]),
        _ if text.starts_with('"') => {
            let inner = text.trim_matches('"').as_bytes();
            if form != ConfigForm::Text {
                return fail(format!("its value is {text}, but it is no string"));
            }
            // Longer values are cut; the last byte stays zero.
            let len = inner.len().min(place.len().saturating_sub(1));
            place[..len].copy_from_slice(&inner[..len]);
            Ok(())
        }
        _ => match number(text) {
            Some(value) => set_number(name, form, place, value),
            None => fail(format!("its value {text} is no number")),
        },
    }
}

fn number(text: &str) -> Option<u64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

/// Writes the low bytes of `value` in the machine's order.
fn write(place: &mut [u8], value: u64) {
    let len = place.len();
    if cfg!(target_endian = "big") {
        place.copy_from_slice(&value.to_be_bytes()[8 - len..]);
    } else {
        place.copy_from_slice(&value.to_le_bytes()[..len]);
    }
}

/// Sets a value of 1, 2, 4 or 8 bytes.
fn set_number(
    name: &str,
    form: ConfigForm,
    place: &mut [u8],
    value: u64,
) -> Result<(), ObjectError> {
    let ConfigForm::Int(signed) = form else {
        if form == ConfigForm::Char || form == ConfigForm::Bool && value <= 1 {
            write(place, value);
            return Ok(());
        }
        let what = format!("its value is the number {value}, but it is no integer");
        return Err(ObjectError::variable(name, what));
    };
    let unused = 64 - 8 * u32::try_from(place.len()).unwrap_or(8).min(8);
    let back = if signed {
        (value.cast_signed() << unused >> unused).cast_unsigned()
    } else {
        value << unused >> unused
    };
    if back != value {
        let what = format!("its value {value} does not fit {} bytes", place.len());
        return Err(ObjectError::variable(name, what));
    }
    write(place, value);
    Ok(())
}

fn set_letter(
    name: &str,
    form: ConfigForm,
    place: &mut [u8],
    letter: u8,
) -> Result<(), ObjectError> {
    let value = match (form, letter) {
        (ConfigForm::Bool, b'y') | (ConfigForm::Tristate, b'y') => 1,
        (ConfigForm::Tristate, b'm') => 2,
        (ConfigForm::Bool | ConfigForm::Tristate, b'n') => 0,
        (ConfigForm::Char, _) => u64::from(letter),
        // clang calls `char` a signed integer of one byte.
        (ConfigForm::Int(_), _) if place.len() == 1 => u64::from(letter),
        _ => {
            let what = format!(
                "its value is {}, but it is no bool, tristate or char",
                char::from(letter)
            );
            return Err(ObjectError::variable(name, what));
        }
    };
    write(place, value);
    Ok(())
}
