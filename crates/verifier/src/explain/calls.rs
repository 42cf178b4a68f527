//! Arguments of helpers, kfuncs and functions, and the objects that calls work on.

use super::access::history;
use super::cexpr;
use super::scene::{Scene, range};
use super::slice::What;
use super::{Explanation, Note};
use skep_abi::MapType;
use skep_abi::helper::{self, helper_map_compat};
use skep_isa::{Call, Insn};

/// Explains a refused call.
pub(super) fn explain(scene: &Scene<'_>) -> Explanation {
    match scene.rejection.code {
        "V0501" | "V0510" => wrong_type(scene),
        "V0502" => size(scene),
        "V0503" => null(scene),
        "V0504" => constant(scene),
        "V0505" => map(scene),
        "V0506" => with_help(
            "make the string a `static const char fmt[] = \"…\";`: it must lie in read-only data and end with a zero byte",
        ),
        "V0507" => with_help(
            "let the number of values (`data_len / 8`) be that of the conversions in the format; each value takes eight bytes",
        ),
        "V0511" => with_help(
            "release everything before a tail call, and make it from the program itself or a static function",
        ),
        "V0515" => flags(scene),
        "V0801" => with_help(
            "a dynptr is made by exactly one call (bpf_dynptr_from_mem, bpf_ringbuf_reserve_dynptr, …) and lives until it is submitted or discarded",
        ),
        "V0802" => iterator(scene),
        "V0803" => irq(scene),
        "V0804" | "V0805" => trusted(scene),
        "V0806" => with_help(
            "a list or tree is used through the address of its head (`&value->items`), with nodes of the type that its `contains:` tag names",
        ),
        _ => Explanation::default(),
    }
}

fn with_help(help: &str) -> Explanation {
    Explanation {
        help: vec![help.to_owned()],
        ..Explanation::default()
    }
}

/// What is called at the refused instruction.
fn callee(scene: &Scene<'_>) -> String {
    scene
        .at()
        .and_then(|a| scene.callee(a))
        .unwrap_or_else(|| "the call".to_owned())
}

/// Argument `register` of the refused call as it is written.
fn argument<'a>(scene: &Scene<'a>, register: usize) -> Option<&'a str> {
    let call = scene.expression(scene.at()?)?;
    cexpr::arguments(call)
        .get(register.checked_sub(1)?)
        .copied()
}

fn argument_name(scene: &Scene<'_>, register: usize) -> String {
    argument(scene, register).map_or_else(
        || format!("argument {register}"),
        |a| format!("argument {register} (`{a}`)"),
    )
}

/// An argument of the wrong kind.
fn wrong_type(scene: &Scene<'_>) -> Explanation {
    let Some(register @ 1..=5) = scene.named_register() else {
        return Explanation::default();
    };
    let callee = callee(scene);
    let found = scene.reg(register);
    let is_null = found.is_some_and(|r| r.is_zero());
    let what = match found {
        Some(_) if is_null => "NULL".to_owned(),
        Some(r) if r.is_scalar() => format!("a number ({})", range(&r.var)),
        Some(r) => r.describe().to_owned(),
        None => "something else".to_owned(),
    };
    let wanted = scene.rejection.message.split(" takes ").nth(1);
    let is_function = matches!(scene.insn(), Some(Insn::Call(Call::Subprog(_))));
    let name = argument_name(scene, register);
    let headline = match wanted {
        Some(wanted) => format!("{name} of {callee} is {what}, expected is {wanted}"),
        None if is_function => {
            format!(
                "{name} of the global function {callee} is {what}, which a global function does not take"
            )
        }
        None => format!("{name} of {callee} is {what}, which it does not take"),
    };
    let help = if callee.starts_with("bpf_xdp_metadata") {
        super::environment::METADATA_KFUNCS.to_owned()
    } else if is_function {
        "a global function is verified on its own and takes numbers, the context, and pointers to memory of a known size that is all accessible: stack, map values, checked packet bytes. Pass such a pointer, or make the function `static`: then it is verified together with this call and may take any pointer".to_owned()
    } else if is_null && wanted.is_some_and(|w| w.contains("key")) {
        "pass the address of a key: `__u32 key = 0;` and `&key`".to_owned()
    } else {
        format!(
            "look up what {callee} takes: helpers in bpf-helpers(7), kfuncs in the kernel's documentation"
        )
    };
    Explanation {
        headline: Some(headline),
        notes: scene.origin(&scene.life(register)).into_iter().collect(),
        help: vec![help],
        ..Explanation::default()
    }
}

/// A size out of range.
fn size(scene: &Scene<'_>) -> Explanation {
    let Some(register @ 1..=5) = scene.named_register() else {
        return Explanation::default();
    };
    let Some(reg) = scene.reg(register).filter(crate::reg::Reg::is_scalar) else {
        return Explanation::default();
    };
    let written = argument(scene, register);
    let c = written.unwrap_or("len");
    let life = scene.life(register);
    let copies = life.iter().any(|e| e.what == What::Learned);
    let mut help = vec![format!(
        "bound it where the verifier sees it: `if ({c} > sizeof(buf)) return 0;` with an unsigned `{c}`, or `{c} &= 63;` for a power of two"
    )];
    if copies || reg.var.smin < 0 {
        help.push(format!("compilers may check one register and pass another: keep them together with `asm volatile(\"\" : \"+r\"({c}));` between check and call"));
    }
    Explanation {
        headline: Some(format!(
            "{} of {}, a size, may be {}",
            argument_name(scene, register),
            callee(scene),
            range(&reg.var)
        )),
        notes: history(scene, &life, written),
        help,
        ..Explanation::default()
    }
}

/// An argument that may be NULL.
fn null(scene: &Scene<'_>) -> Explanation {
    let Some(register @ 1..=5) = scene.named_register() else {
        return Explanation::default();
    };
    let life = scene.life(register);
    let made = life
        .iter()
        .find(|e| e.what == What::Made)
        .and_then(|e| scene.slot(e.step));
    let receiver = made.and_then(|at| scene.receiver(at as usize));
    let c = argument(scene, register).or(receiver).unwrap_or("p");
    let callee = callee(scene);
    Explanation {
        headline: Some(format!(
            "{} of {callee} may be NULL here",
            argument_name(scene, register)
        )),
        notes: scene.origin(&life).into_iter().collect(),
        help: vec![format!(
            "check it first: `if ({c}) {}`",
            call_again(scene, &callee)
        )],
        ..Explanation::default()
    }
}

fn call_again(scene: &Scene<'_>, callee: &str) -> String {
    let call = scene
        .at()
        .and_then(|at| scene.expression(at))
        .filter(|e| e.starts_with(callee));
    call.map_or_else(|| format!("{callee}(…);"), |c| format!("{c};"))
}

/// An argument that must be constant.
fn constant(scene: &Scene<'_>) -> Explanation {
    let Some(register @ 1..=5) = scene.named_register() else {
        return Explanation::default();
    };
    let values = scene
        .reg(register)
        .map_or_else(String::new, |r| format!(": it may be {}", range(&r.var)));
    let callee = callee(scene);
    let mut help = vec!["pass a constant that is large enough for every case".to_owned()];
    if callee.starts_with("bpf_ringbuf") {
        help.push("for a size that varies use bpf_ringbuf_reserve_dynptr, or build the record in a buffer and send it with bpf_ringbuf_output".to_owned());
    }
    Explanation {
        headline: Some(format!(
            "{} of {callee} must be a constant{values}",
            argument_name(scene, register)
        )),
        help,
        ..Explanation::default()
    }
}

/// A map of the wrong type.
fn map(scene: &Scene<'_>) -> Explanation {
    let callee = callee(scene);
    let map = (1..=2).find_map(|i| scene.map(&scene.reg(i)?));
    let Some(map) = map else {
        return Explanation::default();
    };
    let Some(proto) = helper::by_name(&callee) else {
        return Explanation::default();
    };
    let fitting: Vec<String> = MapType::ALL
        .iter()
        .filter(|t| helper_map_compat(**t, proto.id, scene.req.prog_type, scene.req.attach))
        .map(|t| format!("BPF_MAP_TYPE_{}", t.name().to_ascii_uppercase()))
        .collect();
    let fitting = if fitting.is_empty() || fitting.len() > 6 {
        "another type".to_owned()
    } else {
        fitting.join(" or ")
    };
    Explanation {
        headline: Some(format!(
            "{callee} does not work on map \"{}\", which is of type {}",
            map.name, map.map_type
        )),
        help: vec![format!(
            "declare it with `__uint(type, {fitting})`, or pass another map"
        )],
        ..Explanation::default()
    }
}

/// Flags that must be 0.
fn flags(scene: &Scene<'_>) -> Explanation {
    with_help(&format!(
        "pass 0 as flags: `{}`",
        call_again(scene, &callee(scene)).replace(", 1)", ", 0)")
    ))
}

/// An iterator in the wrong state.
fn iterator(scene: &Scene<'_>) -> Explanation {
    let callee = callee(scene);
    let stem = callee
        .trim_end_matches("_next")
        .trim_end_matches("_destroy");
    let name = argument(scene, 1).unwrap_or("&it");
    Explanation {
        headline: Some(format!(
            "{callee} is called on `{}`, which {stem}_new has not initialised on this path",
            name.trim_start_matches('&')
        )),
        help: vec![format!(
            "call `{stem}_new({name}, …)` first, then {stem}_next until it returns NULL, then {stem}_destroy exactly once"
        )],
        ..Explanation::default()
    }
}

/// Interrupt flags restored in another order.
fn irq(scene: &Scene<'_>) -> Explanation {
    let mut notes = Vec::new();
    for step in scene.path.steps {
        let saved = scene
            .callee(step.insn)
            .filter(|c| c == "bpf_local_irq_save");
        let argument = scene
            .expression(step.insn)
            .map(cexpr::arguments)
            .and_then(|a| a.first().copied());
        if let (Some(_), Some(a)) = (saved, argument) {
            notes.push(Note {
                insn: u32::try_from(step.insn).ok(),
                text: format!("saved in `{}` here", a.trim_start_matches('&')),
            });
        }
    }
    let here = argument(scene, 1)
        .unwrap_or("&flags")
        .trim_start_matches('&')
        .to_owned();
    let last = notes.last().map_or_else(String::new, |n| n.text.clone());
    let expected = last.split('`').nth(1).unwrap_or("the last one");
    Explanation {
        headline: Some(format!(
            "`{here}` is restored here, but `{expected}` was saved last and must be restored first"
        )),
        notes,
        help: vec![format!(
            "restore in the opposite order: `bpf_local_irq_restore(&{expected});` first, then `bpf_local_irq_restore(&{here});`"
        )],
        ..Explanation::default()
    }
}

/// A kfunc argument that is not trusted, or may be NULL.
fn trusted(scene: &Scene<'_>) -> Explanation {
    let Some(register @ 1..=5) = scene.named_register() else {
        return Explanation::default();
    };
    let reg = scene.reg(register);
    if reg.is_some_and(|r| r.is_nullable()) {
        return null(scene);
    }
    Explanation {
        notes: scene.origin(&scene.life(register)).into_iter().collect(),
        help: vec!["kfuncs take pointers that are known to be valid: arguments of the hook, results of acquiring calls, and fields read inside of an RCU section".to_owned()],
        ..Explanation::default()
    }
}
