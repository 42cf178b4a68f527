//! Which types count as the same across kernels. Source: Documentation/bpf/libbpf, behaviour of libbpf.

use super::CoreError;
use super::walk::{Part, Walk};
use skep_btf::{BtfProblem, Kind, Type, essential_name};

/// Types followed before nesting counts as a loop.
const DEPTH_MAX: usize = 32;

/// The same kind, where both enums count as one.
pub(crate) fn kinds_are_compatible(a: Kind, b: Kind) -> bool {
    a == b || a.is_enum() && b.is_enum()
}

fn too_deep() -> CoreError {
    CoreError::Btf(BtfProblem::TooDeep.into())
}

/// Whether a field of type `target` can stand for one of type `local`.
pub(crate) fn fields_are_compatible(local: Type<'_>, target: Type<'_>) -> Result<bool, CoreError> {
    let (mut local, mut target) = (local, target);
    for _ in 0..DEPTH_MAX {
        (local, target) = (local.resolve(), target.resolve());
        let (l, t) = (local.kind(), target.kind());
        if l.is_composite() && t.is_composite() {
            return Ok(true);
        }
        if !kinds_are_compatible(l, t) {
            return Ok(false);
        }
        match l {
            Kind::Ptr | Kind::Float => return Ok(true),
            Kind::Fwd | Kind::Enum | Kind::Enum64 => {
                let (l, t) = (essential_name(local.name()), essential_name(target.name()));
                return Ok(l.is_empty() || t.is_empty() || l == t);
            }
            Kind::Int => return Ok(no_bit_offset(local) && no_bit_offset(target)),
            Kind::Array => {
                let element = |ty: Type<'_>| ty.array().map_or(0, |a| a.element);
                let (l, t) = (element(local), element(target));
                let (Some(l), Some(t)) = (local.btf().get(l), target.btf().get(t)) else {
                    return Ok(false);
                };
                (local, target) = (l, t);
            }
            _ => return Ok(false),
        }
    }
    Err(too_deep())
}

fn no_bit_offset(ty: Type<'_>) -> bool {
    ty.int().is_none_or(|i| i.bit_offset() == 0)
}

/// Whether `local` and `target`, whose names agree already, are the same kind of thing all the way down.
pub(crate) fn types_are_compatible(local: Type<'_>, target: Type<'_>) -> Result<bool, CoreError> {
    Ok(compatible_parts(local, target)?.is_some())
}

/// What of `target` makes it compatible with `local`, see [`types_are_compatible`].
pub(crate) fn compatible_parts<'t>(
    local: Type<'_>,
    target: Type<'t>,
) -> Result<Option<Vec<Part<'t>>>, CoreError> {
    let mut walk = Walk::default();
    let fits = compatible(local, target, DEPTH_MAX, &mut walk)?;
    Ok(fits.then_some(walk.parts))
}

fn compatible<'t>(
    local: Type<'_>,
    target: Type<'t>,
    depth: usize,
    walk: &mut Walk<'t>,
) -> Result<bool, CoreError> {
    let (mut local, mut target) = (local, target);
    for _ in 0..depth {
        walk.spend()?;
        (local, target) = (local.resolve(), target.resolve());
        if !kinds_are_compatible(local.kind(), target.kind()) {
            return Ok(false);
        }
        walk.parts.push(Part::Shell(target));
        let (l, t) = match local.kind() {
            Kind::Int => return Ok(no_bit_offset(local) && no_bit_offset(target)),
            Kind::Ptr => {
                walk.parts.push(Part::References(target));
                (local.target(), target.target())
            }
            Kind::Array => {
                let element = |ty: Type<'_>| ty.array().map_or(0, |a| a.element);
                (
                    local.btf().get(element(local)),
                    target.btf().get(element(target)),
                )
            }
            Kind::FuncProto => {
                walk.parts.push(Part::References(target));
                if !params(local, target, |l, t| compatible(l, t, depth - 1, walk))? {
                    return Ok(false);
                }
                (local.target(), target.target())
            }
            Kind::Void | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Fwd => {
                return Ok(true);
            }
            _ => return Ok(false),
        };
        let (Some(l), Some(t)) = (l, t) else {
            return Ok(false);
        };
        (local, target) = (l, t);
    }
    Err(too_deep())
}

/// Whether two prototypes have as many parameters and each pair passes `check`.
fn params<'t>(
    local: Type<'_>,
    target: Type<'t>,
    mut check: impl FnMut(Type<'_>, Type<'t>) -> Result<bool, CoreError>,
) -> Result<bool, CoreError> {
    if local.vlen() != target.vlen() {
        return Ok(false);
    }
    for (l, t) in local.params().zip(target.params()) {
        let (Some(l), Some(t)) = (local.btf().get(l.type_id), target.btf().get(t.type_id)) else {
            return Ok(false);
        };
        if !check(l, t)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The parts of `target` that `local` declares, if it has them all (`bpf_core_type_matches`).
pub(crate) fn matching_parts<'t>(
    local: Type<'_>,
    target: Type<'t>,
) -> Result<Option<Vec<Part<'t>>>, CoreError> {
    let mut walk = Walk::default();
    let fits = matches(local, target, Behind::Value, DEPTH_MAX, &mut walk)?;
    Ok(fits.then_some(walk.parts))
}

/// Whether a pointer lies between the type and the type that was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    Value,
    Pointer,
}

fn matches<'t>(
    local: Type<'_>,
    target: Type<'t>,
    behind: Behind,
    depth: usize,
    walk: &mut Walk<'t>,
) -> Result<bool, CoreError> {
    let (mut local, mut target, mut behind) = (local, target, behind);
    for _ in 0..depth {
        walk.spend()?;
        if !names_agree(local, target) {
            return Ok(false);
        }
        walk.parts.push(Part::Shell(target));
        (local, target) = (local.resolve(), target.resolve());
        if !names_agree(local, target) {
            return Ok(false);
        }
        walk.parts.push(Part::Shell(target));
        let (lk, tk) = (local.kind(), target.kind());
        if behind == Behind::Pointer
            && let Some(answer) = forward_matches(local, target)
        {
            return Ok(answer);
        }
        if !kinds_are_compatible(lk, tk) {
            return Ok(false);
        }
        let (l, t) = match lk {
            Kind::Void => return Ok(true),
            Kind::Fwd => return Ok(local.flag() == target.flag()),
            Kind::Enum | Kind::Enum64 => return Ok(values_match(local, target, walk)),
            Kind::Struct | Kind::Union => {
                return members_match(local, target, behind, depth - 1, walk);
            }
            Kind::Int => {
                let same = local.size() == target.size();
                return Ok(same && local.int().map(signed) == target.int().map(signed));
            }
            Kind::Ptr => {
                behind = Behind::Pointer;
                walk.parts.push(Part::References(target));
                (local.target(), target.target())
            }
            Kind::Array => {
                let (Some(l), Some(t)) = (local.array(), target.array()) else {
                    return Ok(false);
                };
                if l.len != t.len {
                    return Ok(false);
                }
                (local.btf().get(l.element), target.btf().get(t.element))
            }
            Kind::FuncProto => {
                walk.parts.push(Part::References(target));
                if !params(local, target, |l, t| matches(l, t, behind, depth - 1, walk))? {
                    return Ok(false);
                }
                (local.target(), target.target())
            }
            _ => return Ok(false),
        };
        let (Some(l), Some(t)) = (l, t) else {
            return Ok(false);
        };
        (local, target) = (l, t);
    }
    Err(too_deep())
}

fn signed(int: skep_btf::Int) -> bool {
    int.is_signed()
}

fn names_agree(local: Type<'_>, target: Type<'_>) -> bool {
    essential_name(local.name()) == essential_name(target.name())
}

/// Behind a pointer a forward declaration stands for the struct or union; `None` if neither is one.
fn forward_matches(local: Type<'_>, target: Type<'_>) -> Option<bool> {
    let union = |ty: Type<'_>| match ty.kind() {
        Kind::Fwd => Some(ty.flag()),
        Kind::Struct => Some(false),
        Kind::Union => Some(true),
        _ => None,
    };
    let forward = local.kind() == Kind::Fwd || target.kind() == Kind::Fwd;
    forward.then(|| union(local).is_some() && union(local) == union(target))
}

fn values_match<'t>(local: Type<'_>, target: Type<'t>, walk: &mut Walk<'t>) -> bool {
    local.enum_values().all(|l| {
        let name = essential_name(l.name);
        let mut values = (0..).zip(target.enum_values());
        let found = values.find(|(_, t)| essential_name(t.name) == name);
        walk.parts
            .extend(found.map(|(index, _)| Part::Value(target, index)));
        found.is_some()
    })
}

fn members_match<'t>(
    local: Type<'_>,
    target: Type<'t>,
    behind: Behind,
    depth: usize,
    walk: &mut Walk<'t>,
) -> Result<bool, CoreError> {
    if behind == Behind::Pointer {
        return Ok(true);
    }
    for member in local.members() {
        let name = essential_name(member.name);
        let Some(l) = local.btf().get(member.type_id) else {
            return Ok(false);
        };
        let mut found = false;
        let members = (0..).zip(target.members());
        for (index, candidate) in members.filter(|(_, t)| essential_name(t.name) == name) {
            let Some(t) = target.btf().get(candidate.type_id) else {
                continue;
            };
            let before = walk.parts.len();
            walk.parts.push(Part::Member(target, index));
            if matches(l, t, behind, depth, walk)? {
                found = true;
                break;
            }
            walk.parts.truncate(before);
        }
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}
