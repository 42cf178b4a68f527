//! Programs that are too much to explore.

use super::record;
use super::scene::{Scene, range};
use super::slice::{Path, What};
use super::{Explanation, Note};
use crate::reg::Reg;
use skep_isa::Insn;

/// Explains a limit.
pub(super) fn explain(scene: &Scene<'_>) -> Explanation {
    match scene.rejection.code {
        "C0101" => no_progress(scene),
        "C0102" | "C0103" => too_large(scene),
        _ => Explanation::default(),
    }
}

/// A loop that comes back to the same state.
fn no_progress(scene: &Scene<'_>) -> Explanation {
    let steps = scene.path.steps;
    let Some(last) = steps.len().checked_sub(1) else {
        return Explanation::default();
    };
    let again = steps[last].insn;
    let first = steps[..last]
        .iter()
        .rposition(|s| s.insn == again)
        .unwrap_or(0);
    let mut notes: Vec<Note> = Vec::new();
    for step in first..last {
        if !matches!(scene.path.insn(step), Some(Insn::JumpIf { .. })) {
            continue;
        }
        if let Some(condition) = scene.slot(step).and_then(|s| scene.condition(s as usize)) {
            notes.push(scene.note(
                step,
                format!("`{condition}` is tested again with nothing changed since the last round"),
            ));
        }
    }
    if notes.is_empty() {
        let into = (0..first)
            .rev()
            .find(|s| matches!(scene.path.insn(*s), Some(Insn::JumpIf { .. })));
        let condition = into.and_then(|s| scene.condition(scene.slot(s)? as usize));
        notes.extend(into.zip(condition).map(|(step, condition)| {
            scene.note(
                step,
                format!("`{condition}` leads into a round that changes nothing it tests"),
            )
        }));
    }
    notes.sort_by_key(|n| n.insn);
    notes.dedup();
    Explanation {
        headline: Some("on this path the loop comes back with every value as it was: it would never end".to_owned()),
        notes,
        help: vec![
            "change what the loop tests on every path through it: a `continue` must not skip the step of the counter (a `for` loop does the step always)".to_owned(),
            "a loop whose end the verifier cannot see can be written with bpf_for(), bpf_loop() or bpf_repeat(), which end by themselves".to_owned(),
        ],
        ..Explanation::default()
    }
}

/// Steps of the walk that are looked at to find where paths multiply.
const SAMPLE_STEPS: u32 = 20_000;
/// Steps that are walked, twice a line, to compare paths.
const VISIT_STEPS: u32 = 5_000;
/// Lines and values named.
const LINES: usize = 3;

/// Too many paths.
fn too_large(scene: &Scene<'_>) -> Explanation {
    let lines = branching_lines(scene);
    let total: u32 = lines.iter().map(|l| l.steps).sum();
    let notes = lines.iter().take(LINES).map(|l| {
        let condition = scene
            .condition(l.first)
            .map_or_else(String::new, |c| format!(": `{c}`"));
        let states = format!("{} states kept, {} paths pruned", l.states, l.pruned);
        let share = u64::from(l.steps) * 100 / u64::from(total.max(1));
        Note {
            insn: u32::try_from(l.first).ok(),
            text: format!("{share} % of the branches walked are here{condition} ({states})"),
        }
    });
    let mut notes: Vec<Note> = notes.collect();
    let mut named = lines.iter().take(LINES);
    notes.extend(named.find_map(|l| changing(scene, l.most.0)));
    Explanation {
        headline: Some(format!("{}: the paths multiply", scene.rejection.cause)),
        place: lines.first().and_then(|l| u32::try_from(l.first).ok()),
        notes,
        help: vec![
            "paths multiply where a branch leaves a value that is known differently on each side (a tested bit, a bound, a counter), so that no path can be pruned: move such code into a global function (verified once, on its own), or write the loop with bpf_loop() or bpf_for()".to_owned(),
            "where the value does not matter later, make the verifier forget it after the branch: `asm volatile(\"\" : \"+r\"(x));`".to_owned(),
            "`skep check --stats` lists what every line costs".to_owned(),
        ],
        label: None,
    }
}

/// Values that differ between the last two paths to a slot, so that neither covers the other.
fn changing(scene: &Scene<'_>, slot: usize) -> Option<Note> {
    let visits = record::visits(scene.req, slot, VISIT_STEPS)?;
    let path = Path {
        program: &visits.program,
        steps: &visits.steps,
    };
    let end = visits.steps.len().checked_sub(1)?;
    let (old, new) = (visits.before.last()?, visits.steps[end].frames.last()?);
    let live = visits.program.marks[slot].live_regs;
    let registers = (0..10).filter(|r| live & (1 << r) != 0).filter_map(|r| {
        let text = difference(&old.regs[r], &new.regs[r])?;
        let name = source_name(scene, &path, end, r).unwrap_or_else(|| format!("r{r}"));
        Some(format!("{name} ({text})"))
    });
    let slots = old.stack.iter().zip(new.stack.iter()).enumerate();
    let slots = slots.filter_map(|(s, (old, new))| {
        if !old.is_spilled_scalar() || !new.is_spilled_scalar() {
            return None;
        }
        let text = difference(&old.reg, &new.reg)?;
        Some(format!("the stack at byte -{} ({text})", 8 * (s + 1)))
    });
    let values: Vec<String> = registers.chain(slots).take(LINES).collect();
    (!values.is_empty()).then(|| Note {
        insn: u32::try_from(slot).ok(),
        text: format!(
            "two paths that come here know different things, so that neither stands for the other: {}",
            values.join("; ")
        ),
    })
}

/// What two paths know of a number, if that is not the same.
fn difference(old: &Reg, new: &Reg) -> Option<String> {
    if !old.is_scalar() || !new.is_scalar() || old.var == new.var {
        return None;
    }
    let (one, other) = (range(&old.var), range(&new.var));
    if one != other {
        return Some(format!("{one} on one, {other} on the other"));
    }
    let (old, new) = (old.var.bits, new.var.bits);
    Some(format!(
        "known bits {:#x} of {:#x} on one, {:#x} of {:#x} on the other",
        old.value, !old.mask, new.value, !new.mask
    ))
}

/// What the source calls a register: the variable that its last value was assigned to.
fn source_name(scene: &Scene<'_>, path: &Path<'_>, step: usize, register: usize) -> Option<String> {
    let life = path.life(step, register);
    let made = life
        .iter()
        .find(|e| matches!(e.what, What::Made | What::Computed { .. }))?;
    let at = path.steps.get(made.step)?.insn;
    Some(format!("`{}`", scene.receiver(at)?))
}

/// What the branches of a source line cost together.
struct Branching {
    /// First slot of a branch of this line.
    first: usize,
    /// The branch that is walked most, and how often.
    most: (usize, u32),
    number: u32,
    steps: u32,
    states: u32,
    pruned: u32,
}

/// Source lines with branches, the most walked first.
fn branching_lines(scene: &Scene<'_>) -> Vec<Branching> {
    let Some((program, costs)) = record::costs(scene.req, SAMPLE_STEPS) else {
        return Vec::new();
    };
    let mut lines: Vec<Branching> = Vec::new();
    for (at, cost) in costs.iter().enumerate() {
        let branches = matches!(
            program.insns[at],
            Ok(Insn::JumpIf { .. } | Insn::MayGoto { .. })
        );
        let Some(line) = scene.line(at) else { continue };
        let steps = if branches { cost.steps } else { 0 };
        match lines.iter_mut().find(|l| l.number == line.number) {
            Some(known) => {
                if known.steps == 0 && branches {
                    known.first = at;
                }
                known.steps += steps;
                if steps > known.most.1 {
                    known.most = (at, steps);
                }
                known.states += cost.states;
                known.pruned += cost.pruned;
            }
            None => lines.push(Branching {
                first: at,
                most: (at, steps),
                number: line.number,
                steps,
                states: cost.states,
                pruned: cost.pruned,
            }),
        }
    }
    lines.retain(|l| l.steps > 0);
    // Of lines that cost about the same, the first one splits the paths that the others repeat.
    let total: u32 = lines.iter().map(|l| l.steps).sum();
    let twentieths = |l: &Branching| u64::from(l.steps) * 20 / u64::from(total.max(1));
    lines.sort_by_key(|l| (std::cmp::Reverse(twentieths(l).div_ceil(2)), l.number));
    lines
}
