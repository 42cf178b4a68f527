//! The last lines of the kernel's log: what it says of a refusal. Where no line is known, our own sentence stands there.

use super::super::access::{access_offset, access_size};
use super::super::record::PathStep;
use super::super::scene::Scene;
use super::value::{State, kind, tnum};
use crate::cause::{Cause, Reach, Returned, Section, SizeFault};
use crate::reg::{Kind, Reg};
use crate::rejection::Rejection;
use crate::state::RefKind;
use skep_abi::limits::BPF_MAX_VAR_OFF;
use skep_abi::prog::MapDenied;
use skep_isa::{AluOp, Call, Insn, Src};

/// The lines for a refusal.
pub(super) fn lines(scene: &Scene<'_>) -> Vec<String> {
    by_cause(scene)
        .or_else(|| by_code(scene))
        .unwrap_or_else(|| vec![scene.rejection.message()])
}

/// The line for a refusal that comes before there is a walk.
pub(super) fn before_walk(rejection: &Rejection) -> String {
    match rejection.code {
        "V0003" => "last insn is not an exit or jmp".to_owned(),
        _ => rejection.message(),
    }
}

fn one(line: impl Into<String>) -> Option<Vec<String>> {
    Some(vec![line.into()])
}

/// The pointer that the refused instruction accesses memory through.
fn pointer(scene: &Scene<'_>) -> Option<(usize, Reg)> {
    let register = scene.subject()?;
    Some((register, scene.reg(register)?))
}

/// Byte and number of bytes of the refused access.
fn access(scene: &Scene<'_>, reg: &Reg) -> (i64, u32) {
    let insn = scene.insn();
    (i64::from(reg.off) + access_offset(insn), access_size(insn))
}

/// Where the facts tell enough.
fn by_cause(scene: &Scene<'_>) -> Option<Vec<String>> {
    match &*scene.rejection.cause {
        Cause::Unwritten { reg } => one(format!("R{reg} !read_ok")),
        Cause::Dereference { reg, .. } => {
            let held = scene.reg(usize::from(*reg))?;
            one(format!("R{reg} invalid mem access '{}'", kind(&held)))
        }
        Cause::Context { offset, size, .. } => one(format!(
            "invalid bpf_context access off={offset} size={size}"
        )),
        Cause::Leak { by, .. } => leak(scene, by),
        Cause::Held { by, section } => one(format!(
            "{} cannot be used inside {}-ed region",
            leaver(by),
            section_call(*section)
        )),
        Cause::NeedsSection {
            function,
            section: Section::Rcu,
        } => one(format!(
            "kernel func {function} requires RCU critical section protection"
        )),
        Cause::UnderLock { .. } => one("function calls are not allowed while holding a lock"),
        Cause::Sleeps { section: None, .. } => match scene.insn() {
            Some(Insn::Call(Call::Helper(_))) => {
                one("helper call might sleep in a non-sleepable prog")
            }
            _ => one(format!(
                "program must be sleepable to call sleepable kfunc {}",
                callee(scene)
            )),
        },
        Cause::NullArgument { reg, .. } if scene.rejection.code == "V0805" => one(format!(
            "Possibly NULL pointer passed to trusted arg{}",
            reg.saturating_sub(1)
        )),
        Cause::Size { reg, fault, .. } => one(match fault {
            SizeFault::Negative => {
                format!("R{reg} min value is negative, either use unsigned or 'var &= const'")
            }
            SizeFault::Zero => format!("R{reg} invalid zero-sized read: u64=[0,0]"),
            SizeFault::Unbounded => {
                format!("R{reg} unbounded memory access, use 'var &= const' or 'if (var < const)'")
            }
        }),
        Cause::Bounds { reach, .. } => bounds(scene, reach),
        Cause::StackRange { from, to, .. } => stack(scene, *from, *to),
        Cause::Returned {
            value,
            allowed: (least, most),
            ..
        } => {
            let mut text = match scene.rejection.code {
                "V0703" => "At callback return".to_owned(),
                _ => "At program exit".to_owned(),
            };
            text.push_str(" the register R0 has");
            match value {
                Returned::Number(n) if (n.min, n.max) == (i64::MIN, i64::MAX) => {
                    text.push_str(" unknown scalar value");
                }
                Returned::Number(n) => {
                    text.push_str(&format!(" smin={} smax={}", n.min, n.max));
                }
                Returned::Other(_) => return one("R0 is not a known value"),
            }
            one(format!("{text} should have been in [{least}, {most}]"))
        }
        Cause::MapUse {
            denied: MapDenied::TracingSpinLock,
            ..
        } => one("tracing progs cannot use bpf_spin_lock yet"),
        Cause::MapUse {
            denied: MapDenied::SocketFilterSpinLock,
            ..
        } => one("socket filter progs cannot use bpf_spin_lock yet"),
        Cause::MapHelper { map_type, .. } => match scene.insn() {
            Some(Insn::Call(Call::Helper(number))) if callee(scene) != "bpf_tail_call" => {
                one(format!(
                    "cannot pass map_type {} into func {}#{number}",
                    map_type.id(),
                    callee(scene)
                ))
            }
            _ => one("expected prog array map for tail call"),
        },
        Cause::StackDepth { chain, bytes } => one(format!(
            "combined stack size of {} calls is {bytes}. Too large",
            chain.len()
        )),
        Cause::NoProgress { at } => {
            let step = scene.path.steps.last()?;
            let state = State { scene, step }.all();
            Some(vec![
                format!("infinite loop detected at insn {at}"),
                format!("cur state: {state}"),
                format!("old state: {state}"),
            ])
        }
        Cause::TooLarge => one("BPF program is too large. Processed 1000001 insn"),
        _ => None,
    }
}

/// Where the code and the refused instruction tell enough.
fn by_code(scene: &Scene<'_>) -> Option<Vec<String>> {
    let named = |what: &str| scene.named_register().map(|r| vec![format!("R{r} {what}")]);
    match scene.rejection.code {
        "V0003" => one("last insn is not an exit or jmp"),
        "V0004" => one(format!("unreachable insn {}", scene.at()?)),
        "V0102" => one("frame pointer is read only"),
        "V0103" => arithmetic(scene),
        "V0107" => one("div by zero"),
        "V0108" => match scene.insn()? {
            Insn::Alu {
                src: Src::Imm(imm), ..
            } => one(format!("invalid shift {imm}")),
            _ => None,
        },
        "V0205" => moved(scene),
        "V0207" => read_only(scene),
        "V0211" => {
            let (register, reg) = pointer(scene)?;
            one(format!(
                "dereference of modified ctx ptr R{register} off={} disallowed",
                reg.off
            ))
        }
        "V0402" => {
            let (_, reg) = pointer(scene)?;
            one(format!(
                "variable ctx access var_off={} disallowed",
                tnum(&reg.var)
            ))
        }
        "V0213" => {
            let (register, reg) = pointer(scene)?;
            one(format!(
                "BPF_ATOMIC stores into R{register} {} is not allowed",
                kind(&reg)
            ))
        }
        "V0214" => one("same insn cannot be used with different pointers"),
        "V0401" => {
            let (_, reg) = pointer(scene)?;
            let (at, bytes) = access(scene, &reg);
            one(format!("invalid bpf_context access off={at} size={bytes}"))
        }
        "V0504" => named("is not a known constant'"),
        "V0507" => one("Invalid format string"),
        "V0607" => one("store to referenced kptr disallowed"),
        "V0802" if callee(scene).ends_with("_next") || callee(scene).ends_with("_destroy") => {
            let name = callee(scene);
            let name = name
                .trim_start_matches("bpf_")
                .rsplit_once('_')
                .map_or("", |(n, _)| n);
            let argument = scene.named_register()?.checked_sub(1)?;
            one(format!("expected an initialized {name} as arg #{argument}"))
        }
        "V0803" => irq(scene),
        "V0515" if callee(scene) == "bpf_get_local_storage" => {
            one("get_local_storage() doesn't support non-zero flags")
        }
        "E0101" | "E0105" => match scene.insn()? {
            Insn::Call(Call::Helper(number)) => one(format!("invalid func unknown#{number}")),
            _ => None,
        },
        "E0102" => match scene.insn()? {
            Insn::Call(Call::Helper(number)) => one(format!(
                "program of this type cannot use helper {}#{number}",
                callee(scene)
            )),
            _ => None,
        },
        "E0103" => one("cannot call GPL-restricted function from non-GPL compatible program"),
        "E0106" if callee(scene).starts_with("bpf_xdp_metadata") => {
            one("metadata kfuncs require device-bound program")
        }
        "E0106" => one(format!(
            "calling kernel function {} is not allowed",
            callee(scene)
        )),
        _ => None,
    }
}

fn callee(scene: &Scene<'_>) -> String {
    scene
        .at()
        .and_then(|at| scene.callee(at))
        .unwrap_or_default()
}

/// What leaves the program with something held.
fn leaver(by: &str) -> &'static str {
    match by {
        "a tail call" => "tail_call",
        _ => "BPF_EXIT instruction in main prog",
    }
}

const fn section_call(section: Section) -> &'static str {
    match section {
        Section::Lock => "bpf_spin_lock",
        Section::Rcu => "bpf_rcu_read_lock",
        Section::Preempt => "bpf_preempt_disable",
        Section::Irq => "bpf_local_irq_save",
    }
}

fn leak(scene: &Scene<'_>, by: &str) -> Option<Vec<String>> {
    let refs = &scene.path.steps.last()?.refs;
    let mut lines: Vec<String> = refs
        .iter()
        .filter(|r| r.kind == RefKind::Pointer)
        .map(|r| format!("Unreleased reference id={} alloc_insn={}", r.id, r.insn))
        .collect();
    lines.push(format!("{} would lead to reference leak", leaver(by)));
    Some(lines)
}

/// An access that may leave its memory.
fn bounds(scene: &Scene<'_>, reach: &Reach) -> Option<Vec<String>> {
    let (register, reg) = pointer(scene)?;
    let (at, bytes) = access(scene, &reg);
    if let Reach::Unchecked { proven, .. } = reach {
        return Some(vec![
            format!(
                "invalid access to packet, off={at} size={bytes}, R{register}(id={},off={at},r={proven})",
                reg.id
            ),
            format!("R{register} offset is outside of the packet"),
        ]);
    }
    if reg.var.umax >= BPF_MAX_VAR_OFF.unsigned_abs() && !matches!(reach, Reach::Before(_)) {
        return one(format!(
            "R{register} unbounded memory access, make sure to bounds check any such access"
        ));
    }
    let limit = i64::from(scene.limit(&reg)?);
    let outside = |first: i64| first < 0 || first + i64::from(bytes) > limit;
    let (least, most) = (
        at.saturating_add(reg.var.smin),
        at.saturating_add(reg.var.umax.cast_signed()),
    );
    if reg.var.smin < 0 && least < 0 {
        return one(format!(
            "R{register} min value is negative, either use unsigned index or do a if (index >=0) check."
        ));
    }
    let (end, first) = if outside(least) {
        ("min", least)
    } else {
        ("max", most)
    };
    let memory = match reg.kind {
        Kind::MapValue => {
            format!("invalid access to map value, value_size={limit} off={first} size={bytes}")
        }
        Kind::MapKey => {
            format!("invalid access to map key, key_size={limit} off={first} size={bytes}")
        }
        _ => format!("invalid access to memory, mem_size={limit} off={first} size={bytes}"),
    };
    Some(vec![
        memory,
        format!("R{register} {end} value is outside of the allowed memory range"),
    ])
}

/// Bytes of the stack outside of the frame.
fn stack(scene: &Scene<'_>, from: i64, to: i64) -> Option<Vec<String>> {
    let Some(Insn::Call(_)) = scene.insn() else {
        let (register, reg) = pointer(scene)?;
        let (at, bytes) = access(scene, &reg);
        let writes = !matches!(
            scene.insn(),
            Some(Insn::Load { .. } | Insn::LoadAcquire { .. })
        );
        let verb = if writes { "write to" } else { "read from" };
        return one(match reg.fixed_offset() {
            Some(_) => format!("invalid {verb} stack R{register} off={from} size={bytes}"),
            None => format!(
                "invalid variable-offset {verb} stack R{register} var_off={} off={at} size={bytes}",
                tnum(&reg.var)
            ),
        });
    };
    let register = scene.named_register()?;
    one(format!(
        "invalid read from stack R{register} off={from} size={}",
        to - from
    ))
}

fn arithmetic(scene: &Scene<'_>) -> Option<Vec<String>> {
    let Insn::Alu { op, dst, src, .. } = scene.insn()? else {
        return None;
    };
    let d = dst.index();
    let both = match src {
        Src::Reg(src) => scene.reg(d)?.is_pointer() && scene.reg(src.index())?.is_pointer(),
        Src::Imm(_) => false,
    };
    one(match op {
        AluOp::Add if both => format!("R{d} pointer += pointer prohibited"),
        AluOp::And => format!("R{d} bitwise operator &= on pointer prohibited"),
        AluOp::Or => format!("R{d} bitwise operator |= on pointer prohibited"),
        AluOp::Xor => format!("R{d} bitwise operator ^= on pointer prohibited"),
        AluOp::Lsh => format!("R{d} pointer arithmetic with <<= operator prohibited"),
        AluOp::Rsh => format!("R{d} pointer arithmetic with >>= operator prohibited"),
        AluOp::Mul => format!("R{d} pointer arithmetic with *= operator prohibited"),
        AluOp::Div => format!("R{d} pointer arithmetic with /= operator prohibited"),
        AluOp::Mod => format!("R{d} pointer arithmetic with %= operator prohibited"),
        _ => return None,
    })
}

/// A pointer is moved by a number without lower bound.
fn moved(scene: &Scene<'_>) -> Option<Vec<String>> {
    let Insn::Alu {
        dst,
        src: Src::Reg(src),
        ..
    } = scene.insn()?
    else {
        return None;
    };
    let (d, s) = (scene.reg(dst.index())?, scene.reg(src.index())?);
    let pointer = if d.is_pointer() { d } else { s };
    one(format!(
        "math between {} pointer and register with unbounded min value is not allowed",
        kind(&pointer)
    ))
}

/// Memory that must not be written.
fn read_only(scene: &Scene<'_>) -> Option<Vec<String>> {
    let (register, reg) = pointer(scene)?;
    let (at, bytes) = access(scene, &reg);
    one(match reg.kind {
        Kind::MapKey => format!("write to change key R{register} not allowed"),
        Kind::MapValue => format!(
            "write into map forbidden, value_size={} off={at} size={bytes}",
            scene.limit(&reg)?
        ),
        _ => format!("R{register} cannot write into {}", kind(&reg)),
    })
}

/// Interrupts restored in another order than they were saved.
fn irq(scene: &Scene<'_>) -> Option<Vec<String>> {
    let is_irq = |r: &&crate::state::Ref| r.kind == RefKind::Irq;
    let step: &PathStep = scene.path.steps.last()?;
    let last = step.refs.iter().rev().find(is_irq)?;
    one(format!(
        "cannot restore irq state out of order, expected id={} acquired at insn_idx={}",
        last.id, last.insn
    ))
}
