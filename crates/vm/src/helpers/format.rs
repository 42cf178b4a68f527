//! The kernel's `printf` for programs (`bpf_bprintf_prepare` and `bstr_printf`).
//!
//! Two steps as there: [`parse`] checks the whole format against the number of arguments, [`render`] prints.

use super::probe::read_str;
use crate::fault;
use skep_abi::Errno;
use std::fmt::Write;

/// `MAX_BPRINTF_VARARGS`
pub(super) const MAX_ARGS: usize = 12;
/// `MAX_BPRINTF_BUF`: bytes of text that one string argument may have.
const MAX_STRING: usize = 512;

/// How an argument prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Conversion {
    Signed,
    Unsigned,
    Hex,
    HexUpper,
    Char,
    Text,
    /// `%p`: hashed.
    Pointer,
    /// `%px`, `%pK`: as it is.
    RawPointer,
    /// `%pS` and its kin.
    Symbol,
    /// `%pi4`, `%pI4`: without and with the usual form.
    Ip4 {
        padded: bool,
    },
    /// `%pi6`, `%pI6`
    Ip6 {
        colons: bool,
    },
}

/// One piece of a format.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Literal(u8),
    Argument {
        conversion: Conversion,
        bytes: u8,
        flags: Flags,
        width: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Flags {
    zero: bool,
    left: bool,
    plus: bool,
    space: bool,
}

/// A checked format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Format {
    pieces: Vec<Piece>,
}

/// Checks `text` (without its terminating zero) against the number of arguments.
pub(super) fn parse(text: &[u8], args: usize) -> Result<Format, Errno> {
    let mut pieces = Vec::new();
    let mut used = 0;
    let mut at = 0;
    let byte = |at: usize| text.get(at).copied().unwrap_or(0);
    while at < text.len() {
        let c = text[at];
        let printable = (0x20..0x7f).contains(&c) || matches!(c, b'\t'..=b'\r');
        if !printable {
            return Err(Errno::EINVAL);
        }
        if c != b'%' {
            pieces.push(Piece::Literal(c));
            at += 1;
            continue;
        }
        if byte(at + 1) == b'%' {
            pieces.push(Piece::Literal(b'%'));
            at += 2;
            continue;
        }
        if used >= args {
            return Err(Errno::EINVAL);
        }
        used += 1;
        let (piece, next) = argument(&byte, at + 1)?;
        pieces.push(piece);
        at = next;
    }
    Ok(Format { pieces })
}

/// The conversion whose flags start at `at`, and where it ends.
fn argument(byte: &impl Fn(usize) -> u8, mut at: usize) -> Result<(Piece, usize), Errno> {
    let mut flags = Flags::default();
    loop {
        match byte(at) {
            b'0' => flags.zero = true,
            b'-' => flags.left = true,
            b'+' => flags.plus = true,
            b' ' => flags.space = true,
            _ => break,
        }
        at += 1;
    }
    let mut width = 0usize;
    while byte(at).is_ascii_digit() {
        width = (width * 10 + usize::from(byte(at) - b'0')).min(MAX_STRING);
        at += 1;
    }
    let (conversion, bytes, next) = match byte(at) {
        b'p' => pointer(byte, at + 1)?,
        b's' => (Conversion::Text, 8, at + 1),
        b'c' => (Conversion::Char, 1, at + 1),
        _ => integer(byte, at)?,
    };
    Ok((
        Piece::Argument {
            conversion,
            bytes,
            flags,
            width,
        },
        next,
    ))
}

/// What follows `%p`.
fn pointer(byte: &impl Fn(usize) -> u8, at: usize) -> Result<(Conversion, u8, usize), Errno> {
    let ends = |c: u8| c == 0 || c.is_ascii_whitespace() || c.is_ascii_punctuation();
    let (conversion, length) = match (byte(at), byte(at + 1)) {
        (b'k' | b'u', b's') => (Conversion::Text, 2),
        (b'x' | b'K', _) => (Conversion::RawPointer, 1),
        (b's' | b'S' | b'B', _) => (Conversion::Symbol, 1),
        (c, _) if ends(c) => (Conversion::Pointer, 0),
        (b'i', b'4') => (Conversion::Ip4 { padded: true }, 2),
        (b'I', b'4') => (Conversion::Ip4 { padded: false }, 2),
        (b'i', b'6') => (Conversion::Ip6 { colons: false }, 2),
        (b'I', b'6') => (Conversion::Ip6 { colons: true }, 2),
        _ => return Err(Errno::EINVAL),
    };
    Ok((conversion, 8, at + length))
}

fn integer(byte: &impl Fn(usize) -> u8, mut at: usize) -> Result<(Conversion, u8, usize), Errno> {
    let mut bytes = 4;
    if byte(at) == b'l' {
        bytes = 8;
        at += if byte(at + 1) == b'l' { 2 } else { 1 };
    }
    let conversion = match byte(at) {
        b'd' | b'i' => Conversion::Signed,
        b'u' => Conversion::Unsigned,
        b'x' => Conversion::Hex,
        b'X' => Conversion::HexUpper,
        _ => return Err(Errno::EINVAL),
    };
    Ok((conversion, bytes, at + 1))
}

impl Format {
    /// The text for `args`.
    pub(super) fn render(&self, args: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut args = args.iter().copied();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(c) => out.push(*c),
                Piece::Argument {
                    conversion,
                    bytes,
                    flags,
                    width,
                } => {
                    let value = args.next().unwrap_or(0);
                    one(&mut out, *conversion, *bytes, *flags, *width, value);
                }
            }
        }
        out
    }
}

fn one(
    out: &mut Vec<u8>,
    conversion: Conversion,
    bytes: u8,
    flags: Flags,
    width: usize,
    value: u64,
) {
    let narrow = if bytes == 4 {
        value & 0xffff_ffff
    } else {
        value
    };
    let signed = if bytes == 4 {
        i64::from(value as i32)
    } else {
        value.cast_signed()
    };
    let (sign, digits) = match conversion {
        Conversion::Signed => (sign(signed, flags), signed.unsigned_abs().to_string()),
        Conversion::Unsigned => ("", narrow.to_string()),
        Conversion::Hex => ("", format!("{narrow:x}")),
        Conversion::HexUpper => ("", format!("{narrow:X}")),
        _ => {
            let text = text_of(conversion, value);
            return pad(
                out,
                b"",
                &text,
                Flags {
                    zero: false,
                    ..flags
                },
                width,
            );
        }
    };
    pad(out, sign.as_bytes(), digits.as_bytes(), flags, width);
}

fn sign(value: i64, flags: Flags) -> &'static str {
    match value {
        ..0 => "-",
        _ if flags.plus => "+",
        _ if flags.space => " ",
        _ => "",
    }
}

/// Appends `sign` and `text`, filled to `width`.
fn pad(out: &mut Vec<u8>, sign: &[u8], text: &[u8], flags: Flags, width: usize) {
    let fill = width.saturating_sub(sign.len() + text.len());
    let spaces = std::iter::repeat_n(b' ', fill);
    if flags.left {
        out.extend_from_slice(sign);
        out.extend_from_slice(text);
        out.extend(spaces);
    } else if flags.zero {
        out.extend_from_slice(sign);
        out.extend(std::iter::repeat_n(b'0', fill));
        out.extend_from_slice(text);
    } else {
        out.extend(spaces);
        out.extend_from_slice(sign);
        out.extend_from_slice(text);
    }
}

/// What conversions other than integers print.
fn text_of(conversion: Conversion, value: u64) -> Vec<u8> {
    let mut text = String::new();
    let _ = match conversion {
        Conversion::Char => return vec![value as u8],
        Conversion::Text => return string_at(value),
        Conversion::Pointer => write!(text, "{:016x}", hashed(value)),
        Conversion::RawPointer => write!(text, "{value:016x}"),
        Conversion::Symbol => write!(text, "0x{value:x}"),
        Conversion::Ip4 { padded } => {
            let [a, b, c, d] = address(value);
            if padded {
                write!(text, "{a:03}.{b:03}.{c:03}.{d:03}")
            } else {
                write!(text, "{a}.{b}.{c}.{d}")
            }
        }
        Conversion::Ip6 { colons } => {
            let bytes: [u8; 16] = address(value);
            let groups = bytes.as_chunks::<2>().0;
            let words: Vec<String> = groups
                .iter()
                .map(|[hi, lo]| format!("{hi:02x}{lo:02x}"))
                .collect();
            text.write_str(&words.join(if colons { ":" } else { "" }))
        }
        _ => Ok(()),
    };
    text.into_bytes()
}

/// The string at `at`, empty if it cannot be read.
fn string_at(at: u64) -> Vec<u8> {
    let mut text = read_str(at, MAX_STRING).unwrap_or_default();
    if text.last() == Some(&0) {
        text.pop();
    }
    text
}

/// The bytes at `at`, zeros if they cannot be read.
fn address<const N: usize>(at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    if !fault::read(at, &mut bytes) {
        bytes = [0; N];
    }
    bytes
}

/// Hides an address: equal ones look equal.
fn hashed(value: u64) -> u64 {
    (value ^ value >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_print_as_in_the_kernel() {
        let text = b"word\0";
        let ip = [10u8, 0, 0, 1];
        let at = |bytes: &[u8]| bytes.as_ptr() as u64;
        let rows: &[(&str, &[u64], &str)] = &[
            ("plain 100%%", &[], "plain 100%"),
            ("%d %i", &[u64::MAX, 5], "-1 5"),
            ("%u", &[u64::MAX], "4294967295"),
            ("%lu", &[u64::MAX], "18446744073709551615"),
            ("%lld", &[u64::MAX], "-1"),
            ("%x %X", &[0xabc, 0xabc], "abc ABC"),
            (
                "[%5d|%-5d|%05d|%+d]",
                &[42, 42, 42, 42],
                "[   42|42   |00042|+42]",
            ),
            ("%08x", &[0xbeef], "0000beef"),
            ("%c%c", &[65, 66], "AB"),
            ("<%s>", &[at(text)], "<word>"),
            ("<%8s>", &[at(text)], "<    word>"),
            ("<%s>", &[0], "<>"),
            ("%px", &[0x1234], "0000000000001234"),
            ("%pI4 %pi4", &[at(&ip), at(&ip)], "10.0.0.1 010.000.000.001"),
        ];
        for (format, args, expected) in rows {
            let parsed = parse(format.as_bytes(), args.len());
            let out = parsed.map(|f| f.render(args));
            assert_eq!(out, Ok(expected.as_bytes().to_vec()), "{format}");
        }
    }

    #[test]
    fn bad_formats_are_invalid() {
        for format in ["%", "%q", "%d", "%l", "%pZ", "%llz", "\u{e4}", "\u{1}"] {
            assert_eq!(parse(format.as_bytes(), 0), Err(Errno::EINVAL), "{format}");
        }
        assert_eq!(parse(b"%hd", 1), Err(Errno::EINVAL));
    }
}
