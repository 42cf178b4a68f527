//! Calls: of helpers, of functions (inlined where that pays), of other programs.

use super::{
    BUDGET, Builder, INLINE_FRAME_BYTES, INLINE_TOTAL_OPS, Instance, LOW, VARIABLES, is_inlined,
};
use crate::jit::image::Runtime;
use crate::jit::ir::{Cmp, Inst, Target, Term, Value};
use crate::jit::layout;
use crate::jit::source::Source;
use skep_abi::limits::MAX_CALL_FRAMES;
use skep_isa::{JmpOp, Reg, Width};

impl Builder<'_> {
    fn args(&mut self, i: &Instance, count: u8) -> Vec<Value> {
        let mut args = vec![self.env()];
        for n in 1..=count {
            let r = Reg::new(n).unwrap_or(Reg::R1);
            args.push(self.reg(i, r));
        }
        args
    }

    pub(super) fn call(&mut self, i: &Instance, callee: u32) {
        let info = self.src.callees[callee as usize];
        if self.call_as_instructions(i, info.helper) {
            return;
        }
        let args = self.args(i, info.args);
        let v = self.push(Inst::Call {
            target: Target::Callee(callee),
            args,
        });
        self.set(Reg::R0, v);
        if self.src.throws && info.calls_back {
            self.push(Inst::TestThrown);
        }
    }

    pub(super) fn call_func(&mut self, i: &Instance, func: u32) {
        if self.inlines(i, func) {
            return self.inline(i, func);
        }
        let args = self.args(i, args_read(self.src, func));
        let mut v = self.push(Inst::Call {
            target: Target::Func(func),
            args,
        });
        if let Some(program) = self.program.filter(|_| self.src.may_tail_call(func)) {
            let env = self.env();
            let target = Target::Runtime(Runtime::MakeCurrent);
            v = self.push(Inst::Call {
                target,
                args: vec![env, program, v],
            });
        }
        self.set(Reg::R0, v);
        if self.src.throws {
            self.push(Inst::TestThrown);
        }
    }

    fn inlines(&self, i: &Instance, func: u32) -> bool {
        let f = &self.src.funcs[func as usize];
        i.depth + 1 < MAX_CALL_FRAMES
            && is_inlined(self.src, func)
            && self.inlined_ops + (f.end - f.start) as usize <= INLINE_TOTAL_OPS
            && self.g.frame_bytes + f.stack_bytes <= INLINE_FRAME_BYTES
    }

    fn inline(&mut self, i: &Instance, func: u32) {
        let f = &self.src.funcs[func as usize];
        self.inlined_ops += (f.end - f.start) as usize;
        let frame = self.g.frame_bytes;
        self.g.frame_bytes += f.stack_bytes;
        self.g
            .frames
            .push((frame.cast_signed(), self.g.frame_bytes.cast_signed()));
        // The caller's variables are read here, so that nothing inside looks beyond the call.
        let caller = self.current;
        let mut kept = [None; VARIABLES];
        for (variable, slot) in kept.iter_mut().enumerate().skip(6) {
            if variable != BUDGET || self.src.funcs[i.func as usize].has_may_goto {
                *slot = Some(self.read(caller, variable));
            }
        }
        let entry = self.new_block();
        self.end(Term::Jump(entry));
        for variable in 0..=5 {
            let v = (1..=5)
                .contains(&variable)
                .then(|| self.read(caller, variable));
            self.defs[entry.index()][variable] = v;
        }
        self.continue_in(entry);
        for variable in [0, 6, 7, 8, 9, BUDGET] {
            let zero = self.constant(0);
            self.write(variable, zero);
        }
        let after = self.new_block();
        let mut callee = Instance {
            func,
            frame,
            starts: Vec::new(),
            result: Some(after),
            depth: i.depth + 1,
        };
        let at = self.at;
        self.function(&mut callee);
        self.at = at;
        self.defs[after.index()] = kept;
        self.seal(after);
        self.current = after;
        for n in 1..=5 {
            // Unreadable after a call.
            let zero = self.constant(0);
            self.write(n, zero);
        }
    }

    pub(super) fn tail_call(&mut self, i: &Instance) {
        let env = self.env();
        let ctx = self.reg(i, Reg::R1);
        let map = self.reg(i, Reg::R2);
        let index = self.reg(i, Reg::R3);
        let index = self.and(index, LOW);
        let target = Target::Runtime(Runtime::TailCallEntry);
        let entry = self.push(Inst::Call {
            target,
            args: vec![env, map, index],
        });
        let zero = self.constant(0);
        let cmp = Cmp {
            op: JmpOp::Ne,
            width: Width::W64,
            a: entry,
            b: zero,
        };
        let found = self.branch_away(cmp);
        self.g.block_mut(found).term = Term::TailJump { entry, ctx };
        let failed = self.constant(layout::TAIL_CALL_FAILED);
        self.set(Reg::R0, failed);
    }
}

/// How many of `r1`–`r5` a function may read from its caller.
fn args_read(src: Source<'_>, func: u32) -> u8 {
    let f = &src.funcs[func as usize];
    let mut highest = 0;
    for op in &src.ops[f.start as usize..f.end as usize] {
        crate::jit::source::each_read(op, |r| {
            if (1..=5).contains(&r.number()) {
                highest = highest.max(r.number());
            }
        });
    }
    highest
}
