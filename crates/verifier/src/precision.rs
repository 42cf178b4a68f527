//! Precision: which scalars' exact values a proof relied on, found by walking the path back.
//!
//! A check that depends on a scalar's value marks it precise. The walk goes back from there through the instructions of the path, and through
//! the kept states it came from, until every source of the value is found. Only precise scalars must match when states are
//! compared, so that most paths can be pruned.

use crate::fail::Check;
use crate::program::HELPER_TAIL_CALL;
use crate::state::{NO_INSN, State, StateId, Step};
use crate::verifier::Verifier;
use skep_isa::{AtomicOp, Call, Insn, Src, opcode as op};
use std::rc::Rc;

const ARGS: u16 = 0b11_1110;

/// What is still looked for, per frame.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    frame: usize,
    regs: [u16; 8],
    slots: [u64; 8],
}

/// The walk met something it does not understand: everything is marked instead.
struct GiveUp;

impl Wanted {
    pub(crate) fn in_frame(frame: usize) -> Self {
        Self {
            frame,
            ..Self::default()
        }
    }

    fn is_empty(&self) -> bool {
        (0..=self.frame).all(|f| self.regs[f] == 0 && self.slots[f] == 0)
    }

    fn has(&self, reg: u8) -> bool {
        self.regs[self.frame] & (1 << reg) != 0
    }

    fn want(&mut self, reg: u8) {
        self.regs[self.frame] |= 1 << reg;
    }

    fn found(&mut self, reg: u8) {
        self.regs[self.frame] &= !(1 << reg);
    }

    pub(crate) fn want_in(&mut self, frame: usize, reg: usize) {
        self.regs[frame] |= 1 << reg;
    }

    pub(crate) fn want_slot(&mut self, frame: usize, slot: usize) {
        self.slots[frame] |= 1 << slot;
    }

    /// Scalars that learned from each other are wanted together.
    fn sync_linked(&mut self, step: Option<&Step>) {
        let Some(step) = step.filter(|s| s.linked.len > 0) else {
            return;
        };
        let is_wanted = |w: &Self, (frame, is_reg, i): (usize, bool, usize)| {
            if is_reg {
                w.regs[frame] & (1 << i) != 0
            } else {
                w.slots[frame] & (1 << i) != 0
            }
        };
        if step.linked.iter().any(|e| is_wanted(self, e)) {
            for (frame, is_reg, i) in step.linked.iter() {
                if is_reg {
                    self.want_in(frame, i);
                } else {
                    self.want_slot(frame, i);
                }
            }
        }
    }

    fn leave_frame(&mut self) -> Result<(), GiveUp> {
        if self.frame == 0 {
            return Err(GiveUp);
        }
        self.regs[self.frame] = 0;
        self.frame -= 1;
        Ok(())
    }

    fn enter_frame(&mut self) -> Result<(), GiveUp> {
        if self.frame + 1 == self.regs.len() {
            return Err(GiveUp);
        }
        self.frame += 1;
        Ok(())
    }
}

/// Where a walk starts.
#[derive(Clone, Copy)]
enum Start {
    Current,
    Backedge(usize, usize),
}

impl Verifier<'_> {
    /// The value of `reg` in the innermost frame matters.
    pub(crate) fn mark_precise(&mut self, reg: usize) -> Check {
        let frame = self.cur.depth();
        if self.cur.frame().regs[reg].is_scalar() {
            let mut wanted = Wanted::in_frame(frame);
            wanted.want(reg as u8);
            self.walk_back(Start::Current, wanted);
        }
        Ok(())
    }

    /// The value spilled to `slot` of frame `frame` matters.
    pub(crate) fn mark_slot_precise(&mut self, frame: usize, slot: usize) {
        let mut wanted = Wanted::in_frame(self.cur.depth());
        wanted.want_slot(frame, slot);
        self.walk_back(Start::Current, wanted);
    }

    /// The current state is covered by `old`: what mattered there matters here.
    pub(crate) fn propagate_precision(&mut self, old: StateId) {
        let wanted = precise_parts(&self.kept[old].state);
        self.walk_back(Start::Current, wanted);
    }

    /// As [`Self::propagate_precision`] for a state that closed a loop; true if anything new was marked.
    pub(crate) fn propagate_precision_backedge(
        &mut self,
        visit: usize,
        edge: usize,
        old: StateId,
    ) -> bool {
        let wanted = precise_parts(&self.kept[old].state);
        self.walk_back(Start::Backedge(visit, edge), wanted)
    }

    /// Marks every scalar on the path of a state that closed a loop.
    pub(crate) fn mark_all_precise_backedge(&mut self, visit: usize, edge: usize) {
        self.mark_all_precise(Start::Backedge(visit, edge));
    }

    fn start_state(&self, start: Start) -> &State {
        match start {
            Start::Current => &self.cur,
            Start::Backedge(visit, edge) => &self.loops.visits[visit].backedges[edge].state,
        }
    }

    /// Walks back and marks; true if a mark is new.
    fn walk_back(&mut self, start: Start, mut wanted: Wanted) -> bool {
        if wanted.is_empty() {
            return false;
        }
        let mut changed = false;
        let mut at: Option<StateId> = None;
        let first = self.start_state(start);
        let (mut last, mut following) = (first.insn, NO_INSN);
        let mut skip = true;
        loop {
            let state = at.map_or_else(|| self.start_state(start), |id| &self.kept[id].state);
            if last == NO_INSN {
                // The entry of a global function that is verified on its own: its arguments are where values come from.
                let Some(id) = at else { return changed };
                return self.mark_entry(id, &wanted) || changed;
            }
            match walk_segment(
                &self.p.insns,
                &self.p,
                state,
                &mut wanted,
                last,
                following,
                skip,
            ) {
                Ok(()) => {}
                Err(GiveUp) => return self.mark_all_precise(start),
            }
            skip = false;
            if wanted.is_empty() {
                return changed;
            }
            let first_insn = state.first_insn;
            let Some(parent) = state.parent else { break };
            changed |= self.mark_kept(parent, &mut wanted);
            if wanted.is_empty() {
                return changed;
            }
            following = first_insn;
            last = self.kept[parent].state.last_insn;
            at = Some(parent);
        }
        self.mark_all_precise(start)
    }

    /// Marks what is wanted in a kept state and forgets what is settled there.
    fn mark_kept(&mut self, id: StateId, wanted: &mut Wanted) -> bool {
        let mut changed = false;
        let state = &mut self.kept[id].state;
        for f in 0..=wanted.frame.min(state.frames.len() - 1) {
            if wanted.regs[f] == 0 && wanted.slots[f] == 0 {
                continue;
            }
            for i in bits(u64::from(wanted.regs[f])) {
                let reg = &state.frames[f].regs[i];
                if !reg.is_scalar() || reg.precise {
                    wanted.regs[f] &= !(1 << i);
                } else {
                    state.frame_at_mut(f).regs[i].precise = true;
                    changed = true;
                }
            }
            for i in bits(wanted.slots[f]) {
                let settled = state.frames[f]
                    .stack
                    .get(i)
                    .is_none_or(|s| !s.is_spilled_scalar() || s.reg.precise);
                if settled {
                    wanted.slots[f] &= !(1 << i);
                } else {
                    state.frame_at_mut(f).stack_mut()[i].reg.precise = true;
                    changed = true;
                }
            }
        }
        changed
    }

    fn mark_entry(&mut self, id: StateId, wanted: &Wanted) -> bool {
        let mut changed = false;
        for i in bits(u64::from(wanted.regs[0] & ARGS)) {
            let reg = &mut self.kept[id].state.frame_at_mut(0).regs[i];
            if reg.is_scalar() && !reg.precise {
                reg.precise = true;
                changed = true;
            }
        }
        changed
    }

    /// Marks every scalar of every state on the path.
    fn mark_all_precise(&mut self, start: Start) -> bool {
        let mut parent = self.start_state(start).parent;
        let mut changed = false;
        while let Some(id) = parent {
            let state = &mut self.kept[id].state;
            state.for_each_reg(|r| {
                if r.is_scalar() && !r.precise {
                    r.precise = true;
                    changed = true;
                }
            });
            parent = state.parent;
        }
        changed
    }
}

/// The precise scalars of a state.
fn precise_parts(state: &State) -> Wanted {
    let mut wanted = Wanted::in_frame(state.depth());
    for (f, frame) in state.frames.iter().enumerate() {
        for (i, _) in frame
            .regs
            .iter()
            .enumerate()
            .filter(|(_, r)| r.is_scalar() && r.precise)
        {
            wanted.want_in(f, i);
        }
        for (i, _) in frame
            .stack
            .iter()
            .enumerate()
            .filter(|(_, s)| s.is_spilled_scalar() && s.reg.precise)
        {
            wanted.want_slot(f, i);
        }
    }
    wanted
}

/// The set bits of a mask.
fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let i = mask.trailing_zeros();
        (mask != 0).then(|| {
            mask &= mask - 1;
            i as usize
        })
    })
}

/// Forgets all precision marks of `state`: they belong to the states it came from.
pub(crate) fn forget_precision(state: &mut State) {
    for frame in &mut state.frames {
        if frame.regs.iter().any(|r| r.precise) {
            Rc::make_mut(frame)
                .regs
                .iter_mut()
                .for_each(|r| r.precise = false);
        }
        if frame.stack.iter().any(|s| s.reg.precise) {
            Rc::make_mut(frame)
                .stack_mut()
                .iter_mut()
                .for_each(|s| s.reg.precise = false);
        }
    }
}

type Insns = [Result<Insn, skep_isa::DecodeError>];

/// Walks back from `last` to the first instruction of the segment that `state` ends.
fn walk_segment(
    insns: &Insns,
    p: &crate::program::Program,
    state: &State,
    wanted: &mut Wanted,
    last: u32,
    mut following: u32,
    mut skip: bool,
) -> Result<(), GiveUp> {
    let mut left = state.history.len();
    let mut at = last;
    loop {
        let step = left
            .checked_sub(1)
            .map(|i| &state.history[i])
            .filter(|s| s.insn == at);
        if !std::mem::replace(&mut skip, false) {
            step_back(insns, p, at, following, step, wanted)?;
            if wanted.is_empty() {
                return Ok(());
            }
        }
        following = at;
        if at == state.first_insn && (left == 0 || (left == 1 && state.history[0].insn == at)) {
            return Ok(());
        }
        if let Some(step) = step {
            at = step.prev;
            left -= 1;
        } else {
            at = at.wrapping_sub(1);
        }
        if at as usize >= insns.len() {
            return if at == NO_INSN { Ok(()) } else { Err(GiveUp) };
        }
    }
}

/// One instruction back: what was wanted after it becomes what is wanted before it.
fn step_back(
    insns: &Insns,
    p: &crate::program::Program,
    at: u32,
    following: u32,
    step: Option<&Step>,
    w: &mut Wanted,
) -> Result<(), GiveUp> {
    if p.slots[at as usize].code == 0 {
        return Ok(());
    }
    let Ok(insn) = &insns[at as usize] else {
        return Err(GiveUp);
    };
    w.sync_linked(step);
    match *insn {
        Insn::Alu { dst, src, .. } => {
            if let (true, Src::Reg(src)) = (w.has(dst.number()), src)
                && src.number() != 10
            {
                w.want(src.number());
            }
        }
        Insn::Mov { dst, src, .. } if w.has(dst.number()) => {
            w.found(dst.number());
            if let Src::Reg(src) = src {
                want_source(w, src.number());
            }
        }
        Insn::Movsx { dst, src, .. } | Insn::AddrSpaceCast { dst, src, .. }
            if w.has(dst.number()) =>
        {
            w.found(dst.number());
            want_source(w, src.number());
        }
        Insn::Load { dst, .. } | Insn::LoadAcquire { dst, .. } => fill(w, dst.number(), step),
        Insn::Store { dst, src, .. } => {
            let src = if let Src::Reg(r) = src {
                Some(r.number())
            } else {
                None
            };
            spill(w, dst.number(), src, step)?;
        }
        Insn::StoreRelease { dst, src, .. } => spill(w, dst.number(), Some(src.number()), step)?,
        Insn::Atomic { op, dst, src, .. } => atomic(w, op, dst.number(), src.number(), step)?,
        Insn::LoadImm64 { dst, .. } => w.found(dst.number()),
        Insn::LoadAbs { .. } | Insn::LoadInd { .. } if w.has(0) => return Err(GiveUp),
        Insn::Call(call) => back_over_call(p, at, following, call, w)?,
        Insn::CallReg { .. } => return Err(GiveUp),
        Insn::Exit => back_into_callee(p, following, w)?,
        Insn::JumpIf {
            dst,
            src: Src::Reg(src),
            ..
        } if w.has(dst.number()) || w.has(src.number()) => {
            if step.is_none_or(|s| !s.src_is_stack) {
                w.want(src.number());
            }
            if step.is_none_or(|s| !s.dst_is_stack) {
                w.want(dst.number());
            }
        }
        _ => {}
    }
    w.sync_linked(step);
    Ok(())
}

fn want_source(w: &mut Wanted, src: u8) {
    if src != 10 {
        w.want(src);
    }
}

/// A load: only a fill from the stack keeps a scalar's value.
fn fill(w: &mut Wanted, dst: u8, step: Option<&Step>) {
    if !w.has(dst) {
        return;
    }
    w.found(dst);
    if let Some((frame, slot)) = step.and_then(|s| s.stack) {
        w.want_slot(usize::from(frame), usize::from(slot));
    }
}

fn spill(w: &mut Wanted, dst: u8, src: Option<u8>, step: Option<&Step>) -> Result<(), GiveUp> {
    if w.has(dst) {
        // A scalar is no address: the walk met a subtraction of pointers.
        return Err(GiveUp);
    }
    let Some((frame, slot)) = step.and_then(|s| s.stack) else {
        return Ok(());
    };
    let (frame, slot) = (usize::from(frame), usize::from(slot));
    if w.slots[frame] & (1 << slot) == 0 {
        return Ok(());
    }
    w.slots[frame] &= !(1 << slot);
    if let Some(src) = src {
        w.want(src);
    }
    Ok(())
}

/// An atomic changes memory and, if it fetches, a register that then holds what memory held.
fn atomic(
    w: &mut Wanted,
    op: AtomicOp,
    dst: u8,
    src: u8,
    step: Option<&Step>,
) -> Result<(), GiveUp> {
    let fetched = match op {
        AtomicOp::Cmpxchg => Some(0),
        op if op.fetches() => Some(src),
        _ => None,
    };
    if let Some(reg) = fetched.filter(|&r| w.has(r)) {
        w.found(reg);
        if let Some((frame, slot)) = step.and_then(|s| s.stack) {
            w.want_slot(usize::from(frame), usize::from(slot));
        }
        return Ok(());
    }
    spill(w, dst, Some(src), step)
}

fn back_over_call(
    p: &crate::program::Program,
    at: u32,
    following: u32,
    call: Call,
    w: &mut Wanted,
) -> Result<(), GiveUp> {
    if let Call::Subprog(offset) = call {
        let callee = p
            .func_at((i64::from(at) + 1 + i64::from(offset)) as usize)
            .ok_or(GiveUp)?;
        if p.funcs[callee].is_global {
            w.found(0);
            return Ok(());
        }
        // Leaving the callee through its entry: only its arguments can still be wanted.
        let wanted = w.regs[w.frame];
        if wanted & !ARGS != 0 || w.slots[w.frame] != 0 || w.frame == 0 {
            return Err(GiveUp);
        }
        w.leave_frame()?;
        w.regs[w.frame] |= wanted;
        return Ok(());
    }
    if p.marks[at as usize].calls_callback && following != at + 1 {
        if w.regs[w.frame] & !ARGS != 0 || w.slots[w.frame] != 0 {
            return Err(GiveUp);
        }
        return w.leave_frame();
    }
    if matches!(call, Call::Kfunc { id: 0, .. }) {
        return Err(GiveUp);
    }
    w.found(0);
    if w.regs[w.frame] & ARGS != 0 {
        return Err(GiveUp);
    }
    if matches!(call, Call::Helper(HELPER_TAIL_CALL)) && following != at + 1 {
        // The tail call ended the function: what follows is the caller.
        return w.enter_frame();
    }
    Ok(())
}

fn back_into_callee(
    p: &crate::program::Program,
    following: u32,
    w: &mut Wanted,
) -> Result<(), GiveUp> {
    if following != NO_INSN && p.marks[following as usize].calls_callback {
        w.regs[w.frame] &= !ARGS;
    }
    if w.regs[w.frame] & ARGS != 0 {
        return Err(GiveUp);
    }
    let call = following
        .checked_sub(1)
        .filter(|_| following != NO_INSN)
        .map(|i| p.slots[i as usize]);
    let is_subprog =
        call.is_some_and(|s| s.code == op::JMP | op::CALL && s.src() == op::PSEUDO_CALL);
    let r0_wanted = is_subprog && w.has(0);
    w.found(0);
    w.enter_frame()?;
    if r0_wanted {
        w.want(0);
    }
    Ok(())
}
