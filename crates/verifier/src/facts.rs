//! What the walk learns of each instruction, joined over all paths.

use crate::code;
use crate::fail::{Check, errno, fail};
use crate::reg::{Flags, Kind, Reg};
use crate::verified::{AccessFact, Branch, CallFact, InsnFact, Often, PointerLimit, Region};
use skep_abi::ctx::Access;
use std::collections::HashMap;

/// How masked arithmetic works, as far as two paths must agree on it.
pub(crate) mod alu {
    /// The offset is a constant.
    pub(crate) const CONSTANT: u8 = 1;
    pub(crate) const NEGATIVE: u8 = 2;
    pub(crate) const POINTER_IS_DST: u8 = 4;
    /// No pointer takes part: nothing is masked.
    pub(crate) const SCALARS: u8 = 16;
}

/// Facts under construction.
#[derive(Debug)]
pub(crate) struct Recorder {
    facts: Vec<InsnFact>,
    /// Kind of pointer each access went through.
    kinds: HashMap<usize, (Kind, Flags)>,
    /// Slots that have had an access recorded.
    seen_access: Vec<bool>,
    /// Slots that have had a load recorded.
    seen_load: Vec<bool>,
    /// Limits of pointer arithmetic under speculation rules.
    alu_limits: HashMap<usize, (u8, u32)>,
    pending_limit: Option<(usize, u8, u32)>,
}

impl Recorder {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            facts: vec![InsnFact::default(); slots],
            kinds: HashMap::new(),
            seen_access: vec![false; slots],
            seen_load: vec![false; slots],
            alu_limits: HashMap::new(),
            pending_limit: None,
        }
    }

    /// The facts, complete.
    pub(crate) fn finish(mut self) -> Vec<InsnFact> {
        for (at, (state, limit)) in self.alu_limits {
            let is = |bit: u8| state & bit != 0;
            self.facts[at].pointer_limit = (!is(alu::SCALARS)).then_some(PointerLimit {
                limit,
                negative: is(alu::NEGATIVE),
                constant: is(alu::CONSTANT),
                pointer_is_dst: is(alu::POINTER_IS_DST),
            });
        }
        self.facts
    }

    /// A path gets to slot `at`. Code that is only reached speculatively counts too: it stays in the program.
    pub(crate) fn reach(&mut self, at: usize, _speculative: bool) {
        self.facts[at].reached = true;
    }

    pub(crate) fn has_barrier(&self, at: usize) -> bool {
        self.facts[at].barrier
    }

    pub(crate) fn set_barrier(&mut self, at: usize) {
        self.facts[at].barrier = true;
        self.alu_limits.remove(&at);
    }

    pub(crate) fn has_store_barrier(&self, at: usize) -> bool {
        self.facts[at].barrier_after
    }

    pub(crate) fn set_store_barrier(&mut self, at: usize) {
        self.facts[at].barrier_after = true;
    }

    /// A load at `at` gives a pointer to an object that is stored in a value of a map, or something else.
    pub(crate) fn stored_pointer(&mut self, at: usize, is_pointer: bool) {
        let new = if is_pointer {
            Often::Always
        } else {
            Often::Never
        };
        let known = &mut self.facts[at].stored_pointer;
        *known = if !self.seen_load[at] || *known == new {
            new
        } else {
            Often::Sometimes
        };
        self.seen_load[at] = true;
    }

    /// A conditional jump went this way.
    pub(crate) fn branch(&mut self, at: usize, way: Branch) {
        let known = &mut self.facts[at].branch;
        *known = Some(match *known {
            None => way,
            Some(old) if old == way => way,
            Some(_) => Branch::Both,
        });
    }

    /// An access goes through this pointer; kinds whose accesses are rewritten must not mix with others. Loads may mix typed
    /// pointers and memory: they are made as if they could fault.
    pub(crate) fn pointer_kind(&mut self, at: usize, reg: &Reg, kind: Access) -> Check {
        let now = (reg.kind, reg.flags);
        let previous = *self.kinds.entry(at).or_insert(now);
        if previous == now || !(is_rewritten(now.0) || is_rewritten(previous.0)) {
            return Ok(());
        }
        let may_fault = |k: Kind| matches!(k, Kind::Btf | Kind::Mem);
        if kind == Access::Read && may_fault(now.0) && may_fault(previous.0) {
            return Ok(());
        }
        let message = "this instruction accesses different kinds of memory on different paths";
        fail(code::MIXED_POINTERS, errno::EINVAL, message)
    }

    /// The memory an access touches.
    pub(crate) fn access(&mut self, at: usize, region: Region, offset: Option<i64>) {
        let fact = &mut self.facts[at].access;
        if !std::mem::replace(&mut self.seen_access[at], true) {
            *fact = Some(AccessFact { region, offset });
            return;
        }
        if let Some(old) = fact {
            if old.region != region {
                // What faults or is converted is not what other memory is.
                let differs =
                    |r: Region| matches!(r, Region::Btf { .. } | Region::Object | Region::Map(_));
                old.region = if differs(old.region) || differs(region) {
                    Region::Btf { type_id: 0 }
                } else {
                    Region::Mixed
                };
                old.offset = None;
            }
            if old.offset != offset {
                old.offset = None;
            }
        }
    }

    /// What a call knows of its arguments; false if another path has another map.
    pub(crate) fn call(&mut self, at: usize, new: CallFact) -> bool {
        let Some(old) = &mut self.facts[at].call else {
            self.facts[at].call = Some(Box::new(new));
            return true;
        };
        let same_map = old.map == new.map;
        if !same_map {
            old.map = None;
        }
        if old.callback != new.callback {
            old.callback = None;
        }
        if (old.alloc_bytes, old.alloc_type) != (new.alloc_bytes, new.alloc_type) {
            (old.alloc_bytes, old.alloc_type) = (None, None);
        }
        if old.node_offset != new.node_offset {
            old.node_offset = None;
        }
        old.owning |= new.owning;
        for kptr in new.kernel_kptrs {
            if !old.kernel_kptrs.contains(&kptr) {
                old.kernel_kptrs.push(kptr);
            }
        }
        same_map
    }

    /// Remembers how arithmetic at `at` must be limited; false if it must be limited in two ways.
    pub(crate) fn alu_limit(&mut self, at: usize, state: u8, limit: u32) -> bool {
        *self.alu_limits.entry(at).or_insert((state, limit)) == (state, limit)
    }

    /// Remembers the state and limit before the pointer at `at` is moved.
    pub(crate) fn narrow_pending(&mut self, at: usize, state: u8, limit: u32) {
        self.pending_limit = Some((at, state, limit));
    }

    /// What [`Self::narrow_pending`] remembered for `at`.
    pub(crate) fn take_pending(&mut self, at: usize) -> Option<(u8, u32)> {
        self.pending_limit
            .take()
            .filter(|p| p.0 == at)
            .map(|p| (p.1, p.2))
    }
}

/// Kinds whose loads and stores are converted or may fault.
fn is_rewritten(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Ctx
            | Kind::Socket
            | Kind::SockCommon
            | Kind::TcpSock
            | Kind::XdpSock
            | Kind::Btf
            | Kind::Arena
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known of one call after these were seen on different paths.
    fn joined(calls: &[CallFact]) -> CallFact {
        let mut recorder = Recorder::new(1);
        for call in calls {
            recorder.call(0, call.clone());
        }
        let fact = recorder.finish().remove(0).call;
        fact.map(|call| *call).unwrap_or_default()
    }

    #[test]
    fn objects_of_one_call_are_of_one_type_or_of_none() {
        let of = |bytes, ty| CallFact {
            alloc_bytes: Some(bytes),
            alloc_type: Some(ty),
            ..CallFact::default()
        };
        assert_eq!(joined(&[of(16, 3), of(16, 3)]), of(16, 3));
        for other in [of(32, 3), of(16, 4)] {
            for calls in [[of(16, 3), other.clone()], [other, of(16, 3)]] {
                assert_eq!(joined(&calls), CallFact::default());
            }
        }
        let back = [of(16, 3), of(32, 4), of(16, 3)];
        assert_eq!(joined(&back), CallFact::default());
    }

    #[test]
    fn nodes_of_one_call_lie_at_one_place_or_nowhere() {
        let at = |node_offset| CallFact {
            node_offset,
            ..CallFact::default()
        };
        assert_eq!(joined(&[at(Some(8)), at(Some(8))]), at(Some(8)));
        assert_eq!(joined(&[at(Some(8)), at(Some(16))]), at(None));
    }

    #[test]
    fn an_object_that_is_owned_on_some_path_is_not_null_on_any() {
        let owned = |owning| CallFact {
            owning,
            ..CallFact::default()
        };
        assert_eq!(joined(&[owned(false), owned(true)]), owned(true));
        assert_eq!(joined(&[owned(true), owned(false)]), owned(true));
    }
}
