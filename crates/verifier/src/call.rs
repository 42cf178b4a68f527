//! Calls: of subprogs, callbacks, helpers and kfuncs.

use crate::args::CallArgs;
use crate::cause::Cause;
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::reg::{Flags, Kind, Reg};
use crate::state::{Frame, FrameKind, State};
use crate::verifier::{Flow, Verifier};
use skep_abi::helper::id;
use skep_abi::kernel::{Rule, has_rule};
use skep_abi::limits::MAX_CALL_FRAMES;
use skep_abi::prog::callback_range;
use skep_isa::Call;
use std::rc::Rc;

impl Verifier<'_> {
    /// `call`
    pub(crate) fn check_call(&mut self, call: Call) -> Check<Flow> {
        match call {
            Call::Helper(number) => self.check_helper_call(number),
            Call::Subprog(offset) => self.check_subprog_call(offset),
            Call::Kfunc { id, module } => self.check_kfunc_call(id, module),
        }
    }

    fn check_subprog_call(&mut self, offset: i32) -> Check<Flow> {
        let target = (self.insn + 1).wrapping_add_signed(offset as isize);
        let Some(callee) = self.p.func_at(target) else {
            return fail(
                code::BAD_CALL_TARGET,
                errno::EINVAL,
                format!("no function starts at slot {target}"),
            );
        };
        if self.p.funcs[callee].is_global {
            return self.check_global_call(callee);
        }
        if self.cur.locks > 0 && !has_rule(self.req.kernel, Rule::CallsUnderLock) {
            let function = format!("the function {}", self.func_name(callee)).into();
            return fail(
                code::LOCK_CALL,
                errno::EINVAL,
                Cause::UnderLock { function },
            );
        }
        let start = self.p.funcs[callee].start;
        let mut frame = self.new_frame(callee, FrameKind::Call)?;
        frame.regs[1..=5].copy_from_slice(&self.cur.frame().regs[1..=5]);
        self.cur.frame_mut().regs[..=5].fill(Reg::NOT_INIT);
        self.cur.frames.push(Rc::new(frame));
        self.refresh_instances();
        Ok(Flow::Next(start))
    }

    /// A global function is verified on its own: only its arguments are checked here.
    fn check_global_call(&mut self, callee: usize) -> Check<Flow> {
        let name = self.func_name(callee);
        if self.cur.locks > 0 {
            let function = format!("the global function {name}").into();
            return fail(
                code::LOCK_CALL,
                errno::EINVAL,
                Cause::UnderLock { function },
            );
        }
        let atomic = !self.in_sleepable()
            || self.cur.rcu_locks > 0
            || self.cur.preempt_off > 0
            || self.cur.irq_id != 0;
        if self.p.funcs[callee].might_sleep && atomic {
            let message =
                format!("the global function {name} may sleep, which is not allowed here");
            return fail(code::SLEEP, errno::EINVAL, message);
        }
        self.check_global_args(callee)?;
        if self.p.funcs[callee].changes_pkt {
            self.forget_packet_pointers();
        }
        self.p.funcs[callee].called = true;
        let regs = &mut self.cur.frame_mut().regs;
        regs[1..=5].fill(Reg::NOT_INIT);
        regs[0] = Reg::UNKNOWN;
        Ok(Flow::Next(self.insn + 1))
    }

    /// Name of a function, for messages.
    pub(crate) fn func_name(&self, f: usize) -> String {
        self.p.funcs[f]
            .name
            .clone()
            .unwrap_or_else(|| format!("func{f}"))
    }

    pub(crate) fn new_frame(&self, callee: usize, kind: FrameKind) -> Check<Frame> {
        let depth = self.cur.frames.len();
        if depth >= MAX_CALL_FRAMES {
            let message = format!(
                "the call of {} is more than {MAX_CALL_FRAMES} calls deep",
                self.func_name(callee)
            );
            return fail(code::CALL_DEPTH, errno::E2BIG, message);
        }
        Ok(Frame::new(self.insn as u32, callee as u32, depth, kind))
    }

    /// The helper with number `helper` runs a callback: it is walked as if called from here.
    pub(crate) fn enter_callback(&mut self, helper: u32, args: &CallArgs) -> Check {
        let Some(callee) = args.callback.map(|c| c as usize) else {
            return Ok(());
        };
        let Some(start) = self.p.funcs.get(callee).map(|f| f.start) else {
            return fail(
                code::ARG_CALLBACK,
                errno::EINVAL,
                "the callback is no function of this program",
            );
        };
        self.check_callback_map(helper, args)?;
        self.p.funcs[callee].is_callback = true;
        if helper == id::TIMER_SET_CALLBACK {
            let kind = FrameKind::AsyncCallback { returns_zero: true };
            return self.enter_async_callback(callee, start, args, false, kind);
        }
        let range = callback_range(helper);
        let mut frame = self.new_frame(
            callee,
            FrameKind::Callback {
                ret: (range.min, range.max),
            },
        )?;
        self.set_callback_args(helper, args, &mut frame)?;
        self.push_path(start, |state| {
            state.callback_unroll_depth += 1;
            state.frame_mut().callback_depth += 1;
            state.frames.push(Rc::new(frame));
        })?;
        self.cur.frame_mut().callback_depth = 0;
        Ok(())
    }

    /// A callback that runs later starts with frames of its own.
    pub(crate) fn enter_async_callback(
        &mut self,
        callee: usize,
        start: usize,
        args: &CallArgs,
        sleepable: bool,
        kind: FrameKind,
    ) -> Check {
        self.p.funcs[callee].is_async_callback = true;
        self.async_entries += 1;
        let mut frame = Frame::new(crate::state::NO_INSN, callee as u32, 0, kind);
        frame.async_entry = self.cur.frame().async_entry + 1;
        let map = args.map.unwrap_or((0, 0));
        let of_map = |kind: Kind| Reg {
            aux: map.0,
            aux2: map.1,
            ..Reg::pointer(kind)
        };
        frame.regs[1] = of_map(Kind::ConstMap);
        frame.regs[2] = of_map(Kind::MapKey);
        frame.regs[3] = of_map(Kind::MapValue);
        self.push_path(start, |state| {
            // Nothing of the calling path matters: it is not waited for.
            *state = State {
                sleepable,
                ..State::empty()
            };
            state.frames.push(Rc::new(frame));
        })
    }

    fn check_callback_map(&self, helper: u32, args: &CallArgs) -> Check {
        if helper == id::FOR_EACH_MAP_ELEM && args.map.is_none() {
            return fail(
                code::ARG_TYPE,
                errno::EINVAL,
                "bpf_for_each_map_elem is called without a map",
            );
        }
        Ok(())
    }

    /// Arguments of the callback, as the helper passes them.
    fn set_callback_args(&mut self, helper: u32, args: &CallArgs, frame: &mut Frame) -> Check {
        let caller = &self.cur.frame().regs;
        let map = args.map.unwrap_or((0, 0));
        let of_map = |kind: Kind| Reg {
            aux: map.0,
            aux2: map.1,
            ..Reg::pointer(kind)
        };
        match helper {
            id::FOR_EACH_MAP_ELEM => {
                frame.regs[1] = of_map(Kind::ConstMap);
                frame.regs[2] = of_map(Kind::MapKey);
                frame.regs[3] = of_map(Kind::MapValue);
                frame.regs[4] = caller[3];
            }
            id::LOOP => {
                frame.regs[1] = Reg::UNKNOWN;
                frame.regs[2] = caller[3];
            }
            id::USER_RINGBUF_DRAIN => {
                frame.regs[1] = self.callback_dynptr();
                frame.regs[2] = self.cur.frame().regs[3];
            }
            id::FIND_VMA => {
                let context = caller[4];
                frame.regs[1] = caller[1];
                frame.regs[2] = self.kernel_struct("vm_area_struct", Flags::NONE)?;
                frame.regs[3] = context;
            }
            _ => {
                return fail(
                    code::ARG_CALLBACK,
                    errno::EINVAL,
                    "this helper takes no callback that is known here",
                );
            }
        }
        Ok(())
    }
}
