//! What is acquired and not given back: references, locks, sections; and calls that are not allowed meanwhile.

use super::scene::Scene;
use super::{Explanation, Note};
use crate::cause::{Cause, Section};
use crate::state::RefKind;
use skep_isa::{Call, Insn};

/// What opens, and what closes it again.
struct Pair {
    /// Prefix of the function's name.
    opens: &'static str,
    /// Names of functions, any of which closes.
    closes: &'static [&'static str],
    /// What is held in between.
    what: &'static str,
}

/// Pairs of functions; the first whose prefix fits counts.
#[rustfmt::skip] // one pair per line
const PAIRS: &[Pair] = &[
    Pair { opens: "bpf_ringbuf_reserve_dynptr", closes: &["bpf_ringbuf_submit_dynptr", "bpf_ringbuf_discard_dynptr"], what: "a dynptr, also if the call failed" },
    Pair { opens: "bpf_ringbuf_reserve", closes: &["bpf_ringbuf_submit", "bpf_ringbuf_discard"], what: "a ring buffer record" },
    Pair { opens: "bpf_sk_lookup", closes: &["bpf_sk_release"], what: "a socket" },
    Pair { opens: "bpf_skc_lookup", closes: &["bpf_sk_release"], what: "a socket" },
    Pair { opens: "bpf_map_lookup_elem", closes: &["bpf_sk_release"], what: "a socket" },
    Pair { opens: "bpf_obj_new", closes: &["bpf_obj_drop_impl"], what: "an allocated object" },
    Pair { opens: "bpf_percpu_obj_new", closes: &["bpf_percpu_obj_drop_impl"], what: "an allocated object" },
    Pair { opens: "bpf_refcount_acquire", closes: &["bpf_obj_drop_impl"], what: "a reference to an object" },
    Pair { opens: "bpf_kptr_xchg", closes: &["bpf_obj_drop_impl", "bpf_task_release", "bpf_cgroup_release", "bpf_cpumask_release"], what: "the object that was in the map" },
    Pair { opens: "bpf_list_pop", closes: &["bpf_obj_drop_impl"], what: "a node" },
    Pair { opens: "bpf_rbtree_remove", closes: &["bpf_obj_drop_impl"], what: "a node" },
    Pair { opens: "bpf_task_", closes: &["bpf_task_release"], what: "a task" },
    Pair { opens: "bpf_cgroup_", closes: &["bpf_cgroup_release"], what: "a cgroup" },
    Pair { opens: "bpf_cpumask_", closes: &["bpf_cpumask_release"], what: "a cpumask" },
    Pair { opens: "bpf_iter_num_new", closes: &["bpf_iter_num_destroy"], what: "an iterator" },
    Pair { opens: "bpf_iter_bits_new", closes: &["bpf_iter_bits_destroy"], what: "an iterator" },
    Pair { opens: "bpf_iter_task_new", closes: &["bpf_iter_task_destroy"], what: "an iterator" },
    Pair { opens: "bpf_iter_css_new", closes: &["bpf_iter_css_destroy"], what: "an iterator" },
    Pair { opens: "bpf_local_irq_save", closes: &["bpf_local_irq_restore"], what: "interrupts are off" },
    Pair { opens: "bpf_rcu_read_lock", closes: &["bpf_rcu_read_unlock"], what: "an RCU section is open" },
    Pair { opens: "bpf_preempt_disable", closes: &["bpf_preempt_enable"], what: "preemption is off" },
    Pair { opens: "bpf_res_spin_lock", closes: &["bpf_res_spin_unlock"], what: "a spin lock is held" },
    Pair { opens: "bpf_spin_lock", closes: &["bpf_spin_unlock"], what: "a spin lock is held" },
];

fn pair_of(name: &str) -> Option<&'static Pair> {
    PAIRS.iter().find(|p| name.starts_with(p.opens))
}

/// Explains what is held, or called while something is.
pub(super) fn explain(scene: &Scene<'_>) -> Explanation {
    let at_exit = matches!(scene.insn(), Some(Insn::Exit));
    match scene.rejection.code {
        "V0601" => leak(scene),
        "V0603" | "V0605" if at_exit => open_section(scene),
        "V0603" | "V0604" => under_lock(scene),
        "V0605" => needs_section(scene),
        "V0606" => sleeps(scene),
        "V0602" => {
            with_help("release only what an acquiring call returned, and only once on each path")
        }
        "V0607" => with_help(
            "a kptr field holds an object, never a number: give a number a field of its own. An object is put there by \
             `old = bpf_kptr_xchg(&v->field, new);`, with `new` from bpf_obj_new_impl (or NULL); what comes out is \
             dropped: `if (old) bpf_obj_drop_impl(old, NULL);`",
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

/// A reference that the path never gives back.
fn leak(scene: &Scene<'_>) -> Explanation {
    let last = scene.path.steps.last();
    let held = last.and_then(|s| s.refs.iter().find(|r| r.kind == RefKind::Pointer));
    let Some(held) = held else {
        return Explanation::default();
    };
    let at = held.insn as usize;
    let callee = scene.callee(at).unwrap_or_default();
    let pair = pair_of(&callee);
    let what = pair.map_or("a reference", |p| p.what);
    let argument = callee.ends_with("_dynptr") || callee.ends_with("_new");
    let receiver = if argument {
        dynptr_argument(scene, at)
    } else {
        scene.receiver(at)
    };
    let name = receiver.map_or_else(|| what.to_owned(), |r| format!("`{r}` ({what})"));
    let where_to = match scene.insn() {
        Some(Insn::Call(_)) => format!(
            "{} may leave the program",
            scene.at().and_then(|a| scene.callee(a)).unwrap_or_default()
        ),
        _ => "the program ends here".to_owned(),
    };
    let headline = format!("{where_to} without giving back {name} from {callee}");
    let why = match callee.as_str() {
        "bpf_map_lookup_elem" => ": a look-up in a map of sockets takes a reference to the socket",
        _ => "",
    };
    let mut notes = vec![Note {
        insn: Some(held.insn),
        text: format!("acquired here, by {callee}{why}"),
    }];
    let closes = pair.map_or(&[][..], |p| p.closes);
    let place = branch_away(scene, at, closes);
    notes.extend(place.and_then(|p| branch_note(scene, p)));
    let mut help = vec![closing_help(closes, receiver)];
    if callee == "bpf_ringbuf_reserve_dynptr" {
        help.push(
            "a dynptr counts as reserved even if the call failed: discard it on that path too"
                .to_owned(),
        );
    }
    if matches!(scene.insn(), Some(Insn::Call(_))) {
        help.push(
            "a tail call that succeeds never returns: release everything before it".to_owned(),
        );
    }
    Explanation {
        headline: Some(headline),
        place: if matches!(scene.insn(), Some(Insn::Exit)) {
            place
        } else {
            None
        },
        notes,
        help,
        label: None,
    }
}

/// The variable whose address the call gets: the dynptr or iterator.
fn dynptr_argument<'a>(scene: &Scene<'a>, at: usize) -> Option<&'a str> {
    let arguments = super::cexpr::arguments(scene.expression(at)?);
    arguments
        .into_iter()
        .rev()
        .find_map(|a| a.strip_prefix('&'))
        .filter(|a| {
            // `&map` is an argument too.
            !scene.req.maps.iter().any(|m| m.name == *a)
        })
}

fn closing_help(closes: &[&str], receiver: Option<&str>) -> String {
    let r = receiver.unwrap_or("…");
    match closes {
        [] => "release it before every exit".to_owned(),
        [one] => format!("call `{}` before leaving on this path", call_text(one, r)),
        [first, second, ..] => format!(
            "call `{}` or `{}` before leaving on this path",
            call_text(first, r),
            call_text(second, r)
        ),
    }
}

/// A closing call as one writes it.
fn call_text(name: &str, argument: &str) -> String {
    match name {
        _ if name.contains("_dynptr") => format!("{name}(&{argument}, 0)"),
        _ if name.starts_with("bpf_ringbuf") => format!("{name}({argument}, 0)"),
        _ if name.ends_with("_drop_impl") => format!("{name}({argument}, NULL)"),
        _ if name.ends_with("_destroy") || name == "bpf_local_irq_restore" => {
            format!("{name}(&{argument})")
        }
        "bpf_rcu_read_unlock" | "bpf_preempt_enable" => format!("{name}()"),
        _ => format!("{name}({argument})"),
    }
}

/// The last branch of the path from which the other side could still close: there the path went wrong.
fn branch_away(scene: &Scene<'_>, from: usize, closes: &[&str]) -> Option<u32> {
    let steps = scene.path.steps;
    let start = steps.iter().rposition(|s| s.insn == from)?;
    let closing: Vec<bool> = (0..scene.path.program.len())
        .map(|at| {
            scene
                .callee(at)
                .is_some_and(|c| closes.contains(&c.as_str()))
        })
        .collect();
    for step in (start..steps.len().saturating_sub(1)).rev() {
        let Some(Insn::JumpIf { offset, .. }) = scene.path.insn(step) else {
            continue;
        };
        let at = steps[step].insn;
        let (next, target) = (at + 1, (at + 1).wrapping_add_signed(isize::from(*offset)));
        let taken = steps[step + 1].insn;
        let other = if taken == target { next } else { target };
        if reaches(scene, other, &closing) && !reaches(scene, taken, &closing) {
            return u32::try_from(at).ok();
        }
    }
    None
}

/// Can a closing call be reached from slot `from` within its function?
fn reaches(scene: &Scene<'_>, from: usize, closing: &[bool]) -> bool {
    let insns = &scene.path.program.insns;
    let mut seen = vec![false; insns.len()];
    let mut todo = vec![from];
    while let Some(at) = todo.pop() {
        if seen.get(at).copied().unwrap_or(true) {
            continue;
        }
        seen[at] = true;
        if closing[at] {
            return true;
        }
        let Ok(insn) = &insns[at] else { continue };
        let next = at + insn.slots();
        match insn {
            Insn::Exit => {}
            Insn::Jump { offset, .. } => todo.push(next.wrapping_add_signed(*offset as isize)),
            Insn::JumpIf { offset, .. } | Insn::MayGoto { offset } => {
                todo.extend([next, next.wrapping_add_signed(isize::from(*offset))]);
            }
            _ => todo.push(next),
        }
    }
    false
}

fn branch_note(scene: &Scene<'_>, place: u32) -> Option<Note> {
    let condition = scene.condition(place as usize)?;
    Some(Note {
        insn: Some(place),
        text: format!("this branch (`{condition}`) leaves without it; the other one gives it back"),
    })
}

/// The last call on the path that opened what is still open: slot, name, pair.
fn opened(
    scene: &Scene<'_>,
    fits: impl Fn(&str) -> bool,
) -> Option<(usize, String, &'static Pair)> {
    scene.path.steps.iter().rev().skip(1).find_map(|s| {
        if !matches!(
            scene.path.program.insns[s.insn],
            Ok(Insn::Call(Call::Helper(_) | Call::Kfunc { .. }))
        ) {
            return None;
        }
        let name = scene.callee(s.insn).filter(|n| fits(n))?;
        let pair = pair_of(&name)?;
        Some((s.insn, name, pair))
    })
}

/// The program ends inside of a section or with a lock.
fn open_section(scene: &Scene<'_>) -> Explanation {
    let Cause::Held { section, .. } = *scene.rejection.cause else {
        return Explanation::default();
    };
    let word = match section {
        Section::Lock => "spin_lock",
        Section::Irq => "irq_save",
        Section::Rcu => "rcu_read_lock",
        Section::Preempt => "preempt_disable",
    };
    let Some((at, name, pair)) = opened(scene, |n| n.contains(word)) else {
        return Explanation::default();
    };
    let place = branch_away(scene, at, pair.closes);
    let mut notes = vec![Note {
        insn: u32::try_from(at).ok(),
        text: format!("{name} is called here"),
    }];
    notes.extend(place.and_then(|p| branch_note(scene, p)));
    let argument = scene
        .expression(at)
        .map(super::cexpr::arguments)
        .and_then(|a| a.first().copied());
    let argument = argument.map(|a| {
        if name == "bpf_local_irq_save" {
            a.trim_start_matches('&')
        } else {
            a
        }
    });
    Explanation {
        headline: Some(format!(
            "the program ends while {}: {name} is not undone on this path",
            pair.what
        )),
        place,
        notes,
        help: vec![closing_help(pair.closes, argument)],
        label: None,
    }
}

/// A call that is not allowed under a lock.
fn under_lock(scene: &Scene<'_>) -> Explanation {
    let Some((at, name, pair)) = opened(scene, |n| n.contains("spin_lock")) else {
        return Explanation::default();
    };
    let callee = scene.at().and_then(|a| scene.callee(a)).unwrap_or_default();
    if callee.starts_with("bpf_list_") || callee.starts_with("bpf_rbtree_") {
        return other_lock(scene, at, &callee);
    }
    let again = callee == name;
    let headline = if again {
        format!(
            "{callee} takes a second lock while the first is held: only one may be held at a time"
        )
    } else {
        format!(
            "{callee} is called while a spin lock is held: nothing but {} may be",
            pair.closes.join(" or ")
        )
    };
    let help = if again {
        "give back the first lock before taking the second: copy what is needed into local variables in between; or protect both with one lock".to_owned()
    } else {
        format!(
            "call {callee} before {name} and keep its result in a variable, or after the unlock"
        )
    };
    Explanation {
        headline: Some(headline),
        notes: vec![Note {
            insn: u32::try_from(at).ok(),
            text: "the lock is taken here".to_owned(),
        }],
        help: vec![help],
        ..Explanation::default()
    }
}

/// A call that needs an RCU section.
fn needs_section(scene: &Scene<'_>) -> Explanation {
    let callee = scene.at().and_then(|a| scene.callee(a)).unwrap_or_default();
    if !matches!(
        *scene.rejection.cause,
        Cause::NeedsSection { .. } | Cause::OutlivesSection { .. }
    ) {
        return Explanation::default();
    }
    let stem = callee.trim_end_matches("_new").trim_end_matches("_next");
    let new = format!("{stem}_new");
    let steps = scene.path.steps.iter().rev();
    let began = steps
        .map(|s| s.insn)
        .find(|at| scene.callee(*at).is_some_and(|c| c == new));
    let (first, last) = match began {
        Some(_) => (new, format!("{stem}_destroy")),
        None => (callee.clone(), callee),
    };
    Explanation {
        headline: Some(format!("{first} is only allowed inside of an RCU section")),
        place: began.and_then(|at| u32::try_from(at).ok()),
        help: vec![
            format!("call `bpf_rcu_read_lock();` before {first} and `bpf_rcu_read_unlock();` after {last}, on every path"),
            "both are kfuncs: `extern void bpf_rcu_read_lock(void) __ksym;` `extern void bpf_rcu_read_unlock(void) __ksym;`".to_owned(),
        ],
        ..Explanation::default()
    }
}

/// A call that may sleep.
fn sleeps(scene: &Scene<'_>) -> Explanation {
    let callee = scene.at().and_then(|a| scene.callee(a)).unwrap_or_default();
    let mut help = Vec::new();
    if let Cause::Sleeps { section: None, .. } = *scene.rejection.cause {
        help.push("make the program sleepable: append `.s` to the section name (`SEC(\"uprobe.s\")`, `SEC(\"fentry.s/…\")`, `SEC(\"lsm.s/…\")`), where the hook allows it".to_owned());
    } else {
        help.push("move the call out of the section".to_owned());
    }
    let instead = match callee.as_str() {
        "bpf_copy_from_user" | "bpf_copy_from_user_str" => Some("bpf_probe_read_user"),
        _ => None,
    };
    help.extend(instead.map(|i| {
        format!("or use {i}, which does not sleep (it fails if the page is not in memory)")
    }));
    Explanation {
        help,
        ..Explanation::default()
    }
}

/// A list or tree whose own lock is not the one that is held.
fn other_lock(scene: &Scene<'_>, at: usize, callee: &str) -> Explanation {
    let first = |insn: usize| {
        let arguments = super::cexpr::arguments(scene.expression(insn)?);
        arguments.first().copied()
    };
    let head = scene.at().and_then(first).unwrap_or("the head");
    let held = first(at).unwrap_or("another lock");
    Explanation {
        headline: Some(format!(
            "{callee} works on `{head}`, but the lock that is held is `{held}`: it must be the one in the same value"
        )),
        notes: vec![Note {
            insn: u32::try_from(at).ok(),
            text: format!("`{held}` is taken here"),
        }],
        help: vec![
            "take the lock that lies beside the list or tree: in the same map value, allocated object or data section"
                .to_owned(),
        ],
        ..Explanation::default()
    }
}
