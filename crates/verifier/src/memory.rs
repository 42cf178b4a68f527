//! Loads and stores: which memory a pointer reaches, and whether all of the access lies in it.

use crate::cause::{Cause, Reach, register};
use crate::code;
use crate::domain::Tnum;
use crate::fail::{Check, errno, fail};
use crate::global::ctx_name;
use crate::reg::{Flags, Kind, Reg};
use crate::request::MapDesc;
use crate::verified::{Region, SockKind};
use crate::verifier::Verifier;
use skep_abi::ctx::{Access, Layout, Yields, layout};
use skep_abi::limits::{BPF_MAX_VAR_OFF, MAX_PACKET_OFF};
use skep_abi::map_flags::{BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG};
use skep_btf::FieldKind;
use skep_isa::{Extend, Reg as R, Size, Src};

/// One access through a pointer register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemAccess {
    /// Register with the address.
    pub base: usize,
    /// Offset in the instruction.
    pub offset: i16,
    /// Size.
    pub size: Size,
    /// Load or store.
    pub kind: Access,
    /// Register loaded or stored; `None` for immediates and for checks alone.
    pub value: Option<usize>,
    /// How a load fills the upper bits.
    pub extend: Extend,
    /// The access must be aligned to its size whatever the memory.
    pub aligned: bool,
    /// Stored immediate.
    pub imm: Option<i32>,
}

/// An access through register `i` that leaves its memory.
fn outside(i: usize, reg: &Reg, reach: Reach) -> Cause {
    Cause::Bounds {
        reg: register(i),
        memory: reg.describe().into(),
        reach,
    }
}

impl Verifier<'_> {
    /// `dst = *(size *)(src + offset)`
    pub(crate) fn check_load(
        &mut self,
        size: Size,
        extend: Extend,
        dst: R,
        src: R,
        offset: i16,
    ) -> Check {
        self.load(size, extend, dst, src, offset, false)
    }

    /// `dst = load_acquire(…)`
    pub(crate) fn check_load_acquire(&mut self, size: Size, dst: R, src: R, offset: i16) -> Check {
        self.check_readable(src.index())?;
        self.check_atomic_memory(src.index())?;
        self.load(size, Extend::Zero, dst, src, offset, true)
    }

    fn load(
        &mut self,
        size: Size,
        extend: Extend,
        dst: R,
        src: R,
        offset: i16,
        aligned: bool,
    ) -> Check {
        self.check_readable(src.index())?;
        self.check_writable(dst.index())?;
        let pointer = *self.reg(src.index());
        let value = Some(dst.index());
        let access = MemAccess {
            base: src.index(),
            offset,
            size,
            kind: Access::Read,
            value,
            extend,
            aligned,
            imm: None,
        };
        self.check_access(&access)?;
        self.rec.pointer_kind(self.insn, &pointer, Access::Read)
    }

    /// `*(size *)(dst + offset) = src`
    pub(crate) fn check_store(&mut self, size: Size, dst: R, src: Src, offset: i16) -> Check {
        let value = match src {
            Src::Reg(src) => {
                self.check_readable(src.index())?;
                Some(src.index())
            }
            Src::Imm(_) => None,
        };
        let imm = if let Src::Imm(imm) = src {
            Some(imm)
        } else {
            None
        };
        self.store(size, dst, value, imm, offset, false)
    }

    /// `store_release(…)`
    pub(crate) fn check_store_release(&mut self, size: Size, dst: R, src: R, offset: i16) -> Check {
        self.check_readable(src.index())?;
        self.check_readable(dst.index())?;
        if self.is_secret_pointer(src.index()) {
            return fail(
                code::POINTER_LEAK,
                errno::EACCES,
                Cause::about(
                    src.index(),
                    format!("the pointer in {src} would be stored as a number"),
                ),
            );
        }
        self.check_atomic_memory(dst.index())?;
        self.store(size, dst, Some(src.index()), None, offset, true)
    }

    fn store(
        &mut self,
        size: Size,
        dst: R,
        value: Option<usize>,
        imm: Option<i32>,
        offset: i16,
        aligned: bool,
    ) -> Check {
        self.check_readable(dst.index())?;
        let pointer = *self.reg(dst.index());
        let access = MemAccess {
            base: dst.index(),
            offset,
            size,
            kind: Access::Write,
            value,
            extend: Extend::Zero,
            aligned,
            imm,
        };
        self.check_access(&access)?;
        self.rec.pointer_kind(self.insn, &pointer, Access::Write)
    }

    /// Checks one access and, for loads, what the register holds afterwards.
    pub(crate) fn check_access(&mut self, a: &MemAccess) -> Check {
        let reg = *self.reg(a.base);
        let size = a.size.bytes();
        self.check_alignment(&reg, a)?;
        let off = i64::from(a.offset) + i64::from(reg.off);
        self.check_leak(a, &reg)?;
        let mut is_object = false;
        let loaded = match reg.kind {
            Kind::MapKey => self.access_map_key(a, &reg, off)?,
            Kind::MapValue if !reg.is_nullable() => {
                let (loaded, leads_to_object) = self.access_map_value(a, &reg, off)?;
                is_object = leads_to_object;
                loaded
            }
            Kind::Mem if !reg.is_nullable() => self.access_mem(a, &reg, off)?,
            Kind::Ctx => self.access_ctx(a, &reg)?,
            Kind::Stack => {
                if a.kind == Access::Read {
                    self.rec.stored_pointer(self.insn, false);
                }
                return self.access_stack(a, &reg);
            }
            Kind::Pkt | Kind::PktMeta => self.access_packet(a, &reg, off)?,
            Kind::FlowKeys => self.access_flow_keys(off, size)?,
            Kind::Socket | Kind::SockCommon | Kind::TcpSock | Kind::XdpSock
                if !reg.is_nullable() =>
            {
                self.access_sock(a, &reg, off)?
            }
            Kind::TpBuffer if !reg.is_nullable() => self.access_buffer(a, &reg, off)?,
            Kind::Btf if !reg.is_nullable() => self.access_btf(a, &reg, off)?,
            Kind::ConstMap => self.access_map_struct(a, &reg, off)?,
            Kind::Arena => {
                self.rec.access(self.insn, Region::Arena, None);
                Reg::UNKNOWN
            }
            _ => {
                let code = if reg.is_nullable() {
                    code::NULL_DEREFERENCE
                } else {
                    code::NOT_A_POINTER
                };
                return fail(
                    code,
                    errno::EACCES,
                    Cause::Dereference {
                        reg: register(a.base),
                        found: reg.describe().into(),
                    },
                );
            }
        };
        if a.kind == Access::Read {
            self.rec.stored_pointer(self.insn, is_object);
        }
        if let (Access::Read, Some(value)) = (a.kind, a.value) {
            *self.reg_mut(value) = extended(loaded, a.size, a.extend);
        }
        Ok(())
    }

    /// A pointer must not be stored where it could be read as a number.
    fn check_leak(&self, a: &MemAccess, reg: &Reg) -> Check {
        let (Access::Write, Some(value)) = (a.kind, a.value) else {
            return Ok(());
        };
        let visible = !matches!(
            reg.kind,
            Kind::Stack | Kind::Scalar | Kind::NotInit | Kind::Btf | Kind::ConstMap
        );
        if visible && self.is_secret_pointer(value) {
            let message = Cause::about(
                value,
                format!(
                    "the pointer in r{value} would be stored in {}",
                    reg.describe()
                ),
            );
            return fail(code::POINTER_LEAK, errno::EACCES, message);
        }
        Ok(())
    }

    fn check_alignment(&self, reg: &Reg, a: &MemAccess) -> Check {
        let size = u64::from(a.size.bytes());
        let strict = self.strict_alignment || a.aligned || reg.kind == Kind::Stack;
        if !strict || size == 1 || reg.kind == Kind::Arena {
            return Ok(());
        }
        // Ethernet headers are 14 bytes long: packets start so that what follows them is aligned (NET_IP_ALIGN).
        let shift = if reg.is_packet() { 2 } else { 0 };
        let at: Tnum = reg.bits_at(i64::from(a.offset) + shift);
        if at.is_aligned(size) {
            return Ok(());
        }
        let message = format!(
            "access of {size} bytes to {} at an offset that is not a multiple of {size}",
            reg.describe()
        );
        fail(code::MISALIGNED, errno::EACCES, message)
    }

    /// `size` bytes at `off` plus the variable part of `reg` must lie within `limit` bytes.
    pub(crate) fn check_region(
        &self,
        i: usize,
        reg: &Reg,
        off: i64,
        size: u32,
        limit: u32,
        zero_ok: bool,
    ) -> Check {
        let min = i128::from(reg.var.smin) + i128::from(off);
        if reg.var.smin < 0 && (i32::try_from(min).is_err() || min < 0) {
            let cause = outside(i, reg, Reach::Before(min));
            return fail(code::NEGATIVE_OFFSET, errno::EACCES, cause);
        }
        let fits = |start: i128| {
            start >= 0 && (size > 0 || zero_ok) && start + i128::from(size) <= i128::from(limit)
        };
        if !fits(min) {
            let end = min + i128::from(size);
            let cause = outside(i, reg, Reach::Behind { end, limit });
            return fail(code::OUT_OF_BOUNDS, errno::EACCES, cause);
        }
        if reg.var.umax >= BPF_MAX_VAR_OFF.cast_unsigned() {
            let cause = outside(i, reg, Reach::Unbounded);
            return fail(code::UNBOUNDED_OFFSET, errno::EACCES, cause);
        }
        let max = i128::from(reg.var.umax) + i128::from(off);
        if !fits(max) {
            let end = max + i128::from(size);
            let cause = outside(i, reg, Reach::Behind { end, limit });
            return fail(code::OUT_OF_BOUNDS, errno::EACCES, cause);
        }
        Ok(())
    }

    /// The map a pointer belongs to.
    pub(crate) fn map(&self, reg: &Reg) -> &MapDesc {
        self.map_at(reg.aux)
    }

    fn access_map_key(&mut self, a: &MemAccess, reg: &Reg, off: i64) -> Check<Reg> {
        if a.kind == Access::Write {
            return fail(
                code::READ_ONLY,
                errno::EACCES,
                "the key of a map element must not be changed",
            );
        }
        self.check_region(
            a.base,
            reg,
            off,
            a.size.bytes(),
            self.map(reg).key_size,
            false,
        )?;
        self.rec.access(self.insn, Region::Memory, None);
        Ok(Reg::UNKNOWN)
    }

    /// Programs may be forbidden to read or write a map.
    pub(crate) fn check_map_mode(&self, reg: &Reg, kind: Access) -> Check {
        let map = self.map(reg);
        match kind {
            Access::Write if map.program_flags() & BPF_F_RDONLY_PROG != 0 => fail(
                code::READ_ONLY,
                errno::EACCES,
                format!("map \"{}\" is read-only for programs", map.name),
            ),
            Access::Read if map.program_flags() & BPF_F_WRONLY_PROG != 0 => fail(
                code::WRITE_ONLY,
                errno::EACCES,
                format!("map \"{}\" is write-only for programs", map.name),
            ),
            _ => Ok(()),
        }
    }

    /// The access must lie within the map's value and keep away from its special fields.
    pub(crate) fn check_map_bounds(
        &self,
        i: usize,
        off: i64,
        size: u32,
        zero_ok: bool,
        indirect: bool,
    ) -> Check {
        let reg = *self.reg(i);
        let map = self.map(&reg);
        self.check_region(i, &reg, off, size, map.value_size, zero_ok)?;
        let (start, end) = (
            reg.var.smin.wrapping_add(off),
            reg.var.umax.cast_signed().wrapping_add(off) + i64::from(size),
        );
        for f in &map.record.fields {
            if start < i64::from(f.offset + f.size) && i64::from(f.offset) < end {
                self.check_special_field(&reg, off, size, f, indirect)?;
            }
        }
        Ok(())
    }

    fn check_special_field(
        &self,
        reg: &Reg,
        off: i64,
        size: u32,
        f: &skep_btf::Field,
        indirect: bool,
    ) -> Check {
        let name = field_name(&f.kind);
        if !matches!(f.kind, FieldKind::Kptr { .. }) {
            let message = format!(
                "the {name} at byte {} of the value must not be accessed directly",
                f.offset
            );
            return fail(code::SPECIAL_FIELD, errno::EACCES, message);
        }
        let exact = reg
            .var
            .as_const()
            .map(|v| v.cast_signed().wrapping_add(off))
            == Some(i64::from(f.offset));
        if indirect || !exact || size != 8 {
            let message = format!(
                "the kptr at byte {} is only accessible by a load or store of exactly its eight bytes",
                f.offset
            );
            return fail(code::KPTR, errno::EACCES, message);
        }
        Ok(())
    }

    /// What is loaded, and whether that is a stored pointer to an object.
    fn access_map_value(&mut self, a: &MemAccess, reg: &Reg, off: i64) -> Check<(Reg, bool)> {
        let size = a.size.bytes();
        self.check_map_mode(reg, a.kind)?;
        self.check_map_bounds(a.base, off, size, false, false)?;
        let fixed = reg
            .var
            .as_const()
            .map(|v| v.cast_signed().wrapping_add(off));
        self.rec
            .access(self.insn, Region::MapValue { map: reg.aux }, fixed);
        if let Some(at) = fixed.and_then(|f| u32::try_from(f).ok()) {
            let kptr = self
                .map(reg)
                .record
                .fields
                .iter()
                .position(|f| f.offset == at && matches!(f.kind, FieldKind::Kptr { .. }));
            if let Some(field) = kptr {
                return self.access_kptr(a, reg, field);
            }
            if let Some(value) = self
                .map(reg)
                .frozen
                .as_deref()
                .and_then(|bytes| read_constant(bytes, at, a))
            {
                return Ok((Reg::constant(value), false));
            }
        }
        Ok((Reg::UNKNOWN, false))
    }

    fn access_mem(&mut self, a: &MemAccess, reg: &Reg, off: i64) -> Check<Reg> {
        let rdonly = reg.flags.has(Flags::RDONLY);
        if a.kind == Access::Write && rdonly {
            return fail(
                code::READ_ONLY,
                errno::EACCES,
                Cause::about(
                    a.base,
                    format!("the memory behind r{} is read-only", a.base),
                ),
            );
        }
        let untrusted = rdonly && reg.flags.has(Flags::UNTRUSTED);
        if !untrusted {
            self.check_region(a.base, reg, off, a.size.bytes(), reg.aux, false)?;
        }
        let region = if untrusted {
            Region::Btf { type_id: 0 }
        } else {
            Region::Memory
        };
        self.rec.access(self.insn, region, None);
        Ok(Reg::UNKNOWN)
    }

    fn access_ctx(&mut self, a: &MemAccess, reg: &Reg) -> Check<Reg> {
        let off = self.check_ctx_offset(a, reg)?;
        if matches!(layout(&self.env), Layout::Btf) {
            return self.access_typed_ctx(a, off);
        }
        let signed = a.kind == Access::Read && a.extend == Extend::Sign;
        let info = self.ctx_access(
            off,
            a.size.bytes(),
            if signed { Access::ReadSigned } else { a.kind },
        )?;
        self.check_ctx_field_known(off, a.size.bytes())?;
        self.rec
            .access(self.insn, Region::Ctx(info), Some(i64::from(off)));
        let pointer = |kind: Kind| Ok(Reg::pointer(kind));
        let or_null = |v: &mut Self, kind: Kind| {
            let id = v.new_id();
            Ok(Reg {
                flags: Flags::NULLABLE,
                id,
                ..Reg::pointer(kind)
            })
        };
        match info.yields {
            Yields::Scalar => Ok(Reg::UNKNOWN),
            Yields::TpBuffer => pointer(Kind::TpBuffer),
            Yields::PktData => pointer(Kind::Pkt),
            Yields::PktMeta => pointer(Kind::PktMeta),
            Yields::PktEnd => pointer(Kind::PktEnd),
            Yields::FlowKeys => pointer(Kind::FlowKeys),
            Yields::Sock => pointer(Kind::Socket),
            Yields::SockOrNull => or_null(self, Kind::Socket),
            Yields::SockCommonOrNull => or_null(self, Kind::SockCommon),
            Yields::BtfPtr(name) => self.kernel_struct(name, Flags::TRUSTED),
        }
    }

    /// Contexts grow at their end: in another kernel than the reference kernel, its types say how far it reaches.
    fn check_ctx_field_known(&self, off: i32, size: u32) -> Check {
        let is_struct = matches!(layout(&self.env), Layout::Fields(..));
        let name = ctx_name(self.env.prog_type).filter(|_| is_struct && self.req.kernel.is_some());
        let Some(name) = name else {
            return Ok(());
        };
        let found = self.kernel_btf()?.find(name, skep_btf::Kind::Struct);
        let bytes = found.and_then(|t| t.size()).map_or(i64::MAX, i64::from);
        if i64::from(off) + i64::from(size) <= bytes {
            return Ok(());
        }
        let message =
            format!("this kernel's struct {name} ends at byte {bytes}, before the field at {off}");
        fail(code::KERNEL_LACKS, errno::EACCES, message)
    }

    /// A context pointer is used as it was given, or at a fixed offset where the kernel allows it.
    fn check_ctx_offset(&self, a: &MemAccess, reg: &Reg) -> Check<i32> {
        let moved = |what: Cause| fail(code::MODIFIED_POINTER, errno::EACCES, what);
        if reg.off < 0 {
            return moved(Cause::about(
                a.base,
                format!("r{} points before the context (offset {})", a.base, reg.off),
            ));
        }
        if reg.off != 0 {
            return moved(Cause::about(
                a.base,
                format!(
                    "r{} is the context moved by {}; only the context itself can be accessed",
                    a.base, reg.off
                ),
            ));
        }
        match reg.var.as_const() {
            Some(0) => Ok(i32::from(a.offset)),
            Some(v) => moved(Cause::about(
                a.base,
                format!("r{} is the context moved by {}", a.base, v.cast_signed()),
            )),
            None => fail(
                code::CTX_VARIABLE,
                errno::EACCES,
                Cause::about(
                    a.base,
                    format!("r{} is the context at a variable offset", a.base),
                ),
            ),
        }
    }

    fn access_packet(&mut self, a: &MemAccess, reg: &Reg, off: i64) -> Check<Reg> {
        if a.kind == Access::Write && !self.may_access_packet(true) {
            return fail(
                code::PACKET_FORBIDDEN,
                errno::EACCES,
                "this program type may not write to the packet",
            );
        }
        self.check_packet(a.base, reg, off, a.size.bytes(), false)?;
        self.rec.access(self.insn, Region::Packet, None);
        Ok(Reg::UNKNOWN)
    }

    /// The access must be covered by a comparison with the packet's end.
    pub(crate) fn check_packet(
        &self,
        i: usize,
        reg: &Reg,
        off: i64,
        size: u32,
        zero_ok: bool,
    ) -> Check {
        if reg.var.smin < 0 {
            let lowest = i128::from(reg.var.smin) + i128::from(off);
            let cause = outside(i, reg, Reach::Before(lowest));
            return fail(code::NEGATIVE_OFFSET, errno::EACCES, cause);
        }
        let range = reg.aux.cast_signed();
        let fits = off >= 0 && (size > 0 || zero_ok) && off + i64::from(size) <= i64::from(range);
        if range < 0 || !fits || i64::from(size) + off > i64::from(MAX_PACKET_OFF) + 1 {
            let reach = Reach::Unchecked {
                end: off + i64::from(size),
                proven: range.max(0).cast_unsigned(),
            };
            let cause = outside(i, reg, reach);
            let errno = if range < 0 {
                errno::EINVAL
            } else {
                errno::EACCES
            };
            return fail(code::PACKET_BOUNDS, errno, cause);
        }
        Ok(())
    }

    fn access_flow_keys(&mut self, off: i64, size: u32) -> Check<Reg> {
        if off < 0 || off + i64::from(size) > FLOW_KEYS_BYTES {
            let message = format!(
                "byte {} of the flow keys; they have {FLOW_KEYS_BYTES} bytes",
                off + i64::from(size)
            );
            return fail(code::OUT_OF_BOUNDS, errno::EACCES, message);
        }
        self.rec.access(self.insn, Region::FlowKeys, Some(off));
        Ok(Reg::UNKNOWN)
    }

    fn access_sock(&mut self, a: &MemAccess, reg: &Reg, off: i64) -> Check<Reg> {
        if a.kind == Access::Write {
            return fail(
                code::READ_ONLY,
                errno::EACCES,
                format!("{} must not be written", reg.describe()),
            );
        }
        if reg.var.smin < 0 {
            return fail(
                code::NEGATIVE_OFFSET,
                errno::EACCES,
                Cause::about(a.base, format!("the offset of r{} may be negative", a.base)),
            );
        }
        let (kind, common) = match reg.kind {
            Kind::TcpSock => (SockKind::TcpSock, false),
            Kind::XdpSock => (SockKind::XdpSock, false),
            other => (SockKind::Sock, other == Kind::SockCommon),
        };
        if reg.var.as_const() != Some(0) || !self.sock_access_ok(kind, common, off, a.size.bytes())
        {
            let message = format!(
                "{} has no field of {} bytes at byte {off} that programs may read",
                reg.describe(),
                a.size.bytes()
            );
            return fail(code::SOCK_ACCESS, errno::EACCES, message);
        }
        self.rec.access(self.insn, Region::Sock(kind), Some(off));
        Ok(Reg::UNKNOWN)
    }

    fn access_buffer(&mut self, a: &MemAccess, reg: &Reg, off: i64) -> Check<Reg> {
        if a.kind == Access::Write && reg.flags.has(Flags::RDONLY) {
            return fail(
                code::READ_ONLY,
                errno::EACCES,
                Cause::about(
                    a.base,
                    format!("the buffer behind r{} is read-only", a.base),
                ),
            );
        }
        self.check_buffer(a.base, reg, off)?;
        self.rec.access(self.insn, Region::Memory, Some(off));
        Ok(Reg::UNKNOWN)
    }

    /// The size of a buffer is only known when the program is attached.
    pub(crate) fn check_buffer(&self, i: usize, reg: &Reg, off: i64) -> Check {
        if off < 0 || reg.var.as_const() != Some(0) {
            let message = Cause::about(
                i,
                format!("the buffer behind r{i} is accessed at a negative or variable offset"),
            );
            return fail(code::OUT_OF_BOUNDS, errno::EACCES, message);
        }
        Ok(())
    }
}

/// `sizeof(struct bpf_flow_keys)`
const FLOW_KEYS_BYTES: i64 = 56;

/// What the kernel calls a special field.
pub(crate) fn field_name(kind: &FieldKind) -> &'static str {
    match kind {
        FieldKind::SpinLock => "bpf_spin_lock",
        FieldKind::ResSpinLock => "bpf_res_spin_lock",
        FieldKind::Timer => "bpf_timer",
        FieldKind::Workqueue => "bpf_wq",
        FieldKind::TaskWork => "bpf_task_work",
        FieldKind::Kptr { .. } => "kptr",
        FieldKind::ListHead { .. } => "bpf_list_head",
        FieldKind::ListNode => "bpf_list_node",
        FieldKind::RbRoot { .. } => "bpf_rb_root",
        FieldKind::RbNode => "bpf_rb_node",
        FieldKind::Refcount => "bpf_refcount",
    }
}

/// A number as a load of this size leaves it in a register.
fn extended(mut r: Reg, size: Size, extend: Extend) -> Reg {
    if size != Size::DW && r.is_scalar() {
        match extend {
            Extend::Zero => r.var.truncate(size.bytes()),
            Extend::Sign => r.var.sign_extend(size.bytes()),
        }
    }
    r
}

/// Reads a number from constant data.
fn read_constant(bytes: &[u8], at: u32, a: &MemAccess) -> Option<u64> {
    let (at, size) = (at as usize, a.size.bytes() as usize);
    let slice = bytes.get(at..at + size)?;
    let mut word = [0; 8];
    word[..size].copy_from_slice(slice);
    let value = u64::from_le_bytes(word);
    let shift = 64 - a.size.bits();
    Some(match a.extend {
        Extend::Zero => value,
        Extend::Sign => ((value << shift).cast_signed() >> shift).cast_unsigned(),
    })
}
