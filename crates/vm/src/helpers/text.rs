//! Strings: numbers in text, comparison.

use super::probe::KERNEL_SPACE;
use super::{Args, Row, helpers};
use crate::fault;
use skep_abi::Errno;

pub(super) const HELPERS: &[Row] = helpers! {
    105 "bpf_strtol" strtol;
    106 "bpf_strtoul" strtoul;
    182 "bpf_strncmp" strncmp;
};

pub(super) const KFUNCS: &[Row] = helpers! {
    0 "bpf_strcmp" k_strcmp;
    0 "bpf_strcasecmp" k_strcasecmp;
    0 "bpf_strchr" k_strchr;
    0 "bpf_strchrnul" k_strchrnul;
    0 "bpf_strnchr" k_strnchr;
    0 "bpf_strrchr" k_strrchr;
    0 "bpf_strlen" k_strlen;
    0 "bpf_strnlen" k_strnlen;
    0 "bpf_strspn" k_strspn;
    0 "bpf_strcspn" k_strcspn;
    0 "bpf_strstr" k_strstr;
    0 "bpf_strnstr" k_strnstr;
    0 "bpf_strcasestr" k_strcasestr;
    0 "bpf_strncasestr" k_strncasestr;
};

/// `BPF_STRTOX_BASE_MASK`
const BASE_MASK: u64 = 0x1f;
/// Bytes that the kernel looks at.
const NUMBER_BYTES: usize = 63;

/// Sign, value and the number of bytes consumed.
fn parse(text: &[u8], flags: u64) -> Result<(bool, u64, usize), Errno> {
    let base = flags & BASE_MASK;
    if flags & !BASE_MASK != 0 || !matches!(base, 0 | 8 | 10 | 16) {
        return Err(Errno::EINVAL);
    }
    let is_space = |b: &&u8| matches!(**b, b' ' | b'\t'..=b'\r' | 0xa0);
    let mut at = text.iter().take_while(is_space).count();
    let negative = text.get(at) == Some(&b'-');
    at += usize::from(negative);
    let rest = &text[at..];
    let rest = &rest[..rest.len().min(NUMBER_BYTES)];
    if rest.is_empty() {
        return Err(Errno::EINVAL);
    }
    let hex_prefix = matches!(rest, [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit());
    let base = match base {
        0 if hex_prefix => 16,
        0 if rest[0] == b'0' => 8,
        0 => 10,
        base => base as u32,
    };
    let prefix = if base == 16 && matches!(rest, [b'0', b'x' | b'X', ..]) {
        2
    } else {
        0
    };
    let mut value = Some(0u64);
    let mut digits = 0;
    for &byte in &rest[prefix..] {
        let Some(digit) = char::from(byte).to_digit(base) else {
            break;
        };
        value = value
            .and_then(|v| v.checked_mul(u64::from(base)))
            .and_then(|v| v.checked_add(u64::from(digit)));
        digits += 1;
    }
    let value = value.ok_or(Errno::ERANGE)?;
    if digits == 0 {
        return Err(Errno::EINVAL);
    }
    Ok((negative, value, at + prefix + digits))
}

/// text, its length, flags, where the number goes
fn strtol(a: &Args) -> Result<u64, Errno> {
    a.write(4, &[0; 8]);
    let (negative, value, consumed) = parse(a.bytes(1, a.get32(2) as usize), a.get(3))?;
    let signed = if negative {
        value.wrapping_neg().cast_signed()
    } else {
        value.cast_signed()
    };
    if (negative && signed > 0) || (!negative && signed < 0) {
        return Err(Errno::ERANGE);
    }
    a.write(4, &signed.to_ne_bytes());
    Ok(consumed as u64)
}

/// text, its length, flags, where the number goes
fn strtoul(a: &Args) -> Result<u64, Errno> {
    a.write(4, &[0; 8]);
    let (negative, value, consumed) = parse(a.bytes(1, a.get32(2) as usize), a.get(3))?;
    if negative {
        return Err(Errno::EINVAL);
    }
    a.write(4, &value.to_ne_bytes());
    Ok(consumed as u64)
}

/// -1, 0 or 1 as strings compare.
fn order(ordering: std::cmp::Ordering) -> i64 {
    ordering as i64
}

/// string, its size, constant string
fn strncmp(a: &Args) -> i64 {
    let len = a.get32(2) as usize;
    let (left, right) = (a.bytes(1, len), a.string(3, len));
    let end = left.iter().position(|&b| b == 0).unwrap_or(len);
    order(left[..end].cmp(right))
}

/// `XATTR_SIZE_MAX`: the longest string that the kfuncs look at.
const MAX_STRING: usize = 65536;
/// Bytes read at a time.
const CHUNK: usize = 64;

/// The string at an address that may be bad, without its end; at most `max` bytes of it.
///
/// # Errors
/// `ERANGE` if the kernel would not even look there, `EFAULT` if there is nothing, `E2BIG` if it is too long.
fn unsafe_string(at: u64, max: usize) -> Result<Vec<u8>, Errno> {
    let limit = max.min(MAX_STRING);
    let mut text = Vec::new();
    // The kernel looks at the address also if nothing is to be read.
    if limit == 0 && at < KERNEL_SPACE && !fault::read(at, &mut [0]) {
        return Err(Errno::ERANGE);
    }
    while text.len() < limit {
        let from = at + text.len() as u64;
        let to_boundary = CHUNK - (from as usize % CHUNK);
        let mut chunk = [0; CHUNK];
        let chunk = &mut chunk[..to_boundary.min(limit - text.len())];
        if !fault::read(from, chunk) {
            // No chunk crosses a page: without the first one there is not even the first byte.
            let is_outside = text.is_empty() && at < KERNEL_SPACE;
            return Err(if is_outside {
                Errno::ERANGE
            } else {
                Errno::EFAULT
            });
        }
        if let Some(end) = chunk.iter().position(|&b| b == 0) {
            text.extend_from_slice(&chunk[..end]);
            return Ok(text);
        }
        text.extend_from_slice(chunk);
    }
    if max > MAX_STRING {
        Err(Errno::E2BIG)
    } else {
        Ok(text)
    }
}

/// Argument `n`, a string of any length.
fn whole(a: &Args, n: usize) -> Result<Vec<u8>, Errno> {
    unsafe_string(a.get(n), usize::MAX)
}

fn index(at: Option<usize>) -> Result<u64, Errno> {
    at.map(|i| i as u64).ok_or(Errno::ENOENT)
}

fn k_strcmp(a: &Args) -> Result<i64, Errno> {
    Ok(order(whole(a, 1)?.cmp(&whole(a, 2)?)))
}

fn k_strcasecmp(a: &Args) -> Result<i64, Errno> {
    let lower = |n| whole(a, n).map(|s| s.to_ascii_lowercase());
    Ok(order(lower(1)?.cmp(&lower(2)?)))
}

/// Position of `c`; the end of the string counts as a zero byte.
fn find(text: &[u8], c: u8) -> Option<usize> {
    if c == 0 {
        return Some(text.len());
    }
    text.iter().position(|&b| b == c)
}

fn k_strchr(a: &Args) -> Result<u64, Errno> {
    index(find(&whole(a, 1)?, a.get(2) as u8))
}

fn k_strchrnul(a: &Args) -> Result<u64, Errno> {
    let text = whole(a, 1)?;
    Ok(find(&text, a.get(2) as u8).unwrap_or(text.len()) as u64)
}

fn k_strnchr(a: &Args) -> Result<u64, Errno> {
    let max = a.get(2) as usize;
    let text = unsafe_string(a.get(1), max)?;
    index(find(&text, a.get(3) as u8).filter(|&i| i < max))
}

fn k_strrchr(a: &Args) -> Result<u64, Errno> {
    let (text, c) = (whole(a, 1)?, a.get(2) as u8);
    if c == 0 {
        return Ok(text.len() as u64);
    }
    index(text.iter().rposition(|&b| b == c))
}

fn k_strlen(a: &Args) -> Result<u64, Errno> {
    Ok(whole(a, 1)?.len() as u64)
}

fn k_strnlen(a: &Args) -> Result<u64, Errno> {
    Ok(unsafe_string(a.get(1), a.get(2) as usize)?.len() as u64)
}

fn k_strspn(a: &Args) -> Result<u64, Errno> {
    let accept = whole(a, 2)?;
    let text = whole(a, 1)?;
    Ok(text.iter().take_while(|b| accept.contains(b)).count() as u64)
}

fn k_strcspn(a: &Args) -> Result<u64, Errno> {
    let reject = whole(a, 2)?;
    let text = whole(a, 1)?;
    Ok(text.iter().take_while(|b| !reject.contains(b)).count() as u64)
}

/// Position of `needle` in `text`.
fn position(text: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    text.windows(needle.len()).position(|w| w == needle)
}

fn k_strstr(a: &Args) -> Result<u64, Errno> {
    index(position(&whole(a, 1)?, &whole(a, 2)?))
}

fn k_strnstr(a: &Args) -> Result<u64, Errno> {
    let text = unsafe_string(a.get(1), a.get(3) as usize)?;
    index(position(&text, &whole(a, 2)?))
}

fn k_strcasestr(a: &Args) -> Result<u64, Errno> {
    let lower = |n| whole(a, n).map(|s| s.to_ascii_lowercase());
    index(position(&lower(1)?, &lower(2)?))
}

fn k_strncasestr(a: &Args) -> Result<u64, Errno> {
    let text = unsafe_string(a.get(1), a.get(3) as usize)?.to_ascii_lowercase();
    index(position(&text, &whole(a, 2)?.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_parse_as_in_the_kernel() {
        type Row = (&'static str, u64, Result<(bool, u64, usize), Errno>);
        let rows: &[Row] = &[
            ("42", 0, Ok((false, 42, 2))),
            (" \t-42x", 10, Ok((true, 42, 5))),
            ("0x1F,", 0, Ok((false, 31, 4))),
            ("0x1F", 16, Ok((false, 31, 4))),
            ("017", 0, Ok((false, 15, 3))),
            ("-", 0, Err(Errno::EINVAL)),
            ("x", 0, Err(Errno::EINVAL)),
            ("1", 7, Err(Errno::EINVAL)),
            ("18446744073709551616", 0, Err(Errno::ERANGE)),
            ("", 0, Err(Errno::EINVAL)),
        ];
        for &(text, flags, expected) in rows {
            assert_eq!(parse(text.as_bytes(), flags), expected, "{text:?} {flags}");
        }
    }
}
