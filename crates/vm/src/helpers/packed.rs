//! Arguments of a format as bytes, and what they print (`bstr_printf`).
//!
//! As in the kernel all arguments are brought into one buffer first, numbers as such and what lies elsewhere as text. Printing
//! reads them one after the other, each at the place where the one before ended. An address that was made text early is left
//! alone once there is no room for it: it counts as no text, and what is printed behind it reads from where it begins.

use super::probe::read_str;
use crate::fault;
use skep_abi::Errno;
use skep_verifier::printf::{self, Conversion, Early, Flags, Piece, Width};

/// `MAX_BPRINTF_BIN_ARGS`
const BYTES_MAX: usize = 512;
/// Digits of an address for which no field is given.
const POINTER_FIELD: usize = 16;

/// The arguments.
#[derive(Debug, Default)]
struct Packed {
    bytes: Vec<u8>,
}

/// A text that may have been too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Printed {
    /// What there was room for.
    pub(super) kept: Vec<u8>,
    /// Bytes of the whole text.
    pub(super) len: usize,
    room: usize,
}

/// Prints `format` (without its terminating zero) as far as there is room.
///
/// # Errors
/// `EINVAL` for what is not allowed or takes more arguments, `ENOSPC` if they are too long.
pub(super) fn print(format: &[u8], args: &[u64], room: usize) -> Result<Printed, Errno> {
    let pieces = printf::parse(format).ok_or(Errno::EINVAL)?;
    if printf::arguments(&pieces) > args.len() {
        return Err(Errno::EINVAL);
    }
    let mut packed = Packed::default();
    let conversions = pieces.iter().filter_map(|piece| match piece {
        Piece::Argument { conversion, .. } => Some(*conversion),
        Piece::Literal(_) => None,
    });
    for (conversion, value) in conversions.zip(args) {
        packed.add(conversion, *value)?;
    }
    Ok(packed.print(&pieces, room))
}

impl Packed {
    /// Takes an argument in.
    fn add(&mut self, conversion: Conversion, value: u64) -> Result<(), Errno> {
        match conversion {
            Conversion::Char => self.append(&[value as u8]),
            Conversion::Text | Conversion::Early(Early::Text) => {
                let room = BYTES_MAX - self.bytes.len();
                self.append_text(&string_at(value, room))
            }
            Conversion::Early(early) => self.append_text(&early_text(early, value)),
            Conversion::Signed(Width::Int)
            | Conversion::Unsigned(Width::Int)
            | Conversion::Hex(Width::Int)
            | Conversion::HexUpper(Width::Int) => self.append_word(&(value as u32).to_ne_bytes()),
            _ => self.append_word(&value.to_ne_bytes()),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        if self.bytes.len() + bytes.len() > BYTES_MAX {
            return Err(Errno::ENOSPC);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn append_text(&mut self, text: &[u8]) -> Result<(), Errno> {
        self.append(text)?;
        self.append(&[0])
    }

    fn append_word(&mut self, word: &[u8]) -> Result<(), Errno> {
        let aligned = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(aligned, 0);
        self.append(word)
    }

    /// Prints `pieces`.
    fn print(&self, pieces: &[Piece], room: usize) -> Printed {
        let mut out = Printed {
            kept: Vec::new(),
            len: 0,
            room,
        };
        let mut args = Reader {
            bytes: &self.bytes,
            at: 0,
        };
        for piece in pieces {
            match piece {
                Piece::Literal(c) => out.put(&[*c]),
                Piece::Argument {
                    conversion,
                    flags,
                    field,
                } => out.argument(*conversion, *flags, *field, &mut args),
            }
        }
        out
    }
}

/// Reads arguments; zeros behind the last one.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    fn int(&mut self) -> u32 {
        self.at = self.at.next_multiple_of(4);
        u32::from_ne_bytes([(); 4].map(|()| self.byte()))
    }

    fn long(&mut self) -> u64 {
        self.at = self.at.next_multiple_of(4);
        u64::from_ne_bytes([(); 8].map(|()| self.byte()))
    }

    fn number(&mut self, bytes: Width) -> u64 {
        match bytes {
            Width::Int => self.int().into(),
            Width::Long => self.long(),
        }
    }

    fn text(&mut self) -> Vec<u8> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let text: Vec<u8> = rest.iter().copied().take_while(|b| *b != 0).collect();
        self.at += text.len() + 1;
        text
    }
}

impl Printed {
    fn put(&mut self, bytes: &[u8]) {
        let room = self.room.saturating_sub(self.len).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
        self.len = self.len.saturating_add(bytes.len());
    }

    fn fill(&mut self, byte: u8, count: usize) {
        let room = self.room.saturating_sub(self.len).min(count);
        self.kept.resize(self.kept.len() + room, byte);
        self.len = self.len.saturating_add(count);
    }

    /// Puts `sign` and `text`, filled up to `field` bytes.
    fn pad(&mut self, sign: &str, text: &[u8], flags: Flags, field: usize) {
        let fill = field.saturating_sub(sign.len() + text.len());
        if !flags.left && !flags.zero {
            self.fill(b' ', fill);
        }
        self.put(sign.as_bytes());
        if !flags.left && flags.zero {
            self.fill(b'0', fill);
        }
        self.put(text);
        if flags.left {
            self.fill(b' ', fill);
        }
    }

    fn argument(
        &mut self,
        conversion: Conversion,
        flags: Flags,
        field: Option<usize>,
        args: &mut Reader<'_>,
    ) {
        let no_zeros = Flags {
            zero: false,
            ..flags
        };
        let width = field.unwrap_or(0);
        match conversion {
            Conversion::Early(_) => {
                if self.len < self.room {
                    self.put(&args.text());
                }
            }
            Conversion::Char => self.pad("", &[args.byte()], no_zeros, width),
            Conversion::Text => self.pad("", &args.text(), no_zeros, width),
            Conversion::Symbol => {
                let text = format!("0x{:x}", args.long());
                self.pad("", text.as_bytes(), no_zeros, width);
            }
            Conversion::Pointer => self.pointer(hashed(args.long()), flags, field),
            Conversion::RawPointer => self.pointer(args.long(), flags, field),
            Conversion::Signed(bytes) => {
                let value = match bytes {
                    Width::Int => i64::from(args.int().cast_signed()),
                    Width::Long => args.long().cast_signed(),
                };
                let digits = value.unsigned_abs().to_string();
                self.pad(sign(value, flags), digits.as_bytes(), flags, width);
            }
            Conversion::Unsigned(bytes) => {
                let digits = args.number(bytes).to_string();
                self.pad("", digits.as_bytes(), flags, width);
            }
            Conversion::Hex(bytes) => {
                let digits = format!("{:x}", args.number(bytes));
                self.pad("", digits.as_bytes(), flags, width);
            }
            Conversion::HexUpper(bytes) => {
                let digits = format!("{:X}", args.number(bytes));
                self.pad("", digits.as_bytes(), flags, width);
            }
        }
    }

    /// An address: all digits unless a field is given.
    fn pointer(&mut self, value: u64, flags: Flags, field: Option<usize>) {
        let zero = flags.zero || field.is_none();
        let digits = format!("{value:x}");
        let flags = Flags { zero, ..flags };
        self.pad("", digits.as_bytes(), flags, field.unwrap_or(POINTER_FIELD));
    }
}

fn sign(value: i64, flags: Flags) -> &'static str {
    match value {
        ..0 => "-",
        _ if flags.plus => "+",
        _ if flags.space => " ",
        _ => "",
    }
}

/// What becomes text with the arguments.
fn early_text(early: Early, value: u64) -> Vec<u8> {
    match early {
        Early::Text => string_at(value, BYTES_MAX),
        Early::Symbol => format!("0x{value:x}").into_bytes(),
        Early::Ip4 { padded: true } => {
            let [a, b, c, d] = address(value);
            format!("{a:03}.{b:03}.{c:03}.{d:03}").into_bytes()
        }
        Early::Ip4 { padded: false } => {
            let [a, b, c, d] = address(value);
            format!("{a}.{b}.{c}.{d}").into_bytes()
        }
        Early::Ip6 { colons } => {
            let bytes: [u8; 16] = address(value);
            let groups = bytes.as_chunks::<2>().0;
            let words = groups.iter().map(|[hi, lo]| format!("{hi:02x}{lo:02x}"));
            let words: Vec<String> = words.collect();
            words.join(if colons { ":" } else { "" }).into_bytes()
        }
    }
}

/// The string at `at`, cut to `room` bytes with its end; empty if it cannot be read.
fn string_at(at: u64, room: usize) -> Vec<u8> {
    let mut text = read_str(at, room).unwrap_or_default();
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

/// Hides an address: equal ones look equal. NULL and errors are shown.
fn hashed(value: u64) -> u64 {
    const ERRORS_FROM: u64 = 4095u64.wrapping_neg();
    if value == 0 || value >= ERRORS_FROM {
        return value;
    }
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
            let out = print(format.as_bytes(), args, 100);
            let text = out.map(|printed| printed.kept);
            assert_eq!(text, Ok(expected.as_bytes().to_vec()), "{format}");
        }
    }
}
