//! The walk over the control flow graph: everything must be reachable, and where paths join is marked.

use crate::code;
use crate::fail::{Check, errno, fail_at};
use crate::program::{Program, jump_target};
use skep_isa::opcode as op;

/// What the graph needs to know of a call before anything is verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CallNature {
    /// Nothing special.
    Plain,
    /// Runs a callback while it works: an implicit loop.
    SyncCallback,
    /// Registers a callback that runs later.
    AsyncCallback,
    /// Advances an open-coded iterator.
    IterNext,
}

/// Marks prune points and checks that every slot can be reached from an entry.
pub(crate) fn check(
    p: &mut Program,
    nature: &dyn Fn(usize) -> CallNature,
    extra_entries: &[usize],
) -> Check {
    let mut walk = Walk {
        seen: vec![false; p.len()],
        todo: vec![0],
    };
    walk.seen[0] = true;
    walk.run(p, nature)?;
    for &entry in extra_entries {
        walk.mark(entry);
        walk.run(p, nature)?;
    }
    let mut at = 0;
    while at < p.len() {
        if !walk.seen[at] {
            return fail_at(
                code::UNREACHABLE,
                errno::EINVAL,
                at,
                format!("no path leads to slot {at}"),
            );
        }
        if p.slots[at].is_wide() {
            at += 1;
            if walk.seen.get(at) == Some(&true) {
                let message =
                    format!("a jump leads to slot {at}, the middle of a wide instruction");
                return fail_at(code::JUMP_INTO_WIDE, errno::EINVAL, at, message);
            }
        }
        at += 1;
    }
    Ok(())
}

struct Walk {
    seen: Vec<bool>,
    todo: Vec<usize>,
}

impl Walk {
    fn mark(&mut self, at: usize) {
        if !std::mem::replace(&mut self.seen[at], true) {
            self.todo.push(at);
        }
    }

    fn run(&mut self, p: &mut Program, nature: &dyn Fn(usize) -> CallNature) -> Check {
        while let Some(at) = self.todo.pop() {
            self.visit(p, at, nature)?;
        }
        Ok(())
    }

    fn next(&mut self, p: &Program, at: usize, next: usize) -> Check {
        if next >= p.len() {
            return fail_at(
                code::FALL_THROUGH,
                errno::EINVAL,
                at,
                "the path runs past the end of the program",
            );
        }
        self.mark(next);
        Ok(())
    }

    fn branch(&mut self, p: &mut Program, at: usize, target: usize) -> Check {
        self.next(p, at, target)?;
        join(p, target);
        Ok(())
    }

    fn visit(&mut self, p: &mut Program, at: usize, nature: &dyn Fn(usize) -> CallNature) -> Check {
        let s = p.slots[at];
        if s.is_wide() {
            if s.src() == op::PSEUDO_FUNC {
                return self.visit_call(p, at, 2, Some(at.wrapping_add_signed(s.imm as isize + 1)));
            }
            return self.next(p, at, at + 2);
        }
        let class = s.code & op::CLASS_MASK;
        if class != op::JMP && class != op::JMP32 {
            return self.next(p, at, at + 1);
        }
        match s.code & op::CODE_MASK {
            op::EXIT => Ok(()),
            op::CALL => {
                mark_call(p, at, nature(at));
                let callee = (s.src() == op::PSEUDO_CALL)
                    .then(|| at.wrapping_add_signed(s.imm as isize + 1));
                self.visit_call(p, at, 1, callee)
            }
            op::JA => {
                let target = target(p, at);
                self.next(p, at, target)?;
                join(p, target);
                Ok(())
            }
            code => {
                p.marks[at].prune_point = true;
                if code == op::JCOND {
                    p.marks[at].force_checkpoint = true;
                }
                self.next(p, at, at + 1)?;
                let target = target(p, at);
                self.branch(p, at, target)
            }
        }
    }

    fn visit_call(
        &mut self,
        p: &mut Program,
        at: usize,
        slots: usize,
        callee: Option<usize>,
    ) -> Check {
        self.next(p, at, at + slots)?;
        join(p, at + slots);
        if let Some(callee) = callee {
            p.marks[at].prune_point = true;
            self.branch(p, at, callee)?;
        }
        Ok(())
    }
}

fn target(p: &Program, at: usize) -> usize {
    jump_target(p.slots[at], at)
        .and_then(|t| usize::try_from(t).ok())
        .unwrap_or(usize::MAX)
}

fn join(p: &mut Program, at: usize) {
    p.marks[at].prune_point = true;
    p.marks[at].jump_point = true;
}

fn mark_call(p: &mut Program, at: usize, nature: CallNature) {
    let m = &mut p.marks[at];
    match nature {
        CallNature::Plain => {}
        CallNature::AsyncCallback => (m.prune_point, m.jump_point) = (true, true),
        CallNature::SyncCallback => {
            (
                m.prune_point,
                m.jump_point,
                m.force_checkpoint,
                m.calls_callback,
            ) = (true, true, true, true);
        }
        CallNature::IterNext => (m.prune_point, m.force_checkpoint) = (true, true),
    }
}

/// The slots that may follow slot `at` within its function.
pub(crate) fn successors(p: &Program, at: usize) -> ([usize; 2], usize) {
    let s = p.slots[at];
    let class = s.code & op::CLASS_MASK;
    let next = at + if s.is_wide() { 2 } else { 1 };
    let is_jump = (class == op::JMP || class == op::JMP32) && s.code & op::CODE_MASK != op::CALL;
    if !is_jump {
        return ([next, 0], 1);
    }
    match s.code & op::CODE_MASK {
        op::EXIT => ([0, 0], 0),
        op::JA => ([target(p, at), 0], 1),
        _ => ([next, target(p, at)], 2),
    }
}

/// Numbers the loops: slots of one strongly connected component share a number above 0.
pub(crate) fn number_loops(p: &mut Program) {
    let n = p.len();
    let mut t = Tarjan {
        index: vec![0; n],
        low: vec![0; n],
        on_stack: vec![false; n],
        stack: Vec::new(),
        next: 1,
        loops: 0,
    };
    for at in 0..n {
        if t.index[at] == 0 {
            t.component(p, at);
        }
    }
}

/// Tarjan's algorithm, with its own stack instead of recursion.
struct Tarjan {
    index: Vec<u32>,
    low: Vec<u32>,
    on_stack: Vec<bool>,
    stack: Vec<usize>,
    next: u32,
    loops: u32,
}

impl Tarjan {
    fn component(&mut self, p: &mut Program, root: usize) {
        let mut work: Vec<(usize, usize)> = vec![(root, 0)];
        while let Some(&mut (at, ref mut step)) = work.last_mut() {
            if *step == 0 {
                self.index[at] = self.next;
                self.low[at] = self.next;
                self.next += 1;
                self.stack.push(at);
                self.on_stack[at] = true;
            }
            let (next, count) = successors(p, at);
            let k = *step;
            *step += 1;
            if k > 0 {
                let done = next[k - 1];
                if self.on_stack[done] {
                    self.low[at] = self.low[at].min(self.low[done]);
                }
            }
            if k < count {
                let w = next[k];
                if self.index[w] == 0 {
                    work.push((w, 0));
                }
                continue;
            }
            work.pop();
            if self.low[at] == self.index[at] {
                self.close(p, at);
            }
        }
    }

    fn close(&mut self, p: &mut Program, root: usize) {
        let first = self.stack.iter().rposition(|&w| w == root).unwrap_or(0);
        let members = self.stack.split_off(first);
        let (next, count) = successors(p, root);
        let is_loop =
            members.len() > 1 || next[..count].contains(&root) || p.marks[root].calls_callback;
        if is_loop {
            self.loops += 1;
        }
        for w in members {
            self.on_stack[w] = false;
            p.marks[w].scc = if is_loop { self.loops } else { 0 };
        }
    }
}
