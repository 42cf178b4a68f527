//! Arguments of helpers, kfuncs and functions, and the objects that calls work on.

use super::access::history;
use super::cexpr;
use super::scene::{Scene, range};
use super::slice::What;
use super::{Explanation, Note, names};
use crate::cause::Cause;
use skep_abi::MapType;
use skep_abi::helper::{self, ArgKind, helper_map_compat};
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
    let wanted = match &*scene.rejection.cause {
        Cause::Argument { wanted, .. } => Some(wanted.as_ref()),
        _ => None,
    };
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
    let help = if is_function {
        "a global function is verified on its own and takes numbers, the context, and pointers to memory of a known size that is all accessible: stack, map values, checked packet bytes. Pass such a pointer, or make the function `static`: then it is verified together with this call and may take any pointer, for what may be done with it (the end of a packet can only be compared)".to_owned()
    } else {
        helper_argument(scene, register)
            .map(|kind| pass_instead(kind, is_null))
            .or_else(|| kfunc_prototype(scene))
            .unwrap_or_else(|| format!("compare with the declaration of {callee}"))
    };
    Explanation {
        headline: Some(headline),
        notes: scene.origin(&scene.life(register)).into_iter().collect(),
        help: vec![help],
        ..Explanation::default()
    }
}

/// What the helper takes in `register`.
fn helper_argument(scene: &Scene<'_>, register: usize) -> Option<ArgKind> {
    let Some(Insn::Call(Call::Helper(number))) = scene.insn() else {
        return None;
    };
    let proto = helper::by_id(u32::try_from(*number).ok()?)?;
    proto.args.get(register - 1).map(|a| a.kind)
}

/// What to pass for an argument of this kind.
fn pass_instead(kind: ArgKind, is_null: bool) -> String {
    match kind {
        ArgKind::ConstMapPtr => "pass the address of the map's definition: `&map`".to_owned(),
        ArgKind::MapKey if is_null => "pass the address of a key: `__u32 key = 0;` and `&key`".to_owned(),
        ArgKind::MapKey => "pass the address of a local variable of the key's type: `struct key key = {};` and `&key`".to_owned(),
        ArgKind::MapValue => "pass the address of a local variable of the value's type: `struct value value = {};` and `&value`".to_owned(),
        ArgKind::Mem | ArgKind::FixedMem(_) => "pass the address of memory that the program may access, and its size: a local buffer (`char buf[64] = {};`), a map value after its NULL check, or checked packet bytes".to_owned(),
        ArgKind::Ctx => "pass the program's own context parameter, unchanged".to_owned(),
        ArgKind::SpinLock => "pass the address of the `struct bpf_spin_lock` in a map value or allocated object: `&value->lock`".to_owned(),
        ArgKind::Timer => "pass the address of the `struct bpf_timer` in a map value: `&value->timer`".to_owned(),
        ArgKind::SockCommon | ArgKind::BtfSockCommon | ArgKind::Socket => "pass a socket: `skb->sk` after a NULL check (for a full one: `bpf_sk_fullsock(skb->sk)`), or what bpf_sk_lookup_tcp returns, after a NULL check".to_owned(),
        ArgKind::BtfPtr("task_struct") => "pass a task: `bpf_get_current_task_btf()` (not bpf_get_current_task(), which returns a number), or a task argument of the hook".to_owned(),
        ArgKind::BtfPtr(name) if !name.is_empty() => format!("pass a typed pointer to struct {name}: an argument of an fentry, tp_btf, LSM or iterator program, or a field reached from one; not a number that was read with bpf_probe_read"),
        ArgKind::RingbufMem => "pass exactly what bpf_ringbuf_reserve returned, after its NULL check".to_owned(),
        ArgKind::PercpuBtfPtr => "pass the address of a per-CPU kernel variable: `extern const int name __ksym;` and `&name`".to_owned(),
        ArgKind::Func => "pass a static function of this program by name".to_owned(),
        ArgKind::Stack => "pass the address of a local variable".to_owned(),
        ArgKind::ConstStr => "pass a `static const char fmt[] = \"…\";`: the string must lie in read-only data".to_owned(),
        ArgKind::Kptr => "pass the address of a kptr field in a map value: `&value->field`".to_owned(),
        ArgKind::Dynptr(_) => "pass the address of a local `struct bpf_dynptr`, made by bpf_dynptr_from_mem, bpf_ringbuf_reserve_dynptr or the like".to_owned(),
        ArgKind::BtfPtr(_) | ArgKind::Anything | ArgKind::ConstSize | ArgKind::ConstSizeOrZero | ArgKind::ConstAllocSizeOrZero => "pass a number".to_owned(),
    }
}

/// The prototype of the kfunc that is called, as advice.
fn kfunc_prototype(scene: &Scene<'_>) -> Option<String> {
    let Some(Insn::Call(Call::Kfunc { id, module: 0 })) = scene.insn() else {
        return None;
    };
    let func = scene.req.kernel_btf?.get(u32::try_from(*id).ok()?)?;
    let parameters = names::parameters(func.target()?);
    Some(format!(
        "the kernel declares {}({}): pass what its parameters say",
        func.name(),
        parameters.join(", ")
    ))
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
    if scene.rejection.code == "V0804" {
        return wrong_type(scene);
    }
    Explanation {
        headline: Some(format!(
            "{} of {} is {}, which the kernel does not know to be valid",
            argument_name(scene, register),
            callee(scene),
            reg.map_or("a pointer", |r| r.describe())
        )),
        notes: scene.origin(&scene.life(register)).into_iter().collect(),
        help: vec!["kfuncs take pointers that are known to be valid: arguments of the hook, results of acquiring calls, and fields read inside of an RCU section".to_owned()],
        ..Explanation::default()
    }
}
