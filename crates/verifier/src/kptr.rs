//! Pointers to kernel and program objects that are stored in map values (`__kptr`).

use crate::args::CallArgs;
use crate::btf_walk::holds;
use crate::cause::Cause;
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::memory::MemAccess;
use crate::reg::{Flags, Kind, Reg, source};
use crate::state::RefKind;
use crate::verifier::Verifier;
use skep_abi::ctx::Access;
use skep_abi::trust;
use skep_btf::{FieldKind, Kind as BtfKind, KptrTag};

/// A place for a pointer in a map value or object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KptrSlot {
    /// How the pointer is tagged.
    pub tag: KptrTag,
    /// BTF of the structure it points to ([`source`]).
    pub from: u32,
    /// BTF id of the structure.
    pub id: u32,
}

fn refused<T>(errno: i32, cause: impl Into<Cause>) -> Check<T> {
    fail(code::KPTR, errno, cause)
}

impl Verifier<'_> {
    /// Which BTF the types of a map's values belong to.
    pub(crate) fn map_source(&self, map: u32) -> u32 {
        let own = self.req.btf;
        let of_map = self.map_at(map).btf.as_deref();
        match (own, of_map) {
            (Some(own), Some(of_map))
                if !std::ptr::eq(own.bytes(), of_map.bytes()) && own.bytes() != of_map.bytes() =>
            {
                source::FIRST_MAP + (map & !crate::jump::INNER_MAP)
            }
            _ => source::PROGRAM,
        }
    }

    /// The slot that special field `kind` describes, if it is one; its types are those of BTF `from`.
    fn slot_of(&self, kind: &FieldKind, from: u32) -> Check<Option<KptrSlot>> {
        let FieldKind::Kptr {
            tag,
            target,
            local_type,
        } = kind
        else {
            return Ok(None);
        };
        let local = KptrSlot {
            tag: *tag,
            from,
            id: *local_type,
        };
        if *tag == KptrTag::User {
            return Ok(Some(local));
        }
        let of_kernel = self
            .kernel_btf()?
            .find_by_name_kind(target, BtfKind::Struct);
        Ok(Some(of_kernel.map_or(local, |id| KptrSlot {
            tag: *tag,
            from: source::KERNEL,
            id,
        })))
    }

    /// May the pointer be used inside an RCU section without being taken out?
    fn is_protected(&self, slot: &KptrSlot) -> bool {
        if slot.tag == KptrTag::Percpu {
            return true;
        }
        if slot.tag != KptrTag::Ref {
            return false;
        }
        let name = self.btf_of(slot.from).and_then(|b| b.get(slot.id));
        slot.from != source::KERNEL
            || name.is_some_and(|t| trust::RCU_PROTECTED.contains(&t.name()))
    }

    /// A load or store of the stored pointer that is special field `field` of a map value: what is loaded, and whether that leads
    /// to an object that programs make.
    pub(crate) fn access_kptr(
        &mut self,
        a: &MemAccess,
        reg: &Reg,
        field: usize,
    ) -> Check<(Reg, bool)> {
        let from = self.map_source(reg.aux);
        let kind = self.map(reg).record.fields[field].kind.clone();
        let Some(slot) = self.slot_of(&kind, from)? else {
            return Ok((Reg::UNKNOWN, false));
        };
        if a.aligned {
            return refused(
                errno::EACCES,
                "a stored pointer is no target of atomic operations",
            );
        }
        if a.kind == Access::Write {
            self.store_kptr(a, &slot)?;
            return Ok((Reg::UNKNOWN, false));
        }
        let id = self.new_id();
        if slot.tag == KptrTag::User {
            let t = self.btf_of(slot.from).and_then(|b| b.get(slot.id));
            let loaded = Reg {
                flags: Flags::NULLABLE,
                aux: t.and_then(|t| t.size()).unwrap_or(0),
                id,
                ..Reg::pointer(Kind::Mem)
            };
            return Ok((loaded, false));
        }
        let good = match slot.tag {
            _ if !self.is_protected(&slot) || !self.in_rcu_section() => Flags::UNTRUSTED,
            KptrTag::Percpu => Flags::RCU.with(Flags::PERCPU),
            _ if slot.from != source::KERNEL => Flags::RCU.with(Flags::ALLOC),
            _ => Flags::RCU,
        };
        let is_object = slot.from != source::KERNEL
            || matches!(&kind, FieldKind::Kptr { target, .. } if trust::is_made_by_programs(target));
        let loaded = Reg {
            flags: good.with(Flags::NULLABLE),
            aux: slot.id,
            aux2: slot.from,
            id,
            ..Reg::pointer(Kind::Btf)
        };
        Ok((loaded, is_object))
    }

    fn store_kptr(&self, a: &MemAccess, slot: &KptrSlot) -> Check {
        if slot.tag != KptrTag::Untrusted {
            return refused(
                errno::EACCES,
                "a kptr field is written as if it were plain memory",
            );
        }
        match a.value {
            Some(value) if self.reg(value).is_zero() => Ok(()),
            Some(value) => self.check_kptr_fits(slot, value),
            None if a.imm.is_none_or(|imm| imm == 0) => Ok(()),
            None => refused(errno::EACCES, "only NULL is stored as an immediate here"),
        }
    }

    /// Register `i` must be a pointer that may be stored in `slot`.
    pub(crate) fn check_kptr_fits(&self, slot: &KptrSlot, i: usize) -> Check {
        let reg = self.reg(i);
        let mut allowed = Flags::NULLABLE;
        if reg.aux2 == source::KERNEL {
            allowed = allowed.with(Flags::TRUSTED).with(Flags::RCU);
            if slot.tag == KptrTag::Untrusted {
                allowed = allowed.with(Flags::UNTRUSTED);
            }
        } else {
            allowed = allowed.with(Flags::ALLOC);
            if slot.tag == KptrTag::Percpu {
                allowed = allowed.with(Flags::PERCPU);
            }
        }
        let wrong = |what: &str| {
            let name = self.btf_of(slot.from).and_then(|b| b.get(slot.id));
            let message = Cause::about(
                i,
                format!(
                    "r{i} is {}{what}; this place holds pointers to struct {}",
                    reg.describe(),
                    name.map_or("?", |t| t.name())
                ),
            );
            refused(errno::EACCES, message)
        };
        if reg.kind != Kind::Btf || reg.flags.without(allowed) != Flags::NONE {
            return wrong("");
        }
        self.check_unmoved(i, true)?;
        let fits = reg.aux2 == slot.from
            && holds(
                self.pointee(reg)?,
                reg.off.unsigned_abs(),
                slot.id,
                slot.tag != KptrTag::Untrusted,
            );
        if fits {
            Ok(())
        } else {
            wrong(" of another type")
        }
    }

    /// Argument `i` of `bpf_kptr_xchg`: the slot.
    pub(crate) fn kptr_arg(&mut self, i: usize, args: &mut CallArgs) -> Check {
        let reg = *self.reg(i);
        let from = match reg.kind {
            Kind::MapValue if !self.map(&reg).has_btf => {
                let message = format!("map \"{}\" needs BTF to hold pointers", self.map(&reg).name);
                return fail(code::NO_BTF, errno::EINVAL, message);
            }
            Kind::MapValue => self.map_source(reg.aux),
            _ => reg.aux2,
        };
        let Some(at) = reg.fixed_offset() else {
            return refused(
                errno::EINVAL,
                Cause::about(i, format!("r{i} has a variable offset")),
            );
        };
        let record = self.record_behind(&reg);
        let mut slots = record
            .fields
            .iter()
            .filter(|f| matches!(f.kind, FieldKind::Kptr { .. }))
            .peekable();
        if slots.peek().is_none() {
            return refused(errno::EINVAL, "the value holds no pointers");
        }
        let field = slots.find(|f| i64::from(f.offset) == at);
        let slot = match field {
            Some(f) => self.slot_of(&f.kind, from)?,
            None => None,
        };
        match slot {
            None => refused(errno::EACCES, format!("byte {at} of the value is no kptr")),
            Some(s) if !matches!(s.tag, KptrTag::Ref | KptrTag::Percpu) => refused(
                errno::EACCES,
                format!("the kptr at byte {at} holds no references"),
            ),
            Some(s) => {
                args.kptr = Some(s);
                if reg.kind == Kind::MapValue {
                    args.map = Some((reg.aux, reg.aux2));
                }
                Ok(())
            }
        }
    }

    /// Register `i` goes into the slot of `bpf_kptr_xchg`.
    pub(crate) fn exchanged_arg(&self, i: usize, args: &CallArgs) -> Check {
        let reg = self.reg(i);
        let Some(slot) = args.kptr.filter(|_| !reg.is_zero()) else {
            return Ok(());
        };
        if reg.is_nullable() {
            let message =
                Cause::about(i, format!("r{i} may be NULL: check it before it is stored"));
            return fail(code::ARG_NULL, errno::EACCES, message);
        }
        self.check_kptr_fits(&slot, i)
    }

    /// What `bpf_kptr_xchg` returns: what was in the slot.
    pub(crate) fn exchanged_result(&self, args: &CallArgs) -> Check<Reg> {
        let Some(slot) = args.kptr else {
            return refused(errno::EINVAL, "the call has no kptr");
        };
        let local = match slot.tag {
            _ if slot.from == source::KERNEL => Flags::NONE,
            KptrTag::Percpu => Flags::ALLOC.with(Flags::PERCPU),
            _ => Flags::ALLOC,
        };
        Ok(Reg {
            flags: local.with(Flags::NULLABLE),
            aux: slot.id,
            aux2: slot.from,
            ..Reg::pointer(Kind::Btf)
        })
    }

    /// The reference of an argument now belongs to the map.
    pub(crate) fn release_into_kptr(&mut self, args: &CallArgs) -> Check {
        let id = args.ref_id;
        let held = |r: &crate::state::Ref| r.kind == RefKind::Pointer && r.id == id;
        let Some(at) = self.cur.refs.iter().position(held) else {
            let message = "the pointer to be stored was not acquired, or was released before";
            return fail(code::NOT_ACQUIRED, errno::EINVAL, message);
        };
        self.cur.refs.swap_remove(at);
        let (in_rcu, leak) = (self.in_rcu_section(), self.privileges.leak_pointers);
        let percpu = Flags::ALLOC.with(Flags::PERCPU);
        self.cur.for_each_reg(|r| {
            if r.ref_id != id {
                return;
            }
            if in_rcu && r.flags.has(percpu) {
                r.ref_id = 0;
                r.flags = r.flags.without(Flags::ALLOC).with(Flags::RCU);
            } else {
                *r = if leak { Reg::UNKNOWN } else { Reg::NOT_INIT };
            }
        });
        Ok(())
    }
}
