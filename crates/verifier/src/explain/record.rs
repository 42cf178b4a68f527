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
const MAX_STEPS: u32 = 200_000;
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
    /// Steps whose states are wanted, ascending.
    wanted: Vec<u32>,
    steps: Vec<PathStep>,
}

/// A step of the failing path, with the state before it.
#[derive(Clone, Debug)]
pub(super) struct PathStep {
    /// Slot of the instruction.
    pub insn: usize,
    /// Call frames.
    pub frames: Vec<Rc<Frame>>,
    /// What was acquired.
    pub refs: Vec<Ref>,
}

impl History {
    fn new(wanted: Vec<u32>) -> Self {
        Self {
            parents: Vec::new(),
            at: NONE,
            wanted,
            steps: Vec::new(),
        }
    }

    /// The walk starts at the entry of a function.
    pub(crate) fn begin(&mut self) {
        self.at = NONE;
    }

    /// The walk is at `insn` with this state.
    pub(crate) fn step(&mut self, insn: usize, state: &State) {
        let serial = self.parents.len() as u32;
        if serial >= MAX_STEPS {
            return;
        }
        self.parents.push(self.at);
        self.at = serial;
        if self.wanted.get(self.steps.len()) == Some(&serial) {
            self.steps.push(PathStep {
                insn,
                frames: state.frames.clone(),
                refs: state.refs.clone(),
            });
        }
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
        let mut path = Vec::new();
        let mut at = self.at;
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

/// The failing path of a refused program, and the program as the walk knew it.
///
/// The path is empty for programs that were refused before or after the walk, or after too many steps.
pub(super) fn failing_path(
    req: &Request<'_>,
    insns_processed: u32,
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
            return Some((v.p, History::new(Vec::new())));
        }
        v.history = Some(Box::new(History::new(wanted)));
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
