//! Which stack slots may still be read: a data flow over the reads and writes seen so far.
//!
//! Each chain of call sites has an instance of its own. Reads of an outer frame's slots are passed on to the call in
//! the outer instance. A kept state that is fully explored forgets the slots nobody reads, which makes it cover more.

use crate::cfg::successors;
use crate::program::Program;
use std::collections::HashMap;

/// Reads and writes of one frame's slots by one instruction.
#[derive(Clone, Copy, Debug)]
struct Access {
    /// Some visit reads the slot.
    may_read: u64,
    /// Every visit overwrites the slot whole.
    must_write: u64,
    /// The slot may be read from here on.
    live: u64,
}

impl Access {
    const NONE: Self = Self {
        may_read: 0,
        must_write: u64::MAX,
        live: 0,
    };
}

/// Accesses of a function under one chain of call sites, for each frame of the chain.
#[derive(Debug)]
struct Instance {
    start: usize,
    end: usize,
    /// Instance of the caller and slot of the call.
    outer: Option<(usize, usize)>,
    /// One table a frame, made when the frame is first touched.
    frames: Vec<Option<Vec<Access>>>,
    dirty: bool,
}

/// All instances.
#[derive(Debug, Default)]
pub(crate) struct LiveStack {
    instances: Vec<Instance>,
    /// (outer instance + 1 or 0, callsite, subprog) → instance
    index: HashMap<(usize, u32, u32), usize>,
    /// Masks written by the instruction being walked, a frame.
    writes: [u64; 8],
}

impl LiveStack {
    /// The instance of the frame that `subprog` gets when it is called at `callsite` from `outer`.
    pub(crate) fn instance(
        &mut self,
        p: &Program,
        outer: Option<usize>,
        callsite: u32,
        subprog: u32,
    ) -> usize {
        let key = (outer.map_or(0, |o| o + 1), callsite, subprog);
        if let Some(&i) = self.index.get(&key) {
            return i;
        }
        let f = &p.funcs[subprog as usize];
        let depth = outer.map_or(1, |o| self.instances[o].frames.len() + 1);
        let frames = (0..depth).map(|_| None).collect();
        let outer = outer.map(|o| (o, callsite as usize));
        self.instances.push(Instance {
            start: f.start,
            end: f.end,
            outer,
            frames,
            dirty: false,
        });
        self.index.insert(key, self.instances.len() - 1);
        self.instances.len() - 1
    }

    /// Instruction `insn` reads `slots` of frame `frame`.
    pub(crate) fn read(&mut self, instance: usize, frame: usize, insn: usize, slots: u64) {
        self.instances[instance].read(frame, insn, slots);
    }

    /// The instruction being walked overwrites these slots whole.
    pub(crate) fn write(&mut self, frame: usize, slots: u64) {
        self.writes[frame] |= slots;
    }

    /// An instruction begins.
    pub(crate) fn begin(&mut self) {
        self.writes = [0; 8];
    }

    /// The instruction is done: what it did not overwrite this time is not always overwritten.
    pub(crate) fn commit(&mut self, instance: usize, insn: usize) {
        let inst = &mut self.instances[instance];
        for frame in 0..inst.frames.len() {
            if self.writes[frame] == 0 && inst.frames[frame].is_none() {
                continue;
            }
            let access = inst.access(frame, insn);
            let must_write = access.must_write & self.writes[frame];
            if must_write != access.must_write {
                access.must_write = must_write;
                inst.dirty = true;
            }
        }
    }

    /// Recomputes liveness where reads or writes are new, inner instances before outer ones.
    pub(crate) fn update(&mut self, p: &Program) {
        // An instance is made after its outer one.
        for i in (0..self.instances.len()).rev() {
            if !self.instances[i].dirty {
                continue;
            }
            self.instances[i].flow(p);
            let Some((outer, callsite)) = self.instances[i].outer else {
                continue;
            };
            let start = self.instances[i].start;
            for frame in 0..self.instances[outer].frames.len() {
                let live = self.instances[i].live_before(frame, start);
                if live != 0 {
                    self.instances[outer].read(frame, callsite, live);
                }
            }
        }
    }

    /// Slots of frame `frame` that may be read when the chain `instances` (outermost first) continues at `insn`;
    /// `callsites[i]` is the call in frame `i`.
    pub(crate) fn live(
        &self,
        p: &Program,
        instances: &[usize],
        callsites: &[usize],
        insn: usize,
        frame: usize,
    ) -> u64 {
        let Some((&inner, outer)) = instances.split_last() else {
            return u64::MAX;
        };
        let mut live = self.instances[inner].live_before(frame, insn);
        for (i, &instance) in outer.iter().enumerate().skip(frame) {
            let call = callsites[i];
            let resume = if p.marks[call].calls_callback {
                call
            } else {
                call + 1
            };
            live |= self.instances[instance].live_before(frame, resume);
        }
        live
    }
}

impl Instance {
    fn access(&mut self, frame: usize, insn: usize) -> &mut Access {
        let len = self.end - self.start;
        &mut self.frames[frame].get_or_insert_with(|| vec![Access::NONE; len])[insn - self.start]
    }

    fn read(&mut self, frame: usize, insn: usize, slots: u64) {
        let access = self.access(frame, insn);
        if access.may_read | slots != access.may_read {
            access.may_read |= slots;
            self.dirty = true;
        }
    }

    fn live_before(&self, frame: usize, insn: usize) -> u64 {
        self.frames[frame]
            .as_ref()
            .map_or(0, |t| t[insn - self.start].live)
    }

    /// Backward data flow to the fixed point.
    fn flow(&mut self, p: &Program) {
        self.dirty = false;
        for table in self.frames.iter_mut().flatten() {
            let mut changed = true;
            while changed {
                changed = false;
                for at in (self.start..self.end).rev() {
                    let (next, count) = successors(p, at);
                    let out = next[..count]
                        .iter()
                        .filter(|&&n| n < self.end)
                        .fold(0, |m, &n| m | table[n - self.start].live);
                    let a = &mut table[at - self.start];
                    // What was never visited overwrites nothing for certain.
                    let written = if a.must_write == u64::MAX {
                        0
                    } else {
                        a.must_write
                    };
                    let live = (out & !written) | a.may_read;
                    changed |= live != a.live;
                    a.live = live;
                }
            }
        }
    }
}
