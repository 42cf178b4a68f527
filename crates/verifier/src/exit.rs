//! Leaving a function: return values, and what must not be left behind.

use crate::cause::{Cause, Interval, Returned};
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::jump::widen_imprecise;
use crate::reg::{Kind, Reg};
use crate::state::FrameKind;
use crate::verifier::{Flow, Verifier};
use skep_abi::kernel::{Rule, has_rule};

/// Bounds of a return value, inclusive.
pub(crate) type RetRange = (i32, i32);

impl Verifier<'_> {
    /// `exit`
    pub(crate) fn check_exit(&mut self) -> Check<Flow> {
        let outermost = self.cur.frames.len() == 1;
        if outermost {
            self.check_nothing_held("exit")?;
        } else if self.cur.locks > 0 && !has_rule(self.req.kernel, Rule::CallsUnderLock) {
            self.check_outside_sections("exit")?;
        }
        if !outermost {
            return self.return_to_caller();
        }
        self.check_returned(0)?;
        Ok(Flow::Done)
    }

    /// Goes back to the calling frame, or for callbacks to the call that runs them.
    pub(crate) fn return_to_caller(&mut self) -> Check<Flow> {
        let callee = self.cur.frame().clone();
        let r0 = callee.regs[0];
        if r0.kind == Kind::Stack {
            return fail(
                code::RETURN_POINTER,
                errno::EINVAL,
                "a pointer to its own stack is returned to the caller",
            );
        }
        let callback = if let FrameKind::Callback { ret } = callee.kind {
            Some(ret)
        } else {
            None
        };
        if let Some(range) = callback {
            if !r0.is_scalar() {
                return fail(
                    code::CALLBACK_RETURN,
                    errno::EACCES,
                    "the callback does not return a number",
                );
            }
            self.mark_precise(0)?;
            if !within(&r0, range, false) {
                return fail(
                    code::CALLBACK_RETURN,
                    errno::EINVAL,
                    out_of_range("the callback", &r0, range, false),
                );
            }
        }
        self.cur.frames.pop();
        self.instances.pop();
        let callsite = callee.callsite as usize;
        if callback.is_none() {
            *self.reg_mut(0) = r0;
        }
        self.forget_slices_of_frame(self.cur.frames.len());
        if callback.is_none() {
            return Ok(Flow::Next(callsite + 1));
        }
        // The helper may call it again: back to the call, where another round is scheduled unless nothing new can happen.
        if let Some(before) = self.previous_entry(callsite, self.cur.dfs_depth) {
            widen_imprecise(&self.kept[before].state, &mut self.cur);
        }
        Ok(Flow::Next(callsite))
    }

    /// Register `i` becomes the program's return value.
    pub(crate) fn check_returned(&mut self, i: usize) -> Check {
        let outermost = &self.cur.frames[0];
        let is_async = matches!(outermost.kind, FrameKind::AsyncCallback { .. });
        let free = outermost.kind
            == FrameKind::AsyncCallback {
                returns_zero: false,
            };
        // What the exception callback returns is what the program returns.
        let subprog = match outermost.subprog {
            f if self.exception_callback == Some(f as usize) => 0,
            f => f,
        };
        if !is_async && subprog == 0 && self.returns_nothing() {
            return Ok(());
        }
        self.check_readable(i)?;
        if self.is_secret_pointer(i) {
            return fail(
                code::RETURN_POINTER,
                errno::EACCES,
                Cause::about(
                    i,
                    format!(
                        "r{i} is {}: it would be returned as a number",
                        self.reg(i).describe()
                    ),
                ),
            );
        }
        let r0 = *self.reg(i);
        if !is_async && subprog > 0 {
            if r0.is_scalar() {
                return Ok(());
            }
            let message = format!(
                "the global function returns {}, not a number",
                r0.describe()
            );
            return fail(code::RETURN_POINTER, errno::EINVAL, message);
        }
        let (who, allowed, half) = if is_async {
            ("the callback", Some((0, 0)).filter(|_| !free), false)
        } else {
            let (range, half) = self.return_range()?;
            ("the program", range, half)
        };
        let Some(range) = allowed else { return Ok(()) };
        if !r0.is_scalar() {
            let cause = Cause::Returned {
                who: who.into(),
                value: Returned::Other(r0.describe().into()),
                allowed: range,
            };
            return fail(code::RETURN_VALUE, errno::EINVAL, cause);
        }
        self.mark_precise(i)?;
        if within(&r0, range, half) {
            return Ok(());
        }
        let code = if is_async {
            code::CALLBACK_RETURN
        } else {
            code::RETURN_VALUE
        };
        fail(code, errno::EINVAL, out_of_range(who, &r0, range, half))
    }
}

/// Does the number lie in `range`; only its lower half counts with `half`.
fn within(r: &Reg, range: RetRange, half: bool) -> bool {
    if half {
        r.var.s32_min >= range.0 && r.var.s32_max <= range.1
    } else {
        r.var.smin >= i64::from(range.0) && r.var.smax <= i64::from(range.1)
    }
}

fn out_of_range(who: &'static str, r: &Reg, range: RetRange, half: bool) -> Cause {
    let (min, max) = if half {
        (i64::from(r.var.s32_min), i64::from(r.var.s32_max))
    } else {
        (r.var.smin, r.var.smax)
    };
    Cause::Returned {
        who: who.into(),
        value: Returned::Number(Interval { min, max }),
        allowed: range,
    }
}
