//! A refusal in the form of the kernel's log, for tools that read that.
//!
//! The lines are those that Linux 6.18 writes: the source where it changes, the instruction, and behind it what it read and
//! wrote. `cargo xtask log-compare` says how many are equal.

mod insn;
mod value;
mod words;

use super::locals::NoLocals;
use super::record::{self, Cost, PathStep};
use super::scene::Scene;
use crate::rejection::Rejection;
use crate::request::Request;
use crate::state::FrameKind;
use skep_isa::{Call, Insn};
use value::{State, Touched};

/// What a log shows.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{LogLevel, Request, kernel_log, verify};
///
/// let insns = assemble_insns("r0 = r3\nexit", &NoFacts).map_err(|e| e[0].to_string())?;
/// let request = Request::plain("pass", ProgType::Xdp, &insns);
/// let rejection = verify(&request).unwrap_err();
/// let log = kernel_log(&request, &rejection, LogLevel::Path);
/// assert!(log.ends_with("0: (bf) r0 = r3\nR3 !read_ok\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    /// The path that fails (level 1).
    Path,
    /// Every path (level 2).
    Paths,
    /// The statistics alone (level 4).
    Statistics,
}

/// Column of what an instruction read and wrote.
const COLUMN: usize = 38;
/// Texts that reach beyond it end at a multiple of this.
const TAB: usize = 8;

/// The log without the line of statistics.
#[must_use]
pub fn kernel_log(req: &Request<'_>, rejection: &Rejection, level: LogLevel) -> String {
    let mut log = Log::default();
    let processed = rejection.insns_processed;
    let walked = match level {
        LogLevel::Statistics => return String::new(),
        LogLevel::Path => record::failing_path(req, processed, &[]),
        LogLevel::Paths => record::all_paths(req, processed),
    };
    let Some((program, steps)) = walked else {
        return format!("{}\n", words::before_walk(rejection));
    };
    let scene = Scene::new(req, rejection, (&program, &steps), &NoLocals);
    for (i, step) in steps.iter().enumerate() {
        log.step(&scene, i, step);
    }
    log.end_line();
    for line in words::lines(&scene) {
        log.push(&line);
        log.end_line();
    }
    log.text
}

/// The last line of a log; `costs` are those of the walk.
#[must_use]
pub fn statistics(rejection: &Rejection, costs: &[Cost]) -> String {
    let total: u64 = costs.iter().map(|c| u64::from(c.states)).sum();
    let most = costs.iter().map(|c| c.states).max().unwrap_or(0);
    format!(
        "processed {} insns (limit 1000000) max_states_per_insn {} total_states {total} peak_states {total} mark_read 0",
        rejection.insns_processed,
        if most > 1 { most } else { 0 },
    )
}

/// A log under construction.
#[derive(Default)]
struct Log {
    text: String,
}

impl Log {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn end_line(&mut self) {
        while self.text.ends_with(' ') {
            self.text.pop();
        }
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// Writes what is known before step `i`, and its instruction.
    fn step(&mut self, scene: &Scene<'_>, i: usize, step: &PathStep) {
        let Some(Ok(insn)) = scene.path.program.insns.get(step.insn) else {
            return;
        };
        let before = i.checked_sub(1).map(|b| &scene.path.steps[b]);
        self.state(scene, before, step);
        self.source(scene, step);
        let code = scene.path.program.slots[step.insn].code;
        let text = insn::text(scene, step.insn, insn);
        self.push(&format!("{}: ({code:02x}) {text}", step.insn));
    }

    /// What is known before `step`: all of it where a path begins or goes on, else what the instruction before touched.
    fn state(&mut self, scene: &Scene<'_>, before: Option<&PathStep>, step: &PathStep) {
        let state = State { scene, step };
        let Some(before) = before.filter(|_| step.goes_on) else {
            if self.text.is_empty() || before.is_none() {
                self.beginning(scene, step);
            }
            let gap = if self.text.is_empty() || self.text.ends_with('\n') {
                ""
            } else {
                " "
            };
            self.push(&format!("{gap}{}: {}", step.insn, state.all()));
            self.end_line();
            return;
        };
        let (old, new) = (before.frames.len(), step.frames.len());
        let called = matches!(
            scene.path.insn_at(before.insn),
            Some(Insn::Call(Call::Subprog(_)))
        );
        if new > old && called {
            self.end_line();
            let caller = state.frame(old - 1, &Touched::All);
            let callee = state.frame(new - 1, &Touched::All);
            self.push(&format!("caller:\n {caller}\ncallee:\n {callee}\n"));
            return;
        }
        if new < old {
            self.end_line();
            let callee = State {
                scene,
                step: before,
            }
            .frame(old - 1, &Touched::All);
            let caller = state.frame(new - 1, &Touched::All);
            let at = step.insn;
            self.push(&format!(
                "returning from callee:\n {callee}\nto caller at {at}:\n {caller}\n"
            ));
            return;
        }
        let touched = Touched::by(scene.path.insn_at(before.insn), before);
        if touched.is_nothing() {
            return self.end_line();
        }
        let used = self.text.rsplit('\n').next().map_or(0, str::len);
        let wanted = COLUMN.max((used + 1 + TAB / 2).next_multiple_of(TAB) - 2);
        let gap = " ".repeat(wanted.saturating_sub(used));
        let what = state.frame(new - 1, &touched);
        self.push(&format!("{gap}; {what}"));
        self.end_line();
    }

    /// Says which global function is verified from here on.
    fn beginning(&mut self, scene: &Scene<'_>, step: &PathStep) {
        let program = scene.path.program;
        let Some(index) = program.func_at(step.insn).filter(|f| *f > 0) else {
            return;
        };
        if step.frames.len() == 1 && program.funcs[index].start == step.insn {
            let name = program.funcs[index].name.as_deref().unwrap_or_default();
            self.push(&format!("Validating {name}() func#{index}...\n"));
        }
    }

    /// The source line, where it is another than before.
    fn source(&mut self, scene: &Scene<'_>, step: &PathStep) {
        self.end_line();
        let place = |at: usize| Some((scene.file(at)?, scene.line(at)?.number));
        let Some(line) = scene.line(step.insn) else {
            return;
        };
        let here = place(step.insn);
        if here != step.after.and_then(place) {
            let file = scene.file(step.insn).unwrap_or_default();
            self.push(&format!(
                "; {} @ {file}:{}\n",
                line.text.trim(),
                line.number
            ));
        }
    }
}

/// A path that a callback is on.
fn in_callback(step: &PathStep) -> bool {
    step.frames
        .iter()
        .any(|f| matches!(f.kind, FrameKind::Callback { .. }))
}
