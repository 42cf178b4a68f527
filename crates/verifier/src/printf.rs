//! Formats of the kernel's `printf` for programs (`bpf_bprintf_prepare`): what is allowed, and what it means.

/// Arguments that a format may have (`MAX_BPRINTF_VARARGS`).
pub const MAX_ARGS: usize = 12;

/// How an argument prints.
///
/// ```
/// use skep_verifier::printf::{Conversion, Piece, parse};
///
/// let pieces = parse(b"%s").ok_or("no such format")?;
/// assert!(matches!(pieces[0], Piece::Argument { conversion: Conversion::Text, .. }));
/// assert_eq!(parse(b"%f"), None, "the kernel has no floating point");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conversion {
    /// `%d`, `%i`
    Signed(Width),
    /// `%u`
    Unsigned(Width),
    /// `%x`
    Hex(Width),
    /// `%X`
    HexUpper(Width),
    /// `%c`
    Char,
    /// `%s`
    Text,
    /// `%p`, `%pK`: hashed.
    Pointer,
    /// `%px`
    RawPointer,
    /// `%pS`, `%ps`: `0x…`, as for what is no symbol.
    Symbol,
    /// What is text before anything is printed.
    Early(Early),
}

/// Bytes of an integer.
///
/// ```
/// use skep_verifier::printf::{Conversion, Piece, Width, parse};
///
/// let pieces = parse(b"%llx").ok_or("no such format")?;
/// let wanted = Conversion::Hex(Width::Long);
/// assert!(matches!(pieces[0], Piece::Argument { conversion, .. } if conversion == wanted));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// 4
    Int,
    /// 8: `l`, `ll`
    Long,
}

/// Addresses that become text with the arguments, without room asked or fields filled.
///
/// ```
/// use skep_verifier::printf::{Conversion, Early, Piece, parse};
///
/// let pieces = parse(b"%pI4").ok_or("no such format")?;
/// let wanted = Conversion::Early(Early::Ip4 { padded: false });
/// assert!(matches!(pieces[0], Piece::Argument { conversion, .. } if conversion == wanted));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Early {
    /// `%pB`
    Symbol,
    /// `%pks`, `%pus`
    Text,
    /// `%pi4`, `%pI4`: with zeros in front, or without.
    Ip4 {
        /// Three digits each.
        padded: bool,
    },
    /// `%pi6`, `%pI6`
    Ip6 {
        /// Between the groups.
        colons: bool,
    },
}

/// One piece of a format.
///
/// ```
/// use skep_verifier::printf::{Piece, arguments, parse};
///
/// let pieces = parse(b"%d of %llu bytes").ok_or("no such format")?;
/// assert_eq!(arguments(&pieces), 2);
/// assert_eq!(pieces[1], Piece::Literal(b' '));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Prints as it is.
    Literal(u8),
    /// Prints an argument.
    Argument {
        /// How.
        conversion: Conversion,
        /// Its flags.
        flags: Flags,
        /// Bytes to fill up to.
        field: Option<usize>,
    },
}

/// Flags of a conversion.
///
/// ```
/// use skep_verifier::printf::{Flags, Piece, parse};
///
/// let pieces = parse(b"%08x").ok_or("no such format")?;
/// let zero = Flags { zero: true, ..Flags::default() };
/// assert!(matches!(pieces[0], Piece::Argument { flags, field: Some(8), .. } if flags == zero));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// `0`
    pub zero: bool,
    /// `-`
    pub left: bool,
    /// `+`
    pub plus: bool,
    /// A space.
    pub space: bool,
}

/// `isspace`: the kernel's classes are those of Latin-1.
fn is_space(c: u8) -> bool {
    matches!(c, b'\t'..=b'\r' | b' ' | 0xa0)
}

/// `ispunct`
fn is_punct(c: u8) -> bool {
    c.is_ascii_punctuation() || matches!(c, 0xa1..=0xbf | 0xd7 | 0xf7)
}

/// `isalnum`
fn is_alnum(c: u8) -> bool {
    c.is_ascii_alphanumeric() || (c >= 0xc0 && !is_punct(c))
}

/// The end of the text, or nothing that could belong to a conversion.
fn ends(c: u8) -> bool {
    c == 0 || is_space(c) || is_punct(c)
}

/// The pieces of `text` (without its terminating zero); `None` if the kernel takes no such format.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let byte = |at: usize| text.get(at).copied().unwrap_or(0);
    while at < text.len() {
        let c = text[at];
        if !(is_space(c) || c.is_ascii_graphic() || !c.is_ascii()) {
            return None;
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
        let (piece, next) = argument(&byte, at + 1)?;
        pieces.push(piece);
        at = next;
    }
    Some(pieces)
}

/// Arguments that the pieces of a format take.
#[must_use]
pub fn arguments(pieces: &[Piece]) -> usize {
    let takes_one = |piece: &&Piece| matches!(piece, Piece::Argument { .. });
    pieces.iter().filter(takes_one).count()
}

/// The conversion whose flags start at `at`, and where it ends.
fn argument(byte: &impl Fn(usize) -> u8, mut at: usize) -> Option<(Piece, usize)> {
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
    let mut field = None;
    while byte(at).is_ascii_digit() {
        let digit = i32::from(byte(at) - b'0');
        let more = field.unwrap_or(0i32).wrapping_mul(10);
        field = Some(more.wrapping_add(digit));
        at += 1;
    }
    let (conversion, next) = match byte(at) {
        b'p' => pointer(byte, at + 1)?,
        b's' if ends(byte(at + 1)) => (Conversion::Text, at + 1),
        b'c' => (Conversion::Char, at + 1),
        _ => integer(byte, at)?,
    };
    let piece = Piece::Argument {
        conversion,
        flags,
        field: field.map(|n| usize::try_from(n).unwrap_or(0)),
    };
    Some((piece, next))
}

/// What follows `%p`. Letters and digits behind it are not printed.
fn pointer(byte: &impl Fn(usize) -> u8, mut at: usize) -> Option<(Conversion, usize)> {
    let conversion = match (byte(at), byte(at + 1)) {
        (b'k' | b'u', b's') if ends(byte(at + 2)) => Conversion::Early(Early::Text),
        (b'x', _) => Conversion::RawPointer,
        (b's' | b'S', _) => Conversion::Symbol,
        (b'B', _) => Conversion::Early(Early::Symbol),
        (b'K', _) => Conversion::Pointer,
        (c, _) if ends(c) => Conversion::Pointer,
        (c @ (b'i' | b'I'), b'4') => Conversion::Early(Early::Ip4 { padded: c == b'i' }),
        (c @ (b'i' | b'I'), b'6') => Conversion::Early(Early::Ip6 { colons: c == b'I' }),
        _ => return None,
    };
    while is_alnum(byte(at)) {
        at += 1;
    }
    Some((conversion, at))
}

fn integer(byte: &impl Fn(usize) -> u8, mut at: usize) -> Option<(Conversion, usize)> {
    let mut width = Width::Int;
    if byte(at) == b'l' {
        width = Width::Long;
        at += if byte(at + 1) == b'l' { 2 } else { 1 };
    }
    let conversion = match byte(at) {
        b'd' | b'i' => Conversion::Signed(width),
        b'u' => Conversion::Unsigned(width),
        b'x' => Conversion::Hex(width),
        b'X' => Conversion::HexUpper(width),
        _ => return None,
    };
    Some((conversion, at + 1))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn bad_formats_are_refused() {
        for format in [
            "%", "%q", "%l", "%pZ", "%llz", "\u{1}", "%hd", "%sx", "%pksx", "%5",
        ] {
            assert_eq!(parse(format.as_bytes()), None, "{format}");
        }
        assert!(parse("\u{e4} %s.".as_bytes()).is_some());
    }
}
