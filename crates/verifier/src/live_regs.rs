//! Which registers may still be read from each slot on: a backward data flow over each function.

use crate::cfg::successors;
use crate::program::Program;
use skep_abi::helper::id;
use skep_isa::{AtomicOp, Call, Insn, Reg, Src};

const CALLER_SAVED: u16 = 0b11_1111;
const R0: u16 = 1;
const ALL: u16 = 0x3ff;

fn bit(r: Reg) -> u16 {
    1 << r.number()
}

fn src_bit(s: Src) -> u16 {
    match s {
        Src::Reg(r) => bit(r),
        Src::Imm(_) => 0,
    }
}

/// Registers that the instruction reads, and those it overwrites.
fn uses_and_defs(insn: &Insn, params: &dyn Fn(&Call) -> Option<usize>) -> (u16, u16) {
    match *insn {
        Insn::Alu { dst, src, .. } => (bit(dst) | src_bit(src), bit(dst)),
        Insn::Neg { dst, .. } | Insn::End { dst, .. } => (bit(dst), bit(dst)),
        Insn::Mov { dst, src, .. } => (src_bit(src), bit(dst)),
        Insn::Movsx { dst, src, .. } | Insn::AddrSpaceCast { dst, src, .. } => (bit(src), bit(dst)),
        Insn::LoadImm64 { dst, .. } => (0, bit(dst)),
        // The kernel takes legacy loads for readers of everything.
        Insn::LoadAbs { .. } | Insn::LoadInd { .. } => (ALL, 0),
        Insn::Load { dst, src, .. } | Insn::LoadAcquire { dst, src, .. } => (bit(src), bit(dst)),
        Insn::Store { dst, src, .. } => (bit(dst) | src_bit(src), 0),
        Insn::StoreRelease { dst, src, .. } => (bit(dst) | bit(src), 0),
        Insn::Atomic { op, dst, src, .. } => {
            let uses = bit(dst) | bit(src);
            match op {
                AtomicOp::Cmpxchg => (uses | R0, R0),
                op if op.fetches() => (uses, bit(src)),
                _ => (uses, 0),
            }
        }
        Insn::Jump { .. } | Insn::MayGoto { .. } => (0, 0),
        Insn::JumpIf { dst, src, .. } => (bit(dst) | src_bit(src), 0),
        Insn::Call(call) => {
            let count = params(&call).unwrap_or(5).min(5);
            (((1 << (count + 1)) - 1) & !R0, CALLER_SAVED)
        }
        Insn::CallReg { dst } => (bit(dst) | CALLER_SAVED & !R0, CALLER_SAVED),
        Insn::Exit => (R0, 0),
    }
}

/// Fills [`crate::program::Marks::live_regs`]. `params` tells how many arguments a call takes, if that is known.
pub(crate) fn compute(p: &mut Program, params: &dyn Fn(&Call) -> Option<usize>) {
    let effects: Vec<(u16, u16)> = p
        .insns
        .iter()
        .map(|i| i.as_ref().map_or((0, 0), |i| uses_and_defs(i, params)))
        .collect();
    for f in 0..p.funcs.len() {
        let (start, end) = (p.funcs[f].start, p.funcs[f].end);
        let mut changed = true;
        while changed {
            changed = false;
            for at in (start..end).rev() {
                let (next, count) = successors(p, at);
                let out = next[..count]
                    .iter()
                    .filter(|&&n| n < end)
                    .fold(0, |m, &n| m | p.marks[n].live_regs);
                let (uses, defs) = effects[at];
                let live = (out & !defs) | uses;
                changed |= live != p.marks[at].live_regs;
                p.marks[at].live_regs = live;
            }
        }
    }
}

/// Arguments that `bpf_trace_printk` prints, though its prototype ends before them.
const PRINTED: u16 = 0b11_1000;

/// The loads whose value nothing reads. Of accepted programs, whose functions end in exits and jumps.
pub(crate) fn unused_loads(p: &Program) -> impl Iterator<Item = usize> {
    let prints = |insn: &Insn| match insn {
        Insn::Call(Call::Helper(number)) => number.cast_unsigned() == id::TRACE_PRINTK,
        _ => false,
    };
    let printed = if p.insns.iter().flatten().any(prints) {
        PRINTED
    } else {
        0
    };
    (0..p.len()).filter(move |&at| is_unused_load(p, at, printed))
}

/// Is `at` a load into a register that is not read then, and that is none of `kept`?
fn is_unused_load(p: &Program, at: usize, kept: u16) -> bool {
    let Some(Ok(Insn::Load { dst, .. })) = p.insns.get(at) else {
        return false;
    };
    let (next, count) = successors(p, at);
    let live = |n: &usize| p.marks.get(*n).map_or(ALL, |m| m.live_regs) | kept;
    !next[..count].iter().any(|n| live(n) & bit(*dst) != 0)
}
