//! Accesses to memory: through what, how far, and which check is missing.

use super::cexpr::pointer_and_index;
use super::scene::{Scene, plural, range};
use super::slice::{Event, What};
use super::{Explanation, Note, environment, packet, pointers, stack};
use crate::reg::{Flags, Kind, Reg};
use skep_isa::{AluOp, Insn, Size, Src};

/// Explains a refused access.
pub(super) fn explain(scene: &Scene<'_>) -> Explanation {
    match scene.rejection.code {
        "V0201" | "V0204" | "V0205" => bounds(scene),
        "V0202" => pointers::no_pointer(scene),
        "V0203" => pointers::nullable(scene),
        "V0207" => pointers::read_only(scene),
        "V0209" => packet::packet(scene),
        "V0210" => packet::packet_forbidden(scene),
        "V0211" | "V0402" => pointers::moved_context(scene),
        "V0213" => pointers::atomic(scene),
        "V0214" => pointers::mixed(scene),
        "V0301" | "V0302" | "V0305" => stack::stack(scene),
        "V0306" => stack::stack_depth(scene),
        "V0401" => environment::context(scene),
        _ => Explanation::default(),
    }
}

/// The number that moves a pointer: the step that adds it, its register, and its life.
pub(super) struct Index<'a> {
    pub value: Reg,
    /// What one step of the index moves the pointer by.
    pub scale: i128,
    /// The index before it was scaled.
    pub unscaled: Reg,
    /// The local variable that holds it.
    pub local: Option<&'a str>,
    pub life: Vec<Event>,
}

/// Bytes of the access, 0 if it is none.
pub(super) fn access_size(insn: Option<&Insn>) -> u32 {
    match insn {
        Some(
            Insn::Load { size, .. }
            | Insn::Store { size, .. }
            | Insn::Atomic { size, .. }
            | Insn::LoadAcquire { size, .. }
            | Insn::StoreRelease { size, .. },
        ) => Size::bytes(*size),
        _ => 0,
    }
}

pub(super) fn access_offset(insn: Option<&Insn>) -> i64 {
    match insn {
        Some(
            Insn::Load { offset, .. }
            | Insn::Store { offset, .. }
            | Insn::Atomic { offset, .. }
            | Insn::LoadAcquire { offset, .. }
            | Insn::StoreRelease { offset, .. },
        ) => i64::from(*offset),
        _ => 0,
    }
}

/// The pointer of the refused instruction, its register, and the index that moves it.
pub(super) fn pointer<'a>(scene: &Scene<'a>) -> Option<(usize, Reg, Option<Index<'a>>)> {
    let end = scene.end()?;
    if let Some(Insn::Alu {
        dst,
        src: Src::Reg(src),
        ..
    }) = scene.insn()
    {
        let (d, s) = (dst.index(), src.index());
        let (pointer, index) = if scene.reg(d)?.is_pointer() {
            (d, s)
        } else {
            (s, d)
        };
        return Some((pointer, scene.reg(pointer)?, index_at(scene, end, index)));
    }
    let register = scene.subject()?;
    let reg = scene.reg(register)?;
    let life = scene.life(register);
    let moved = life.iter().find_map(|e| match e.what {
        What::Computed { operand: Some(r) } if !e.after.var.is_const() => {
            index_at(scene, e.step, r)
        }
        _ => None,
    });
    Some((register, reg, moved))
}

fn index_at<'a>(scene: &Scene<'a>, step: usize, register: usize) -> Option<Index<'a>> {
    let value = scene.path.reg(step, register)?;
    let mut life = scene.path.life(step, register);
    let (mut scale, mut unscaled, mut named) = (1, value, (step, register));
    let scaling = life
        .iter()
        .position(|e| matches!(e.what, What::Computed { .. } | What::Made));
    if let Some(at) = scaling
        && let Some(Insn::Alu {
            op,
            dst,
            src: Src::Imm(imm),
            ..
        }) = scene.path.insn(life[at].step)
    {
        let factor = match op {
            AluOp::Lsh => 1i128.checked_shl(imm.cast_unsigned()).unwrap_or(1),
            AluOp::Mul => i128::from(*imm),
            _ => 1,
        };
        if factor > 1 {
            (scale, unscaled) = (factor, life[at].before);
            named = (life[at].step, dst.index());
            life.drain(..=at);
        }
    }
    Some(Index {
        value,
        scale,
        unscaled,
        local: scene
            .slot(named.0)
            .and_then(|slot| scene.local(slot as usize, named.1)),
        life,
    })
}

/// The access may leave its memory.
fn bounds(scene: &Scene<'_>) -> Explanation {
    let Some((register, reg, index)) = pointer(scene) else {
        return Explanation::default();
    };
    let at = scene.at().unwrap_or(0);
    let expression = scene.expression(at);
    let name = scene.subject_name();
    let (_, index_name) = expression.map_or((None, None), pointer_and_index);
    let target = scene.target(&reg);
    let size = i128::from(access_size(scene.insn()));
    let limit = scene.limit(&reg).map_or(0, i128::from);
    let fixed = i128::from(reg.off) + i128::from(access_offset(scene.insn()));
    let origin = scene.origin(&scene.life(register));
    let Some(index) = index else {
        return fixed_bounds(scene, &reg, (fixed, size, limit), origin);
    };
    let index_name = index_name.or(index.local);
    let i = index_name.map_or_else(|| "the index".to_owned(), |n| format!("`{n}`"));
    let c = index_name.unwrap_or("i");
    let negative = index.value.var.smin < 0;
    let unbounded = scene.rejection.code == "V0205" || index.value.var.umax > 1 << 29;
    let highest = (limit - size.max(1) - fixed).div_euclid(index.scale.max(1));
    let checked = index.life.iter().any(|e| e.what == What::Learned);
    let headline = match (negative, unbounded) {
        (true, _) if checked => format!("{i} may be negative: {name} may lie before {target}"),
        (true, _) | (_, true) => {
            format!("nothing bounds {i}: {name} may lie outside of {target}")
        }
        (false, false) => {
            let end = i128::from(reg.var.umax) + fixed + size;
            format!("{name} may reach byte {end} of {target}, which has {limit}")
        }
    };
    let values = range(&index.unscaled.var);
    let label = format!("{i} may be {values}; only 0 to {highest} stay inside");
    let mut notes = history(scene, &index.life, index_name);
    notes.extend(origin);
    notes.sort_by_key(|n| n.insn);
    let computed = index
        .life
        .iter()
        .any(|e| matches!(e.what, What::Computed { .. }));
    let half = notes.iter().any(|n| n.text.contains("lower 32 bits"));
    let help = if half {
        format!(
            "compare the whole 64-bit value: `if ({c} > {highest}) return 0;`, or declare the index as `u32`"
        )
    } else if computed {
        opaque_check(c, negative, highest)
    } else {
        bounds_help(&index, c, highest)
    };
    let mut help = vec![help];
    if !computed && (negative || unbounded) {
        help.push(format!(
            "if the compiler removes such a check because it knows the result: {}",
            opaque_check(c, negative, highest)
        ));
    }
    Explanation {
        headline: Some(headline),
        label: Some(label),
        notes,
        help,
        place: None,
    }
}

fn bounds_help(index: &Index<'_>, c: &str, highest: i128) -> String {
    let signed = index.life.iter().any(|e| e.what == What::Learned) && index.value.var.smin < 0;
    if signed {
        format!(
            "check both ends: `if ({c} < 0 || {c} > {highest}) return 0;`, or make it unsigned: then one comparison is enough"
        )
    } else {
        format!("check it before this access, on every path: `if ({c} > {highest}) return 0;`")
    }
}

/// A check that survives the compiler, which may know the result of what was computed better than the verifier does.
fn opaque_check(c: &str, negative: bool, highest: i128) -> String {
    let is_variable = c.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let (declare, i, then) = if is_variable {
        (String::new(), c, String::new())
    } else {
        (
            format!("__u64 i = {c}; "),
            "i",
            ", with `i` as the index".to_owned(),
        )
    };
    // As an unsigned number a negative one is greater than any limit, whatever the variable's type.
    let compared = if negative && is_variable {
        format!("(__u64){i}")
    } else {
        i.to_owned()
    };
    format!(
        "check a value that the compiler knows nothing about, directly before this access: \
         `{declare}asm volatile(\"\" : \"+r\"({i})); if ({compared} > {highest}) return 0;`{then} \
         (it would remove a plain check whose result it can compute; the verifier cannot)"
    )
}

/// The access is at a constant offset.
fn fixed_bounds(
    scene: &Scene<'_>,
    reg: &Reg,
    (fixed, size, limit): (i128, i128, i128),
    origin: Option<Note>,
) -> Explanation {
    let (name, target) = (scene.subject_name(), scene.target(reg));
    let bytes = if size == 0 {
        String::new()
    } else {
        format!(" ({} at byte {fixed})", plural(size, "byte"))
    };
    let headline = format!(
        "{name} reaches byte {} of {target}, which has {limit}{bytes}",
        fixed + size
    );
    let wide = size > limit;
    let help = match reg.kind {
        Kind::MapValue if wide => format!(
            "use a pointer to a type of {}, or make the value type of the map {} wide",
            plural(limit, "byte"),
            plural(fixed + size, "byte")
        ),
        Kind::Mem if reg.flags.has(Flags::RINGBUF) => {
            format!(
                "reserve at least {}, or stay below byte {limit}",
                plural(fixed + size, "byte")
            )
        }
        _ => format!("only bytes 0 to {} are there", limit - 1),
    };
    Explanation {
        headline: Some(headline),
        notes: origin.into_iter().collect(),
        help: vec![help],
        ..Explanation::default()
    }
}

/// What happened to a number: where it is from, what was computed, what checks left of it.
pub(super) fn history(scene: &Scene<'_>, life: &[Event], name: Option<&str>) -> Vec<Note> {
    let mut notes = Vec::new();
    let i = name.map_or_else(|| "the number".to_owned(), |n| format!("`{n}`"));
    for event in life.iter().rev() {
        let Some(at) = scene.slot(event.step) else {
            continue;
        };
        let insn = scene.path.insn(event.step);
        let text = match event.what {
            What::Learned => {
                let Some(condition) = scene.condition(at as usize) else {
                    continue;
                };
                let (before, after) = (&event.before.var, &event.after.var);
                if after.u32_max < before.u32_max && after.umax > u64::from(u32::MAX) {
                    format!(
                        "this check, `{condition}`, is of the lower 32 bits only: the upper half may still be anything"
                    )
                } else {
                    format!(
                        "past the check `{condition}`, {i} may be {}",
                        range(&event.after.var)
                    )
                }
            }
            What::Computed { .. } if is_remainder(insn) => {
                let code = scene
                    .expression(at as usize)
                    .map_or_else(|| "it".to_owned(), |c| format!("`{c}`"));
                format!(
                    "the compiler knows the bounds of a remainder, the verifier does not: to it, {code} may be anything from here on"
                )
            }
            What::Computed { operand: None } if is_mask(insn) => {
                let code = scene.expression(at as usize);
                let code =
                    code.map_or_else(|| "the mask".to_owned(), |c| format!("the mask of `{c}`"));
                format!("{code} leaves {}", range(&event.after.var))
            }
            What::Computed { .. } if wraps(insn, event) => {
                let code = scene
                    .expression(at as usize)
                    .map_or_else(|| "the result".to_owned(), |c| format!("`{c}`"));
                format!(
                    "{code} may fall below zero, as far as the verifier knows, and wrap around: {}",
                    range(&event.after.var)
                )
            }
            What::Computed { .. } => continue,
            What::Made => match scene.callee(at as usize) {
                Some(callee) => format!("{i} comes from {callee}: {}", range(&event.after.var)),
                None => match scene.loaded(event) {
                    Some(text) if !event.after.var.is_const() => {
                        format!("{text}: {}", range(&event.after.var))
                    }
                    _ => continue,
                },
            },
            What::Passed => match scene.callee(at as usize) {
                Some(callee) => format!("passed to {callee} here"),
                None => continue,
            },
            What::Given => match given(scene, event, &i) {
                Some(text) => text,
                None => continue,
            },
            What::Lost => continue,
        };
        notes.push(scene.note(event.step, text));
    }
    notes
}

/// A number that a function starts with.
fn given(scene: &Scene<'_>, event: &Event, i: &str) -> Option<String> {
    let at = scene.slot(event.step)? as usize;
    if !event.after.is_scalar() {
        return None;
    }
    let values = range(&event.after.var);
    if let Some(callee) = scene.callee(at) {
        return Some(format!(
            "{i} is passed to the callback by {callee}; the verifier does not follow how often it calls: {values}"
        ));
    }
    let program = scene.path.program;
    let function = program.funcs.get(program.func_at(at)?)?;
    let name = function.name.as_deref().filter(|_| function.is_global)?;
    (at > 0).then(|| {
        format!("{i} is a parameter of the global function {name}, which is verified for all arguments: {values}")
    })
}

/// The difference may be below zero, which wraps around.
fn wraps(insn: Option<&Insn>, event: &Event) -> bool {
    let is_difference = matches!(
        insn,
        Some(Insn::Alu {
            op: AluOp::Sub | AluOp::Add,
            ..
        })
    );
    is_difference
        && event.before.is_scalar()
        && event.after.var.umax > event.before.var.umax.saturating_mul(2).max(1 << 31)
}

fn is_remainder(insn: Option<&Insn>) -> bool {
    matches!(
        insn,
        Some(Insn::Alu {
            op: AluOp::Mod | AluOp::Smod,
            ..
        })
    )
}

fn is_mask(insn: Option<&Insn>) -> bool {
    matches!(insn, Some(Insn::Alu { op: AluOp::And, .. }))
}
