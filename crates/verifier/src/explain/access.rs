//! Accesses to memory: through what, how far, and which check is missing.

use super::cexpr::pointer_and_index;
use super::scene::{Scene, plural, range};
use super::slice::{Event, What};
use super::{Explanation, Note, environment};
use crate::reg::{Flags, Kind, Reg};
use skep_abi::limits::MAX_PACKET_OFF;
use skep_isa::{AluOp, Insn, Size, Src};

/// Explains a refused access.
pub(super) fn explain(scene: &Scene<'_>) -> Explanation {
    match scene.rejection.code {
        "V0201" | "V0204" | "V0205" => bounds(scene),
        "V0202" => no_pointer(scene),
        "V0203" => nullable(scene),
        "V0207" => read_only(scene),
        "V0209" => packet(scene),
        "V0210" => packet_forbidden(scene),
        "V0211" | "V0402" => moved_context(scene),
        "V0213" => atomic(scene),
        "V0214" => mixed(scene),
        "V0301" | "V0302" | "V0305" => stack(scene),
        "V0306" => stack_depth(scene),
        "V0401" => environment::context(scene),
        _ => Explanation::default(),
    }
}

/// The number that moves a pointer: the step that adds it, its register, and its life.
struct Index {
    value: Reg,
    /// What one step of the index moves the pointer by.
    scale: i128,
    /// The index before it was scaled.
    unscaled: Reg,
    life: Vec<Event>,
}

/// Bytes of the access, 0 if it is none.
fn access_size(insn: Option<&Insn>) -> u32 {
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

fn access_offset(insn: Option<&Insn>) -> i64 {
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
fn pointer(scene: &Scene<'_>) -> Option<(usize, Reg, Option<Index>)> {
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

fn index_at(scene: &Scene<'_>, step: usize, register: usize) -> Option<Index> {
    let value = scene.path.reg(step, register)?;
    let mut life = scene.path.life(step, register);
    let (mut scale, mut unscaled) = (1, value);
    let scaling = life
        .iter()
        .position(|e| matches!(e.what, What::Computed { .. } | What::Made));
    if let Some(at) = scaling
        && let Some(Insn::Alu {
            op,
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
            life.drain(..=at);
        }
    }
    Some(Index {
        value,
        scale,
        unscaled,
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
    let i = index_name.map_or_else(|| "the index".to_owned(), |n| format!("`{n}`"));
    let c = index_name.unwrap_or("i");
    let negative = index.value.var.smin < 0;
    let unbounded = scene.rejection.code == "V0205" || index.value.var.umax > 1 << 29;
    let highest = (limit - size.max(1) - fixed).div_euclid(index.scale.max(1));
    let headline = match (negative, unbounded) {
        (true, _) => format!("{i} may be negative: {name} may lie before {target}"),
        (false, true) => format!("nothing bounds {i}: {name} may lie behind {target}"),
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
    let mut help = vec![bounds_help(&index, c, highest)];
    if notes.iter().any(|n| n.text.contains("lower 32 bits")) {
        help = vec![format!(
            "check all 64 bits: declare the index as `u32`, or compare the 64-bit value itself: `if ({c} > {highest}) return 0;`"
        )];
    }
    let computed = index
        .life
        .iter()
        .any(|e| matches!(e.what, What::Computed { .. }));
    if computed || negative || unbounded {
        help.push(format!(
            "if the compiler removes such a check because it knows the result, hide the value from it first: `asm volatile(\"\" : \"+r\"({c}));`{}",
            if c.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') { "" } else { " (put the index into a variable of its own)" }
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

fn bounds_help(index: &Index, c: &str, highest: i128) -> String {
    let signed = index.life.iter().any(|e| e.what == What::Learned) && index.value.var.smin < 0;
    if signed {
        format!(
            "check both ends: `if ({c} < 0 || {c} > {highest}) return 0;`, or make it unsigned: then one comparison is enough"
        )
    } else {
        format!("check it before this access, on every path: `if ({c} > {highest}) return 0;`")
    }
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
                let halves = event.before.var.umax == event.after.var.umax
                    && event.before.var.smin == event.after.var.smin;
                if halves && event.after.var.u32_max < event.before.var.u32_max {
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
                "Linux derives no bounds from a remainder: afterwards the number may be anything"
                    .to_owned()
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
            What::Lost => continue,
        };
        notes.push(scene.note(event.step, text));
    }
    notes
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

/// Memory is accessed through a number.
fn no_pointer(scene: &Scene<'_>) -> Explanation {
    let Some(register) = scene.subject() else {
        return Explanation::default();
    };
    let life = scene.life(register);
    let expression = scene.at().and_then(|at| scene.expression(at));
    let base = expression.and_then(|e| pointer_and_index(e).0);
    let name = base.map_or_else(|| format!("r{register}"), |b| format!("`{b}`"));
    if let Some(lost) = life.iter().find(|e| {
        e.what == What::Lost
            || (e.what == What::Made && e.before.is_pointer() && is_store(scene, e))
    }) {
        return lost_pointer(scene, &life, lost, &name);
    }
    let made = life.iter().find(|e| e.what == What::Made);
    let mut notes: Vec<Note> = made
        .and_then(|e| Some(scene.note(e.step, scene.loaded(e)?)))
        .into_iter()
        .collect();
    notes.dedup();
    let source = made.and_then(|e| match scene.path.insn(e.step) {
        Some(Insn::Load { src, .. }) => scene.path.reg(e.step, src.index()),
        _ => None,
    });
    let exchanged =
        made.is_some_and(|e| matches!(scene.path.insn(e.step), Some(Insn::Atomic { .. })));
    let help = match source.map(|r| r.kind) {
        _ if exchanged => "what an atomic operation returns is a number, whatever was stored there: use it as a number (return or compare it), do not dereference it; and store numbers, not pointers".to_owned(),
        Some(Kind::MapValue) => "a pointer that was stored in a map comes back as a number: make it anew (packet: from `ctx->data`, with a check against `ctx->data_end`; kernel object: declare the field as a kptr and use bpf_kptr_xchg)".to_owned(),
        Some(Kind::Ctx) => "a number in the context is no address that a program may follow: copy the memory with bpf_probe_read_kernel or bpf_probe_read_user, or use the number as it is".to_owned(),
        _ => "only pointers that the verifier follows may be dereferenced; copy other memory with bpf_probe_read_kernel or bpf_probe_read_user".to_owned(),
    };
    Explanation {
        headline: Some(format!(
            "{name} is a number, not a pointer: it must not be dereferenced"
        )),
        notes,
        help: vec![help],
        ..Explanation::default()
    }
}

fn is_store(scene: &Scene<'_>, event: &Event) -> bool {
    matches!(scene.path.insn(event.step), Some(Insn::Store { .. }))
}

/// A pointer that stopped being one.
fn lost_pointer(scene: &Scene<'_>, life: &[Event], lost: &Event, name: &str) -> Explanation {
    let at = scene.slot(lost.step).unwrap_or(0) as usize;
    let callee = scene
        .callee(at)
        .unwrap_or_else(|| "this instruction".to_owned());
    let was = lost.before;
    let mut notes: Vec<Note> = life
        .iter()
        .find(|e| e.what == What::Made && e.step < lost.step)
        .and_then(|e| scene.origin(&[*e]))
        .into_iter()
        .collect();
    let (headline, note, help) = if is_store(scene, lost) {
        (
            format!("{name} is no pointer any more: part of it was overwritten on the stack"),
            "this store overwrites part of the saved pointer".to_owned(),
            "keep the pointer in a variable of its own, and do not write to its bytes".to_owned(),
        )
    } else if was.is_packet_any() || was.flags.has(Flags::DYNPTR_PKT) {
        (
            format!("{name} points into the packet as it was before {callee}"),
            format!("{callee} may move the packet: every pointer into it from before is void"),
            "after this call load `ctx->data` and `ctx->data_end` again and repeat the check"
                .to_owned(),
        )
    } else if was.flags.has(Flags::NON_OWN_REF) {
        (
            format!("{name} was only borrowed until {callee}"),
            "pointers borrowed from a list or tree are void once the lock is given back".to_owned(),
            "use it before the unlock, or take the node out first".to_owned(),
        )
    } else {
        (
            format!("{name} is used after {callee} released it"),
            format!(
                "{callee} releases what {name} points to: no pointer to it may be used from here on"
            ),
            format!(
                "move this access before {callee}, or copy what is needed into a local variable before the call"
            ),
        )
    };
    notes.push(scene.note(lost.step, note));
    Explanation {
        headline: Some(headline),
        notes,
        help: vec![help],
        ..Explanation::default()
    }
}

/// A pointer may be NULL.
fn nullable(scene: &Scene<'_>) -> Explanation {
    let Some(register) = scene.subject() else {
        return Explanation::default();
    };
    let life = scene.life(register);
    let expression = scene.at().and_then(|at| scene.expression(at));
    let made = life.iter().find(|e| e.what == What::Made);
    let made_at = made.and_then(|e| scene.slot(e.step)).map(|s| s as usize);
    let receiver = made_at.and_then(|at| scene.receiver(at));
    let base = expression.and_then(|e| pointer_and_index(e).0);
    let c = base.or(receiver);
    let name = c.map_or_else(|| format!("r{register}"), |b| format!("`{b}`"));
    let callee = made_at.and_then(|at| scene.callee(at));
    let mut notes: Vec<Note> = scene.origin(&life).into_iter().collect();
    let headline = match &callee {
        Some(callee) => {
            format!("{name} may be NULL here: {callee} returned it and nothing checked it")
        }
        None => format!("{name} may be NULL here, and nothing checked it"),
    };
    if let (Some(made), Some(end)) = (made, scene.end()) {
        notes.extend(other_null_checks(scene, made.step, end, &name));
    }
    if callee.is_none() {
        let argument =
            "pointer arguments of a global function may be NULL, whatever its callers pass";
        notes.push(Note {
            insn: None,
            text: argument.to_owned(),
        });
    }
    let c = c.unwrap_or("p");
    Explanation {
        headline: Some(headline),
        notes,
        help: vec![format!("check it first: `if (!{c}) return 0;`")],
        ..Explanation::default()
    }
}

/// Checks for NULL between two steps that were of other pointers.
fn other_null_checks(scene: &Scene<'_>, from: usize, to: usize, name: &str) -> Vec<Note> {
    let mut notes = Vec::new();
    for step in from..to {
        let Some(Insn::JumpIf {
            dst,
            src: Src::Imm(0),
            ..
        }) = scene.path.insn(step)
        else {
            continue;
        };
        let nullable = scene
            .path
            .reg(step, dst.index())
            .is_some_and(|r| r.is_nullable());
        let condition = scene.slot(step).and_then(|s| scene.condition(s as usize));
        if let (true, Some(condition)) = (nullable, condition) {
            notes.push(scene.note(
                step,
                format!("`{condition}` checks another pointer, not {name}"),
            ));
        }
    }
    notes
}

/// Memory that must not be written.
fn read_only(scene: &Scene<'_>) -> Explanation {
    let Some((register, reg)) = scene.subject().and_then(|r| Some((r, scene.reg(r)?))) else {
        return Explanation::default();
    };
    let name = scene.subject_name();
    let life = scene.life(register);
    let origin = scene.origin(&life);
    let made = life
        .iter()
        .find(|e| e.what == What::Made)
        .and_then(|e| scene.callee(scene.slot(e.step)? as usize));
    let (headline, help) = match reg.kind {
        Kind::MapKey => (
            format!("{name} writes to {}, which must not be changed", scene.target(&reg)),
            "write to the value instead, or collect the change and make it with bpf_map_update_elem after the loop".to_owned(),
        ),
        Kind::MapValue => (
            format!("{name} writes to {}, which is read-only for programs", scene.target(&reg)),
            "remove `const` from the variable, or write to another one".to_owned(),
        ),
        _ if made.as_deref() == Some("bpf_dynptr_slice") => (
            format!("{name} writes to memory from bpf_dynptr_slice, which is read-only"),
            "get it from bpf_dynptr_slice_rdwr, or change the packet with bpf_dynptr_write or bpf_skb_store_bytes".to_owned(),
        ),
        _ => (format!("{name} writes to read-only memory"), "write to a copy of it".to_owned()),
    };
    Explanation {
        headline: Some(headline),
        notes: origin.into_iter().collect(),
        help: vec![help],
        ..Explanation::default()
    }
}

/// A packet access that no check covers.
fn packet(scene: &Scene<'_>) -> Explanation {
    let Some((register, reg)) = scene.subject().and_then(|r| Some((r, scene.reg(r)?))) else {
        return Explanation::default();
    };
    let expression = scene.at().and_then(|at| scene.expression(at));
    let base = expression.and_then(|e| pointer_and_index(e).0);
    let name = scene.subject_name();
    let size = i64::from(access_size(scene.insn()));
    let from = i64::from(reg.off) + access_offset(scene.insn());
    let proven = reg.aux.cast_signed().max(0);
    let needed = from + size;
    let life = scene.life(register);
    let moved = life
        .iter()
        .find(|e| matches!(e.what, What::Computed { operand: Some(_) }) && !e.after.var.is_const());
    let what = match (moved, proven) {
        (Some(_), 0) => {
            "no check against `data_end` covers it since the pointer was moved by a variable"
                .to_owned()
        }
        (None, 0) => "no check against `data_end` covers any byte".to_owned(),
        (_, n) => format!("only {} were checked against `data_end`", plural(n, "byte")),
    };
    let headline = match moved {
        None => format!("{name} reads up to byte {needed} of the packet: {what}"),
        Some(_) => format!("{name} may lie behind the end of the packet: {what}"),
    };
    let headline = if matches!(scene.insn(), Some(Insn::Store { .. })) {
        headline.replace(" reads ", " writes ")
    } else {
        headline
    };
    let mut notes = packet_checks(scene);
    if let Some(moved) = moved {
        let by = match moved.what {
            What::Computed { operand: Some(r) } => {
                scene.path.reg(moved.step, r).map(|r| range(&r.var))
            }
            _ => None,
        };
        let by = by.unwrap_or_else(|| "a variable".to_owned());
        notes.push(scene.note(moved.step, format!("here the pointer moves by {by}: a check from before does not cover what lies behind")));
    }
    notes.extend(scene.origin(&life));
    notes.sort_by_key(|n| n.insn);
    let end = data_end_name(scene);
    let cast = |p: &str| format!("`if ((void *)({p} + 1) > {end}) return …;`");
    let help = match (expression, base) {
        (Some(e), Some(b)) if e.contains("->") => {
            format!("check the whole header before this line: {}", cast(b))
        }
        (_, Some(b)) if moved.is_none() => {
            let start = b.split('+').next().unwrap_or(b).trim();
            format!(
                "check all bytes that are read, before this line: `if ((void *){start} + {needed} > {end}) return …;`, with the access on the other branch"
            )
        }
        _ => format!(
            "compare the pointer plus {} with `{end}` after it got its final value, and return if it is greater",
            plural(size, "byte")
        ),
    };
    let mut help = vec![help];
    if notes.iter().any(|n| n.text.contains("follows offsets")) {
        help.insert(0, format!("bound the variable first, so that the check counts: `if (n > {})` return, or `n &= 63;` for a length that cannot be more", 1500));
    }
    Explanation {
        headline: Some(headline),
        notes,
        help,
        ..Explanation::default()
    }
}

/// What the source calls the end of the packet.
fn data_end_name(scene: &Scene<'_>) -> String {
    let compared = checks_of_packet(scene)
        .into_iter()
        .filter_map(|(step, _, _)| scene.condition(scene.slot(step)? as usize));
    let name = compared.into_iter().find_map(|condition| {
        let (_, right) = condition.split_once(['>', '<'])?;
        let right = right.trim_start_matches('=').trim();
        right.contains("end").then(|| right.to_owned())
    });
    name.unwrap_or_else(|| "(void *)(long)ctx->data_end".to_owned())
}

/// Comparisons of packet pointers with the end on the path: step, pointer before, bytes proven by it.
fn checks_of_packet(scene: &Scene<'_>) -> Vec<(usize, Reg, i32)> {
    let mut found = Vec::new();
    for step in 0..scene.path.steps.len().saturating_sub(1) {
        let Some(Insn::JumpIf {
            dst,
            src: Src::Reg(src),
            ..
        }) = scene.path.insn(step)
        else {
            continue;
        };
        let of = |i: usize| scene.path.reg(step, i);
        let (Some(d), Some(s)) = (of(dst.index()), of(src.index())) else {
            continue;
        };
        let (pointer, register) = match (d.kind, s.kind) {
            (Kind::Pkt, Kind::PktEnd) => (d, dst.index()),
            (Kind::PktEnd, Kind::Pkt) => (s, src.index()),
            _ => continue,
        };
        let after = scene
            .path
            .reg(step + 1, register)
            .map_or(0, |r| r.aux.cast_signed());
        found.push((step, pointer, after.max(0)));
    }
    found
}

fn packet_checks(scene: &Scene<'_>) -> Vec<Note> {
    let mut notes = Vec::new();
    for (step, pointer, proven) in checks_of_packet(scene) {
        let condition = scene.slot(step).and_then(|s| scene.condition(s as usize));
        let condition = condition.map_or_else(|| "this check".to_owned(), |c| format!("`{c}`"));
        let text = if proven > pointer.aux.cast_signed() {
            format!(
                "{condition} proves {} on the path taken here",
                plural(proven, "byte")
            )
        } else if pointer.var.umax > u64::from(MAX_PACKET_OFF) {
            format!(
                "{condition} proves nothing: the pointer was moved by {}, and the verifier only follows offsets up to {MAX_PACKET_OFF}",
                range(&pointer.var)
            )
        } else {
            format!(
                "{condition} proves nothing on the path taken here: this is the branch on which the bytes may be missing"
            )
        };
        notes.push(scene.note(step, text));
    }
    notes
}

fn packet_forbidden(_scene: &Scene<'_>) -> Explanation {
    Explanation {
        help: vec![
            "programs of this type get at packet bytes by bpf_skb_load_bytes only".to_owned(),
        ],
        ..Explanation::default()
    }
}

/// The context was moved.
fn moved_context(scene: &Scene<'_>) -> Explanation {
    let Some((register, reg)) = scene.subject().and_then(|r| Some((r, scene.reg(r)?))) else {
        return Explanation::default();
    };
    let life = scene.life(register);
    let notes = life
        .iter()
        .find(|e| matches!(e.what, What::Computed { .. }))
        .map(|e| scene.note(e.step, "the context pointer is moved here"));
    let variable = !reg.var.is_const();
    let at = scene.at().unwrap_or(0);
    let callee = scene.callee(at);
    let expression = scene
        .expression(at)
        .map_or_else(|| "this access".to_owned(), |e| format!("`{e}`"));
    let (headline, help) = match (variable, callee) {
        (_, Some(callee)) => (
            format!("argument {register} of {callee} is the context moved by {}: it must be passed as it is", plural(reg.fixed_offset().unwrap_or(0), "byte")),
            "pass the context itself, and the offset as an argument of its own".to_owned(),
        ),
        (true, None) => (
            format!("{expression} reads the context at a variable offset ({})", range(&reg.var)),
            "context fields are translated one by one, so each needs a constant offset: use a switch over constant indexes, or copy the fields into a local array first".to_owned(),
        ),
        (false, None) => (
            format!("{expression} goes through a context pointer that was moved"),
            "access fields through the context itself".to_owned(),
        ),
    };
    Explanation {
        headline: Some(headline),
        notes: notes.into_iter().collect(),
        help: vec![help],
        ..Explanation::default()
    }
}

fn atomic(scene: &Scene<'_>) -> Explanation {
    let target = scene
        .subject()
        .and_then(|r| scene.reg(r))
        .map_or_else(|| "this memory".to_owned(), |r| scene.target(&r));
    Explanation {
        headline: Some(format!(
            "{} is an atomic operation on {target}, which is not allowed",
            scene.subject_name()
        )),
        help: vec![format!(
            "use a plain load and store (`*p += 1;`): nothing else runs on {target} at the same time. Counters that are shared belong into a map, where atomic operations are allowed"
        )],
        ..Explanation::default()
    }
}

/// One instruction, two kinds of memory.
fn mixed(scene: &Scene<'_>) -> Explanation {
    let Some((register, reg)) = scene.subject().and_then(|r| Some((r, scene.reg(r)?))) else {
        return Explanation::default();
    };
    Explanation {
        headline: Some(format!(
            "{} goes to {} on this path and to other memory on another: one instruction serves one kind of memory",
            scene.subject_name(),
            scene.target(&reg)
        )),
        notes: scene.origin(&scene.life(register)).into_iter().collect(),
        help: vec!["make the access in each branch, before the paths join; `asm volatile(\"\" ::: \"memory\");` between them keeps the compiler from merging the two".to_owned()],
        ..Explanation::default()
    }
}

/// The stack: out of the frame, or unwritten.
fn stack(scene: &Scene<'_>) -> Explanation {
    let Some(register) = scene.subject() else {
        return Explanation::default();
    };
    let at = scene.at().unwrap_or(0);
    let Some((_, reg, index)) = pointer(scene) else {
        return Explanation::default();
    };
    if let Some(callee) = scene.callee(at) {
        return stack_argument(scene, register, &callee, &reg);
    }
    let expression = scene.expression(at);
    let name = scene.subject_name();
    let (array, index_name) = expression.map_or((None, None), pointer_and_index);
    let Some(index) = index else {
        return uninitialised(scene, &name);
    };
    let c = index_name.unwrap_or("i");
    let room = -(i64::from(reg.off) + access_offset(scene.insn()));
    let values = range(&index.unscaled.var);
    let highest =
        (i128::from(room) - i128::from(access_size(scene.insn()))).div_euclid(index.scale.max(1));
    let array = array.map_or_else(|| "the buffer".to_owned(), |a| format!("`{a}`"));
    let mut notes = history(scene, &index.life, index_name);
    notes.sort_by_key(|n| n.insn);
    Explanation {
        headline: Some(format!(
            "{name} may lie outside of {array} on the stack: `{c}` may be {values}"
        )),
        label: Some(format!(
            "at most {} lie between here and the top of the stack",
            plural(room, "byte")
        )),
        notes,
        help: vec![format!(
            "check both ends before this access: `if ({c} < 0 || {c} > {highest}) return 0;` (or `{c} >= sizeof({})` where that is smaller)",
            array.trim_matches('`')
        )],
        ..Explanation::default()
    }
}

fn stack_argument(scene: &Scene<'_>, register: usize, callee: &str, reg: &Reg) -> Explanation {
    let room = reg.fixed_offset().map(|o| -o);
    let map = scene.reg(1).and_then(|r| scene.map(&r));
    let is_key = map.is_some() && register == 2;
    let mut notes = Vec::new();
    let help = match (map, is_key) {
        (Some(map), true) => {
            notes.push(Note {
                insn: None,
                text: format!(
                    "map \"{}\" has keys of {}",
                    map.name,
                    plural(map.key_size, "byte")
                ),
            });
            format!(
                "pass the address of a variable that has all {} of the key, and set every one of them",
                plural(map.key_size, "byte")
            )
        }
        _ => "pass a buffer that is as large as the size says, and write all of it first (`= {}`)"
            .to_owned(),
    };
    let room = room.map_or_else(String::new, |r| {
        format!(" only {} are there", plural(r, "byte"))
    });
    let headline = match (scene.rejection.code, map, is_key) {
        ("V0301", Some(map), true) => format!(
            "{callee} reads a key of {} at argument 2,{room} up to the top of the stack",
            plural(map.key_size, "byte")
        ),
        ("V0301", _, _) => {
            format!("{callee} accesses more at argument {register} than the stack has:{room}")
        }
        _ => format!("{callee} reads stack at argument {register} that was never written"),
    };
    if let Some(made) = scene
        .life(register)
        .iter()
        .find(|e| matches!(e.what, What::Computed { .. }))
    {
        notes.push(scene.note(made.step, format!("argument {register} is computed here")));
    }
    Explanation {
        headline: Some(headline),
        notes,
        help: vec![help],
        ..Explanation::default()
    }
}

fn uninitialised(scene: &Scene<'_>, name: &str) -> Explanation {
    if scene.rejection.code != "V0302" {
        return Explanation::default();
    }
    Explanation {
        headline: Some(format!("{name} reads stack that was not written on this path")),
        help: vec!["initialise the whole variable where it is declared (`= {}`); beware of padding between members, which `= {}` may leave out: use `__builtin_memset`".to_owned()],
        ..Explanation::default()
    }
}

/// The frames of a call chain are too large.
fn stack_depth(scene: &Scene<'_>) -> Explanation {
    let program = scene.path.program;
    let mut notes = Vec::new();
    for f in &program.funcs {
        let name = f.name.clone().unwrap_or_default();
        notes.push(Note {
            insn: Some(f.start as u32),
            text: format!("`{name}` has {} of stack", plural(f.stack_bytes, "byte")),
        });
    }
    let deepest = program.funcs.iter().skip(1).max_by_key(|f| f.stack_bytes);
    let call = deepest.and_then(|f| call_of(scene, f.start));
    Explanation {
        place: call,
        notes,
        help: vec![
            "move large buffers into a per-CPU array map with one element, or make them smaller".to_owned(),
            "functions that are inlined share one frame, and a call that is made after a buffer's last use does not help: the whole chain counts".to_owned(),
        ],
        ..Explanation::default()
    }
}

/// The first call of the function that starts at `start`.
fn call_of(scene: &Scene<'_>, start: usize) -> Option<u32> {
    let insns = &scene.path.program.insns;
    let found = insns.iter().enumerate().position(|(at, insn)| match insn {
        Ok(Insn::Call(skep_isa::Call::Subprog(offset))) => {
            (at + 1).wrapping_add_signed(*offset as isize) == start
        }
        _ => false,
    });
    found.and_then(|f| u32::try_from(f).ok())
}
