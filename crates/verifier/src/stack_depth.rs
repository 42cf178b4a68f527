//! The frames of a call chain share one stack.

use crate::cause::Cause;
use crate::code;
use crate::fail::{Check, errno, fail_at, fail_nowhere};
use crate::program::Program;
use skep_abi::helper::ProgEnv;
use skep_abi::kernel::{Rule, has_rule};
use skep_abi::limits::{MAX_BPF_STACK, MAX_CALL_FRAMES};
use skep_abi::{AttachType, ProgType};
use skep_isa::opcode as op;

/// The JIT rounds each frame up to this.
const FRAME_ROUNDING: u32 = 16;
/// What kernels without [`Rule::FrameRounding`] round up to.
const FRAME_ROUNDING_OLD: u32 = 32;
/// Frames below this stay on the shared stack even where programs have a private one.
const PRIVATE_STACK_MIN: u32 = 64;
/// Bytes of callers' frames above which a tail call is refused.
const TAIL_CALL_STACK: u32 = 256;

/// May frames of the program lie on a stack of their own?
fn has_private_stack(env: &ProgEnv<'_>) -> bool {
    if !has_rule(env.kernel, Rule::PrivateStack) {
        return false;
    }
    match env.prog_type {
        ProgType::Kprobe | ProgType::Tracepoint | ProgType::PerfEvent | ProgType::RawTracepoint => {
            true
        }
        ProgType::Tracing => env.attach != Some(AttachType::TraceIter),
        _ => false,
    }
}

/// Checks the depth of every call chain; returns the greatest. `throws` tells calls of `bpf_throw`.
pub(crate) fn check(p: &Program, env: &ProgEnv<'_>, throws: &dyn Fn(usize) -> bool) -> Check<u32> {
    let private = !p.funcs.iter().any(|f| f.has_tail_call) && has_private_stack(env);
    let mut deepest = 0;
    for root in 0..p.funcs.len() {
        let func = &p.funcs[root];
        if root == 0 || func.is_async_callback || func.is_exception_callback {
            // Async and exception callbacks start on a stack of their own: each has its chain checked on its own.
            let mut chain = Chain {
                p,
                throws,
                private: private && root == 0,
                rounding: if has_rule(env.kernel, Rule::FrameRounding) {
                    FRAME_ROUNDING
                } else {
                    FRAME_ROUNDING_OLD
                },
                frames: Vec::new(),
                steps: 0,
            };
            deepest = deepest.max(chain.descend(root, 0)?);
        }
    }
    Ok(deepest)
}

struct Chain<'a> {
    p: &'a Program,
    throws: &'a dyn Fn(usize) -> bool,
    private: bool,
    rounding: u32,
    frames: Vec<usize>,
    steps: u32,
}

/// Calls followed over all chains; programs with more are refused.
const MAX_STEPS: u32 = 1_000_000;

impl Chain<'_> {
    /// The greatest depth below function `f`, whose callers use `depth` bytes.
    fn descend(&mut self, f: usize, depth: u32) -> Check<u32> {
        let func = &self.p.funcs[f];
        self.frames.push(f);
        self.steps += 1;
        if self.frames.len() > MAX_CALL_FRAMES || self.steps > MAX_STEPS {
            let message = format!(
                "the chain {} is more than {MAX_CALL_FRAMES} calls deep",
                self.names()
            );
            return fail_nowhere(code::CALL_DEPTH, errno::E2BIG, message);
        }
        if func.has_tail_call && depth >= TAIL_CALL_STACK {
            let message = format!(
                "a tail call in {} after {depth} bytes of callers' stack, less than {TAIL_CALL_STACK} are allowed",
                self.names()
            );
            return fail_nowhere(code::STACK_DEPTH, errno::EACCES, message);
        }
        let own = func.stack_bytes.max(1).next_multiple_of(self.rounding);
        let depth = if self.private && own >= PRIVATE_STACK_MIN {
            if own > MAX_BPF_STACK {
                return self.too_large(own);
            }
            depth
        } else {
            depth + own
        };
        if depth > MAX_BPF_STACK {
            return self.too_large(depth);
        }
        let mut deepest = depth;
        for at in func.start..func.end {
            let s = self.p.slots[at];
            if (self.throws)(at) {
                self.check_throw(at)?;
            }
            let is_call = s.code == op::JMP | op::CALL && s.src() == op::PSEUDO_CALL;
            let is_callback = s.is_wide() && s.src() == op::PSEUDO_FUNC;
            if !is_call && !is_callback {
                continue;
            }
            let Some(callee) = self.p.func_at(at.wrapping_add_signed(s.imm as isize + 1)) else {
                continue;
            };
            let callee_func = &self.p.funcs[callee];
            if is_callback && (callee_func.is_async_callback || callee_func.is_exception_callback) {
                continue;
            }
            deepest = deepest.max(self.descend(callee, depth)?);
        }
        self.frames.pop();
        Ok(deepest)
    }

    /// Callbacks of helpers must return to them.
    fn check_throw(&self, at: usize) -> Check {
        let is_callback = |&f: &usize| {
            let func = &self.p.funcs[f];
            func.is_callback || func.is_exception_callback
        };
        if !self.frames.iter().any(is_callback) {
            return Ok(());
        }
        let message = "bpf_throw in a callback, or in what a callback calls";
        fail_at(code::EXCEPTION, errno::EINVAL, at, message)
    }

    fn too_large<T>(&self, depth: u32) -> Check<T> {
        let cause = Cause::StackDepth {
            chain: self.chain(),
            bytes: depth,
        };
        fail_nowhere(code::STACK_DEPTH, errno::EACCES, cause)
    }

    /// The functions of the chain with the bytes of their frames.
    fn chain(&self) -> Vec<(String, u32)> {
        let frame = |&f: &usize| {
            let func = &self.p.funcs[f];
            let name = func.name.clone().unwrap_or_else(|| format!("func{f}"));
            (name, func.stack_bytes)
        };
        self.frames.iter().map(frame).collect()
    }

    fn names(&self) -> String {
        let frames = self.chain().into_iter();
        let texts: Vec<String> = frames
            .map(|(name, bytes)| format!("{name} ({bytes} bytes)"))
            .collect();
        texts.join(" -> ")
    }
}
