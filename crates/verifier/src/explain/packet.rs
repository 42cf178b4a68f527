//! Packet accesses, and the checks against `data_end` that should cover them.

use super::access::{access_offset, access_size, history};
use super::cexpr::pointer_and_index;
use super::scene::{Scene, plural, range};
use super::slice::What;
use super::{Explanation, Note};
use crate::reg::{Kind, Reg};
use skep_abi::limits::MAX_PACKET_OFF;
use skep_isa::{Insn, Src};

/// A packet access that no check covers.
pub(super) fn packet(scene: &Scene<'_>) -> Explanation {
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
        if let What::Computed { operand: Some(r) } = moved.what {
            notes.extend(history(scene, &scene.path.life(moved.step, r), None));
        }
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
    let mut help = vec![better_check(scene, moved.is_none(), needed, proven).unwrap_or(help)];
    if notes.iter().any(|n| n.text.contains("follows offsets")) {
        let n = moved.and_then(|m| moved_by(scene, m.step)).unwrap_or("n");
        help.insert(0, format!("bound `{n}` before it moves the pointer, so that the check counts: `if ({n} > 1500) return …;` (or the greatest value that makes sense)"));
    }
    Explanation {
        headline: Some(headline),
        notes,
        help,
        ..Explanation::default()
    }
}

/// The variable that a step adds to the pointer, if its expression is such a sum.
fn moved_by<'a>(scene: &Scene<'a>, step: usize) -> Option<&'a str> {
    let expression = scene.expression(scene.slot(step)? as usize)?;
    let (_, added) = expression.rsplit_once('+')?;
    let added = added.trim();
    let is_name = !added.is_empty() && added.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then_some(added)
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

pub(super) fn packet_forbidden(_scene: &Scene<'_>) -> Explanation {
    Explanation {
        help: vec![
            "programs of this type get at packet bytes by bpf_skb_load_bytes only".to_owned(),
        ],
        ..Explanation::default()
    }
}

/// A check of the source that almost does it, put right.
fn better_check(scene: &Scene<'_>, fixed: bool, needed: i64, proven: i32) -> Option<String> {
    let (step, pointer, _) = checks_of_packet(scene)
        .into_iter()
        .next_back()
        .filter(|_| fixed)?;
    let condition = scene.condition(scene.slot(step)? as usize)?;
    if proven > 0 {
        let digits = condition.replacen(&format!("+ {proven} "), &format!("+ {needed} "), 1);
        return (digits != condition)
            .then(|| format!("check {needed} bytes instead of {proven}: `{digits}`"));
    }
    let right = condition.replacen('<', ">", 1);
    let reversed =
        i64::from(pointer.off) >= needed && right != condition && !condition.contains("<=");
    reversed.then(|| format!("the check is the wrong way round: leave when `{right}`, and read the bytes on the other branch"))
}
