//! Arguments of helpers: each must be what the prototype says.

use crate::cause::{Cause, SizeFault, register};
use crate::code;
use crate::dynptr::DynptrUse;
use crate::fail::{Check, errno, fail};
use crate::kptr::KptrSlot;
use crate::lock::LockUse;
use crate::reg::{Flags, Kind, Reg};
use crate::stack::place;
use crate::state::{Byte, RefKind};
use crate::verifier::Verifier;
use skep_abi::MapType;
use skep_abi::ctx::Access;
use skep_abi::helper::{Arg, ArgFlags, ArgKind, HelperFlags, HelperProto, id};
use skep_abi::kernel::{Rule, has_rule};
use skep_abi::limits::BPF_MAX_VAR_SIZ;

/// What the arguments of one call told.
#[derive(Debug, Default)]
pub(crate) struct CallArgs {
    /// Map of the call: index as in [`Kind::ConstMap`], and which inner map.
    pub map: Option<(u32, u32)>,
    /// Reference of an argument.
    pub ref_id: u32,
    /// Register whose reference is released.
    pub release: Option<usize>,
    /// Subprog passed as callback.
    pub callback: Option<u32>,
    /// Size of allocated memory.
    pub alloc_size: u32,
    /// Greatest value of a size argument.
    pub max_size: Option<u64>,
    /// Constant key of an array lookup.
    pub const_key: Option<u64>,
    /// Stack that the helper fills: frame, offset, size.
    pub filled: Option<(usize, i64, i64)>,
    /// Type of a per-CPU variable: BTF id, which BTF ([`crate::reg::source`]), and whether it is an object under RCU.
    pub btf: Option<(u32, u32, bool)>,
    /// The kptr slot that is exchanged.
    pub kptr: Option<KptrSlot>,
    /// The initialised dynptr that was passed.
    pub dynptr: Option<DynptrUse>,
}

impl Verifier<'_> {
    /// Checks argument `n` (0–4) of a call of `proto`.
    pub(crate) fn check_arg(
        &mut self,
        proto: &HelperProto,
        n: usize,
        args: &mut CallArgs,
    ) -> Check {
        let arg = proto.args[n];
        let i = n + 1;
        self.check_readable(i)?;
        if arg.kind == ArgKind::Anything {
            if self.is_secret_pointer(i) {
                let cause = Cause::Argument {
                    reg: register(i),
                    function: proto.name.into(),
                    found: self.reg(i).describe().into(),
                    wanted: "a number".into(),
                };
                return fail(code::LEAK_TO_HELPER, errno::EACCES, cause);
            }
            return Ok(());
        }
        if self.reg(i).is_packet()
            && !(proto.flags.has(HelperFlags::PKT_ACCESS) && self.may_access_packet(false))
        {
            let message = Cause::about(
                i,
                format!(
                    "r{i} passes a packet pointer, which {} does not take from this program type",
                    proto.name
                ),
            );
            return fail(code::PACKET_FORBIDDEN, errno::EACCES, message);
        }
        let arg = self.resolve_map_value(proto, arg, args);
        let null = self.reg(i).is_zero() && arg.flags.has(ArgFlags::NULLABLE);
        if !null {
            self.check_arg_type(proto, i, arg, args)?;
            self.check_arg_offset(i, arg)?;
        }
        let reg = *self.reg(i);
        if arg.flags.has(ArgFlags::RELEASE) {
            if reg.ref_id == 0 && !reg.is_zero() && !matches!(arg.kind, ArgKind::Dynptr(_)) {
                let message = Cause::about(
                    i,
                    format!(
                        "{} releases r{i}, which is no acquired reference",
                        proto.name
                    ),
                );
                return fail(code::ARG_REFERENCE, errno::EINVAL, message);
            }
            args.release = Some(i);
        }
        if reg.ref_id != 0 && arg.kind != ArgKind::Kptr {
            args.ref_id = reg.ref_id;
        }
        self.check_arg_value(proto, n, arg, args, null)
    }

    /// What a value is depends on the map: those of socket maps are sockets; a bloom filter is asked about a value, which it
    /// reads.
    fn resolve_map_value(&self, proto: &HelperProto, arg: Arg, args: &CallArgs) -> Arg {
        let map_type = args.map.map(|m| self.map_at(m.0).map_type);
        match map_type.filter(|_| arg.kind == ArgKind::MapValue) {
            Some(MapType::Sockmap | MapType::Sockhash) => Arg {
                kind: ArgKind::BtfSockCommon,
                flags: arg.flags,
            },
            Some(MapType::BloomFilter) if proto.id == id::MAP_PEEK_ELEM => Arg {
                kind: ArgKind::MapValue,
                flags: ArgFlags::NONE,
            },
            _ => arg,
        }
    }

    fn check_arg_value(
        &mut self,
        proto: &HelperProto,
        n: usize,
        arg: Arg,
        args: &mut CallArgs,
        null: bool,
    ) -> Check {
        let i = n + 1;
        match arg.kind {
            ArgKind::ConstMapPtr => self.arg_map(i, args),
            ArgKind::MapKey => self.arg_map_key(i, args),
            ArgKind::MapValue | ArgKind::FixedMem(_) if null => Ok(()),
            ArgKind::MapValue => {
                let size = self.arg_map_sizes(args)?.1;
                self.sized_memory_arg(i, size, arg, args)
            }
            ArgKind::FixedMem(size) => {
                self.sized_memory_arg(i, size, arg, args)?;
                if arg.flags.has(ArgFlags::ALIGNED) {
                    self.check_arg_alignment(i, size)?;
                }
                Ok(())
            }
            ArgKind::ConstSize | ArgKind::ConstSizeOrZero => {
                let memory = n.checked_sub(1).map(|p| proto.args[p].flags);
                let memory = memory.unwrap_or(ArgFlags::NONE);
                let zero_ok = arg.kind == ArgKind::ConstSizeOrZero;
                let (writes, uninit) = (memory.has(ArgFlags::WRITE), memory.has(ArgFlags::UNINIT));
                self.size_arg(i, writes, uninit, zero_ok, args)
            }
            ArgKind::ConstAllocSizeOrZero => self.alloc_size_arg(i, args),
            ArgKind::SpinLock => {
                let how = if proto.id == id::SPIN_LOCK {
                    LockUse::Take
                } else {
                    LockUse::Give
                };
                self.use_lock(i, RefKind::Lock, how)
            }
            ArgKind::Timer => self.timer_arg(i, args),
            ArgKind::Func => {
                args.callback = Some(self.reg(i).aux);
                Ok(())
            }
            ArgKind::ConstStr => self.const_string_arg(i),
            ArgKind::Kptr => self.kptr_arg(i, args),
            ArgKind::Dynptr(_) => self.dynptr_arg(proto, i, arg, args),
            ArgKind::PercpuBtfPtr => {
                let reg = self.reg(i);
                args.btf = Some((reg.aux, reg.aux2, reg.flags.has(Flags::RCU)));
                Ok(())
            }
            ArgKind::Anything
            | ArgKind::Mem
            | ArgKind::Ctx
            | ArgKind::SockCommon
            | ArgKind::Socket
            | ArgKind::BtfSockCommon
            | ArgKind::BtfPtr(_)
            | ArgKind::RingbufMem
            | ArgKind::Stack => Ok(()),
        }
    }

    /// Memory whose size is fixed: by the helper, or by the map.
    fn sized_memory_arg(&mut self, i: usize, size: u32, arg: Arg, args: &mut CallArgs) -> Check {
        let (writes, uninit) = (
            arg.flags.has(ArgFlags::WRITE),
            arg.flags.has(ArgFlags::UNINIT),
        );
        self.memory_arg(i, i64::from(size), writes, false, uninit, args)
    }

    fn alloc_size_arg(&mut self, i: usize, args: &mut CallArgs) -> Check {
        let Some(size) = self.reg(i).var.as_const() else {
            let message = format!("r{i} must be a known constant: it is a size to allocate");
            return fail(code::ARG_CONSTANT, errno::EACCES, Cause::about(i, message));
        };
        args.alloc_size = size as u32;
        self.mark_precise(i)
    }

    fn check_arg_type(
        &mut self,
        proto: &HelperProto,
        i: usize,
        arg: Arg,
        args: &CallArgs,
    ) -> Check {
        if arg.kind == ArgKind::BtfPtr("") {
            return self.exchanged_arg(i, args);
        }
        let reg = *self.reg(i);
        let fits = self.arg_kind_fits(proto, &reg, arg)?;
        if fits {
            return self.check_written_btf(proto, i, arg, &reg);
        }
        let nullable = reg.is_nullable() && !arg.flags.has(ArgFlags::NULLABLE);
        let (reg, found) = (register(i), reg.describe().into());
        let function = proto.name.into();
        if nullable {
            let cause = Cause::NullArgument {
                reg,
                function,
                found,
            };
            return fail(code::ARG_NULL, errno::EACCES, cause);
        }
        let wanted = expected(arg.kind).into();
        let cause = Cause::Argument {
            reg,
            function,
            found,
            wanted,
        };
        fail(code::ARG_TYPE, errno::EACCES, cause)
    }

    /// Is the register of a kind that the argument takes?
    fn arg_kind_fits(&self, proto: &HelperProto, reg: &Reg, arg: Arg) -> Check<bool> {
        let plain = plain_flags(reg, arg);
        let none = plain == Flags::NONE;
        let sock = matches!(
            reg.kind,
            Kind::Socket | Kind::SockCommon | Kind::TcpSock | Kind::XdpSock
        ) && none;
        Ok(match arg.kind {
            ArgKind::Anything => true,
            ArgKind::ConstSize | ArgKind::ConstSizeOrZero | ArgKind::ConstAllocSizeOrZero => {
                reg.is_scalar()
            }
            ArgKind::ConstMapPtr => reg.kind == Kind::ConstMap && none,
            ArgKind::Ctx => reg.kind == Kind::Ctx && none,
            ArgKind::MapKey | ArgKind::MapValue => {
                let everywhere = matches!(reg.kind, Kind::Mem | Kind::TpBuffer | Kind::Btf);
                is_memory(reg, plain) && (!everywhere || has_rule(self.req.kernel, Rule::MapMemory))
            }
            ArgKind::Mem | ArgKind::FixedMem(_) => is_memory(reg, plain),
            ArgKind::SockCommon => sock,
            ArgKind::Socket => reg.kind == Kind::Socket && none,
            ArgKind::BtfSockCommon => {
                let plain = matches!(plain, Flags::NONE | Flags::TRUSTED);
                let strict = arg.flags.has(ArgFlags::RELEASE) && proto.id != id::SK_RELEASE;
                sock || (reg.kind == Kind::Btf
                    && plain
                    && self.points_to(reg, "sock_common", strict)?)
            }
            ArgKind::BtfPtr(name) => {
                let good = matches!(plain, Flags::NONE | Flags::TRUSTED | Flags::RCU);
                let strict = arg.flags.has(ArgFlags::RELEASE);
                reg.kind == Kind::Btf && good && self.points_to(reg, name, strict)?
            }
            ArgKind::RingbufMem => reg.kind == Kind::Mem && plain == Flags::RINGBUF,
            ArgKind::PercpuBtfPtr => {
                let how = plain.without(Flags::PERCPU);
                reg.kind == Kind::Btf
                    && plain.has(Flags::PERCPU)
                    && matches!(how, Flags::NONE | Flags::RCU | Flags::TRUSTED)
            }
            ArgKind::Func => reg.kind == Kind::Func,
            ArgKind::Stack => reg.kind == Kind::Stack,
            ArgKind::ConstStr | ArgKind::Timer => reg.kind == Kind::MapValue && none,
            ArgKind::SpinLock => {
                (reg.kind == Kind::MapValue && none)
                    || (reg.kind == Kind::Btf && plain == Flags::ALLOC)
            }
            ArgKind::Kptr => {
                let borrowed = Flags::NON_OWN_REF.with(Flags::RCU);
                (reg.kind == Kind::MapValue && none)
                    || (reg.kind == Kind::Btf && plain.without(borrowed) == Flags::ALLOC)
            }
            ArgKind::Dynptr(_) => matches!(reg.kind, Kind::Stack | Kind::Dynptr),
        })
    }

    /// Kernel structures are not for helpers to write.
    fn check_written_btf(&self, proto: &HelperProto, i: usize, arg: Arg, reg: &Reg) -> Check {
        let memory = matches!(
            arg.kind,
            ArgKind::MapKey | ArgKind::MapValue | ArgKind::Mem | ArgKind::FixedMem(_)
        );
        if reg.kind == Kind::Btf && memory && !arg.flags.has(ArgFlags::RDONLY) {
            let message = Cause::about(
                i,
                format!(
                    "{} may write to the kernel memory that r{i} points to",
                    proto.name
                ),
            );
            return fail(code::READ_ONLY, errno::EACCES, message);
        }
        Ok(())
    }

    fn check_arg_offset(&self, i: usize, arg: Arg) -> Check {
        let reg = self.reg(i);
        if arg.flags.has(ArgFlags::RELEASE) {
            if matches!(arg.kind, ArgKind::Dynptr(_)) && reg.kind == Kind::Stack {
                return Ok(());
            }
            return if reg.off != 0 {
                let message = Cause::about(
                    i,
                    format!(
                        "r{i} must point to the start of what is released, not {} bytes past it",
                        reg.off
                    ),
                );
                fail(code::MODIFIED_POINTER, errno::EINVAL, message)
            } else {
                self.check_unmoved(i, false)
            };
        }
        match reg.kind {
            Kind::Stack
            | Kind::Pkt
            | Kind::PktMeta
            | Kind::MapKey
            | Kind::MapValue
            | Kind::Mem
            | Kind::TpBuffer
            | Kind::Arena
            | Kind::Scalar => Ok(()),
            Kind::Btf => self.check_unmoved(i, true),
            _ => self.check_unmoved(i, false),
        }
    }

    /// The pointer in register `i` has no variable offset, and no fixed one unless `fixed_ok`.
    pub(crate) fn check_unmoved(&self, i: usize, fixed_ok: bool) -> Check {
        let reg = self.reg(i);
        if reg.off < 0 || (!fixed_ok && reg.off != 0) {
            let message = Cause::about(
                i,
                format!(
                    "r{i} is {} moved by {} bytes; it must be passed as it is",
                    reg.describe(),
                    reg.off
                ),
            );
            return fail(code::MODIFIED_POINTER, errno::EACCES, message);
        }
        if reg.var.as_const() != Some(0) {
            let message = Cause::about(
                i,
                format!(
                    "r{i} is {} at a variable offset; it must be passed as it is",
                    reg.describe()
                ),
            );
            return fail(code::MODIFIED_POINTER, errno::EACCES, message);
        }
        Ok(())
    }

    fn arg_map(&mut self, i: usize, args: &mut CallArgs) -> Check {
        let reg = self.reg(i);
        let map = (reg.aux, reg.aux2);
        if args.map.is_some_and(|old| old != map) {
            let message = Cause::about(
                i,
                format!("r{i} is another map than the one the timer lies in"),
            );
            return fail(code::ARG_TYPE, errno::EINVAL, message);
        }
        args.map = Some(map);
        Ok(())
    }

    fn arg_map_sizes(&self, args: &CallArgs) -> Check<(u32, u32)> {
        let Some((map, _)) = args.map else {
            return fail(
                code::ARG_TYPE,
                errno::EACCES,
                "a key or value is passed without a map",
            );
        };
        let map = self.map_at(map);
        Ok((map.key_size, map.value_size))
    }

    fn arg_map_key(&mut self, i: usize, args: &mut CallArgs) -> Check {
        let size = self.arg_map_sizes(args)?.0;
        self.memory_arg(i, i64::from(size), false, false, false, args)?;
        let is_array = args.map.is_some_and(|m| {
            matches!(
                self.map_at(m.0).map_type,
                MapType::Array | MapType::PercpuArray
            )
        });
        if is_array {
            args.const_key = self.constant_key(i, size);
        }
        Ok(())
    }

    /// The key of an array lookup, if it lies on the stack and is known.
    fn constant_key(&mut self, i: usize, size: u32) -> Option<u64> {
        let reg = *self.reg(i);
        let at = reg.fixed_offset().filter(|_| reg.kind == Kind::Stack)?;
        let (slot, first) = place(at);
        let frame = reg.aux as usize;
        let s = *self.cur.frames[frame].stack.get(slot)?;
        let run = |byte: Byte| {
            s.bytes[..=first]
                .iter()
                .rev()
                .take_while(|&&b| b == byte)
                .count() as u32
        };
        if run(Byte::Zero) >= size {
            return Some(0);
        }
        if !s.is_spilled_scalar() || run(Byte::Spill) != size {
            return None;
        }
        let value = s.reg.var.as_const()?;
        self.mark_slot_precise(frame, slot);
        Some(value)
    }

    /// Register `i` is the size of the memory that the register before it points to.
    pub(crate) fn size_arg(
        &mut self,
        i: usize,
        writes: bool,
        uninit: bool,
        zero_ok: bool,
        args: &mut CallArgs,
    ) -> Check {
        let var = self.reg(i).var;
        args.max_size = Some(var.umax);
        let fault = match () {
            () if var.smin < 0 => Some(SizeFault::Negative),
            () if var.umin == 0 && !zero_ok => Some(SizeFault::Zero),
            () if var.umax >= BPF_MAX_VAR_SIZ.cast_unsigned() => Some(SizeFault::Unbounded),
            () => None,
        };
        if let Some(fault) = fault {
            let cause = Cause::Size {
                reg: register(i),
                fault,
                range: (&var).into(),
            };
            return fail(code::ARG_SIZE, errno::EACCES, cause);
        }
        // Memory that may be filled only partly must be initialised before.
        let uninit = uninit && var.is_const();
        self.memory_arg(i - 1, var.umax.cast_signed(), writes, zero_ok, uninit, args)?;
        self.mark_precise(i)
    }

    fn check_arg_alignment(&self, i: usize, size: u32) -> Check {
        let reg = self.reg(i);
        if reg.bits_at(0).is_aligned(u64::from(size)) {
            return Ok(());
        }
        fail(
            code::MISALIGNED,
            errno::EACCES,
            Cause::about(i, format!("r{i} must be aligned to {size} bytes")),
        )
    }

    /// The `size` bytes that register `i` points to must be accessible to the helper.
    pub(crate) fn memory_arg(
        &mut self,
        i: usize,
        size: i64,
        writes: bool,
        zero_ok: bool,
        uninit: bool,
        args: &mut CallArgs,
    ) -> Check {
        let reg = *self.reg(i);
        let bytes = u32::try_from(size).unwrap_or(u32::MAX);
        let kind = if writes { Access::Write } else { Access::Read };
        let off = i64::from(reg.off);
        let read_only = |what: &str| {
            fail(
                code::READ_ONLY,
                errno::EACCES,
                Cause::about(i, format!("the helper would write to {what} through r{i}")),
            )
        };
        match reg.kind {
            Kind::Pkt | Kind::PktMeta => self.check_packet(i, &reg, off, bytes, zero_ok),
            Kind::MapKey if writes => read_only("a map key"),
            Kind::MapKey => self.check_region(i, &reg, off, bytes, self.map(&reg).key_size, false),
            Kind::MapValue => {
                self.check_map_mode(&reg, kind)?;
                self.check_map_bounds(i, off, bytes, zero_ok, true)
            }
            Kind::Mem if writes && reg.flags.has(Flags::RDONLY) => read_only("read-only memory"),
            Kind::Mem => self.check_region(i, &reg, off, bytes, reg.aux, zero_ok),
            Kind::Stack => {
                if size == 0 && !zero_ok {
                    return fail(
                        code::ARG_SIZE,
                        errno::EACCES,
                        Cause::about(i, format!("r{i} passes memory of size zero")),
                    );
                }
                let mut raw = None;
                let want = uninit.then_some(&mut raw);
                self.check_stack_initialised(i, 0, size, writes, want)?;
                if let Some((frame, at)) = raw {
                    args.filled = Some((frame, at, size));
                }
                Ok(())
            }
            Kind::TpBuffer if writes && reg.flags.has(Flags::RDONLY) => {
                read_only("a read-only buffer")
            }
            Kind::TpBuffer => self.check_buffer(i, &reg, off),
            Kind::Btf => self.btf_memory_arg(i, bytes),
            Kind::Ctx if self.ctx_is_plain_memory() => self.ctx_memory_arg(i, size, kind, zero_ok),
            _ if zero_ok && size == 0 && reg.is_zero() => Ok(()),
            _ => fail(
                code::ARG_TYPE,
                errno::EACCES,
                Cause::about(
                    i,
                    format!("r{i} is {}, memory was expected", reg.describe()),
                ),
            ),
        }
    }

    fn ctx_memory_arg(&mut self, i: usize, size: i64, kind: Access, zero_ok: bool) -> Check {
        if size == 0 {
            return if zero_ok {
                Ok(())
            } else {
                fail(
                    code::ARG_SIZE,
                    errno::EACCES,
                    Cause::about(i, format!("r{i} passes memory of size zero")),
                )
            };
        }
        self.check_unmoved(i, false)?;
        let last = i32::try_from(size - 1).unwrap_or(i32::MAX);
        self.ctx_access(last, 1, kind).map(|_| ())
    }

    /// A constant string: in a read-only map, terminated.
    pub(crate) fn const_string_arg(&self, i: usize) -> Check {
        let reg = self.reg(i);
        let not_const = |why: &str| {
            fail(
                code::ARG_STRING,
                errno::EACCES,
                Cause::about(i, format!("r{i} must point to a constant string: {why}")),
            )
        };
        let Some(bytes) = self.map(reg).frozen.as_deref() else {
            return not_const("its map is not frozen and read-only");
        };
        let Some(at) = reg.fixed_offset().and_then(|a| usize::try_from(a).ok()) else {
            return not_const("its offset is not known");
        };
        match bytes.get(at..) {
            Some(rest) if rest.contains(&0) => Ok(()),
            Some(_) => fail(
                code::ARG_STRING,
                errno::EINVAL,
                Cause::about(i, format!("the string behind r{i} is not terminated")),
            ),
            None => not_const("it lies outside of the map's value"),
        }
    }

    fn timer_arg(&mut self, i: usize, args: &mut CallArgs) -> Check {
        let reg = *self.reg(i);
        let bad = |why: String| {
            fail(
                code::ARG_TYPE,
                errno::EINVAL,
                Cause::about(i, format!("r{i} is no bpf_timer: {why}")),
            )
        };
        let Some(at) = reg.fixed_offset() else {
            return bad("its offset is not known".into());
        };
        let map = self.map(&reg);
        if !map.has_btf {
            return bad(format!("map \"{}\" has no BTF", map.name));
        }
        let timer = map
            .record
            .fields
            .iter()
            .find(|f| matches!(f.kind, skep_btf::FieldKind::Timer));
        match timer {
            None => bad(format!("values of map \"{}\" have none", map.name)),
            Some(f) if i64::from(f.offset) != at => {
                bad(format!("the timer is at byte {}, not {at}", f.offset))
            }
            Some(_) if args.map.is_some() => bad("two timers in one call".into()),
            Some(_) => {
                args.map = Some((reg.aux, reg.aux2));
                Ok(())
            }
        }
    }
}

/// Memory that helpers may be given.
fn is_memory(reg: &Reg, flags: Flags) -> bool {
    match reg.kind {
        Kind::Stack | Kind::Pkt | Kind::PktMeta | Kind::MapKey | Kind::MapValue => {
            flags == Flags::NONE
        }
        Kind::Mem => flags == Flags::NONE || flags == Flags::RINGBUF,
        Kind::TpBuffer => flags == Flags::NONE,
        Kind::Btf => flags == Flags::TRUSTED,
        _ => false,
    }
}

/// What a prototype asks for, in words.
fn expected(kind: ArgKind) -> String {
    match kind {
        ArgKind::Anything => "anything".into(),
        ArgKind::ConstMapPtr => "a map".into(),
        ArgKind::MapKey => "memory with a key".into(),
        ArgKind::MapValue => "memory with a value".into(),
        ArgKind::Mem | ArgKind::FixedMem(_) => "memory".into(),
        ArgKind::ConstSize | ArgKind::ConstSizeOrZero | ArgKind::ConstAllocSizeOrZero => {
            "a size".into()
        }
        ArgKind::Ctx => "the context".into(),
        ArgKind::SpinLock => "a bpf_spin_lock in a map value".into(),
        ArgKind::Timer => "a bpf_timer in a map value".into(),
        ArgKind::SockCommon | ArgKind::BtfSockCommon => "a socket".into(),
        ArgKind::Socket => "a full socket".into(),
        ArgKind::BtfPtr(name) => format!("a pointer to struct {name}"),
        ArgKind::RingbufMem => "a ring buffer record".into(),
        ArgKind::PercpuBtfPtr => "a per-CPU variable".into(),
        ArgKind::Func => "a callback".into(),
        ArgKind::Stack => "a stack pointer".into(),
        ArgKind::ConstStr => "a constant string".into(),
        ArgKind::Kptr => "a kptr slot in a map value".into(),
        ArgKind::Dynptr(_) => "a dynptr".into(),
    }
}

/// The qualities of a pointer that the argument does not take anyway.
fn plain_flags(reg: &Reg, arg: Arg) -> Flags {
    let mut flags = reg.flags.without(Flags::FIXED);
    if arg.flags.has(ArgFlags::RDONLY) {
        flags = flags.without(Flags::RDONLY);
    }
    if arg.flags.has(ArgFlags::NULLABLE) {
        flags = flags.without(Flags::NULLABLE);
    }
    if matches!(arg.kind, ArgKind::Mem | ArgKind::FixedMem(_)) {
        flags = flags.without(Flags::DYNPTR_PKT);
    }
    flags
}
