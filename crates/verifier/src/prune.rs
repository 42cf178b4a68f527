//! Pruning: a path that is covered by an explored state need not be walked again.

use crate::cause::Cause;
use crate::code;
use crate::equal::{Compare, Exact};
use crate::fail::{Check, errno, fail_at};
use crate::kept::Kept;
use crate::precision::forget_precision;
use crate::reg::Reg;
use crate::state::{Byte, FrameKind, StackSlot, State, StateId};
use crate::verifier::Verifier;
use skep_abi::prog_flags::BPF_F_TEST_STATE_FREQ;
use skep_isa::{Call, Insn};
use std::rc::Rc;

/// Steps since the last kept state after which one is kept in any case.
const MAX_HISTORY: usize = 40;

impl Verifier<'_> {
    /// The walk is at a prune point: is the current state covered? If not, it may be kept.
    pub(crate) fn is_covered(&mut self) -> Check<bool> {
        let at = self.insn;
        let force = self.p.marks[at].force_checkpoint
            || self.cur.history.len() > MAX_HISTORY
            || self.req.prog_flags & BPF_F_TEST_STATE_FREQ != 0;
        let (jumps, insns) = self.since_last_state();
        let mut keep = force || (jumps >= 2 && insns >= 8);
        self.clean_states(at);
        let callsite = self.cur.frame().callsite;
        let list: Vec<StateId> = self.kept.at(at).iter().rev().copied().collect();
        for id in list {
            if self.kept[id].state.frame().callsite != callsite {
                continue;
            }
            if self.kept[id].branches > 0 {
                if self.loops_back_to(id, at)? {
                    self.covered_by(id, true)?;
                    return Ok(true);
                }
                if !force && jumps < 20 && insns < 100 {
                    keep = false;
                }
            } else {
                let open = self.has_open_backedges(id);
                if self.states_equal(id, if open { Exact::Within } else { Exact::No }) {
                    self.covered_by(id, open)?;
                    return Ok(true);
                }
            }
            self.count_miss(id, at, keep);
        }
        if keep && self.kept.is_full() {
            let message = "too many states are kept at one time";
            return fail_at(code::TOO_MANY_STATES, errno::ENOMEM, at, message);
        }
        if keep {
            self.keep_state();
        }
        Ok(false)
    }

    fn states_equal(&mut self, id: StateId, exact: Exact) -> bool {
        let all_precise = self.is_strict();
        let mut compare = Compare {
            program: &self.p,
            ids: &mut self.ids,
            allow_uninit_stack: self.privileges.uninit_stack,
            strict_scalars: self.strict_scalars,
            all_precise,
        };
        compare.states(&self.kept[id].state, &self.cur, exact)
    }

    /// `id` is a state of the current path or of an unfinished one: is this a loop that converges, or one without progress?
    fn loops_back_to(&mut self, id: StateId, at: usize) -> Check<bool> {
        let old = self.kept[id].state.frame();
        if matches!(old.kind, FrameKind::AsyncCallback { .. })
            && old.async_entry != self.cur.frame().async_entry
        {
            return Ok(false);
        }
        if self.is_iter_next(at) {
            return Ok(self.states_equal(id, Exact::Within) && self.iter_is_active());
        }
        let may_goto_differs = self.kept[id].state.may_goto_depth != self.cur.may_goto_depth;
        if matches!(self.p.insns[at], Ok(Insn::MayGoto { .. }))
            && may_goto_differs
            && self.states_equal(id, Exact::Within)
        {
            return Ok(true);
        }
        if self.p.marks[at].calls_callback {
            return Ok(self.states_equal(id, Exact::Within));
        }
        let old = &self.kept[id].state;
        let may_loop = old.frames.len() == self.cur.frames.len()
            && same_registers(&old.frame().regs, &self.cur.frame().regs)
            && old.callback_unroll_depth == self.cur.callback_unroll_depth
            && !may_goto_differs;
        if may_loop && self.states_equal(id, Exact::Yes) && !self.iter_depths_differ(id) {
            let cause = Cause::NoProgress { at: at as u32 };
            // The jump back is what never ends.
            return fail_at(
                code::INFINITE_LOOP,
                errno::EINVAL,
                self.prev as usize,
                cause,
            );
        }
        Ok(false)
    }

    fn is_iter_next(&self, at: usize) -> bool {
        self.p.marks[at].force_checkpoint
            && !self.p.marks[at].calls_callback
            && matches!(self.p.insns[at], Ok(Insn::Call(Call::Kfunc { .. })))
    }

    /// The current state is covered by `id`; precision must still reach the path it came by.
    fn covered_by(&mut self, id: StateId, in_open_loop: bool) -> Check {
        self.kept[id].hits += 1;
        if self.privileges.uninit_stack {
            self.note_unwritten_before(id);
        }
        if self.p.marks[self.insn].jump_point {
            self.push_step(|_| {});
        }
        self.propagate_precision(id);
        if in_open_loop {
            self.add_backedge(id);
        }
        Ok(())
    }

    /// What follows `id` may read slots that were written there, and are not here.
    fn note_unwritten_before(&mut self, id: StateId) {
        let state = &self.kept[id].state;
        for (old, cur) in state.frames.iter().zip(&self.cur.frames) {
            let func = &mut self.p.funcs[cur.subprog as usize];
            for (slot, o) in old.stack.iter().enumerate() {
                let c = cur.stack.get(slot).unwrap_or(&StackSlot::EMPTY);
                let unwritten = |(o, c): (&Byte, &Byte)| *c == Byte::Invalid && *o != *c;
                if o.bytes.iter().zip(&c.bytes).any(unwritten) {
                    func.unwritten |= 1 << slot;
                }
            }
        }
    }

    fn count_miss(&mut self, id: StateId, at: usize, keep: bool) {
        let force = self.p.marks[at].force_checkpoint;
        let k = &mut self.kept[id];
        k.misses += u32::from(keep);
        // States that rarely cover anything only cost time; those at checkpoints are needed for loops to converge.
        let patience = if force && k.branches > 0 { 64 } else { 3 };
        if k.misses > k.hits * patience + patience {
            self.kept.retire(at, id);
        }
    }

    fn keep_state(&mut self) {
        self.note_state_kept();
        forget_precision(&mut self.cur);
        let mut state = State {
            history: std::mem::take(&mut self.cur.history),
            ..self.cur.clone()
        };
        state.insn = self.insn as u32;
        let visit = self.enter_loop(&state);
        let kept = Kept {
            state,
            branches: 1,
            hits: 0,
            misses: 0,
            cleaned: false,
            retired: false,
            visit,
        };
        let id = self.kept.add(self.insn, kept);
        self.set_loop_entry(id);
        self.cur.parent = Some(id);
        self.cur.first_insn = self.insn as u32;
        self.cur.dfs_depth += 1;
        self.reset_step();
    }

    /// Forgets dead registers and slots of states that are fully explored.
    fn clean_states(&mut self, at: usize) {
        let mut updated = false;
        for k in 0..self.kept.at(at).len() {
            let id = self.kept.at(at)[k];
            let kept = &self.kept[id];
            if kept.branches > 0
                || kept.cleaned
                || !kept.state.same_callsites(&self.cur)
                || self.has_open_backedges(id)
            {
                continue;
            }
            if !std::mem::replace(&mut updated, true) {
                self.live.update(&self.p);
            }
            self.clean_state(id);
        }
    }

    fn clean_state(&mut self, id: StateId) {
        let is_strict = self.is_strict();
        let kept = &mut self.kept[id];
        kept.cleaned = true;
        if is_strict {
            return;
        }
        let state = &mut kept.state;
        let count = state.frames.len();
        let callsites: Vec<usize> = state.frames[1..]
            .iter()
            .map(|f| f.callsite as usize)
            .collect();
        for i in 0..count {
            let insn = if i + 1 == count {
                state.insn as usize
            } else {
                callsites[i]
            };
            let regs = self.p.marks[insn].live_regs;
            let slots =
                self.live
                    .live(&self.p, &self.instances, &callsites, state.insn as usize, i);
            let frame = Rc::make_mut(&mut state.frames[i]);
            for (r, reg) in frame.regs.iter_mut().enumerate().take(10) {
                if regs & (1 << r) == 0 {
                    *reg = Reg::NOT_INIT;
                }
            }
            let is_dead = |s: usize| slots & (1 << s) == 0;
            if (0..frame.stack.len()).any(|s| is_dead(s) && frame.stack[s] != StackSlot::EMPTY) {
                for (s, slot) in frame.stack_mut().iter_mut().enumerate() {
                    if is_dead(s) {
                        *slot = StackSlot {
                            bytes: [Byte::Invalid; 8],
                            reg: Reg::NOT_INIT,
                        };
                    }
                }
            }
        }
    }
}

/// The same but for precision marks.
fn same_registers(old: &[Reg; 11], cur: &[Reg; 11]) -> bool {
    old.iter().zip(cur).all(|(o, c)| {
        *o == Reg {
            precise: o.precise,
            ..*c
        }
    })
}
