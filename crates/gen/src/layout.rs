//! Where the members of a structure lie, with everything between them named: what `#[repr(C)]` needs to give the same bytes.

use skep_btf::{Member, Type};

/// One piece of a structure, in order and without holes between pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Piece<'a> {
    /// An ordinary member.
    Member(Member<'a>),
    /// Bytes of a hole, or of bit fields.
    Bytes(u32),
}

/// A structure as pieces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Layout<'a> {
    /// In the order of their offsets.
    pub(crate) pieces: Vec<Piece<'a>>,
    /// Members of less than whole bytes, which lie in [`Piece::Bytes`].
    pub(crate) bit_fields: Vec<Member<'a>>,
    /// Members do not lie on multiples of their alignment.
    pub(crate) packed: bool,
}

/// Size and alignment in bytes of a member's Rust type.
pub(crate) type Measure<'m> = dyn FnMut(u32) -> Option<(u32, u32)> + 'm;

/// Lays a structure out; `None` if members overlap or have no size.
pub(crate) fn of<'a>(ty: Type<'a>, measure: &mut Measure<'_>) -> Option<Layout<'a>> {
    let size = ty.size()?;
    let mut layout = Layout {
        pieces: Vec::new(),
        bit_fields: Vec::new(),
        packed: false,
    };
    let (mut end, mut align_max) = (0u32, 1u32);
    for member in ty.members() {
        if member.bit_size != 0 {
            layout.bit_fields.push(member);
            continue;
        }
        let (bytes, align) = measure(member.type_id)?;
        let start = member.offset();
        let hole = start.checked_sub(end)?;
        if hole > 0 {
            layout.pieces.push(Piece::Bytes(hole));
        }
        layout.packed |= !start.is_multiple_of(align);
        align_max = align_max.max(align);
        layout.pieces.push(Piece::Member(member));
        end = start.checked_add(bytes)?;
    }
    let tail = size.checked_sub(end)?;
    if tail > 0 {
        layout.pieces.push(Piece::Bytes(tail));
    }
    layout.packed |= !size.is_multiple_of(align_max);
    Some(layout)
}
