//! Helper prototypes and where each helper may be called: [`lookup`].

mod args;
pub mod avail;
pub mod id;
mod map;
pub mod table;

use crate::kernel::{Kernel, Known};
use crate::types::{AttachType, ProgType};
pub use map::{helper_map_compat, may_update_sockmap};
pub use table::HELPERS;

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
    /// Over the metadata of a packet (skb).
    SkbMeta,
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
    /// A BTF pointer to this struct, neither trusted nor NULL.
    BtfPtr(&'static str),
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
    /// Invalidates packet pointers (`bpf_helper_changes_pkt_data`). A tail call does so for the callers of the subprog it is
    /// in, as seen from a return with an unknown number; the code after a tail call that failed keeps them.
    pub const CHANGES_PKT: Self = Self(4);
    /// May sleep: only in sleepable programs.
    pub const MIGHT_SLEEP: Self = Self(8);
    /// The returned pointer is a reference that must be released.
    pub const ACQUIRES: Self = Self(16);
    /// Allowed in fastcall (no-csr) patterns (`allow_fastcall`).
    pub const FASTCALL: Self = Self(32);
    /// Needs CAP_PERFMON.
    pub const PERFMON: Self = Self(64);
    /// The result is the argument under another type and shares its reference (`is_ptr_cast_function`).
    pub const CASTS: Self = Self(128);
    /// The result is between `-MAX_ERRNO` and the greatest possible value of the size argument (`do_refine_retval_range`).
    pub const RET_SIZE: Self = Self(256);
    /// The result is below the number of CPUs (`do_refine_retval_range`).
    pub const RET_CPU: Self = Self(512);

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
///
/// A `BPF_PROG_TYPE_EXT` program is looked up as the program it extends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgEnv<'a> {
    /// Program type.
    pub prog_type: ProgType,
    /// Expected attach type, if the load names one.
    pub attach: Option<AttachType>,
    /// Loaded as sleepable.
    pub sleepable: bool,
    /// The loader has CAP_PERFMON.
    pub perfmon: bool,
    /// What it attaches to, empty if nothing by name: a kernel function (`vfs_read`, `bpf_lsm_file_open`, `bpf_iter_tcp`), or
    /// structure and member of a struct_ops program (`tcp_congestion_ops.release`).
    pub target: &'a str,
    /// Another kernel than the reference kernel: what it answered decides what exists.
    pub kernel: Option<&'a Kernel>,
}

/// Why a helper cannot be called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unavailable {
    /// No helper has this number (`invalid func unknown#N`).
    Unknown,
    /// This program or attach type has no such helper (`program of this type cannot use helper`).
    ProgType,
    /// The loader lacks CAP_PERFMON; the kernel's message is that of [`Unavailable::ProgType`].
    Perfmon,
    /// The reference kernel does not offer it in its configuration (lockdown, error injection, LIRC); the kernel's message is
    /// that of [`Unavailable::ProgType`].
    Configuration,
    /// Not at this attach target (`helper call is not allowed in probe`).
    Target,
    /// The kernel that is meant does not offer it to such programs.
    Kernel,
    /// The profile of the kernel that is meant does not say.
    NotKnown,
}

/// Helpers that the reference kernel has but its configuration keeps from all programs.
pub const UNCONFIGURED: &[u32] = &[
    id::PROBE_WRITE_USER,
    id::OVERRIDE_RETURN,
    id::RC_REPEAT,
    id::RC_KEYDOWN,
    id::RC_POINTER_REL,
];

/// The row of helper `id`, whoever may call it.
#[must_use]
pub fn by_id(id: u32) -> Option<&'static HelperProto> {
    HELPERS.get(usize::try_from(id.checked_sub(1)?).ok()?)
}

/// The name of helper `id` as the kernel prints it (`map_lookup_elem`), `unknown` if there is none.
#[must_use]
pub fn kernel_name(id: u32) -> &'static str {
    if id == 0 {
        return "unspec";
    }
    by_id(id).map_or("unknown", |row| {
        row.name.strip_prefix("bpf_").unwrap_or(row.name)
    })
}

/// The row of the helper that [`HelperProto::name`] calls `name` (`bpf_map_lookup_elem`).
#[must_use]
pub fn by_name(name: &str) -> Option<&'static HelperProto> {
    HELPERS.iter().find(|row| row.name == name)
}

/// The prototype under which a program may call helper `id`.
///
/// Rules on the place of the call stay with the caller: [`HelperFlags::GPL_ONLY`], [`HelperFlags::MIGHT_SLEEP`].
///
/// # Errors
/// [`Unavailable`] if it may not.
pub fn lookup(env: &ProgEnv<'_>, id: u32) -> Result<&'static HelperProto, Unavailable> {
    let row = by_id(id).ok_or(if id == 0 {
        Unavailable::ProgType
    } else {
        Unavailable::Unknown
    })?;
    match env.kernel.map(|k| k.helper(env, id)) {
        Some(Known::No) if !granted_by_target(env, id) => return Err(Unavailable::Kernel),
        Some(Known::Unknown) => return Err(Unavailable::NotKnown),
        _ => {}
    }
    if env.kernel.is_none() && !granted(env, id) {
        let reason = if UNCONFIGURED.contains(&id) {
            Unavailable::Configuration
        } else {
            Unavailable::ProgType
        };
        return Err(reason);
    }
    if !env.perfmon && needs_perfmon(env, row) {
        return Err(Unavailable::Perfmon);
    }
    if avail::refused(env.prog_type, env.attach, env.target, id) {
        return Err(Unavailable::Target);
    }
    let fits = |variant: &&table::Variant| {
        variant.proto.id == id
            && variant.types.contains(&env.prog_type)
            && holds(variant.attach, env.attach)
    };
    Ok(table::VARIANTS
        .iter()
        .find(fits)
        .map_or(row, |variant| &variant.proto))
}

/// Some line of [`avail`] grants `id`.
fn granted(env: &ProgEnv<'_>, id: u32) -> bool {
    if env.prog_type == ProgType::LircMode2 {
        return avail::LIRC.contains(&id);
    }
    avail::in_base(id)
        || avail::GRANTS.iter().any(|grant| {
            grant.types.contains(&env.prog_type)
                && grant.ids.contains(&id)
                && holds(grant.attach, env.attach)
                && on_target(grant.targets, env.target)
        })
}

/// The kernel that is meant was asked about another target than this one, which is among those that `id` is for.
fn granted_by_target(env: &ProgEnv<'_>, id: u32) -> bool {
    let has = |k: &Kernel| k.has_helper(id) && !k.knows_target(env);
    env.kernel.is_some_and(has)
        && avail::GRANTS.iter().any(|grant| {
            !grant.targets.is_empty()
                && grant.types.contains(&env.prog_type)
                && grant.ids.contains(&id)
                && holds(grant.attach, env.attach)
                && on_target(grant.targets, env.target)
        })
}

/// An empty list of attach types means all.
fn holds(list: &[AttachType], attach: Option<AttachType>) -> bool {
    list.is_empty() || attach.is_some_and(|attach| list.contains(&attach))
}

/// An empty list of targets means all; a structure's name means all its members but `release`, which runs when the socket is gone.
fn on_target(list: &[&str], target: &str) -> bool {
    list.is_empty()
        || list.contains(&target)
        || target
            .split_once('.')
            .is_some_and(|(name, member)| list.contains(&name) && member != "release")
}

/// System calls from programs need CAP_PERFMON; socket casts do not where all sockets are BTF pointers anyway.
fn needs_perfmon(env: &ProgEnv<'_>, row: &HelperProto) -> bool {
    match (env.prog_type, row.id) {
        (ProgType::Syscall, id::SYS_BPF) => true,
        (ProgType::Syscall, id) if avail::SOCKET_CASTS.contains(&id) => false,
        _ => row.flags.has(HelperFlags::PERFMON),
    }
}

#[cfg(test)]
mod tests;
