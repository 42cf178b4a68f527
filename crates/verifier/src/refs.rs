//! What is acquired must be released, once, on every path; locks and sections must be balanced.

use crate::code;
use crate::fail::{Check, errno, fail};
use crate::memory::field_name;
use crate::reg::{Flags, Kind, Reg};
use crate::state::{Ref, RefKind};
use crate::verifier::Verifier;
use skep_btf::FieldKind;

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
    pub(crate) fn check_nothing_held(
        &self,
        what: &str,
        check_sections: bool,
        check_refs: bool,
    ) -> Check {
        if check_refs && let Some(r) = self.cur.refs.iter().find(|r| r.kind == RefKind::Pointer) {
            let message = format!(
                "{what} would leak the reference acquired at instruction {}",
                r.insn
            );
            return fail(code::REFERENCE_LEAK, errno::EINVAL, message);
        }
        if !check_sections {
            return Ok(());
        }
        let held = [
            (
                self.cur.locks > 0,
                code::LOCK_STATE,
                "while a spin lock is held",
            ),
            (
                self.cur.irq_id != 0,
                code::RCU_STATE,
                "with interrupts disabled",
            ),
            (
                self.cur.rcu_locks > 0,
                code::RCU_STATE,
                "inside of an RCU section",
            ),
            (
                self.cur.preempt_off > 0,
                code::RCU_STATE,
                "with preemption disabled",
            ),
        ];
        match held.iter().find(|h| h.0) {
            Some((_, code, how)) => fail(code, errno::EINVAL, format!("{what} {how}")),
            None => Ok(()),
        }
    }

    /// May the current instruction sleep?
    pub(crate) fn in_sleepable(&self) -> bool {
        self.cur.sleepable
    }

    /// `bpf_spin_lock` or `bpf_spin_unlock` on the lock that register `i` points to.
    pub(crate) fn spin_lock(&mut self, i: usize, lock: bool) -> Check {
        let reg = *self.reg(i);
        let Some(at) = reg.fixed_offset() else {
            return fail(
                code::LOCK_STATE,
                errno::EINVAL,
                format!("r{i} points to a lock at a variable offset"),
            );
        };
        let (object, record) = match reg.kind {
            Kind::MapValue => {
                let map = self.map(&reg);
                if !map.has_btf {
                    let message = format!("map \"{}\" needs BTF to have a bpf_spin_lock", map.name);
                    return fail(code::NO_BTF, errno::EINVAL, message);
                }
                (reg.aux + 1, map.record.clone())
            }
            _ => (0, self.object_record(&reg)),
        };
        let Some(field) = record
            .fields
            .iter()
            .find(|f| matches!(f.kind, FieldKind::SpinLock))
        else {
            return fail(
                code::LOCK_STATE,
                errno::EINVAL,
                "the value has no bpf_spin_lock",
            );
        };
        if i64::from(field.offset) != at {
            let message = format!(
                "r{i} points to byte {at}, but the {} is at byte {}",
                field_name(&field.kind),
                field.offset
            );
            return fail(code::LOCK_STATE, errno::EINVAL, message);
        }
        if lock {
            self.take_lock(&reg, object)
        } else {
            self.give_lock(&reg, object)
        }
    }

    fn take_lock(&mut self, reg: &Reg, object: u32) -> Check {
        if self.cur.locks > 0 {
            return fail(
                code::LOCK_STATE,
                errno::EINVAL,
                "a second bpf_spin_lock while one is held",
            );
        }
        self.cur.refs.push(Ref {
            kind: RefKind::Lock,
            id: reg.id,
            insn: self.insn as u32,
            object,
        });
        self.cur.locks += 1;
        (self.cur.lock_id, self.cur.lock_object) = (reg.id, object);
        Ok(())
    }

    fn give_lock(&mut self, reg: &Reg, object: u32) -> Check {
        if self.cur.locks == 0 {
            return fail(
                code::LOCK_STATE,
                errno::EINVAL,
                "bpf_spin_unlock without a lock",
            );
        }
        let held = self
            .cur
            .refs
            .iter()
            .position(|r| r.kind == RefKind::Lock && r.id == reg.id && r.object == object);
        let Some(at) = held else {
            return fail(
                code::LOCK_STATE,
                errno::EINVAL,
                "bpf_spin_unlock of another lock than the one that is held",
            );
        };
        self.cur.refs.remove(at);
        self.cur.locks -= 1;
        let last = self.cur.refs.iter().rev().find(|r| r.kind == RefKind::Lock);
        (self.cur.lock_id, self.cur.lock_object) = last.map_or((0, 0), |r| (r.id, r.object));
        self.forget_borrowed();
        Ok(())
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
