//! What is known of one register or spilled slot.

use crate::domain::{Scalar, Tnum};

/// What a register holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Nothing readable.
    NotInit,
    /// A number.
    Scalar,
    /// The context; `off` must stay 0 for most uses.
    Ctx,
    /// A map itself; `aux` is its index.
    ConstMap,
    /// A value of map `aux`; `aux2` tells lookups of inner maps apart (`map_uid`).
    MapValue,
    /// A key of map `aux`, handed to a callback.
    MapKey,
    /// The stack of frame `aux`.
    Stack,
    /// Start of packet metadata; `aux` bytes are accessible.
    PktMeta,
    /// Packet data; `aux` bytes are accessible.
    Pkt,
    /// End of the packet.
    PktEnd,
    /// `struct bpf_flow_keys`.
    FlowKeys,
    /// A full socket.
    Socket,
    /// At least a `sock_common`.
    SockCommon,
    /// A TCP socket.
    TcpSock,
    /// An AF_XDP socket.
    XdpSock,
    /// The buffer of a writable raw tracepoint.
    TpBuffer,
    /// A typed kernel or program structure; `aux` is its BTF id, `aux2` the BTF (see [`source`]).
    Btf,
    /// Plain memory of `aux` bytes.
    Mem,
    /// The start of subprog `aux`.
    Func,
    /// Arena memory.
    Arena,
    /// A const dynptr handed to a callback or global function.
    Dynptr,
    /// Slot of an open-coded iterator (only on the stack).
    Iter,
    /// Slot of a saved irq flag (only on the stack).
    IrqFlag,
}

/// Which BTF a type id belongs to (`aux2` of [`Kind::Btf`]).
pub(crate) mod source {
    /// The kernel's.
    pub(crate) const KERNEL: u32 = 0;
    /// The program's own (allocated objects).
    pub(crate) const PROGRAM: u32 = 1;
    /// That of the first map, if it is not the program's own; others follow.
    pub(crate) const FIRST_MAP: u32 = 2;
}

/// Qualities of a pointer (`enum bpf_type_flag`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Flags(pub u16);

impl Flags {
    pub(crate) const NONE: Self = Self(0);
    /// May be NULL.
    pub(crate) const NULLABLE: Self = Self(1);
    /// Must not be written.
    pub(crate) const RDONLY: Self = Self(2);
    /// A ring buffer record.
    pub(crate) const RINGBUF: Self = Self(4);
    /// An object from `bpf_obj_new`.
    pub(crate) const ALLOC: Self = Self(8);
    /// Valid while the program runs.
    pub(crate) const TRUSTED: Self = Self(16);
    /// Valid within an RCU section.
    pub(crate) const RCU: Self = Self(32);
    /// May be stale: loads may fault.
    pub(crate) const UNTRUSTED: Self = Self(64);
    /// Points to per-CPU data.
    pub(crate) const PERCPU: Self = Self(128);
    /// Borrowed from a list or tree.
    pub(crate) const NON_OWN_REF: Self = Self(256);
    /// User memory.
    pub(crate) const USER: Self = Self(512);
    /// Data of a dynptr over a packet.
    pub(crate) const DYNPTR_PKT: Self = Self(1024);
    /// Memory whose size is fixed by its type.
    pub(crate) const FIXED: Self = Self(2048);

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Set in the id of a scalar that differs from its linked scalars by the constant in `off`, by a 64-bit addition.
pub(crate) const ADD_CONST64: u32 = 1 << 31;
/// As [`ADD_CONST64`], by a 32-bit addition.
pub(crate) const ADD_CONST32: u32 = 1 << 30;
/// Either mark.
pub(crate) const ADD_CONST: u32 = ADD_CONST64 | ADD_CONST32;

/// What is known of one register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reg {
    /// What it holds.
    pub kind: Kind,
    /// Qualities of the pointer.
    pub flags: Flags,
    /// The exact value of this scalar mattered to a check.
    pub precise: bool,
    /// Fixed part of a pointer's offset, or distance of a linked scalar.
    pub off: i32,
    /// Scalars with the same id are linked; pointers with the same id share their variable part or nullness.
    pub id: u32,
    /// The reference this pointer belongs to, 0 for none.
    pub ref_id: u32,
    /// Depends on the kind.
    pub aux: u32,
    /// Depends on the kind.
    pub aux2: u32,
    /// The number, or the variable part of a pointer's offset.
    pub var: Scalar,
}

impl Reg {
    /// Nothing readable.
    pub(crate) const NOT_INIT: Self = Self {
        kind: Kind::NotInit,
        flags: Flags::NONE,
        precise: false,
        off: 0,
        id: 0,
        ref_id: 0,
        aux: 0,
        aux2: 0,
        var: Scalar::UNKNOWN,
    };

    /// Any number, whose exact value does not matter so far.
    pub(crate) const UNKNOWN: Self = Self {
        kind: Kind::Scalar,
        ..Self::NOT_INIT
    };

    /// A number.
    pub(crate) const fn scalar(var: Scalar) -> Self {
        Self {
            var,
            ..Self::UNKNOWN
        }
    }

    /// Exactly this number.
    pub(crate) const fn constant(value: u64) -> Self {
        Self::scalar(Scalar::constant(value))
    }

    /// A pointer to the start of something.
    pub(crate) const fn pointer(kind: Kind) -> Self {
        Self {
            kind,
            var: Scalar::constant(0),
            ..Self::NOT_INIT
        }
    }

    pub(crate) const fn is_scalar(&self) -> bool {
        matches!(self.kind, Kind::Scalar)
    }

    pub(crate) const fn is_pointer(&self) -> bool {
        !matches!(self.kind, Kind::Scalar | Kind::NotInit)
    }

    pub(crate) const fn is_nullable(&self) -> bool {
        self.flags.has(Flags::NULLABLE)
    }

    /// A packet or metadata pointer.
    pub(crate) const fn is_packet(&self) -> bool {
        matches!(self.kind, Kind::Pkt | Kind::PktMeta)
    }

    /// A packet, metadata or end pointer.
    pub(crate) const fn is_packet_any(&self) -> bool {
        matches!(self.kind, Kind::Pkt | Kind::PktMeta | Kind::PktEnd)
    }

    /// The constant offset of a pointer without variable part.
    pub(crate) fn fixed_offset(&self) -> Option<i64> {
        self.var
            .as_const()
            .map(|v| v.cast_signed().wrapping_add(i64::from(self.off)))
    }

    /// Is it the number 0 for certain.
    pub(crate) const fn is_zero(&self) -> bool {
        self.is_scalar() && matches!(self.var.as_const(), Some(0))
    }

    /// Cannot be NULL for certain.
    pub(crate) const fn is_not_null(&self) -> bool {
        if self.is_nullable() {
            return false;
        }
        matches!(
            self.kind,
            Kind::Socket
                | Kind::TcpSock
                | Kind::MapValue
                | Kind::MapKey
                | Kind::SockCommon
                | Kind::ConstMap
        ) || (matches!(self.kind, Kind::Btf) && self.is_trusted())
            || (matches!(self.kind, Kind::Mem) && !self.flags.has(Flags::UNTRUSTED))
    }

    /// Forgets the link to other scalars.
    pub(crate) fn unlink(&mut self) {
        if self.is_scalar() {
            (self.id, self.off) = (0, 0);
        }
    }

    /// The bits of a pointer's variable part shifted by its fixed offset and `offset`.
    pub(crate) fn bits_at(&self, offset: i64) -> Tnum {
        self.var.bits.add(Tnum::constant(
            (i64::from(self.off)).wrapping_add(offset).cast_unsigned(),
        ))
    }

    /// Words for messages: `a map value`.
    pub(crate) fn describe(&self) -> &'static str {
        let nullable = self.is_nullable();
        match self.kind {
            Kind::NotInit => "uninitialised",
            Kind::Scalar => "a scalar",
            Kind::Ctx => "the context",
            Kind::ConstMap => "a map",
            Kind::MapValue if nullable => "a map value or NULL",
            Kind::MapValue => "a map value",
            Kind::MapKey => "a map key",
            Kind::Stack => "a stack pointer",
            Kind::PktMeta => "a packet metadata pointer",
            Kind::Pkt => "a packet pointer",
            Kind::PktEnd => "the end of the packet",
            Kind::FlowKeys => "the flow keys",
            Kind::Socket | Kind::SockCommon | Kind::TcpSock | Kind::XdpSock if nullable => {
                "a socket or NULL"
            }
            Kind::Socket => "a socket",
            Kind::SockCommon => "a sock_common",
            Kind::TcpSock => "a TCP socket",
            Kind::XdpSock => "an XDP socket",
            Kind::TpBuffer => "a tracepoint buffer",
            Kind::Btf if nullable => "a kernel pointer or NULL",
            Kind::Btf => "a kernel pointer",
            Kind::Mem if nullable => "memory or NULL",
            Kind::Mem => "memory",
            Kind::Func => "a function pointer",
            Kind::Arena => "an arena pointer",
            Kind::Dynptr => "a dynptr",
            Kind::Iter => "an iterator",
            Kind::IrqFlag => "an irq flag",
        }
    }
}
