//! Pointers that are none, are none any more, may be NULL, or must not be used like this.

use super::cexpr::pointer_and_index;
use super::scene::{Scene, plural, range};
use super::slice::{Event, What};
use super::{Explanation, Note};
use crate::reg::{Flags, Kind};
use skep_isa::{Insn, Src};

/// Memory is accessed through a number.
pub(super) fn no_pointer(scene: &Scene<'_>) -> Explanation {
    let Some(register) = scene.subject() else {
        return Explanation::default();
    };
    let life = scene.life(register);
    let expression = scene.at().and_then(|at| scene.expression(at));
    let base = expression.and_then(|e| pointer_and_index(e).0);
    let base = base.or_else(|| scene.local(scene.at()?, register));
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
pub(super) fn nullable(scene: &Scene<'_>) -> Explanation {
    let Some(register) = scene.subject() else {
        return Explanation::default();
    };
    let life = scene.life(register);
    let expression = scene.at().and_then(|at| scene.expression(at));
    let made = life.iter().find(|e| e.what == What::Made);
    let made_at = made.and_then(|e| scene.slot(e.step)).map(|s| s as usize);
    let receiver = made_at.and_then(|at| scene.receiver(at));
    let base = expression.and_then(|e| pointer_and_index(e).0);
    let local = scene.at().and_then(|at| scene.local(at, register));
    let c = base.or(local).or(receiver);
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
pub(super) fn read_only(scene: &Scene<'_>) -> Explanation {
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

/// The context was moved.
pub(super) fn moved_context(scene: &Scene<'_>) -> Explanation {
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

pub(super) fn atomic(scene: &Scene<'_>) -> Explanation {
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
pub(super) fn mixed(scene: &Scene<'_>) -> Explanation {
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
