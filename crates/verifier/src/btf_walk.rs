//! Walks a structure of BTF to what lies at an offset, as loads through typed pointers see it.

use crate::code;
use crate::fail::{Check, errno, fail};
use crate::reg::Flags;
use skep_btf::{Btf, Kind, Member, Type};

/// Structures within structures, and arrays of arrays.
const MAX_DEPTH: usize = 64;

/// What lies at an offset of a structure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'a> {
    /// A number, or what counts as one.
    Scalar,
    /// A pointer to a structure.
    Pointer {
        /// The structure.
        target: Type<'a>,
        /// Name of the member that holds the pointer.
        field: &'a str,
        /// What the type tag of the pointer says: RCU, per-CPU, user memory.
        tag: Flags,
    },
    /// A pointer to something else.
    Opaque,
}

/// One step of a walk.
enum Step<'a> {
    At(Found<'a>),
    /// Exactly here begins this structure.
    Struct(Type<'a>),
}

/// Result of a walk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk<'a> {
    /// What was found.
    pub found: Found<'a>,
    /// The way led through a union of several members: what it holds is not known.
    pub through_union: bool,
}

fn refused<T>(errno: i32, message: String) -> Check<T> {
    fail(code::BTF_ACCESS, errno, message)
}

/// What an access of `size` bytes at `off` of the structure `start` finds.
pub(crate) fn walk(start: Type<'_>, off: u32, size: u32) -> Check<Walk<'_>> {
    let (mut t, mut at, mut through_union) = (start, off, false);
    for _ in 0..MAX_DEPTH {
        match step(t, at, size, &mut through_union)? {
            Step::At(found) => {
                return Ok(Walk {
                    found,
                    through_union,
                });
            }
            Step::Struct(inner) => (t, at) = (inner, 0),
        }
    }
    refused(errno::EINVAL, "the structure nests too deeply".into())
}

/// Is there a structure with id `wanted` at `off` of the structure `start`? With `strict` only `start` itself counts.
pub(crate) fn holds(start: Type<'_>, off: u32, wanted: u32, strict: bool) -> bool {
    if off == 0 && start.id() == wanted {
        return true;
    }
    if strict {
        return false;
    }
    let (mut t, mut at) = (start, off);
    for _ in 0..MAX_DEPTH {
        match step(t, at, 1, &mut false) {
            Ok(Step::Struct(inner)) if inner.id() == wanted => return true,
            Ok(Step::Struct(inner)) => (t, at) = (inner, 0),
            _ => return false,
        }
    }
    false
}

fn step<'a>(start: Type<'a>, off: u32, size: u32, through_union: &mut bool) -> Check<Step<'a>> {
    let (mut t, mut off) = (start.resolve(), off);
    for _ in 0..MAX_DEPTH {
        if !t.kind().is_composite() {
            return refused(errno::EINVAL, format!("{} is no structure", t.name()));
        }
        if t.kind() == Kind::Union && t.vlen() != 1 {
            *through_union = true;
        }
        if u64::from(off) + u64::from(size) > u64::from(t.size().unwrap_or(0)) {
            match beyond(t, off, size)? {
                Some((inner, at)) => (t, off) = (inner, at),
                None => return Ok(Step::At(Found::Scalar)),
            }
            continue;
        }
        match member_at(t, off, size, *through_union)? {
            Place::Done(found) => return Ok(Step::At(found)),
            Place::Inside(inner, 0) => return Ok(Step::Struct(inner)),
            Place::Inside(inner, at) => (t, off) = (inner, at),
        }
    }
    refused(errno::EINVAL, "the structure nests too deeply".into())
}

/// Past the end of `t` there may be an array of open length: its structure and the offset there, or `None` for numbers.
fn beyond(t: Type<'_>, off: u32, size: u32) -> Check<Option<(Type<'_>, u32)>> {
    let outside = || {
        let message = format!(
            "access of {size} bytes at byte {off} of struct {}, which has {} bytes",
            t.name(),
            t.size().unwrap_or(0)
        );
        refused(errno::EACCES, message)
    };
    let Some(last) = t.members().last() else {
        return outside();
    };
    let array = t.btf().get(last.type_id).map(Type::resolve);
    let open = array.and_then(|a| a.array()).filter(|a| a.len == 0);
    let Some(open) = open.filter(|_| off >= last.offset()) else {
        return outside();
    };
    let element = t.btf().get(open.element).map(Type::resolve);
    match element {
        Some(e) if e.kind() == Kind::Int => Ok(None),
        Some(e) if e.kind().is_composite() && e.size().is_some_and(|s| s > 0) => {
            let bytes = e.size().unwrap_or(1);
            Ok(Some((e, (off - last.offset()) % bytes)))
        }
        _ => outside(),
    }
}

enum Place<'a> {
    Done(Found<'a>),
    Inside(Type<'a>, u32),
}

fn member_at(t: Type<'_>, off: u32, size: u32, through_union: bool) -> Check<Place<'_>> {
    for m in t.members() {
        let start = m.bit_offset / 8;
        if off + size <= start {
            break;
        }
        if m.bit_size > 0 {
            let end = (m.bit_offset + m.bit_size).div_ceil(8);
            if off <= start && end <= off + size {
                return Ok(Place::Done(Found::Scalar));
            }
            continue;
        }
        if off < start {
            break;
        }
        if let Some(place) = within(t, &m, off, size, through_union)? {
            return Ok(place);
        }
    }
    refused(
        errno::EINVAL,
        format!("struct {} has no field at byte {off}", t.name()),
    )
}

/// What the member holds at `off`, if it reaches that far.
fn within<'a>(
    t: Type<'a>,
    m: &Member<'a>,
    off: u32,
    size: u32,
    through_union: bool,
) -> Check<Option<Place<'a>>> {
    let mut start = m.bit_offset / 8;
    let Some((ty, count)) = element(t.btf(), m.type_id) else {
        let message = format!("field {} of struct {} has no size", m.name, t.name());
        return refused(errno::EINVAL, message);
    };
    let Ok(each) = ty.btf().size_of(ty.id()) else {
        let message = format!("field {} of struct {} has no size", m.name, t.name());
        return refused(errno::EINVAL, message);
    };
    let end = start.saturating_add(each.saturating_mul(count));
    if off >= end || each == 0 {
        return Ok(None);
    }
    start += (off - start) / each * each;
    if ty.kind().is_composite() {
        return Ok(Some(Place::Inside(ty, off - start)));
    }
    if ty.kind() == Kind::Ptr {
        if size != each || off != start {
            let message = format!(
                "{size} bytes at byte {off} are only part of the pointer {} of struct {}",
                m.name,
                t.name()
            );
            return refused(errno::EACCES, message);
        }
        return Ok(Some(Place::Done(pointer(ty, m.name))));
    }
    // What a union holds is not known anyway: its numbers may be read across fields.
    if off + size > end && !through_union {
        let message = format!(
            "{size} bytes at byte {off} reach beyond the field {} of struct {}",
            m.name,
            t.name()
        );
        return refused(errno::EACCES, message);
    }
    Ok(Some(Place::Done(Found::Scalar)))
}

fn pointer<'a>(ty: Type<'a>, field: &'a str) -> Found<'a> {
    let target = ty.target().map(Type::resolve);
    match target {
        Some(target) if target.kind().is_composite() => Found::Pointer {
            target,
            field,
            tag: tag_of(ty),
        },
        _ => Found::Opaque,
    }
}

/// What the type tag of a pointer says.
pub(crate) fn tag_of(pointer: Type<'_>) -> Flags {
    let tag = pointer
        .target()
        .filter(|t| t.kind() == Kind::TypeTag && !t.flag());
    match tag.map(|t| t.name()) {
        Some("user") => Flags::USER,
        Some("percpu") => Flags::PERCPU,
        Some("rcu") => Flags::RCU,
        _ => Flags::NONE,
    }
}

/// Goes into arrays: the type that is no array, and how many there are in all.
fn element(btf: &Btf, id: u32) -> Option<(Type<'_>, u32)> {
    let (mut at, mut count) = (id, 1u32);
    for _ in 0..MAX_DEPTH {
        let ty = btf.resolve(at)?;
        match ty.array() {
            Some(array) => {
                count = count.saturating_mul(array.len);
                at = array.element;
            }
            None => return Some((ty, count)),
        }
    }
    None
}
