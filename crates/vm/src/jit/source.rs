//! What the compilers read of a program.

use crate::lowered::{Callee, CalleeId, Func, Lowered, Op, OpIdx};
use skep_abi::MapType;
use skep_isa::{Reg, Src};
use skep_verifier::{Caps, InsnFact, MapDesc};

/// What matters of a callee.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CalleeInfo {
    /// The kernel's number, if it is a helper.
    pub(crate) helper: Option<u32>,
    /// It may run callbacks, which may throw.
    pub(crate) calls_back: bool,
    /// How many of `r1`–`r5` it reads.
    pub(crate) args: u8,
}

/// A view of a [`Lowered`] program; tests make their own.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) ops: &'a [Op],
    pub(crate) funcs: &'a [Func],
    pub(crate) callees: &'a [CalleeInfo],
    /// Per op, the slot it came from.
    pub(crate) slots: &'a [u32],
    /// Per slot.
    pub(crate) facts: &'a [InsnFact],
    pub(crate) maps: &'a [MapDesc],
    pub(crate) throws: bool,
    pub(crate) exception_callback: Option<u32>,
    pub(crate) caps: Caps,
}

/// Number of `bpf_trace_printk`.
const TRACE_PRINTK: u32 = 6;

impl<'a> Source<'a> {
    /// The view of `lowered`; `callees` is [`Self::callees_of`] it.
    pub(crate) fn of(lowered: &'a Lowered, callees: &'a [CalleeInfo]) -> Self {
        Self {
            ops: &lowered.ops,
            funcs: &lowered.funcs,
            callees,
            slots: &lowered.slots,
            facts: lowered.verified.facts(),
            maps: lowered.verified.maps(),
            throws: lowered.throws,
            exception_callback: lowered.exception_callback,
            caps: lowered.verified.caps(),
        }
    }

    pub(crate) fn callees_of(lowered: &Lowered) -> Vec<CalleeInfo> {
        let info = |c: &Callee| CalleeInfo {
            helper: match c.id {
                CalleeId::Helper(id) => Some(id),
                CalleeId::Kfunc(_) => None,
            },
            calls_back: c.calls_back,
            args: match c.id {
                // Its prototype names the format alone; up to three values follow.
                CalleeId::Helper(TRACE_PRINTK) => 5,
                CalleeId::Helper(id) => {
                    skep_abi::helper::by_id(id).map_or(5, |h| h.args.len() as u8)
                }
                CalleeId::Kfunc(_) => 5,
            },
        };
        lowered.callees.iter().map(info).collect()
    }

    pub(crate) fn fact(&self, op: OpIdx) -> Option<&'a InsnFact> {
        self.facts.get(*self.slots.get(op as usize)? as usize)
    }

    /// True if a run of the program may have to restore `env.program` after calling `func`.
    pub(crate) fn may_tail_call(&self, func: u32) -> bool {
        self.funcs[func as usize].has_tail_call
    }

    /// Bytes of the value of array map `map`.
    pub(crate) fn array_value_bytes(&self, map: u32) -> Option<u32> {
        let m = self.maps.get(map as usize)?;
        (m.map_type == MapType::Array).then_some(m.value_size)
    }

    /// True if the jump from `at` back to `target` closes a loop that must poll the stop flag.
    ///
    /// A loop without calls and without `may_goto` needs none: the verifier walked every iteration of it, so it ends after at
    /// most as many instructions as the verifier is willing to walk, about a millisecond.
    pub(crate) fn polls(&self, at: OpIdx, target: OpIdx) -> bool {
        target <= at
            && self.ops[target as usize..=at as usize].iter().any(|op| {
                matches!(
                    op,
                    Op::Call { .. } | Op::CallFunc { .. } | Op::MayGoto { .. } | Op::TailCall
                )
            })
    }
}

/// Calls `f` for each register an op reads, but for the arguments of calls.
pub(crate) fn each_read(op: &Op, mut f: impl FnMut(Reg)) {
    let mut src = |s: Src| {
        if let Src::Reg(r) = s {
            f(r);
        }
    };
    match *op {
        Op::Alu { dst, src: s, .. } | Op::JumpIf { dst, src: s, .. } => {
            src(Src::Reg(dst));
            src(s);
        }
        Op::MovePointer { dst, src: s, .. } => {
            f(dst);
            f(s);
        }
        Op::Neg { dst, .. } | Op::End { dst, .. } => f(dst),
        Op::Mov { src, .. } | Op::Movsx { src, .. } | Op::ArenaCast { src, .. } => f(src),
        Op::Load { mem, .. } | Op::LoadAcquire { mem, .. } => f(mem.base),
        Op::Store { src: s, mem, .. } => {
            src(Src::Reg(mem.base));
            src(s);
        }
        Op::Atomic { src, mem, .. } | Op::StoreRelease { src, mem, .. } => {
            f(mem.base);
            f(src);
        }
        Op::LoadPacket { index, .. } => index.into_iter().for_each(f),
        // Calls read what their callee reads; all of them, to be safe.
        Op::Call { .. } | Op::CallFunc { .. } | Op::TailCall => {
            (1..=5).filter_map(Reg::new).for_each(f);
        }
        Op::Throw => f(Reg::R1),
        _ => {}
    }
}
