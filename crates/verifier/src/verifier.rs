//! The walk: depth first over all paths, in the kernel's order.

use crate::cause::{Cause, register};
use crate::code;
use crate::equal::IdMap;
use crate::explain::History;
use crate::facts::Recorder;
use crate::fail::{Check, Fail, errno, fail};
use crate::kept::Store;
use crate::live_stack::LiveStack;
use crate::loops::Loops;
use crate::program::Program;
use crate::reg::{Kind, Reg};
use crate::request::{Caps, Request};
use crate::state::{Frame, FrameKind, LinkedRegs, NO_INSN, State, StateId, Step};
use crate::target::Target;
use crate::trace::{Numbers, Trace};
use skep_abi::helper::ProgEnv;
use skep_abi::kernel::{Rule, has_rule};
use skep_abi::limits::{BPF_COMPLEXITY_LIMIT_INSNS, BPF_COMPLEXITY_LIMIT_JMP_SEQ};
use skep_abi::prog_flags::{BPF_F_SLEEPABLE, BPF_F_STRICT_ALIGNMENT};
use skep_btf::Record;
use skep_isa::Insn;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// What the loader's capabilities allow the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Privileges {
    /// Pointers may become numbers.
    pub leak_pointers: bool,
    /// Stack may be read before it is written.
    pub uninit_stack: bool,
    /// No rules against speculation (Spectre v1 and v4).
    pub speculation: bool,
}

/// A path that waits.
#[derive(Debug)]
struct Pending {
    state: State,
    insn: usize,
    prev: u32,
    /// Step of the recorded history that it goes on from.
    from: u32,
}

/// What the walk does after an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    /// Goes on at this slot.
    Next(usize),
    /// This path is finished.
    Done,
}

/// One verification.
pub(crate) struct Verifier<'a> {
    pub req: &'a Request<'a>,
    pub p: Program,
    pub env: ProgEnv<'a>,
    /// What the program attaches to in the kernel, where its context follows from it.
    pub target: Option<Target<'a>>,
    /// The function that runs when an exception is thrown.
    pub exception_callback: Option<usize>,
    /// Some slice may be a buffer in a frame that ends before the program.
    pub slices_in_frames: bool,
    /// Does an instruction name an arena?
    pub uses_arena: bool,
    /// Special fields of structures that were asked for: by BTF and type id.
    pub records: HashMap<(u32, u32), Arc<Record>>,
    pub privileges: Privileges,
    /// Accesses must be aligned to their size everywhere.
    pub strict_alignment: bool,
    /// State of the current path.
    pub cur: State,
    /// Slot of the current instruction.
    pub insn: usize,
    /// Slot of the instruction before it.
    pub prev: u32,
    /// The current instruction has a step in the history.
    has_step: bool,
    pending: Vec<Pending>,
    pub kept: Store,
    pub loops: Loops,
    pub live: LiveStack,
    /// Instances of the frames of the current path, outermost first.
    pub instances: Vec<usize>,
    pub ids: IdMap,
    next_id: u32,
    /// Async callbacks entered.
    pub async_entries: u32,
    pub insns_processed: u32,
    /// Instructions that may be walked: the kernel's limit, or less for a sample.
    pub step_limit: u32,
    jumps_processed: u32,
    jumps_at_last_state: u32,
    insns_at_last_state: u32,
    /// The program has loops that converge instead of being unrolled.
    pub has_converging_loops: bool,
    /// Scalars must match exactly since limits of pointer arithmetic depend on them.
    pub strict_scalars: bool,
    pub rec: Recorder,
    /// Where states are recorded, if they are.
    pub trace: Option<Box<Trace>>,
    /// Where the steps of the walk are recorded, to explain a refusal.
    pub history: Option<Box<History>>,
    /// Slots whose refusals are known: the walk goes on behind them, to find others.
    pub known_errors: Vec<u32>,
}

impl<'a> Verifier<'a> {
    pub(crate) fn new(req: &'a Request<'a>, p: Program, target: &'a str) -> Self {
        let privileged = req.caps == Caps::All;
        let sleepable = req.prog_flags & BPF_F_SLEEPABLE != 0;
        let env = ProgEnv {
            prog_type: req.prog_type,
            attach: req.attach,
            sleepable,
            perfmon: privileged,
            target,
            kernel: req.kernel,
        };
        let n = p.len();
        Self {
            req,
            env,
            target: None,
            exception_callback: None,
            uses_arena: false,
            slices_in_frames: false,
            records: HashMap::new(),
            privileges: Privileges {
                leak_pointers: privileged,
                uninit_stack: privileged && has_rule(req.kernel, Rule::UninitStack),
                speculation: privileged,
            },
            strict_alignment: req.prog_flags & BPF_F_STRICT_ALIGNMENT != 0,
            cur: State::empty(),
            insn: 0,
            prev: NO_INSN,
            has_step: false,
            pending: Vec::new(),
            kept: Store::new(n),
            loops: Loops::default(),
            live: LiveStack::default(),
            instances: Vec::new(),
            ids: IdMap::default(),
            next_id: 0,
            async_entries: 0,
            insns_processed: 0,
            step_limit: BPF_COMPLEXITY_LIMIT_INSNS,
            jumps_processed: 0,
            jumps_at_last_state: 0,
            insns_at_last_state: 0,
            has_converging_loops: p.marks.iter().any(|m| m.force_checkpoint),
            strict_scalars: false,
            rec: Recorder::new(n),
            trace: None,
            history: None,
            known_errors: Vec::new(),
            p,
        }
    }

    /// Every scalar counts as precise, since states are recorded to be compared with runs.
    pub(crate) fn is_strict(&self) -> bool {
        let numbers = self.trace.as_ref().map(|t| t.numbers);
        numbers == Some(Numbers::Precise)
    }

    /// A fresh id.
    pub(crate) fn new_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Register `i` of the innermost frame.
    pub(crate) fn reg(&self, i: usize) -> &Reg {
        &self.cur.frame().regs[i]
    }

    /// Register `i` of the innermost frame, to change.
    pub(crate) fn reg_mut(&mut self, i: usize) -> &mut Reg {
        &mut self.cur.frame_mut().regs[i]
    }

    /// Walks all paths of the function `subprog` from its entry with `regs` as given by `setup`.
    pub(crate) fn walk(&mut self, subprog: usize, setup: &dyn Fn(&mut Self) -> Check) -> Check {
        self.cur = State::empty();
        self.cur.sleepable = self.env.sleepable;
        self.cur.frames.push(Rc::new(Frame::new(
            NO_INSN,
            subprog as u32,
            0,
            FrameKind::Entry,
        )));
        self.insn = self.p.funcs[subprog].start;
        self.prev = NO_INSN;
        self.pending.clear();
        self.kept.clear();
        self.loops = Loops::default();
        self.live = LiveStack::default();
        (self.jumps_at_last_state, self.insns_at_last_state) = (0, 0);
        (self.jumps_processed, self.insns_at_last_state) = (0, self.insns_processed);
        self.refresh_instances();
        if let Some(history) = &mut self.history {
            history.begin();
        }
        setup(self)?;
        self.run()
    }

    fn run(&mut self) -> Check {
        loop {
            let flow = self.step().or_else(|e| self.survive(e))?;
            match flow {
                Flow::Next(next) => {
                    self.prev = self.insn as u32;
                    self.insn = next;
                }
                Flow::Done => {
                    let parent = self.cur.parent;
                    self.finish_path(parent);
                    let Some(p) = self.pending.pop() else {
                        return Ok(());
                    };
                    (self.cur, self.insn, self.prev) = (p.state, p.insn, p.prev);
                    if let Some(history) = &mut self.history {
                        history.resume(p.from);
                    }
                    self.refresh_instances();
                }
            }
        }
    }

    /// One instruction of the current path.
    fn step(&mut self) -> Check<Flow> {
        self.has_step = false;
        self.insns_processed += 1;
        if self.insns_processed > self.step_limit {
            return fail(code::TOO_LARGE, errno::E2BIG, Cause::TooLarge).map_err(nowhere);
        }
        self.cur.last_insn = self.prev;
        self.cur.insn = self.insn as u32;
        let marks = self.p.marks[self.insn];
        if marks.prune_point && self.is_covered()? {
            if let Some(history) = &mut self.history {
                history.pruned(self.insn);
            }
            return Ok(Flow::Done);
        }
        if marks.jump_point {
            self.push_step(|_| {});
        }
        if self.cur.speculative && self.rec.has_barrier(self.insn) {
            return Ok(Flow::Done);
        }
        if let Some(trace) = &mut self.trace {
            trace.record(self.insn, &self.cur.frames);
        }
        if let Some(history) = &mut self.history {
            history.step(self.insn, &self.cur);
        }
        self.live.begin();
        self.rec.reach(self.insn, self.cur.speculative);
        let at = self.insn;
        let instance = self.instances.last().copied();
        let result = self.check_insn();
        if let Some(instance) = instance {
            self.live.commit(instance, at);
        }
        match result {
            Err(e) if self.cur.speculative && is_curable_by_barrier(&e) => {
                self.rec.set_barrier(at);
                Ok(Flow::Done)
            }
            Ok(_) if self.cur.speculative && self.rec.has_store_barrier(at) => Ok(Flow::Done),
            other => other,
        }
    }

    fn check_insn(&mut self) -> Check<Flow> {
        let insn = match &self.p.insns[self.insn] {
            Ok(insn) => *insn,
            Err(e) => return fail(code::MALFORMED, errno::EINVAL, e.to_string()),
        };
        self.check_insn_known(&insn)?;
        let next = self.insn + insn.slots();
        if let Some(flow) = self.check_control(insn, next)? {
            return Ok(flow);
        }
        self.check_effect(insn)?;
        Ok(Flow::Next(next))
    }

    /// Instructions that lead elsewhere or end the path; `None` for the others.
    fn check_control(&mut self, insn: Insn, next: usize) -> Check<Option<Flow>> {
        let target = |offset: i32| next.wrapping_add_signed(offset as isize);
        // As the kernel counts them: calls and exits are jumps.
        self.jumps_processed += u32::from(matches!(
            insn,
            Insn::Jump { .. }
                | Insn::JumpIf { .. }
                | Insn::MayGoto { .. }
                | Insn::Call(_)
                | Insn::Exit
        ));
        let flow = match insn {
            Insn::LoadAbs { .. } => return self.check_legacy_load(None).map(Some),
            Insn::LoadInd { src, .. } => return self.check_legacy_load(Some(src)).map(Some),
            Insn::Jump { offset, .. } => Ok(Flow::Next(target(offset))),
            Insn::JumpIf {
                width,
                op,
                dst,
                src,
                offset,
            } => self.check_jump_if(width, op, dst, src, target(offset.into())),
            Insn::MayGoto { offset } => self.check_may_goto(target(offset.into())),
            Insn::Call(call) => self.check_call(call),
            Insn::CallReg { .. } => {
                let message = "indirect calls (callx) are not supported";
                return fail(code::MALFORMED, errno::EINVAL, message);
            }
            Insn::Exit => self.check_exit(),
            _ => return Ok(None),
        };
        flow.map(Some)
    }

    /// Instructions that compute, load or store.
    fn check_effect(&mut self, insn: Insn) -> Check {
        match insn {
            Insn::Alu {
                width,
                op,
                dst,
                src,
            } => self.check_alu(width, op, dst, src),
            Insn::Neg { width, dst } => self.check_neg(width, dst),
            Insn::Mov { width, dst, src } => self.check_mov(width, dst, src),
            Insn::Movsx {
                width,
                from,
                dst,
                src,
            } => self.check_movsx(width, from, dst, src),
            Insn::AddrSpaceCast {
                dst,
                src,
                dst_as,
                src_as,
            } => self.check_addr_space_cast(dst, src, dst_as, src_as),
            Insn::End { op, size, dst } => self.check_end(op, size, dst),
            Insn::LoadImm64 { dst, imm } => self.check_load_imm64(dst, imm),
            Insn::Load {
                size,
                extend,
                dst,
                src,
                offset,
            } => self.check_load(size, extend, dst, src, offset),
            Insn::LoadAcquire {
                size,
                dst,
                src,
                offset,
            } => self.check_load_acquire(size, dst, src, offset),
            Insn::Store {
                size,
                dst,
                src,
                offset,
            } => self.check_store(size, dst, src, offset),
            Insn::StoreRelease {
                size,
                dst,
                src,
                offset,
            } => self.check_store_release(size, dst, src, offset),
            Insn::Atomic {
                size,
                op,
                dst,
                src,
                offset,
            } => self.check_atomic(size, op, dst, src, offset),
            _ => Ok(()),
        }
    }

    /// Remembers the current path, to go on from `insn` later. The closure changes the remembered state.
    pub(crate) fn push_path(&mut self, insn: usize, change: impl FnOnce(&mut State)) -> Check {
        self.push_path_from(insn, self.insn as u32, change)
    }

    /// As [`Self::push_path`], with the slot that counts as the one before.
    pub(crate) fn push_path_from(
        &mut self,
        insn: usize,
        prev: u32,
        change: impl FnOnce(&mut State),
    ) -> Check {
        if self.pending.len() >= BPF_COMPLEXITY_LIMIT_JMP_SEQ {
            let message = format!(
                "{} branches wait for exploration, at most {BPF_COMPLEXITY_LIMIT_JMP_SEQ} may",
                self.pending.len() + 1
            );
            return fail(code::TOO_MANY_BRANCHES, errno::E2BIG, message);
        }
        let mut state = self.cur.clone();
        change(&mut state);
        if let Some(parent) = state.parent {
            self.kept[parent].branches += 1;
        }
        let from = self.history.as_ref().map_or(0, |h| h.here());
        self.pending.push(Pending {
            state,
            insn,
            prev,
            from,
        });
        Ok(())
    }

    /// Adds to the history step of the current instruction, which is made if it has none.
    pub(crate) fn push_step(&mut self, change: impl FnOnce(&mut Step)) {
        if !self.has_step {
            self.has_step = true;
            self.cur.history.push(Step {
                insn: self.insn as u32,
                prev: self.prev,
                ..Step::default()
            });
        }
        if let Some(step) = self.cur.history.last_mut() {
            change(step);
        }
    }

    /// The instruction touches slot `slot` of frame `frame`.
    pub(crate) fn push_stack_step(&mut self, frame: usize, slot: usize) {
        self.push_step(|s| s.stack = Some((frame as u8, slot as u8)));
    }

    /// Scalars learn from each other at this instruction.
    pub(crate) fn push_linked_step(&mut self, linked: LinkedRegs) {
        self.push_step(|s| s.linked = linked);
    }

    /// Forgets that the current instruction has a step (its history now belongs to a kept state).
    pub(crate) fn reset_step(&mut self) {
        self.has_step = false;
    }

    /// One path from the kept state `id` is finished; so are those states that wait for nothing else.
    pub(crate) fn finish_path(&mut self, mut id: Option<StateId>) {
        while let Some(i) = id {
            let k = &mut self.kept[i];
            k.branches -= 1;
            if k.branches > 0 {
                return;
            }
            self.leave_loop(i);
            id = self.kept[i].state.parent;
            self.kept.free_if_unused(i);
        }
    }

    /// Jumps and instructions since a state was kept.
    pub(crate) fn since_last_state(&self) -> (u32, u32) {
        (
            self.jumps_processed - self.jumps_at_last_state,
            self.insns_processed - self.insns_at_last_state,
        )
    }

    /// A state is kept now.
    pub(crate) fn note_state_kept(&mut self) {
        if let Some(history) = &mut self.history {
            history.kept(self.insn);
        }
        (self.jumps_at_last_state, self.insns_at_last_state) =
            (self.jumps_processed, self.insns_processed);
    }

    /// Finds the liveness instances of the current path's frames.
    pub(crate) fn refresh_instances(&mut self) {
        self.instances.clear();
        for f in &self.cur.frames {
            let outer = self.instances.last().copied();
            self.instances
                .push(self.live.instance(&self.p, outer, f.callsite, f.subprog));
        }
    }

    /// The path ends at its context; register `i` must be initialised.
    pub(crate) fn check_readable(&self, i: usize) -> Check {
        if self.reg(i).kind == Kind::NotInit {
            return fail(
                code::UNINIT_REG,
                errno::EACCES,
                Cause::Unwritten { reg: register(i) },
            );
        }
        Ok(())
    }

    /// Register `i` must be writable.
    pub(crate) fn check_writable(&self, i: usize) -> Check {
        if i == 10 {
            return fail(
                code::FRAME_POINTER_WRITE,
                errno::EACCES,
                "r10, the frame pointer, is read-only",
            );
        }
        Ok(())
    }

    /// Is register `i` a pointer that must not become visible?
    pub(crate) fn is_secret_pointer(&self, i: usize) -> bool {
        !self.privileges.leak_pointers && self.reg(i).is_pointer()
    }
}

/// A rejection during speculation is cured by a barrier, unless it is about limits.
fn is_curable_by_barrier(e: &Fail) -> bool {
    matches!(e.errno, errno::EPERM | errno::EACCES | errno::EINVAL)
}

/// Takes the place from a refusal that is about the whole program.
fn nowhere(mut e: Box<Fail>) -> Box<Fail> {
    e.insn = Some(None);
    e
}
