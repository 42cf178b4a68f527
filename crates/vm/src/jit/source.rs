//! What the compilers read of a program.

use crate::lowered::{Func, Lowered, Op, OpIdx};
use skep_abi::MapType;
use skep_verifier::{Caps, InsnFact, MapDesc};

/// A view of a [`Lowered`] program; tests make their own.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) ops: &'a [Op],
    pub(crate) funcs: &'a [Func],
    /// Per callee: it may run callbacks, which may throw.
    pub(crate) calls_back: &'a [bool],
    /// Per op, the slot it came from.
    pub(crate) slots: &'a [u32],
    /// Per slot.
    pub(crate) facts: &'a [InsnFact],
    pub(crate) maps: &'a [MapDesc],
    pub(crate) throws: bool,
    pub(crate) exception_callback: Option<u32>,
    pub(crate) caps: Caps,
}

impl<'a> Source<'a> {
    /// The view of `lowered`; `calls_back` is [`Self::calls_back_of`] it.
    pub(crate) fn of(lowered: &'a Lowered, calls_back: &'a [bool]) -> Self {
        Self {
            ops: &lowered.ops,
            funcs: &lowered.funcs,
            calls_back,
            slots: &lowered.slots,
            facts: lowered.verified.facts(),
            maps: lowered.verified.maps(),
            throws: lowered.throws,
            exception_callback: lowered.exception_callback,
            caps: lowered.verified.caps(),
        }
    }

    pub(crate) fn calls_back_of(lowered: &Lowered) -> Vec<bool> {
        lowered.callees.iter().map(|c| c.calls_back).collect()
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
