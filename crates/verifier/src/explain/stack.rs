//! The stack: out of the frame, unwritten, or too much of it.

use super::access::{access_offset, access_size, history, pointer};
use super::cexpr::pointer_and_index;
use super::locals::Part;
use super::scene::{Scene, plural, range};
use super::{Explanation, Note};
use crate::reg::{Kind, Reg};
use crate::state::Byte;
use skep_isa::Insn;

/// The stack: out of the frame, or unwritten.
pub(super) fn stack(scene: &Scene<'_>) -> Explanation {
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
        return uninitialised(scene, &name, &reg);
    };
    let index_name = index_name.or(index.local);
    let c = index_name.unwrap_or("i");
    let room = -(i64::from(reg.off) + access_offset(scene.insn()));
    let values = range(&index.unscaled.var);
    let highest =
        (i128::from(room) - i128::from(access_size(scene.insn()))).div_euclid(index.scale.max(1));
    let variable = scene.stack_variable(i64::from(reg.off));
    let array = array.map(str::to_owned).or(variable.map(|v| v.name));
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
    let unwritten = unwritten_byte(scene, reg, access_offset(scene.insn()));
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
    let label = unwritten.and_then(|at| byte_name(scene, at));
    notes.extend(written(scene, reg));
    Explanation {
        headline: Some(headline),
        label,
        notes,
        help: vec![help],
        ..Explanation::default()
    }
}

/// The first byte from where a pointer points, and `offset` further, that was not written: its place from r10.
fn unwritten_byte(scene: &Scene<'_>, reg: &Reg, offset: i64) -> Option<i64> {
    let at = reg.fixed_offset().filter(|_| reg.kind == Kind::Stack)? + offset;
    let frames = &scene.path.steps.get(scene.end()?)?.frames;
    // Names are known of the innermost frame.
    let frame = frames
        .last()
        .filter(|_| reg.aux as usize + 1 == frames.len())?;
    (at..0).find(|at| {
        let from_top = usize::try_from(-1 - at).unwrap_or(usize::MAX);
        let slot = frame.stack.get(from_top / 8);
        slot.is_none_or(|s| s.bytes[from_top % 8] == Byte::Invalid)
    })
}

/// The variable that a byte of the stack belongs to, and which part of it.
fn byte_name(scene: &Scene<'_>, at: i64) -> Option<String> {
    let variable = scene.stack_variable(at)?;
    let (name, byte) = (&variable.name, at - variable.start);
    Some(match variable.part {
        Some(Part::Member(path)) => {
            format!("byte {byte} of `{name}`, in its member `{path}`, was not written")
        }
        Some(Part::Padding) => {
            format!("byte {byte} of `{name}`, padding between its members, was not written")
        }
        None => format!("byte {byte} of `{name}` was not written"),
    })
}

fn uninitialised(scene: &Scene<'_>, name: &str, reg: &Reg) -> Explanation {
    if scene.rejection.code != "V0302" {
        return Explanation::default();
    }
    Explanation {
        headline: Some(format!("{name} reads stack that was not written on this path")),
        label: unwritten_byte(scene, reg, access_offset(scene.insn())).and_then(|at| byte_name(scene, at)),
        help: vec!["initialise the whole variable where it is declared (`= {}`); beware of padding between members, which `= {}` may leave out: use `__builtin_memset`".to_owned()],
        ..Explanation::default()
    }
}

/// The frames of a call chain are too large.
pub(super) fn stack_depth(scene: &Scene<'_>) -> Explanation {
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
            "move large buffers into a per-CPU array map with one element, or make them smaller"
                .to_owned(),
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

/// The last store to the stack that a pointer points at.
fn written(scene: &Scene<'_>, reg: &Reg) -> Option<Note> {
    let at = reg.fixed_offset()?;
    let end = scene.end()?;
    let step = (0..end).rev().find(|step| match scene.path.insn(*step) {
        Some(Insn::Store { dst, offset, .. }) => {
            let base = scene.path.reg(*step, dst.index());
            base.is_some_and(|b| {
                b.kind == reg.kind && b.fixed_offset().map(|o| o + i64::from(*offset)) == Some(at)
            })
        }
        _ => false,
    })?;
    let size = access_size(scene.path.insn(step));
    let are = if size == 1 { "is" } else { "are" };
    let size = plural(size, "byte");
    Some(scene.note(step, format!("{size} {are} written there by this store")))
}
