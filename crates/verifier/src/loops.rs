//! Loops that converge: paths that came back to a state of their own loop.
//!
//! When a path is covered by a state whose loop is still being explored, precision found later in that loop must still reach the path.
//! Such back edges are remembered per visit of the loop and settled when the loop has been left by all paths.

use crate::state::{State, StateId};
use crate::verifier::Verifier;

/// One visit of a loop: the same loop under the same chain of call sites.
#[derive(Debug)]
pub(crate) struct Visit {
    /// Call sites of the outer frames, and the loop's number.
    key: (Vec<u32>, u32),
    /// The first state of the visit; the loop is left when it is fully explored.
    entry: Option<StateId>,
    /// Paths that were covered by a state of the loop.
    pub backedges: Vec<Backedge>,
}

/// A path that was covered by `equal`.
#[derive(Debug)]
pub(crate) struct Backedge {
    /// Where it was.
    pub state: State,
    /// The state that covered it.
    pub equal: StateId,
}

/// All visits.
#[derive(Debug, Default)]
pub(crate) struct Loops {
    pub visits: Vec<Visit>,
}

/// Rounds of propagation after which everything is marked precise instead.
const MAX_BACKEDGE_ROUNDS: usize = 64;

impl Verifier<'_> {
    /// The visit that `state` belongs to, if its innermost loop has a number. Frames outside of the innermost loop tell visits apart.
    fn visit_key(&self, state: &State) -> Option<(Vec<u32>, u32)> {
        let mut sites = Vec::new();
        for i in (0..state.frames.len()).rev() {
            let insn = if i + 1 == state.frames.len() {
                state.insn
            } else {
                state.frames[i + 1].callsite
            };
            let scc = self.p.marks[insn as usize].scc;
            if scc != 0 {
                sites.extend(state.frames[1..=i].iter().map(|f| f.callsite));
                return Some((sites, scc));
            }
        }
        None
    }

    /// A state is kept: enter the visit of its loop. Returns the visit.
    pub(crate) fn enter_loop(&mut self, state: &State) -> Option<usize> {
        if !self.has_converging_loops {
            return None;
        }
        let key = self.visit_key(state)?;
        let found = self.loops.visits.iter().position(|v| v.key == key);
        Some(found.unwrap_or_else(|| {
            self.loops.visits.push(Visit {
                key,
                entry: None,
                backedges: Vec::new(),
            });
            self.loops.visits.len() - 1
        }))
    }

    /// The kept state `id` is the first of its visit unless another one is.
    pub(crate) fn set_loop_entry(&mut self, id: StateId) {
        if let Some(v) = self.kept[id].visit {
            self.loops.visits[v].entry.get_or_insert(id);
        }
    }

    /// Does the visit of this state wait for back edges to be settled?
    pub(crate) fn has_open_backedges(&self, id: StateId) -> bool {
        self.kept[id]
            .visit
            .is_some_and(|v| !self.loops.visits[v].backedges.is_empty())
    }

    /// The current state was covered by `equal`, a state of a loop that is still open.
    pub(crate) fn add_backedge(&mut self, equal: StateId) {
        let Some(v) = self.kept[equal].visit else {
            return;
        };
        let mut state = self.cur.clone();
        state.insn = self.insn as u32;
        // The kept states this path came from are states of a loop visit, which are not freed.
        self.loops.visits[v]
            .backedges
            .push(Backedge { state, equal });
    }

    /// All paths from the kept state `id` are finished: if its loop was entered there, the loop is left.
    pub(crate) fn leave_loop(&mut self, id: StateId) {
        let Some(v) = self.kept[id].visit else { return };
        if self.loops.visits[v].entry != Some(id) {
            return;
        }
        self.loops.visits[v].entry = None;
        self.settle_backedges(v);
        self.loops.visits[v].backedges.clear();
    }

    fn settle_backedges(&mut self, v: usize) {
        for round in 0.. {
            let mut changed = false;
            for e in 0..self.loops.visits[v].backedges.len() {
                let equal = self.loops.visits[v].backedges[e].equal;
                changed |= self.propagate_precision_backedge(v, e, equal);
            }
            if !changed {
                return;
            }
            if round == MAX_BACKEDGE_ROUNDS {
                for e in 0..self.loops.visits[v].backedges.len() {
                    self.mark_all_precise_backedge(v, e);
                }
                return;
            }
        }
    }
}
