//! What is acquired must be released, once, on every path; locks and sections must be balanced.

use crate::cause::{Cause, Section};
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::reg::{Flags, Reg};
use crate::state::{Ref, RefKind};
use crate::verifier::Verifier;

impl Verifier<'_> {
    /// A new reference, to be released.
    pub(crate) fn acquire(&mut self) -> u32 {
        let id = self.new_id();
        self.cur.refs.push(Ref {
            kind: RefKind::Pointer,
            id,
            insn: self.insn as u32,
            object: 0,
        });
        id
    }

    /// Releases reference `id`: every pointer to it becomes unusable.
    pub(crate) fn release(&mut self, id: u32) -> Check {
        let Some(at) = self
            .cur
            .refs
            .iter()
            .position(|r| r.kind == RefKind::Pointer && r.id == id)
        else {
            return fail(
                code::NOT_ACQUIRED,
                errno::EINVAL,
                "the pointer to be released was not acquired, or was released before",
            );
        };
        self.cur.refs.swap_remove(at);
        let leak = self.privileges.leak_pointers;
        self.cur.for_each_reg(|r| {
            if r.ref_id == id {
                *r = if leak { Reg::UNKNOWN } else { Reg::NOT_INIT };
            }
        });
        Ok(())
    }

    /// Nothing may be held when `what` happens.
    pub(crate) fn check_nothing_held(&self, what: &'static str) -> Check {
        if let Some(r) = self.cur.refs.iter().find(|r| r.kind == RefKind::Pointer) {
            let cause = Cause::Leak {
                by: what.into(),
                acquired: r.insn,
            };
            return fail(code::REFERENCE_LEAK, errno::EINVAL, cause);
        }
        self.check_outside_sections(what)
    }

    /// No section may be open when `what` happens.
    pub(crate) fn check_outside_sections(&self, what: &'static str) -> Check {
        let held = [
            (self.cur.locks > 0, code::LOCK_STATE, Section::Lock),
            (self.cur.irq_id != 0, code::RCU_STATE, Section::Irq),
            (self.cur.rcu_locks > 0, code::RCU_STATE, Section::Rcu),
            (self.cur.preempt_off > 0, code::RCU_STATE, Section::Preempt),
        ];
        match held.iter().find(|h| h.0) {
            Some(&(_, code, section)) => {
                let by = what.into();
                fail(code, errno::EINVAL, Cause::Held { by, section })
            }
            None => Ok(()),
        }
    }

    /// May the current instruction sleep?
    pub(crate) fn in_sleepable(&self) -> bool {
        self.cur.sleepable
    }

    /// Pointers borrowed from lists and trees end with the lock.
    pub(crate) fn forget_borrowed(&mut self) {
        let leak = self.privileges.leak_pointers;
        self.cur.for_each_reg(|r| {
            if r.flags.has(Flags::NON_OWN_REF) {
                *r = if leak { Reg::UNKNOWN } else { Reg::NOT_INIT };
            }
        });
    }

    /// Packet pointers are void once the packet may have moved.
    pub(crate) fn forget_packet_pointers(&mut self) {
        let leak = self.privileges.leak_pointers;
        self.cur.for_each_reg(|r| {
            if r.is_packet_any() || r.flags.has(Flags::DYNPTR_PKT) {
                *r = if leak { Reg::UNKNOWN } else { Reg::NOT_INIT };
            }
        });
    }
}
