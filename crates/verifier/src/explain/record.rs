//! The failing path, walked again with recording on, so that accepted programs pay nothing.
//!
//! The walk is repeated twice: once for the tree of steps, which tells the path that failed, and once for the states on it.

use crate::exception::callback_start;
use crate::program::Program;
use crate::request::Request;
use crate::state::{Frame, Ref, State};
use crate::verifier::Verifier;
use crate::verify::steps;
use std::rc::Rc;

/// Longer walks are not repeated: they are refused for their length, or take too long to explain.
pub(super) const MAX_STEPS: u32 = 40_000;
/// States kept, the last ones of the path.
const MAX_STATES: usize = 20_000;
/// No step.
const NONE: u32 = u32::MAX;

/// What is recorded during a walk.
#[derive(Debug)]
pub(crate) struct History {
    /// For every step the one before it.
    parents: Vec<u32>,
    /// The step that the current path is at.
    at: u32,
    /// Slot of the last step.
    latest: Option<usize>,
    /// Steps whose states are wanted, ascending.
    wanted: Vec<u32>,
    steps: Vec<PathStep>,
    /// What each slot costs.
    costs: Vec<Cost>,
    /// What happens at a slot.
    watched: Option<Watched>,
}

/// What the walk did at a slot.
///
/// ```
/// use skep_abi::ProgType;
/// use skep_isa::asm::{NoFacts, assemble_insns};
/// use skep_verifier::{Request, costs};
///
/// // A loop of ten rounds.
/// let text = "r0 = 0\nr0 += 1\nif r0 != 10 goto -2\nexit";
/// let insns = assemble_insns(text, &NoFacts).map_err(|e| e[0].to_string())?;
/// let costs = costs(&Request::plain("count", ProgType::SocketFilter, &insns));
/// assert_eq!((costs[0].steps, costs[1].steps), (1, 10));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// How often the slot was walked.
    pub steps: u32,
    /// States kept there, to compare later ones with.
    pub states: u32,
    /// Paths that ended there, since a kept state covered them.
    pub pruned: u32,
}

/// The last two visits of a slot.
#[derive(Debug)]
struct Watched {
    slot: usize,
    /// Step and call frames of the last visit.
    last: Option<(u32, Vec<Rc<Frame>>)>,
    /// The visit before, on whatever path.
    before: Option<(u32, Vec<Rc<Frame>>)>,
}

/// Two visits of a slot.
pub(super) struct Visits {
    /// The program as the walk knew it.
    pub program: Program,
    /// The path to the later visit; its last step is that visit.
    pub steps: Vec<PathStep>,
    /// Call frames at the visit before.
    pub before: Vec<Rc<Frame>>,
}

/// A step of the failing path, with the state before it.
#[derive(Clone, Debug)]
pub(super) struct PathStep {
    /// Slot of the instruction.
    pub insn: usize,
    /// It follows the step before; otherwise a path begins here, or one that waited goes on.
    pub goes_on: bool,
    /// Slot that was walked just before, on whatever path.
    pub after: Option<usize>,
    /// Call frames.
    pub frames: Vec<Rc<Frame>>,
    /// What was acquired.
    pub refs: Vec<Ref>,
}

impl History {
    fn new(wanted: Vec<u32>, slots: usize) -> Self {
        Self {
            costs: vec![Cost::default(); slots],
            watched: None,
            parents: Vec::new(),
            at: NONE,
            latest: None,
            wanted,
            steps: Vec::new(),
        }
    }

    /// The walk starts at the entry of a function.
    pub(crate) fn begin(&mut self) {
        self.at = NONE;
        self.latest = None;
    }

    /// The walk is at `insn` with this state.
    pub(crate) fn step(&mut self, insn: usize, state: &State) {
        self.costs[insn].steps += 1;
        let serial = self.parents.len() as u32;
        if serial >= MAX_STEPS {
            return;
        }
        let after = self.latest.replace(insn);
        let goes_on = self.at.wrapping_add(1) == serial && serial > 0;
        self.parents.push(self.at);
        self.at = serial;
        if let Some(watched) = self.watched.as_mut().filter(|w| w.slot == insn) {
            watched.before = watched.last.replace((serial, state.frames.clone()));
        }
        if self.wanted.get(self.steps.len()) == Some(&serial) {
            self.steps.push(PathStep {
                insn,
                goes_on,
                after,
                frames: state.frames.clone(),
                refs: state.refs.clone(),
            });
        }
    }

    /// A kept state covers this path.
    pub(crate) fn pruned(&mut self, insn: usize) {
        self.costs[insn].pruned += 1;
    }

    /// A state is kept.
    pub(crate) fn kept(&mut self, insn: usize) {
        self.costs[insn].states += 1;
    }

    /// The step that a waiting path will go on from.
    pub(crate) fn here(&self) -> u32 {
        self.at
    }

    /// The walk goes on after step `at`.
    pub(crate) fn resume(&mut self, at: u32) {
        self.at = at;
    }

    /// Serial numbers of the current path's last steps, ascending.
    fn path(&self) -> Vec<u32> {
        self.path_to(self.at)
    }

    /// Serial numbers of the last steps of the path that ends with step `at`, ascending.
    fn path_to(&self, mut at: u32) -> Vec<u32> {
        let mut path = Vec::new();
        while let Some(before) = self.parents.get(at as usize)
            && path.len() < MAX_STATES
        {
            path.push(at);
            at = *before;
        }
        path.reverse();
        path
    }
}

/// Steps of a log of all paths.
const MAX_LOGGED: u32 = 4000;

/// The first steps of the whole walk, path after path.
pub(super) fn all_paths(
    req: &Request<'_>,
    insns_processed: u32,
) -> Option<(Program, Vec<PathStep>)> {
    let target = crate::target::name_of(req);
    let program = Program::new(req.insns, callback_start(req)).ok()?;
    let mut v = Verifier::new(req, program, &target);
    v.step_limit = v.step_limit.min(MAX_LOGGED.max(1));
    let wanted = (0..insns_processed.min(MAX_LOGGED)).collect();
    v.history = Some(Box::new(History::new(wanted, v.p.len())));
    let refused = steps(&mut v, None);
    drop(refused); // it is known why
    let history = v.history.take()?;
    Some((v.p, history.steps))
}

/// The failing path of a refused program, and the program as the walk knew it.
///
/// The path is empty for programs that were refused before or after the walk, or after too many steps.
pub(super) fn failing_path(
    req: &Request<'_>,
    insns_processed: u32,
    known_errors: &[u32],
) -> Option<(Program, Vec<PathStep>)> {
    let target = crate::target::name_of(req);
    let repeat = |wanted: Vec<u32>| {
        let mut v = Verifier::new(
            req,
            Program::new(req.insns, callback_start(req)).ok()?,
            &target,
        );
        let is_long = insns_processed > MAX_STEPS;
        if is_long {
            let facts = v.check_func_info();
            drop(facts); // names alone are wanted
            return Some((v.p, History::new(Vec::new(), 0)));
        }
        v.known_errors = known_errors.to_vec();
        v.history = Some(Box::new(History::new(wanted, v.p.len())));
        let refused = steps(&mut v, None);
        drop(refused); // it is known why
        let history = v.history.take()?;
        Some((v.p, *history))
    };
    let (program, tree) = repeat(Vec::new())?;
    let path = tree.path();
    if path.is_empty() {
        return Some((program, Vec::new()));
    }
    let (program, history) = repeat(path)?;
    Some((program, history.steps))
}

/// The last two visits of `slot` in a walk of at most `limit` steps.
pub(super) fn visits(req: &Request<'_>, slot: usize, limit: u32) -> Option<Visits> {
    let target = crate::target::name_of(req);
    let walk = |wanted: Vec<u32>| {
        let mut v = Verifier::new(
            req,
            Program::new(req.insns, callback_start(req)).ok()?,
            &target,
        );
        v.step_limit = v.step_limit.min(limit);
        let mut history = History::new(wanted, v.p.len());
        history.watched = Some(Watched {
            slot,
            last: None,
            before: None,
        });
        v.history = Some(Box::new(history));
        let verdict = steps(&mut v, None);
        drop(verdict); // the visits alone are wanted
        let history = v.history.take()?;
        Some((v.p, history))
    };
    let (_, mut tree) = walk(Vec::new())?;
    let watched = tree.watched.take()?;
    let (last, _) = watched.last?;
    let (_, before) = watched.before?;
    let (program, history) = walk(tree.path_to(last))?;
    Some(Visits {
        program,
        steps: history.steps,
        before,
    })
}

/// What each slot costs in a walk of at most `limit` steps, and the program.
pub(super) fn costs(req: &Request<'_>, limit: u32) -> Option<(Program, Vec<Cost>)> {
    let target = crate::target::name_of(req);
    let mut v = Verifier::new(
        req,
        Program::new(req.insns, callback_start(req)).ok()?,
        &target,
    );
    v.step_limit = v.step_limit.min(limit);
    v.history = Some(Box::new(History::new(Vec::new(), v.p.len())));
    let verdict = steps(&mut v, None);
    drop(verdict); // the cost alone is wanted
    let history = v.history.take()?;
    Some((v.p, history.costs))
}
