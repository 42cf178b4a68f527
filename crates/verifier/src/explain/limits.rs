//! Programs that are too much to explore.

use super::scene::Scene;
use super::{Explanation, Note};
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

/// Too many paths.
fn too_large(_scene: &Scene<'_>) -> Explanation {
    Explanation {
        help: vec![
            "`skep check --stats` shows the lines that cost most".to_owned(),
            "paths multiply where a branch leaves a value that is known differently on each side: move such code into a global function (verified once), a loop by bpf_loop() or bpf_for(), or hide the value with `asm volatile(\"\" : \"+r\"(x));` after the branch".to_owned(),
        ],
        ..Explanation::default()
    }
}
