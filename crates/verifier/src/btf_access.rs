//! Loads and stores through typed pointers: what may be read, and how far a loaded pointer can be trusted.

use crate::btf_walk::{Found, Walk, holds, walk};
use crate::cause::Cause;
use crate::code;
use crate::fail::{Check, errno, fail};
use crate::memory::MemAccess;
use crate::reg::{Flags, Kind, Reg, source};
use crate::verified::{MapField, Region};
use crate::verifier::Verifier;
use skep_abi::ctx::Access;
use skep_abi::kernel::{Known, Rule, has_rule};
use skep_abi::struct_ops;
use skep_abi::trust::{self, Trust};
use skep_btf::{Btf, Type};

/// Fields of `struct bpf_map`, with which the structure of every map begins.
const MAP_FIELDS: &[(&str, MapField)] = &[
    ("map_type", MapField::Type),
    ("key_size", MapField::KeySize),
    ("value_size", MapField::ValueSize),
    ("max_entries", MapField::MaxEntries),
    ("map_extra", MapField::Extra),
    ("map_flags", MapField::Flags),
    ("id", MapField::Id),
];

/// The whole field that lies at `off`.
fn map_field(btf: &Btf, off: i64, size: u32) -> Option<MapField> {
    let map = btf.find("bpf_map", skep_btf::Kind::Struct)?;
    let at = u32::try_from(off).ok()?.checked_mul(8)?;
    let member = map.members().find(|m| m.bit_offset == at)?;
    let is_whole = btf.size_of(member.type_id).ok()? == size;
    let known = MAP_FIELDS.iter().find(|(name, _)| *name == member.name);
    known.filter(|_| is_whole).map(|(_, field)| *field)
}

/// Flags that say why a pointer is good (`BPF_REG_TRUSTED_MODIFIERS`).
pub(crate) const TRUSTING: Flags = Flags::ALLOC.with(Flags::TRUSTED).with(Flags::NON_OWN_REF);

impl Reg {
    /// Good for as long as the program runs, or is referenced.
    pub(crate) const fn is_trusted(&self) -> bool {
        let unsafe_flags = self.flags.without(TRUSTING);
        if self.ref_id != 0 {
            return true;
        }
        match self.kind {
            Kind::Socket | Kind::SockCommon | Kind::TcpSock | Kind::ConstMap => unsafe_flags.0 == 0,
            _ => self.flags.any(TRUSTING) && unsafe_flags.0 == 0,
        }
    }
}

impl<'a> Verifier<'a> {
    /// The kernel's BTF.
    pub(crate) fn kernel_btf(&self) -> Check<&'a Btf> {
        match self.req.kernel_btf {
            Some(btf) => Ok(btf),
            None => fail(
                code::NEEDS_KERNEL_BTF,
                errno::EINVAL,
                "this needs the BTF of the kernel",
            ),
        }
    }

    /// The BTF that [`Reg::aux2`] of a typed pointer names.
    pub(crate) fn btf_of(&self, from: u32) -> Option<&'a Btf> {
        match from {
            source::KERNEL => self.req.kernel_btf,
            source::PROGRAM => self.req.btf,
            map => {
                let desc = self.req.maps.get((map - source::FIRST_MAP) as usize)?;
                desc.btf.as_deref()
            }
        }
    }

    /// The structure a typed pointer points to.
    pub(crate) fn pointee(&self, reg: &Reg) -> Check<Type<'a>> {
        match self.btf_of(reg.aux2).and_then(|b| b.get(reg.aux)) {
            Some(t) => Ok(t.resolve()),
            None => fail(
                code::BAD_BTF_REF,
                errno::EINVAL,
                "the pointer's type is in no BTF",
            ),
        }
    }

    /// A pointer to `target`, a structure of the kernel.
    pub(crate) fn kernel_pointer(&mut self, target: Type<'_>, flags: Flags) -> Reg {
        let nullable = flags.has(Flags::NULLABLE);
        Reg {
            flags,
            aux: target.id(),
            aux2: source::KERNEL,
            id: if nullable { self.new_id() } else { 0 },
            ..Reg::pointer(Kind::Btf)
        }
    }

    /// A pointer to the kernel's structure `name`.
    pub(crate) fn kernel_struct(&mut self, name: &str, flags: Flags) -> Check<Reg> {
        match self.kernel_btf()?.find(name, skep_btf::Kind::Struct) {
            Some(t) => Ok(self.kernel_pointer(t, flags)),
            None => fail(
                code::BAD_BTF_REF,
                errno::EINVAL,
                format!("this kernel has no struct {name}"),
            ),
        }
    }

    /// Does `reg` point to, or begin with, the kernel's structure `name`?
    pub(crate) fn points_to(&self, reg: &Reg, name: &str, strict: bool) -> Check<bool> {
        let btf = self.kernel_btf()?;
        let Some(wanted) = btf.find_by_name_kind(name, skep_btf::Kind::Struct) else {
            return Ok(false);
        };
        if reg.aux2 != source::KERNEL || reg.off < 0 {
            return Ok(false);
        }
        Ok(holds(
            self.pointee(reg)?,
            reg.off.unsigned_abs(),
            wanted,
            strict,
        ))
    }

    /// An access through a typed pointer; `off` is its offset in the structure.
    pub(crate) fn access_btf(&mut self, a: &MemAccess, reg: &Reg, off: i64) -> Check<Reg> {
        let loaded = self.typed_access(a.base, reg, off, a.size.bytes(), a.kind)?;
        let region = match (reg.flags.has(Flags::ALLOC), reg.flags.has(Flags::UNTRUSTED)) {
            (true, false) => Region::Memory,
            (true, true) => Region::Object,
            (false, _) => Region::Btf { type_id: reg.aux },
        };
        self.rec.access(self.insn, region, Some(off));
        Ok(loaded)
    }

    /// Memory behind a typed pointer is handed to a helper that reads it.
    pub(crate) fn btf_memory_arg(&mut self, i: usize, size: u32) -> Check {
        let reg = *self.reg(i);
        let off = i64::from(reg.off);
        self.typed_access(i, &reg, off, size, Access::Read)?;
        if !reg.flags.has(Flags::ALLOC) {
            let region = Region::Btf { type_id: reg.aux };
            self.rec.access(self.insn, region, Some(off));
        }
        Ok(())
    }

    fn typed_access(
        &mut self,
        i: usize,
        reg: &Reg,
        off: i64,
        size: u32,
        kind: Access,
    ) -> Check<Reg> {
        self.check_typed_access(i, reg, off)?;
        let off = u32::try_from(off).unwrap_or(u32::MAX / 2);
        let t = self.pointee(reg)?;
        let writes = kind == Access::Write;
        let alloc = reg.flags.has(Flags::ALLOC);
        if writes && !alloc {
            return self.typed_store(reg, t, off, size);
        }
        if writes && reg.flags.has(Flags::UNTRUSTED) {
            let message = Cause::about(i, format!("r{i} may be stale: only reads are safe"));
            return fail(code::READ_ONLY, errno::EACCES, message);
        }
        if alloc {
            self.keep_special_fields(reg, off, size)?;
        }
        let walked = walk(t, off, size)?;
        if alloc {
            return Ok(Reg::UNKNOWN);
        }
        Ok(self.walked(reg, t, &walked))
    }

    fn check_typed_access(&self, i: usize, reg: &Reg, off: i64) -> Check {
        if !self.privileges.leak_pointers {
            let message = "reading kernel structures needs CAP_PERFMON";
            return fail(code::NEEDS_CAPABILITY, errno::EPERM, message);
        }
        if !self.req.gpl_compatible
            && reg.aux2 == source::KERNEL
            && has_rule(self.req.kernel, Rule::GplStructures)
        {
            let message = "only programs with a GPL-compatible license may read kernel structures";
            return fail(code::GPL_ONLY, errno::EINVAL, message);
        }
        let refused = |what: Cause| fail(code::BTF_ACCESS, errno::EACCES, what);
        if off < 0 {
            return refused(Cause::about(
                i,
                format!("r{i} is read at the negative offset {off}"),
            ));
        }
        if reg.var.as_const() != Some(0) {
            return refused(Cause::about(
                i,
                format!("r{i} is {} at a variable offset", reg.describe()),
            ));
        }
        if reg.flags.has(Flags::USER) {
            return refused(Cause::about(i, format!("r{i} points to user memory")));
        }
        if reg.flags.has(Flags::PERCPU) {
            return refused(Cause::about(
                i,
                format!("r{i} points to per-CPU data: ask bpf_per_cpu_ptr for that of a CPU"),
            ));
        }
        Ok(())
    }

    /// Few fields of kernel structures can be written, by few program types.
    fn typed_store(&self, reg: &Reg, t: Type<'_>, off: u32, size: u32) -> Check<Reg> {
        let fits = |path: &str| {
            field_at(t, path).is_some_and(|(start, bytes, array)| {
                (off == start || (array && off > start)) && off + size <= start + bytes
            })
        };
        let written = |path: &&str| {
            let answer = self.req.kernel.map(|k| k.writes(t.name(), path));
            answer != Some(Known::No)
        };
        let mut fields = struct_ops::writable(self.env.prog_type, t.name()).filter(written);
        if !reg.flags.has(Flags::UNTRUSTED) && fields.any(fits) {
            return Ok(Reg::UNKNOWN);
        }
        let message = format!("byte {off} of struct {} can only be read", t.name());
        fail(code::READ_ONLY, errno::EACCES, message)
    }

    /// What a load leaves in the register.
    fn walked(&mut self, reg: &Reg, t: Type<'_>, walked: &Walk<'_>) -> Reg {
        match walked.found {
            Found::Scalar => Reg::UNKNOWN,
            Found::Opaque => Reg {
                flags: Flags::RDONLY.with(Flags::UNTRUSTED),
                ..Reg::pointer(Kind::Mem)
            },
            Found::Pointer { target, field, tag } => {
                let found = if walked.through_union {
                    tag.with(Flags::UNTRUSTED)
                } else {
                    tag
                };
                let flags = self.loaded_trust(reg, t.name(), field, found);
                let mut r = self.kernel_pointer(target, flags);
                r.aux2 = reg.aux2;
                r
            }
        }
    }

    /// How far the pointer in `field` of the structure behind `reg` can be trusted.
    fn loaded_trust(&self, reg: &Reg, structure: &str, field: &str, found: Flags) -> Flags {
        if reg.flags.has(Flags::UNTRUSTED) {
            return Flags::UNTRUSTED;
        }
        let deprecated = found.without(TRUSTING).without(Flags::RCU);
        let rcu = reg.flags.has(Flags::RCU);
        if !reg.is_trusted() && !rcu {
            return deprecated;
        }
        let known = trust::field(structure, field);
        match known {
            Some(Trust::Trusted) => return found.with(Flags::TRUSTED),
            Some(Trust::TrustedOrNull) => {
                return found.with(Flags::TRUSTED).with(Flags::NULLABLE);
            }
            _ => {}
        }
        if !self.in_rcu_section() || reg.is_nullable() {
            return Flags::UNTRUSTED;
        }
        match known {
            Some(Trust::Rcu) => found.with(Flags::RCU),
            Some(Trust::RcuOrNull) => {
                let good = found.without(Flags::UNTRUSTED);
                good.with(Flags::RCU).with(Flags::NULLABLE)
            }
            _ if found.has(Flags::RCU) => found.with(Flags::NULLABLE),
            _ if found.any(Flags::PERCPU.with(Flags::USER)) => found,
            _ => deprecated,
        }
    }

    /// A field of the structure behind a map.
    pub(crate) fn access_map_struct(&mut self, a: &MemAccess, reg: &Reg, off: i64) -> Check<Reg> {
        let map = self.map(reg);
        let map_type = map.map_type;
        let (base, kind) = (a.base, a.kind);
        if !self.privileges.leak_pointers {
            let message = "reading the structure of a map needs CAP_PERFMON";
            return fail(code::NEEDS_CAPABILITY, errno::EPERM, message);
        }
        if kind == Access::Write {
            let what = format!("r{base} is a map: its structure can only be read");
            let message = Cause::about(base, what);
            return fail(code::READ_ONLY, errno::EACCES, message);
        }
        if off < 0 {
            let what = format!("r{base} is a map: nothing to read {} bytes before it", -off);
            let message = Cause::about(base, what);
            return fail(code::BTF_ACCESS, errno::EACCES, message);
        }
        let btf = self.kernel_btf()?;
        let name = skep_abi::map::kernel_struct(map_type);
        let Some(t) = name.and_then(|n| btf.find(n, skep_btf::Kind::Struct)) else {
            let message = format!("the structure of a {map_type} map cannot be read");
            return fail(code::BTF_ACCESS, errno::EOPNOTSUPP, message);
        };
        let walked = walk(
            t,
            u32::try_from(off).unwrap_or(u32::MAX / 2),
            a.size.bytes(),
        )?;
        let plain = self.kernel_pointer(t, Flags::NONE);
        let region = match map_field(btf, off, a.size.bytes()) {
            Some(field) => Region::Map(field),
            None => Region::Btf { type_id: t.id() },
        };
        self.rec.access(self.insn, region, Some(off));
        Ok(match walked.found {
            Found::Pointer { target, tag, .. } => {
                let union = if walked.through_union {
                    Flags::UNTRUSTED
                } else {
                    Flags::NONE
                };
                self.kernel_pointer(target, tag.with(union))
            }
            _ => self.walked(&plain, t, &walked),
        })
    }
}

/// Offset and bytes of the field `path` (`a.b.c`), and whether it is an array.
fn field_at(t: Type<'_>, path: &str) -> Option<(u32, u32, bool)> {
    let (mut at, mut offset, mut bytes, mut array) = (t, 0, 0, false);
    for name in path.split('.') {
        let (start, ty) = member(at, name, 0)?;
        offset += start;
        bytes = ty.btf().size_of(ty.id()).ok()?;
        array = ty.array().is_some();
        at = ty;
    }
    Some((offset, bytes, array))
}

/// Finds a member by name, in anonymous members too.
fn member<'a>(t: Type<'a>, name: &str, depth: u32) -> Option<(u32, Type<'a>)> {
    if depth > 8 {
        return None;
    }
    t.members().find_map(|m| {
        let ty = t.btf().resolve(m.type_id)?;
        if m.name == name {
            return Some((m.bit_offset / 8, ty));
        }
        if !m.name.is_empty() {
            return None;
        }
        let (inner, found) = member(ty, name, depth + 1)?;
        Some((m.bit_offset / 8 + inner, found))
    })
}
