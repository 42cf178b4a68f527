//! Which types count as the same across kernels. Source: Documentation/bpf/libbpf, behaviour of libbpf.

use super::{Budget, CoreError};
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
    compatible(local, target, DEPTH_MAX, &mut Budget::default())
}

fn compatible(
    local: Type<'_>,
    target: Type<'_>,
    depth: usize,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    let (mut local, mut target) = (local, target);
    for _ in 0..depth {
        budget.spend()?;
        (local, target) = (local.resolve(), target.resolve());
        if !kinds_are_compatible(local.kind(), target.kind()) {
            return Ok(false);
        }
        let (l, t) = match local.kind() {
            Kind::Int => return Ok(no_bit_offset(local) && no_bit_offset(target)),
            Kind::Ptr => (local.target(), target.target()),
            Kind::Array => {
                let element = |ty: Type<'_>| ty.array().map_or(0, |a| a.element);
                (
                    local.btf().get(element(local)),
                    target.btf().get(element(target)),
                )
            }
            Kind::FuncProto => {
                if !params(local, target, |l, t| compatible(l, t, depth - 1, budget))? {
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
fn params(
    local: Type<'_>,
    target: Type<'_>,
    mut check: impl FnMut(Type<'_>, Type<'_>) -> Result<bool, CoreError>,
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

/// Whether `target` has everything that `local` declares (`bpf_core_type_matches`).
pub(crate) fn types_match(local: Type<'_>, target: Type<'_>) -> Result<bool, CoreError> {
    let mut budget = Budget::default();
    matches(local, target, Behind::Value, DEPTH_MAX, &mut budget)
}

/// Whether a pointer lies between the type and the type that was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    Value,
    Pointer,
}

fn matches(
    local: Type<'_>,
    target: Type<'_>,
    behind: Behind,
    depth: usize,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    let (mut local, mut target, mut behind) = (local, target, behind);
    for _ in 0..depth {
        budget.spend()?;
        if !names_agree(local, target) {
            return Ok(false);
        }
        (local, target) = (local.resolve(), target.resolve());
        if !names_agree(local, target) {
            return Ok(false);
        }
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
            Kind::Enum | Kind::Enum64 => return Ok(enums_match(local, target)),
            Kind::Struct | Kind::Union => {
                return members_match(local, target, behind, depth - 1, budget);
            }
            Kind::Int => {
                let same = local.size() == target.size();
                return Ok(same && local.int().map(signed) == target.int().map(signed));
            }
            Kind::Ptr => {
                behind = Behind::Pointer;
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
                if !params(local, target, |l, t| {
                    matches(l, t, behind, depth - 1, budget)
                })? {
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

fn enums_match(local: Type<'_>, target: Type<'_>) -> bool {
    local.enum_values().all(|l| {
        let name = essential_name(l.name);
        target.enum_values().any(|t| essential_name(t.name) == name)
    })
}

fn members_match(
    local: Type<'_>,
    target: Type<'_>,
    behind: Behind,
    depth: usize,
    budget: &mut Budget,
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
        let same_name = target.members().filter(|t| essential_name(t.name) == name);
        for candidate in same_name {
            let Some(t) = target.btf().get(candidate.type_id) else {
                continue;
            };
            if matches(l, t, behind, depth, budget)? {
                found = true;
                break;
            }
        }
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}
