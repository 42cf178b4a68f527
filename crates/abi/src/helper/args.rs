//! Short names for arguments and flags, so that a helper fits a line of [`super::table`].

use super::{Arg, ArgFlags, ArgKind, DynptrKind, HelperFlags, HelperProto, Ret};

/// Builds an argument.
const fn arg(kind: ArgKind, flags: ArgFlags) -> Arg {
    Arg { kind, flags }
}

/// Any value.
pub(super) const ANY: Arg = arg(ArgKind::Anything, ArgFlags::NONE);
/// A map.
pub(super) const MAP: Arg = arg(ArgKind::ConstMapPtr, ArgFlags::NONE);
/// A key of the map.
pub(super) const KEY: Arg = arg(ArgKind::MapKey, ArgFlags::NONE);
/// A value of the map.
pub(super) const VALUE: Arg = arg(ArgKind::MapValue, ArgFlags::NONE);
/// A value of the map, or NULL.
pub(super) const VALUE_OR_NULL: Arg = arg(ArgKind::MapValue, ArgFlags::NULLABLE);
/// A value of the map, written.
pub(super) const VALUE_OUT: Arg = arg(ArgKind::MapValue, ArgFlags::UNINIT.with(ArgFlags::WRITE));
/// The context.
pub(super) const CTX: Arg = arg(ArgKind::Ctx, ArgFlags::NONE);
/// The context, or NULL.
pub(super) const CTX_OR_NULL: Arg = arg(ArgKind::Ctx, ArgFlags::NULLABLE);
/// Size of the memory before it.
pub(super) const SIZE: Arg = arg(ArgKind::ConstSize, ArgFlags::NONE);
/// Size of the memory before it, zero allowed.
pub(super) const SIZE0: Arg = arg(ArgKind::ConstSizeOrZero, ArgFlags::NONE);
/// Size of the result.
pub(super) const ALLOC_SIZE: Arg = arg(ArgKind::ConstAllocSizeOrZero, ArgFlags::NONE);
/// Memory, read.
pub(super) const MEM_IN: Arg = arg(ArgKind::Mem, ArgFlags::RDONLY);
/// Memory, read, or NULL.
pub(super) const MEM_IN_OR_NULL: Arg = arg(ArgKind::Mem, ArgFlags::RDONLY.with(ArgFlags::NULLABLE));
/// Memory, written without being read.
pub(super) const MEM_OUT: Arg = arg(ArgKind::Mem, ArgFlags::UNINIT.with(ArgFlags::WRITE));
/// Memory, read and written.
pub(super) const MEM_INOUT: Arg = arg(ArgKind::Mem, ArgFlags::WRITE);
/// Memory, read and written, or NULL.
pub(super) const MEM_INOUT_OR_NULL: Arg =
    arg(ArgKind::Mem, ArgFlags::WRITE.with(ArgFlags::NULLABLE));
/// A spin lock.
pub(super) const SPIN_LOCK: Arg = arg(ArgKind::SpinLock, ArgFlags::NONE);
/// A timer.
pub(super) const TIMER: Arg = arg(ArgKind::Timer, ArgFlags::NONE);
/// A socket of a packet program.
pub(super) const SOCK_COMMON: Arg = arg(ArgKind::SockCommon, ArgFlags::NONE);
/// A full socket, or NULL.
pub(super) const SOCKET_OR_NULL: Arg = arg(ArgKind::Socket, ArgFlags::NULLABLE);
/// A socket of either kind.
pub(super) const BTF_SOCK: Arg = arg(ArgKind::BtfSockCommon, ArgFlags::NONE);
/// A socket of either kind, or NULL.
pub(super) const BTF_SOCK_OR_NULL: Arg = arg(ArgKind::BtfSockCommon, ArgFlags::NULLABLE);
/// A socket whose reference ends here.
pub(super) const BTF_SOCK_RELEASE: Arg = arg(ArgKind::BtfSockCommon, ArgFlags::RELEASE);
/// A ring buffer record that ends here.
pub(super) const RINGBUF_RELEASE: Arg = arg(ArgKind::RingbufMem, ArgFlags::RELEASE);
/// A per-CPU kernel variable.
pub(super) const PERCPU: Arg = arg(ArgKind::PercpuBtfPtr, ArgFlags::NONE);
/// A callback.
pub(super) const FUNC: Arg = arg(ArgKind::Func, ArgFlags::NONE);
/// The callback's context on the stack, or NULL.
pub(super) const STACK_OR_NULL: Arg = arg(ArgKind::Stack, ArgFlags::NULLABLE);
/// A constant string.
pub(super) const CONST_STR: Arg = arg(ArgKind::ConstStr, ArgFlags::NONE);
/// A kptr slot.
pub(super) const KPTR: Arg = arg(ArgKind::Kptr, ArgFlags::NONE);
/// What goes into the kptr slot.
pub(super) const KPTR_IN: Arg = arg(
    ArgKind::BtfPtr(""),
    ArgFlags::NULLABLE.with(ArgFlags::RELEASE),
);
/// Any dynptr.
pub(super) const DYNPTR_IN: Arg = arg(ArgKind::Dynptr(DynptrKind::Any), ArgFlags::RDONLY);
/// Room for a dynptr over memory.
pub(super) const DYNPTR_NEW_LOCAL: Arg = arg(
    ArgKind::Dynptr(DynptrKind::Local),
    ArgFlags::UNINIT.with(ArgFlags::WRITE),
);
/// Room for a dynptr over a record.
pub(super) const DYNPTR_NEW_RINGBUF: Arg = arg(
    ArgKind::Dynptr(DynptrKind::Ringbuf),
    ArgFlags::UNINIT.with(ArgFlags::WRITE),
);
/// A dynptr over a record that ends here.
pub(super) const DYNPTR_RELEASE_RINGBUF: Arg =
    arg(ArgKind::Dynptr(DynptrKind::Ringbuf), ArgFlags::RELEASE);

/// A BTF pointer to the struct `name`.
pub(super) const fn btf(name: &'static str) -> Arg {
    arg(ArgKind::BtfPtr(name), ArgFlags::NONE)
}
/// A BTF pointer to the struct `name`, or NULL.
pub(super) const fn btf_or_null(name: &'static str) -> Arg {
    arg(ArgKind::BtfPtr(name), ArgFlags::NULLABLE)
}
/// Memory of `size` bytes, read.
pub(super) const fn fixed_in(size: u32) -> Arg {
    arg(ArgKind::FixedMem(size), ArgFlags::RDONLY)
}
/// Memory of `size` aligned bytes, written without being read.
pub(super) const fn fixed_out(size: u32) -> Arg {
    arg(
        ArgKind::FixedMem(size),
        ArgFlags::UNINIT
            .with(ArgFlags::WRITE)
            .with(ArgFlags::ALIGNED),
    )
}
/// Memory of `size` aligned bytes, read and written.
pub(super) const fn fixed_inout(size: u32) -> Arg {
    arg(
        ArgKind::FixedMem(size),
        ArgFlags::WRITE.with(ArgFlags::ALIGNED),
    )
}

/// [`HelperFlags::GPL_ONLY`].
pub(super) const GPL: HelperFlags = HelperFlags::GPL_ONLY;
/// [`HelperFlags::PKT_ACCESS`].
pub(super) const PKT: HelperFlags = HelperFlags::PKT_ACCESS;
/// [`HelperFlags::CHANGES_PKT`].
pub(super) const CHANGES: HelperFlags = HelperFlags::CHANGES_PKT;
/// [`HelperFlags::MIGHT_SLEEP`].
pub(super) const SLEEP: HelperFlags = HelperFlags::MIGHT_SLEEP;
/// [`HelperFlags::ACQUIRES`].
pub(super) const ACQ: HelperFlags = HelperFlags::ACQUIRES;
/// [`HelperFlags::FASTCALL`].
pub(super) const FAST: HelperFlags = HelperFlags::FASTCALL;
/// [`HelperFlags::PERFMON`].
pub(super) const PERFMON: HelperFlags = HelperFlags::PERFMON;
/// [`HelperFlags::CASTS`].
pub(super) const CAST: HelperFlags = HelperFlags::CASTS;
/// [`HelperFlags::RET_SIZE`].
pub(super) const RET_SIZE: HelperFlags = HelperFlags::RET_SIZE;
/// [`HelperFlags::RET_CPU`].
pub(super) const RET_CPU: HelperFlags = HelperFlags::RET_CPU;

/// Builds one row.
pub(super) const fn row(
    id: u32,
    name: &'static str,
    args: &'static [Arg],
    ret: Ret,
    flags: &'static [HelperFlags],
    since: (u8, u8),
) -> HelperProto {
    let mut all = HelperFlags::NONE;
    let mut at = 0;
    while at < flags.len() {
        all = all.with(flags[at]);
        at += 1;
    }
    HelperProto {
        id,
        name,
        args,
        ret,
        flags: all,
        since,
    }
}
