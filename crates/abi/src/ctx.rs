//! The context of each program type: fields, who may read or write them, and what a read yields.
//!
//! Facts as observed on Linux 6.18 by loading one program for each program type, attach type, offset, size and direction; the
//! layouts are those of include/uapi/linux/bpf.h, the rules those of the `is_valid_access` functions in net/core/filter.c,
//! kernel/trace/bpf_trace.c, kernel/bpf/cgroup.c and others.

mod cgroup;
mod field;
mod skb;
mod sock;
mod sock_ops;
mod socket;
mod tracing;

pub use field::{Field, Mode};
pub use sock::{
    FLOW_KEYS, FLOW_KEYS_SIZE, SOCK, SockView, TCP_SOCK, XDP_SOCK, flow_keys_access, sock_access,
};

use crate::helper::ProgEnv;
use crate::types::{AttachType as A, ProgType as P};

/// What reading a context field yields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Yields {
    /// A number.
    Scalar,
    /// Start of the packet.
    PktData,
    /// Start of the packet's metadata.
    PktMeta,
    /// End of the packet.
    PktEnd,
    /// `struct bpf_flow_keys`.
    FlowKeys,
    /// A full socket (`struct bpf_sock`) or NULL.
    SockOrNull,
    /// A socket that cannot be NULL.
    Sock,
    /// A `sock_common` or NULL.
    SockCommonOrNull,
    /// The buffer of a writable raw tracepoint (`PTR_TO_TP_BUFFER`).
    TpBuffer,
    /// A trusted BTF pointer to this kernel structure.
    BtfPtr(&'static str),
}

/// Direction of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A load.
    Read,
    /// A load that extends the sign (`BPF_MEMSX`); it may not yield a pointer.
    ReadSigned,
    /// A store.
    Write,
}

/// A permitted access to the context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CtxAccess {
    /// Name of the field, for messages.
    pub field: &'static str,
    /// Offset of the field in the context as programs see it.
    pub offset: u32,
    /// Size of the field in bytes, all elements of an array; a smaller access is a narrow load.
    pub size: u32,
    /// What a read yields.
    pub yields: Yields,
}

/// Why an access is refused (`invalid bpf_context access`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CtxDenied {
    /// No field is there.
    NoField,
    /// This program or attach type may not see the field.
    Hidden(&'static str),
    /// The field cannot be written by this program or attach type.
    ReadOnly(&'static str),
    /// The field exists, but not at this offset with this size.
    Size(&'static str),
    /// The field yields a pointer, whose sign cannot be extended.
    SignedPointer(&'static str),
    /// The context's layout is that of the attach target: ask its BTF.
    Btf,
}

/// How a program type's context is laid out.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    /// Fields; the number selects the readers and writers among them.
    Fields(&'static [Field], u16),
    /// Registers of the machine (`struct pt_regs`): read only, any aligned size.
    Registers,
    /// `struct bpf_perf_event_data`: whole registers, then two fields.
    PerfEvent,
    /// The record of a tracepoint: read only, any aligned size, the first 8 bytes hidden.
    Tracepoint,
    /// Arguments of a raw tracepoint as 64-bit words.
    RawTracepoint {
        /// The first word is a buffer that may be written.
        writable: bool,
    },
    /// Plain memory of up to this many bytes, read and written (`BPF_PROG_TYPE_SYSCALL`).
    Memory(u32),
    /// As the BTF of the attach target says.
    Btf,
    /// No context at all.
    None,
}

/// How the context of a program is laid out. A `BPF_PROG_TYPE_EXT` program has that of the program it extends.
#[must_use]
pub fn layout(env: &ProgEnv<'_>) -> Layout {
    let attach = env.attach;
    match env.prog_type {
        P::SocketFilter => Layout::Fields(skb::SK_BUFF, skb::FILTER),
        P::SchedCls | P::SchedAct => Layout::Fields(skb::SK_BUFF, skb::TC),
        P::CgroupSkb => Layout::Fields(skb::SK_BUFF, skb::CGROUP),
        P::LwtIn | P::LwtOut | P::LwtXmit | P::LwtSeg6local => {
            Layout::Fields(skb::SK_BUFF, skb::LWT)
        }
        P::SkSkb => Layout::Fields(skb::SK_BUFF, skb::SK_SKB),
        P::FlowDissector => Layout::Fields(skb::SK_BUFF, skb::FLOW),
        P::Xdp if attach == Some(A::XdpDevmap) => {
            Layout::Fields(skb::XDP_MD, skb::XDP | skb::DEVMAP)
        }
        P::Xdp => Layout::Fields(skb::XDP_MD, skb::XDP),
        P::CgroupSock => Layout::Fields(sock::SOCK, cgroup::sock_hook(attach)),
        P::CgroupSockAddr => Layout::Fields(cgroup::SOCK_ADDR, cgroup::addr_hook(attach)),
        P::CgroupSysctl => Layout::Fields(cgroup::SYSCTL, field::ANY),
        P::CgroupSockopt if attach == Some(A::CgroupGetsockopt) => {
            Layout::Fields(cgroup::SOCKOPT, cgroup::GETSOCKOPT)
        }
        P::CgroupSockopt => Layout::Fields(cgroup::SOCKOPT, cgroup::SETSOCKOPT),
        P::CgroupDevice => Layout::Fields(cgroup::DEVICE, field::ANY),
        P::SockOps => Layout::Fields(sock_ops::SOCK_OPS, field::ANY),
        P::SkMsg => Layout::Fields(socket::SK_MSG, field::ANY),
        P::SkReuseport => Layout::Fields(socket::SK_REUSEPORT, field::ANY),
        P::SkLookup => Layout::Fields(socket::SK_LOOKUP, field::ANY),
        P::Netfilter => Layout::Fields(socket::NETFILTER, field::ANY),
        P::LircMode2 => Layout::Fields(socket::LIRC_MODE2, field::ANY),
        P::Kprobe => Layout::Registers,
        P::PerfEvent => Layout::PerfEvent,
        P::Tracepoint => Layout::Tracepoint,
        P::RawTracepoint => Layout::RawTracepoint { writable: false },
        P::RawTracepointWritable => Layout::RawTracepoint { writable: true },
        P::Syscall => Layout::Memory(tracing::SYSCALL_CTX_MAX),
        P::Tracing | P::StructOps | P::Lsm => Layout::Btf,
        P::Ext | P::Unspec => Layout::None,
    }
}

/// What an access of `size` bytes (1, 2, 4 or 8) at `offset` of the context means.
///
/// The pointer must be the unmodified context: Linux 6.18 refuses any offset added to it, for every program type.
///
/// # Errors
/// [`CtxDenied`] if the kernel refuses it with `invalid bpf_context access`.
pub fn access(
    env: &ProgEnv<'_>,
    offset: i32,
    size: u32,
    kind: Access,
) -> Result<CtxAccess, CtxDenied> {
    match layout(env) {
        Layout::Fields(fields, who) => field::check(fields, who, offset, size, kind),
        Layout::Registers => tracing::registers(offset, size, kind),
        Layout::PerfEvent => tracing::perf_event(offset, size, kind),
        Layout::Tracepoint => tracing::tracepoint(offset, size, kind),
        Layout::RawTracepoint { writable } => tracing::raw_tracepoint(writable, offset, size, kind),
        Layout::Memory(limit) => tracing::memory(limit, offset, size),
        Layout::Btf => Err(CtxDenied::Btf),
        Layout::None => Err(CtxDenied::NoField),
    }
}

#[cfg(test)]
mod tests;
