//! Objects that programs allocate (`bpf_obj_new`), share (`bpf_refcount`) and drop.

use crate::cause::Cause;
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::kfunc::KfuncCall;
use crate::memory::field_name;
use crate::reg::{Flags, Kind, Reg, source};
use crate::verifier::Verifier;
use skep_btf::{Field, FieldKind, Kind as BtfKind, Record, Type};
use std::sync::Arc;

/// Bytes of the greatest per-CPU object (`BPF_GLOBAL_PERCPU_MA_MAX_SIZE`).
const PERCPU_BYTES_MAX: u32 = 512;
/// How deep structures of numbers may nest.
const MAX_NESTING: u32 = 3;

fn refused<T>(cause: impl Into<Cause>) -> Check<T> {
    fail(code::KFUNC_ARG, errno::EINVAL, cause)
}

/// A structure of numbers, and of arrays and structures of them.
pub(crate) fn is_plain(t: Type<'_>, depth: u32) -> bool {
    let number = |t: Type<'_>| matches!(t.kind(), BtfKind::Int | BtfKind::Enum | BtfKind::Enum64);
    t.kind().is_composite()
        && t.members().all(|m| {
            let Some(ty) = t.btf().resolve(m.type_id) else {
                return false;
            };
            if ty.kind().is_composite() {
                return depth < MAX_NESTING && is_plain(ty, depth + 1);
            }
            match ty.array() {
                Some(array) => array.len > 0 && t.btf().resolve(array.element).is_some_and(number),
                None => number(ty),
            }
        })
}

/// Kinds of special field that allocated objects have; others are plain bytes in them.
const fn is_of_objects(kind: &FieldKind) -> bool {
    !matches!(
        kind,
        FieldKind::Timer | FieldKind::Workqueue | FieldKind::TaskWork
    )
}

impl Verifier<'_> {
    /// The special fields of the structure `id` of a BTF.
    pub(crate) fn record_of(&mut self, from: u32, id: u32) -> Arc<Record> {
        if let Some(known) = self.records.get(&(from, id)) {
            return known.clone();
        }
        let mut record = match self.btf_of(from) {
            Some(btf) if from != source::KERNEL => Record::of(btf, id).unwrap_or_default(),
            _ => Record::default(),
        };
        record.fields.retain(|f| is_of_objects(&f.kind));
        let record = Arc::new(record);
        self.records.insert((from, id), record.clone());
        record
    }

    /// The special fields of the map value or allocated object that `reg` points into.
    pub(crate) fn record_behind(&mut self, reg: &Reg) -> Arc<Record> {
        match reg.kind {
            Kind::MapValue => self.map(reg).record.clone(),
            Kind::Btf if reg.flags.has(Flags::ALLOC) => self.record_of(reg.aux2, reg.aux),
            _ => Arc::default(),
        }
    }

    /// Special fields of allocated objects are not accessed directly.
    pub(crate) fn keep_special_fields(&mut self, reg: &Reg, off: u32, size: u32) -> Check {
        let record = self.record_of(reg.aux2, reg.aux);
        let hit = |f: &&Field| off < f.offset + f.size && f.offset < off + size;
        match record.fields.iter().find(hit) {
            None => Ok(()),
            Some(f) => {
                let message = format!(
                    "the {} at byte {} of the object must not be accessed directly",
                    field_name(&f.kind),
                    f.offset
                );
                fail(code::SPECIAL_FIELD, errno::EACCES, message)
            }
        }
    }

    /// What `bpf_obj_new` and `bpf_percpu_obj_new` return.
    pub(crate) fn new_object(&mut self, call: &mut KfuncCall<'_>) -> Check<Reg> {
        let percpu = call.rules.name == "bpf_percpu_obj_new_impl";
        let id = call.constant.and_then(|c| u32::try_from(c).ok());
        let Some(id) = id else {
            return refused("the type of the object is no BTF id");
        };
        let Some(btf) = self.req.btf else {
            return fail(
                code::NO_BTF,
                errno::EINVAL,
                "objects need the program's BTF",
            );
        };
        let Some(t) = btf.get(id).filter(|t| t.kind().is_composite()) else {
            return refused(format!("BTF id {id} of the program is no structure"));
        };
        let size = t.size().unwrap_or(0);
        let record = self.record_of(source::PROGRAM, id);
        if percpu {
            if size > PERCPU_BYTES_MAX {
                return refused(format!(
                    "a per-CPU object has {size} bytes, at most {PERCPU_BYTES_MAX} are allowed"
                ));
            }
            if !is_plain(t, 0) || !record.is_empty() {
                return refused("per-CPU objects may hold nothing but numbers");
            }
        }
        call.alloc_bytes = Some(size);
        call.alloc_type = Some(id);
        let flags = if percpu {
            Flags::ALLOC.with(Flags::PERCPU)
        } else {
            Flags::ALLOC
        };
        Ok(Reg {
            flags,
            aux: id,
            aux2: source::PROGRAM,
            ..Reg::pointer(Kind::Btf)
        })
    }

    /// Argument `i` is an object to be dropped.
    pub(crate) fn dropped_object(&mut self, call: &mut KfuncCall<'_>, i: usize) -> Check {
        let reg = *self.reg(i);
        let percpu = Flags::ALLOC.with(Flags::PERCPU);
        let expected = match reg.flags {
            _ if reg.kind != Kind::Btf => None,
            Flags::ALLOC => Some("bpf_obj_drop_impl"),
            f if f == percpu => Some("bpf_percpu_obj_drop_impl"),
            _ => None,
        };
        match expected {
            None => return refused(Cause::about(i, format!("r{i} is no allocated object"))),
            Some(name) if name != call.rules.name => {
                return refused(Cause::about(i, format!("r{i} is an object for {name}")));
            }
            Some(_) => {}
        }
        if reg.ref_id == 0 {
            return refused(Cause::about(
                i,
                format!("the object behind r{i} is not the program's own"),
            ));
        }
        call.object = Some((reg.aux2, reg.aux));
        Ok(())
    }

    /// Argument `i` is an object with a reference count, of which one more is made.
    pub(crate) fn counted_object(&mut self, call: &mut KfuncCall<'_>, i: usize) -> Check {
        let reg = *self.reg(i);
        if reg.kind != Kind::Btf || !reg.flags.has(Flags::ALLOC) {
            return refused(Cause::about(i, format!("r{i} is no allocated object")));
        }
        let record = self.record_of(reg.aux2, reg.aux);
        let counted = record.fields.iter().find(|f| f.kind == FieldKind::Refcount);
        let Some(counted) = counted else {
            return refused(Cause::about(
                i,
                format!("the object behind r{i} has no bpf_refcount"),
            ));
        };
        call.node_offset = Some(counted.offset);
        call.owning = !reg.flags.has(Flags::NON_OWN_REF);
        call.object = Some((reg.aux2, reg.aux));
        Ok(())
    }

    /// What `bpf_refcount_acquire` returns.
    pub(crate) fn shared_object(&self, call: &KfuncCall<'_>) -> Reg {
        let (from, id) = call.object.unwrap_or((source::PROGRAM, 0));
        Reg {
            flags: Flags::ALLOC,
            aux: id,
            aux2: from,
            ..Reg::pointer(Kind::Btf)
        }
    }
}
