//! Rules for what types say of each other: references exist, nothing contains itself, whatever needs a size has one.

use super::record::is_identifier;
use crate::error::{BtfError, BtfProblem};
use crate::parsed::Btf;
use crate::types::{Int, Kind, Type};

/// Types that may wait for one another while they are resolved (`MAX_RESOLVE_DEPTH`).
const DEPTH_MAX: usize = 32;
/// Length of a chain of modifiers and typedefs, up to the first one that is older than where it begins.
const CHAIN_MAX: usize = 32;

/// Checks all types of the blob.
pub(super) fn check(btf: &Btf) -> Result<(), BtfError> {
    references_exist(btf)?;
    let mut containment = Walk::new(btf, contained);
    let mut pointers = Walk::new(btf, pointed);
    for ty in btf.own_types() {
        containment.from(ty.id())?;
        pointers.from(ty.id())?;
        one(btf, ty).map_err(|problem| BtfError::at(ty.id(), problem))?;
        tags_first(ty)?;
    }
    Ok(())
}

/// Bytes that the place of a floating-point member is a multiple of, if it has as many.
const FLOAT_ALIGNMENT_MAX: u32 = 8;

fn references_exist(btf: &Btf) -> Result<(), BtfError> {
    for ty in btf.own_types() {
        let array = ty.array().into_iter().flat_map(|a| [a.element, a.index]);
        let ids = ty.type_id().into_iter().chain(array);
        let ids = ids.chain(ty.members().map(|m| m.type_id));
        let ids = ids.chain(ty.vars().map(|v| v.type_id));
        let mut ids = ids.chain(ty.params().map(|p| p.type_id));
        if let Some(id) = ids.find(|&id| id >= btf.type_count()) {
            return Err(BtfError::at(ty.id(), BtfProblem::TypeId { id }));
        }
    }
    Ok(())
}

/// The `n`th type that is part of `ty` itself; pointers and functions contain nothing.
fn contained(ty: Type<'_>, n: u32) -> Option<u32> {
    match ty.kind() {
        Kind::Struct | Kind::Union => (n < ty.vlen()).then(|| ty.extra(3 * n as usize + 1)),
        Kind::Array => [ty.extra(0), ty.extra(1)].get(n as usize).copied(),
        Kind::Typedef => (n == 0).then(|| ty.size_or_type()),
        kind if kind.is_modifier() => (n == 0).then(|| ty.size_or_type()),
        _ => None,
    }
}

/// The type behind a pointer, modifier or typedef.
fn pointed(ty: Type<'_>, n: u32) -> Option<u32> {
    let follows = ty.kind() == Kind::Ptr || ty.kind() == Kind::Typedef || ty.kind().is_modifier();
    (follows && n == 0).then(|| ty.size_or_type())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    Waiting,
    Done,
}

/// An edge from a type: its `n`th.
type Edge = fn(Type<'_>, u32) -> Option<u32>;

/// Follows edges depth first and refuses loops; what was walked once is not walked again.
struct Walk<'a> {
    btf: &'a Btf,
    edge: Edge,
    marks: Vec<Mark>,
    /// (type, its next edge)
    waiting: Vec<(u32, u32)>,
}

impl<'a> Walk<'a> {
    fn new(btf: &'a Btf, edge: Edge) -> Self {
        let own = btf.type_count() - btf.first_id();
        Self {
            btf,
            edge,
            marks: vec![Mark::New; own as usize],
            waiting: Vec::new(),
        }
    }

    fn from(&mut self, root: u32) -> Result<(), BtfError> {
        self.waiting.push((root, 0));
        while let Some((id, n)) = self.waiting.pop() {
            // Types of the base were checked with it.
            let Some(index) = id.checked_sub(self.btf.first_id()) else {
                continue;
            };
            let mark = &mut self.marks[index as usize];
            match (n, *mark) {
                (0, Mark::Done) => continue,
                (0, Mark::Waiting) => return Err(BtfError::at(id, BtfProblem::Loop)),
                _ => *mark = Mark::Waiting,
            }
            match self.btf.get(id).and_then(|ty| (self.edge)(ty, n)) {
                None => *mark = Mark::Done,
                Some(_) if self.waiting.len() >= DEPTH_MAX => {
                    return Err(BtfError::at(id, BtfProblem::TooDeep));
                }
                Some(next) => self.waiting.extend([(id, n + 1), (next, 0)]),
            }
        }
        Ok(())
    }
}

fn one(btf: &Btf, ty: Type<'_>) -> Result<(), BtfProblem> {
    match ty.kind() {
        Kind::Array => array(btf, ty),
        Kind::Struct | Kind::Union => members(btf, ty),
        Kind::Var => sized(btf, ty.size_or_type()).map(|_| ()),
        Kind::Datasec => variables(btf, ty),
        Kind::Func => function(btf, ty),
        Kind::FuncProto => prototype(btf, ty),
        Kind::DeclTag => decl_tag(btf, ty),
        kind if kind == Kind::Ptr || kind == Kind::Typedef || kind.is_modifier() => {
            reference(btf, ty)
        }
        _ => Ok(()),
    }
}

/// Pointers, typedefs and modifiers lead to values, `void`, functions' prototypes or forward declarations.
fn reference(btf: &Btf, ty: Type<'_>) -> Result<(), BtfProblem> {
    let id = ty.size_or_type();
    let target = btf.resolve(id).ok_or(BtfProblem::TypeId { id })?;
    match target.kind() {
        Kind::Func | Kind::Var | Kind::Datasec | Kind::DeclTag => Err(BtfProblem::TypeId { id }),
        _ => Ok(()),
    }
}

/// Size of a type that must have one.
fn sized(btf: &Btf, id: u32) -> Result<u32, BtfProblem> {
    let ty = btf.resolve(id).ok_or(BtfProblem::TypeId { id })?;
    if matches!(ty.kind(), Kind::Datasec | Kind::Var) {
        return Err(BtfProblem::NoSize { id });
    }
    btf.size_of(id).map_err(|e| e.problem)
}

/// An integer with 1, 2, 4, 8 or 16 whole bytes of bits, without offset.
fn is_regular_int(ty: Type<'_>) -> bool {
    let whole = |i: Int| i.bit_offset() == 0 && matches!(i.bits(), 8 | 16 | 32 | 64 | 128);
    ty.int().is_some_and(whole)
}

fn array(btf: &Btf, ty: Type<'_>) -> Result<(), BtfProblem> {
    let (element, index) = (ty.extra(0), ty.extra(1));
    let index_type = btf.resolve(index);
    if !index_type.is_some_and(is_regular_int) {
        return Err(BtfProblem::TypeId { id: index });
    }
    let size = sized(btf, element)?;
    let element_type = btf.resolve(element);
    if element_type.is_some_and(|t| t.kind() == Kind::Int && !is_regular_int(t)) {
        return Err(BtfProblem::TypeId { id: element });
    }
    size.checked_mul(ty.extra(2))
        .map(|_| ())
        .ok_or(BtfProblem::SizeOverflow)
}

fn members(btf: &Btf, ty: Type<'_>) -> Result<(), BtfProblem> {
    let bits = u64::from(ty.size_or_type()) * 8;
    for (member, m) in (0u32..).zip(ty.members()) {
        let wrong = BtfProblem::Member { member };
        let size = sized(btf, m.type_id)?;
        let target = btf
            .resolve(m.type_id)
            .ok_or(BtfProblem::Member { member })?;
        let start = u64::from(m.bit_offset);
        let (own, aligned) = match (target.int(), target.kind()) {
            (Some(int), _) if m.bit_size == 0 && !ty.flag() => {
                let start = u64::from(int.bit_offset());
                let fits = start + u64::from(m.bit_offset % 8) + u64::from(int.bits()) <= 128;
                (start + u64::from(int.bits()), fits)
            }
            (Some(int), _) if m.bit_size > 0 => {
                let fits = m.bit_size <= int.bits() && int.bit_offset() == 0;
                (u64::from(m.bit_size), fits && is_regular_int(target))
            }
            (_, Kind::Enum | Kind::Enum64) if m.bit_size > 0 => (
                u64::from(m.bit_size),
                u64::from(m.bit_size) <= u64::from(size) * 8,
            ),
            _ if m.bit_size > 0 => return Err(wrong),
            (_, Kind::Float) => (
                u64::from(size) * 8,
                m.bit_offset % (size.min(FLOAT_ALIGNMENT_MAX) * 8) == 0,
            ),
            _ => (u64::from(size) * 8, m.bit_offset % 8 == 0),
        };
        if !aligned || start + own > bits {
            return Err(wrong);
        }
    }
    Ok(())
}

fn variables(btf: &Btf, ty: Type<'_>) -> Result<(), BtfProblem> {
    for (variable, info) in (0u32..).zip(ty.vars()) {
        let var = btf.get(info.type_id);
        let var = var.filter(|v| v.kind() == Kind::Var);
        let var = var.ok_or(BtfProblem::SecVar { variable })?;
        if info.size < sized(btf, var.size_or_type())? {
            return Err(BtfProblem::SecVar { variable });
        }
    }
    Ok(())
}

fn function(btf: &Btf, ty: Type<'_>) -> Result<(), BtfProblem> {
    let id = ty.size_or_type();
    let proto = btf.get(id).filter(|p| p.kind() == Kind::FuncProto);
    let proto = proto.ok_or(BtfProblem::TypeId { id })?;
    for (param, p) in (0u32..).zip(proto.params()) {
        if p.type_id != 0 && p.name_off == 0 {
            return Err(BtfProblem::Param { param });
        }
    }
    Ok(())
}

fn prototype(btf: &Btf, ty: Type<'_>) -> Result<(), BtfProblem> {
    let result = ty.size_or_type();
    let kind = btf.resolve(result).map(|t| t.kind());
    if kind != Some(Kind::Void) {
        sized(btf, result)?;
    }
    let count = ty.vlen();
    for (param, p) in (0u32..).zip(ty.params()) {
        let wrong = || BtfProblem::Param { param };
        if p.type_id == 0 {
            if param + 1 != count || p.name_off != 0 {
                return Err(wrong());
            }
            continue;
        }
        let name = btf.str_bytes(p.name_off).unwrap_or_default();
        if p.name_off != 0 && !is_identifier(name) {
            return Err(wrong());
        }
        sized(btf, p.type_id).map_err(|_| wrong())?;
    }
    Ok(())
}

fn decl_tag(btf: &Btf, ty: Type<'_>) -> Result<(), BtfProblem> {
    let id = ty.size_or_type();
    let target = btf.get(id).ok_or(BtfProblem::TypeId { id })?;
    let component = ty.extra(0).cast_signed();
    let count = match target.kind() {
        Kind::Struct | Kind::Union => target.vlen(),
        Kind::Func => target.target().map_or(0, |p| p.vlen()),
        Kind::Var | Kind::Typedef => 0,
        _ => return Err(BtfProblem::TypeId { id }),
    };
    match u32::try_from(component) {
        Ok(index) if index >= count => Err(BtfProblem::Component { component }),
        _ => Ok(()),
    }
}

/// In a chain of modifiers and typedefs tags come before all others, and only so many newer types follow each other.
fn tags_first(ty: Type<'_>) -> Result<(), BtfError> {
    let mut at = ty;
    let mut in_tags = ty.kind() == Kind::TypeTag;
    let mut length = 0;
    while at.kind().is_modifier() || at.kind() == Kind::Typedef {
        length += 1;
        if length > CHAIN_MAX {
            return Err(BtfError::at(ty.id(), BtfProblem::ChainTooLong));
        }
        if at.kind() != Kind::TypeTag {
            in_tags = false;
        } else if !in_tags {
            return Err(BtfError::at(ty.id(), BtfProblem::TagOrder));
        }
        if at.id() < ty.id() {
            // Its own chain was looked at before.
            return Ok(());
        }
        let Some(next) = at.target() else {
            return Ok(());
        };
        at = next;
    }
    Ok(())
}
