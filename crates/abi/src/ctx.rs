//! The context of each program type: fields, who may read or write them, and what a read yields.

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
    /// A `struct bpf_sock` (`PTR_TO_SOCK_COMMON_OR_NULL` where [`Yields::SockCommonOrNull`]).
    SockOrNull,
    /// A socket that cannot be NULL.
    Sock,
    /// A `sock_common` or NULL.
    SockCommonOrNull,
    /// Memory that is read like a buffer, bounded by the field's companion (`optval`, tracing buffers).
    BtfPtr(&'static str),
}

/// Direction of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A load.
    Read,
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
    /// Size of the field in bytes; a smaller access is a narrow load.
    pub size: u32,
    /// What a read yields.
    pub yields: Yields,
}
