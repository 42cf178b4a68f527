//! A field of a context and the sizes in which it can be reached.

use super::{Access, CtxAccess, CtxDenied, Yields};

/// In which pieces a field can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Not at all.
    Never,
    /// A whole element.
    Exact,
    /// Any aligned piece no greater than an element.
    Narrow,
    /// Any aligned piece of at least 2 bytes, no greater than an element.
    Halves,
    /// 1, 2 or 4 bytes from the start of the field.
    Prefix,
    /// Any aligned piece, also across elements.
    Bytes,
    /// Any aligned 4 or 8 bytes, also across elements.
    Words,
}

impl Mode {
    /// True if `size` bytes at `at` (from the start of the context) of `field` can be reached so.
    const fn allows(self, field: &Field, at: u32, size: u32) -> bool {
        let aligned = at.is_multiple_of(size) && at + size <= field.offset + field.size;
        match self {
            Self::Never => false,
            Self::Exact => {
                size == field.unit
                    && (at - field.offset).is_multiple_of(field.unit)
                    && at + size <= field.offset + field.size
            }
            Self::Narrow => aligned && size <= field.unit,
            Self::Halves => aligned && size >= 2 && size <= field.unit,
            Self::Prefix => at == field.offset && size <= field.unit,
            Self::Bytes => aligned,
            Self::Words => aligned && size >= 4,
        }
    }
}

/// Whoever has this context at all.
pub(super) const ANY: u16 = u16::MAX;

/// A field of a context.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name in include/uapi/linux/bpf.h.
    pub name: &'static str,
    /// Offset in bytes.
    pub offset: u32,
    /// Bytes in all.
    pub size: u32,
    /// Bytes of an element; equal to `size` unless the field is an array.
    pub unit: u32,
    /// How it can be read, and by whom (bits that the context's table names).
    pub read: (Mode, u16),
    /// How it can be written, and by whom.
    pub write: (Mode, u16),
    /// What a read yields.
    pub yields: Yields,
}

impl Field {
    /// A field of one element that nobody can reach yet.
    pub(super) const fn new(name: &'static str, offset: u32, size: u32) -> Self {
        Self::array(name, offset, size, 1)
    }

    /// A field of `count` elements of `unit` bytes that nobody can reach yet.
    pub(super) const fn array(name: &'static str, offset: u32, unit: u32, count: u32) -> Self {
        Self {
            name,
            offset,
            size: unit * count,
            unit,
            read: (Mode::Never, 0),
            write: (Mode::Never, 0),
            yields: Yields::Scalar,
        }
    }

    /// The same, readable.
    pub(super) const fn read(mut self, mode: Mode, who: u16) -> Self {
        self.read = (mode, who);
        self
    }

    /// The same, writable.
    pub(super) const fn write(mut self, mode: Mode, who: u16) -> Self {
        self.write = (mode, who);
        self
    }

    /// The same, with a read that yields a pointer.
    pub(super) const fn yields(mut self, yields: Yields) -> Self {
        self.yields = yields;
        self
    }
}

/// Checks an access against a table; `who` has the bits of the program.
pub(super) fn check(
    fields: &[Field],
    who: u16,
    offset: i32,
    size: u32,
    kind: Access,
) -> Result<CtxAccess, CtxDenied> {
    let at = u32::try_from(offset).map_err(|_| CtxDenied::NoField)?;
    let mut denied = CtxDenied::NoField;
    for field in fields {
        if at < field.offset || at >= field.offset + field.size {
            continue;
        }
        match check_field(field, who, at, size, kind) {
            Err(reason) => denied = reason,
            allowed => return allowed,
        }
    }
    Err(denied)
}

/// Checks an access that starts inside `field`.
fn check_field(
    field: &Field,
    who: u16,
    at: u32,
    size: u32,
    kind: Access,
) -> Result<CtxAccess, CtxDenied> {
    let (mode, allowed) = match kind {
        Access::Read | Access::ReadSigned => field.read,
        Access::Write => field.write,
    };
    if field.read.1 & who == 0 && field.write.1 & who == 0 {
        return Err(CtxDenied::Hidden(field.name));
    }
    if kind == Access::Write && (allowed & who == 0 || mode == Mode::Never) {
        return Err(CtxDenied::ReadOnly(field.name));
    }
    if allowed & who == 0 {
        return Err(CtxDenied::Hidden(field.name));
    }
    if !mode.allows(field, at, size) {
        return Err(CtxDenied::Size(field.name));
    }
    if kind == Access::ReadSigned && field.yields != Yields::Scalar {
        return Err(CtxDenied::SignedPointer(field.name));
    }
    Ok(CtxAccess {
        field: field.name,
        offset: field.offset,
        size: field.size,
        yields: field.yields,
    })
}
