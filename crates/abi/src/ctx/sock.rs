//! Socket structures that programs reach through a pointer (and `bpf_sock` as the context of cgroup_sock programs):
//! `struct bpf_sock`, `bpf_tcp_sock`, `bpf_xdp_sock`, `bpf_flow_keys`.

use super::cgroup::{SOCK_BIND4, SOCK_BIND6, SOCK_CREATE};
use super::field::Mode::{Exact, Narrow, Prefix};
use super::field::{ANY, check};
use super::{Access, CtxAccess, CtxDenied, Field};

/// Through a `sock_common` pointer.
const COMMON: u16 = 1;
/// Through a pointer to a full socket.
const FULL: u16 = 2;
/// Both kinds of pointer.
const POINTER: u16 = COMMON | FULL;
/// Where the local address is bound: IPv4.
const BOUND4: u16 = POINTER | SOCK_BIND4;
/// Where the local address is bound: IPv6.
const BOUND6: u16 = POINTER | SOCK_BIND6;
/// Where the local port is bound.
const BOUND: u16 = BOUND4 | BOUND6;
/// Settings of a socket that is being made.
const MADE: u16 = FULL | SOCK_CREATE;

/// `struct bpf_sock`. Source: `bpf_sock_is_valid_access`, `bpf_sock_common_is_valid_access`, `sock_filter_is_valid_access`.
#[rustfmt::skip] // one field per line
pub const SOCK: &[Field] = &[
    Field::new("bound_dev_if", 0, 4).read(Exact, POINTER | SOCK_CREATE).write(Exact, SOCK_CREATE),
    Field::new("family", 4, 4).read(Prefix, ANY),
    Field::new("type", 8, 4).read(Prefix, ANY & !COMMON),
    Field::new("protocol", 12, 4).read(Prefix, ANY & !COMMON),
    Field::new("mark", 16, 4).read(Exact, MADE).write(Exact, SOCK_CREATE),
    Field::new("priority", 20, 4).read(Exact, MADE).write(Exact, SOCK_CREATE),
    Field::new("src_ip4", 24, 4).read(Narrow, BOUND4),
    Field::array("src_ip6", 28, 4, 4).read(Narrow, BOUND6),
    Field::new("src_port", 44, 4).read(Prefix, BOUND),
    Field::new("dst_port", 48, 2).read(Narrow, ANY),
    Field::new("dst_port", 48, 4).read(Exact, ANY),
    Field::new("dst_ip4", 52, 4).read(Narrow, ANY),
    Field::array("dst_ip6", 56, 4, 4).read(Narrow, ANY),
    Field::new("state", 72, 4).read(Prefix, ANY),
    Field::new("rx_queue_mapping", 76, 4).read(Prefix, ANY),
];

/// `struct bpf_tcp_sock`. Source: `bpf_tcp_sock_is_valid_access`; half a 64-bit field passes it but is refused after it.
#[rustfmt::skip] // one field per line
pub const TCP_SOCK: &[Field] = &[
    Field::new("snd_cwnd", 0, 4).read(Exact, ANY),
    Field::new("srtt_us", 4, 4).read(Exact, ANY),
    Field::new("rtt_min", 8, 4).read(Exact, ANY),
    Field::new("snd_ssthresh", 12, 4).read(Exact, ANY),
    Field::new("rcv_nxt", 16, 4).read(Exact, ANY),
    Field::new("snd_nxt", 20, 4).read(Exact, ANY),
    Field::new("snd_una", 24, 4).read(Exact, ANY),
    Field::new("mss_cache", 28, 4).read(Exact, ANY),
    Field::new("ecn_flags", 32, 4).read(Exact, ANY),
    Field::new("rate_delivered", 36, 4).read(Exact, ANY),
    Field::new("rate_interval_us", 40, 4).read(Exact, ANY),
    Field::new("packets_out", 44, 4).read(Exact, ANY),
    Field::new("retrans_out", 48, 4).read(Exact, ANY),
    Field::new("total_retrans", 52, 4).read(Exact, ANY),
    Field::new("segs_in", 56, 4).read(Exact, ANY),
    Field::new("data_segs_in", 60, 4).read(Exact, ANY),
    Field::new("segs_out", 64, 4).read(Exact, ANY),
    Field::new("data_segs_out", 68, 4).read(Exact, ANY),
    Field::new("lost_out", 72, 4).read(Exact, ANY),
    Field::new("sacked_out", 76, 4).read(Exact, ANY),
    Field::new("bytes_received", 80, 8).read(Exact, ANY),
    Field::new("bytes_acked", 88, 8).read(Exact, ANY),
    Field::new("dsack_dups", 96, 4).read(Exact, ANY),
    Field::new("delivered", 100, 4).read(Exact, ANY),
    Field::new("delivered_ce", 104, 4).read(Exact, ANY),
    Field::new("icsk_retransmits", 108, 4).read(Exact, ANY),
];

/// `struct bpf_xdp_sock`. Source: `bpf_xdp_sock_is_valid_access`.
pub const XDP_SOCK: &[Field] = &[Field::new("queue_id", 0, 4).read(Exact, ANY)];

/// Bytes of `struct bpf_flow_keys`.
pub const FLOW_KEYS_SIZE: u32 = 56;

/// `struct bpf_flow_keys`: plain memory, these names are for messages; the IPv4 addresses share the place of `ipv6_src`.
#[rustfmt::skip] // one field per line
pub const FLOW_KEYS: &[(&str, u32)] = &[
    ("nhoff", 0), ("thoff", 2), ("addr_proto", 4), ("is_frag", 6), ("is_first_frag", 7), ("is_encap", 8), ("ip_proto", 9),
    ("n_proto", 10), ("sport", 12), ("dport", 14), ("ipv6_src", 16), ("ipv6_dst", 32), ("flags", 48), ("flow_label", 52),
];

/// The kind of pointer through which a socket structure is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SockView {
    /// `PTR_TO_SOCK_COMMON`
    Common,
    /// `PTR_TO_SOCKET`
    Full,
    /// `PTR_TO_TCP_SOCK`
    Tcp,
    /// `PTR_TO_XDP_SOCK`
    Xdp,
}

/// What an access of `size` bytes at `offset` behind a socket pointer means. Writes are never allowed.
///
/// # Errors
/// [`CtxDenied`] if the kernel refuses it (`invalid sock access`, `cannot write into sock`).
pub fn sock_access(
    view: SockView,
    offset: i32,
    size: u32,
    kind: Access,
) -> Result<CtxAccess, CtxDenied> {
    let (fields, who) = match view {
        SockView::Common => (SOCK, COMMON),
        SockView::Full => (SOCK, FULL),
        SockView::Tcp => (TCP_SOCK, ANY),
        SockView::Xdp => (XDP_SOCK, ANY),
    };
    match kind {
        Access::Write => Err(CtxDenied::ReadOnly("sock")),
        Access::Read | Access::ReadSigned => check(fields, who, offset, size, kind),
    }
}

/// True if `size` bytes at `offset` of `struct bpf_flow_keys` may be read and written; alignment does not matter.
#[must_use]
pub fn flow_keys_access(offset: i32, size: u32) -> bool {
    u32::try_from(offset).is_ok_and(|at| at.saturating_add(size) <= FLOW_KEYS_SIZE)
}
