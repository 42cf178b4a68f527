//! Spin locks: plain ones from helpers, resilient ones from kfuncs.

use crate::cause::Cause;
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::memory::field_name;
use crate::reg::{Kind, Reg};
use crate::state::{Ref, RefKind};
use crate::verifier::Verifier;
use skep_btf::FieldKind;

/// One use of a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LockUse {
    /// It is taken.
    Take,
    /// It is given back.
    Give,
}

fn refused<T>(cause: impl Into<Cause>) -> Check<T> {
    fail(code::LOCK_STATE, errno::EINVAL, cause)
}

impl Verifier<'_> {
    /// What a lock behind `reg` belongs to: the map by index + 1, or 0 for allocated objects.
    pub(crate) const fn lock_object(reg: &Reg) -> u32 {
        match reg.kind {
            Kind::MapValue => reg.aux + 1,
            _ => 0,
        }
    }

    /// The lock that register `i` points to is taken or given back.
    pub(crate) fn use_lock(&mut self, i: usize, kind: RefKind, how: LockUse) -> Check {
        let reg = *self.reg(i);
        let Some(at) = reg.fixed_offset() else {
            return refused(Cause::about(
                i,
                format!("r{i} points to a lock at a variable offset"),
            ));
        };
        if self.in_tree_callback() && kind == RefKind::Lock {
            return fail(
                code::LOCK_STATE,
                errno::EACCES,
                "locks are neither taken nor given back while a tree compares nodes",
            );
        }
        if reg.kind == Kind::MapValue && !self.map(&reg).has_btf {
            let message = format!("map \"{}\" needs BTF to have a lock", self.map(&reg).name);
            return fail(code::NO_BTF, errno::EINVAL, message);
        }
        let wanted = if kind == RefKind::Lock {
            FieldKind::SpinLock
        } else {
            FieldKind::ResSpinLock
        };
        let record = self.record_behind(&reg);
        let Some(field) = record.fields.iter().find(|f| f.kind == wanted) else {
            return refused(format!("the value has no {}", field_name(&wanted)));
        };
        if i64::from(field.offset) != at {
            return refused(Cause::about(
                i,
                format!(
                    "r{i} points to byte {at}, but the {} is at byte {}",
                    field_name(&wanted),
                    field.offset
                ),
            ));
        }
        match how {
            LockUse::Take => self.take_lock(&reg, kind),
            LockUse::Give => self.give_lock(&reg, kind),
        }
    }

    fn take_lock(&mut self, reg: &Reg, kind: RefKind) -> Check {
        let object = Self::lock_object(reg);
        if kind == RefKind::Lock {
            if self.cur.refs.iter().any(|r| r.kind == RefKind::Lock) {
                return refused("a second bpf_spin_lock while one is held");
            }
        } else if self.held(reg, object, |k| k != RefKind::Lock).is_some() {
            return refused("this lock is already held: taking it again would never end");
        }
        self.cur.refs.push(Ref {
            kind,
            id: reg.id,
            insn: self.insn as u32,
            object,
        });
        self.cur.locks += 1;
        (self.cur.lock_id, self.cur.lock_object) = (reg.id, object);
        Ok(())
    }

    fn held(&self, reg: &Reg, object: u32, kind: impl Fn(RefKind) -> bool) -> Option<usize> {
        self.cur
            .refs
            .iter()
            .position(|r| r.kind.is_lock() && kind(r.kind) && r.id == reg.id && r.object == object)
    }

    fn give_lock(&mut self, reg: &Reg, kind: RefKind) -> Check {
        if self.cur.locks == 0 {
            return refused("a lock is given back while none is held");
        }
        let object = Self::lock_object(reg);
        let Some(at) = self.held(reg, object, |k| k == kind) else {
            return refused("another lock is given back than the one that is held");
        };
        if reg.id != self.cur.lock_id || object != self.cur.lock_object {
            return refused("locks are given back in another order than they were taken");
        }
        self.cur.refs.remove(at);
        self.cur.locks -= 1;
        let last = self.cur.refs.iter().rev().find(|r| r.kind.is_lock());
        (self.cur.lock_id, self.cur.lock_object) = last.map_or((0, 0), |r| (r.id, r.object));
        self.forget_borrowed();
        Ok(())
    }

    /// The lock beside the list or tree behind `reg` must be held.
    pub(crate) fn check_locked(&self, i: usize, reg: &Reg) -> Check {
        if self.cur.locks == 0 {
            return refused(Cause::about(
                i,
                format!("the lock beside what r{i} points to must be held for this call"),
            ));
        }
        if self.held(reg, Self::lock_object(reg), |_| true).is_none() {
            return refused(Cause::about(
                i,
                format!("the lock that is held is not that of the value r{i} points to"),
            ));
        }
        Ok(())
    }

    /// The walk is inside the function that compares nodes of a tree.
    pub(crate) fn in_tree_callback(&self) -> bool {
        self.cur.frame().is_tree_callback
    }
}
