//! Kept states: where paths were when they passed a prune point.

use crate::state::{State, StateId};
use std::ops::{Index, IndexMut};

/// States alive at one time: a bound on memory, about a gigabyte. The kernel has none but its memory (ENOMEM). Within the million
/// steps of a walk a path comes to one in eight, so only loads with `BPF_F_TEST_STATE_FREQ` meet it.
const MAX_ALIVE: u32 = 1 << 17;

/// A state that later paths are compared with.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The state.
    pub state: State,
    /// Paths from it that are not finished.
    pub branches: u32,
    /// How often it covered another state.
    pub hits: u32,
    /// How often it did not.
    pub misses: u32,
    /// Dead registers and slots are forgotten.
    pub cleaned: bool,
    /// No longer compared with; freed when nothing refers to it.
    pub retired: bool,
    /// Index of its loop visit, if its instruction is in a loop.
    pub visit: Option<usize>,
}

/// All kept states, by slot and by id.
#[derive(Debug, Default)]
pub(crate) struct Store {
    states: Vec<Option<Box<Kept>>>,
    free: Vec<StateId>,
    /// Ids of the states at each slot, oldest first.
    lists: Vec<Vec<StateId>>,
    /// States made.
    pub total: u32,
    /// States alive.
    pub alive: u32,
    /// Most states alive at one time.
    pub peak: u32,
}

impl Store {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            lists: vec![Vec::new(); slots],
            ..Self::default()
        }
    }

    /// True if no more states may be kept.
    pub(crate) fn is_full(&self) -> bool {
        self.alive >= MAX_ALIVE
    }

    /// Keeps `kept` at slot `insn`.
    pub(crate) fn add(&mut self, insn: usize, kept: Kept) -> StateId {
        self.total += 1;
        self.alive += 1;
        self.peak = self.peak.max(self.alive);
        let id = self.free.pop().unwrap_or_else(|| {
            self.states.push(None);
            (self.states.len() - 1) as StateId
        });
        self.states[id as usize] = Some(Box::new(kept));
        self.lists[insn].push(id);
        id
    }

    /// Ids at slot `insn`, oldest first.
    pub(crate) fn at(&self, insn: usize) -> &[StateId] {
        &self.lists[insn]
    }

    /// Takes a state out of its list; it is freed once no path refers to it.
    pub(crate) fn retire(&mut self, insn: usize, id: StateId) {
        self.lists[insn].retain(|&i| i != id);
        self[id].retired = true;
        self.free_if_unused(id);
    }

    /// Frees a retired state without unfinished paths.
    pub(crate) fn free_if_unused(&mut self, id: StateId) {
        let k = &self[id];
        if k.retired && k.branches == 0 && k.visit.is_none() {
            self.states[id as usize] = None;
            self.free.push(id);
            self.alive -= 1;
        }
    }

    /// Frees everything.
    pub(crate) fn clear(&mut self) {
        self.states.clear();
        self.free.clear();
        self.lists.iter_mut().for_each(Vec::clear);
        self.alive = 0;
    }
}

impl Index<StateId> for Store {
    type Output = Kept;
    fn index(&self, id: StateId) -> &Kept {
        match &self.states[id as usize] {
            Some(k) => k,
            None => unreachable!("a freed state is not referred to"),
        }
    }
}

impl IndexMut<StateId> for Store {
    fn index_mut(&mut self, id: StateId) -> &mut Kept {
        match self.states[id as usize].as_mut() {
            Some(k) => k,
            None => unreachable!("a freed state is not referred to"),
        }
    }
}
