//! Helper prototypes and where each helper may be called.

use crate::types::{AttachType, ProgType};

/// What a helper demands of an argument (`enum bpf_arg_type`, base part).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArgKind {
    /// Any initialised value.
    Anything,
    /// A map, known at this instruction.
    ConstMapPtr,
    /// Memory of the map's key size, readable.
    MapKey,
    /// Memory of the map's value size; readable, or writable when [`ArgFlags::UNINIT`].
    MapValue,
    /// Memory whose size is the next argument ([`ArgKind::ConstSize`] or [`ArgKind::ConstSizeOrZero`]).
    Mem,
    /// Memory of this many bytes.
    FixedMem(u32),
    /// Size of the memory before it, at least 1.
    ConstSize,
    /// Size of the memory before it.
    ConstSizeOrZero,
    /// Size of the memory the helper allocates, a known constant.
    ConstAllocSizeOrZero,
    /// The program's context, unmodified.
    Ctx,
    /// A `struct bpf_spin_lock` in a map value or allocated object.
    SpinLock,
    /// A `struct bpf_timer` in a map value.
    Timer,
    /// Any socket pointer, at least `sock_common` deep.
    SockCommon,
    /// A full socket (`struct bpf_sock`).
    Socket,
    /// A socket pointer of a packet program, or a BTF pointer to `sock_common`.
    BtfSockCommon,
    /// A BTF pointer to this struct.
    BtfPtr(&'static str),
    /// Memory from `bpf_ringbuf_reserve`.
    RingbufMem,
    /// A BTF pointer to a per-CPU variable.
    PercpuBtfPtr,
    /// A callback (subprog address).
    Func,
    /// Stack memory handed to a callback.
    Stack,
    /// A NUL-terminated string in a read-only map.
    ConstStr,
    /// A slot in a map value that holds a kptr.
    Kptr,
    /// A dynptr on the stack.
    Dynptr(DynptrKind),
}

/// Kinds of dynptr a helper makes or takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DynptrKind {
    /// Any.
    Any,
    /// Over local memory.
    Local,
    /// Over a ring buffer record.
    Ringbuf,
    /// Over a packet (skb).
    Skb,
    /// Over a packet (xdp).
    Xdp,
}

/// Modifiers of an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArgFlags(pub u8);

impl ArgFlags {
    /// No modifier.
    pub const NONE: Self = Self(0);
    /// May be NULL.
    pub const NULLABLE: Self = Self(1);
    /// The helper writes it; it need not be initialised (`MEM_UNINIT`).
    pub const UNINIT: Self = Self(2);
    /// The helper only reads it (`MEM_RDONLY`).
    pub const RDONLY: Self = Self(4);
    /// The helper writes it (`MEM_WRITE`).
    pub const WRITE: Self = Self(8);
    /// The helper releases the reference (`OBJ_RELEASE`).
    pub const RELEASE: Self = Self(16);
    /// Must be aligned to its fixed size (`MEM_ALIGNED`).
    pub const ALIGNED: Self = Self(32);

    /// True if every flag of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of flags.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One argument of a helper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arg {
    /// What it must be.
    pub kind: ArgKind,
    /// Modifiers.
    pub flags: ArgFlags,
}

/// What a helper returns in `r0` (`enum bpf_return_type`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ret {
    /// A scalar.
    Integer,
    /// Nothing: `r0` is unreadable afterwards.
    Void,
    /// A map value.
    MapValue,
    /// A map value or NULL.
    MapValueOrNull,
    /// A full socket or NULL.
    SocketOrNull,
    /// A TCP socket or NULL.
    TcpSockOrNull,
    /// A `sock_common` or NULL.
    SockCommonOrNull,
    /// Allocated memory of the size in `ConstAllocSizeOrZero`, or NULL (ring buffer record).
    RingbufMemOrNull,
    /// Memory or NULL, sized by [`ArgKind::ConstAllocSizeOrZero`] (`bpf_dynptr_data`).
    DynptrMemOrNull,
    /// Per-CPU variable memory or NULL (`bpf_per_cpu_ptr`).
    MemOrBtfPtrOrNull,
    /// Per-CPU variable memory (`bpf_this_cpu_ptr`).
    MemOrBtfPtr,
    /// A BTF pointer to this struct or NULL; the empty name is "that of the kptr argument".
    BtfPtrOrNull(&'static str),
    /// A trusted BTF pointer to this struct.
    BtfPtrTrusted(&'static str),
}

/// Rules that concern the whole call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HelperFlags(pub u16);

impl HelperFlags {
    /// No rule.
    pub const NONE: Self = Self(0);
    /// Only for programs whose license is GPL-compatible.
    pub const GPL_ONLY: Self = Self(1);
    /// Packet pointers may be passed as memory (`pkt_access`).
    pub const PKT_ACCESS: Self = Self(2);
    /// Invalidates packet pointers (`bpf_helper_changes_pkt_data`).
    pub const CHANGES_PKT: Self = Self(4);
    /// May sleep: only in sleepable programs.
    pub const MIGHT_SLEEP: Self = Self(8);
    /// The returned pointer is a reference that must be released.
    pub const ACQUIRES: Self = Self(16);
    /// Allowed in fastcall (no-csr) patterns (`allow_fastcall`).
    pub const FASTCALL: Self = Self(32);
    /// Needs CAP_PERFMON.
    pub const PERFMON: Self = Self(64);
    /// Needs CAP_BPF.
    pub const CAP_BPF: Self = Self(128);

    /// True if every flag of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of flags.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Prototype of a helper.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HelperProto {
    /// The kernel's number.
    pub id: u32,
    /// The name with its `bpf_` prefix.
    pub name: &'static str,
    /// Arguments, at most 5.
    pub args: &'static [Arg],
    /// Result.
    pub ret: Ret,
    /// Rules.
    pub flags: HelperFlags,
    /// First kernel version that has it.
    pub since: (u8, u8),
}

/// Where a helper call stands: what the kernel's `func_proto` functions look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgEnv {
    /// Program type.
    pub prog_type: ProgType,
    /// Expected attach type, if the load names one.
    pub attach: Option<AttachType>,
    /// Loaded as sleepable.
    pub sleepable: bool,
    /// The loader has CAP_PERFMON.
    pub perfmon: bool,
}
