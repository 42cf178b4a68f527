//! Contexts of programs that choose or filter for sockets: `struct sk_msg_md`, `sk_reuseport_md`, `bpf_sk_lookup`, and those of
//! netfilter and LIRC.

use super::field::ANY;
use super::field::Mode::{Exact, Halves, Narrow};
use super::{Field, Yields};

/// `struct sk_msg_md`. Source: `sk_msg_is_valid_access`.
#[rustfmt::skip] // one field per line
pub(super) const SK_MSG: &[Field] = &[
    Field::new("data", 0, 8).read(Exact, ANY).yields(Yields::PktData),
    Field::new("data_end", 8, 8).read(Exact, ANY).yields(Yields::PktEnd),
    Field::new("family", 16, 4).read(Exact, ANY),
    Field::new("remote_ip4", 20, 4).read(Exact, ANY),
    Field::new("local_ip4", 24, 4).read(Exact, ANY),
    Field::array("remote_ip6", 28, 4, 4).read(Exact, ANY),
    Field::array("local_ip6", 44, 4, 4).read(Exact, ANY),
    Field::new("remote_port", 60, 4).read(Exact, ANY),
    Field::new("local_port", 64, 4).read(Exact, ANY),
    Field::new("size", 68, 4).read(Exact, ANY),
    Field::new("sk", 72, 8).read(Exact, ANY).yields(Yields::Sock),
];

/// `struct sk_reuseport_md`. Source: `sk_reuseport_is_valid_access`.
#[rustfmt::skip] // one field per line
pub(super) const SK_REUSEPORT: &[Field] = &[
    Field::new("data", 0, 8).read(Exact, ANY).yields(Yields::PktData),
    Field::new("data_end", 8, 8).read(Exact, ANY).yields(Yields::PktEnd),
    Field::new("len", 16, 4).read(Narrow, ANY),
    Field::new("eth_protocol", 20, 4).read(Halves, ANY),
    Field::new("ip_protocol", 24, 4).read(Narrow, ANY),
    Field::new("bind_inany", 28, 4).read(Narrow, ANY),
    Field::new("hash", 32, 4).read(Exact, ANY),
    Field::new("sk", 40, 8).read(Exact, ANY).yields(Yields::Sock),
    Field::new("migrating_sk", 48, 8).read(Exact, ANY).yields(Yields::SockCommonOrNull),
];

/// `struct bpf_sk_lookup`; the two bytes behind `remote_port` read as zero. Source: `sk_lookup_is_valid_access`.
#[rustfmt::skip] // one field per line
pub(super) const SK_LOOKUP: &[Field] = &[
    Field::new("sk", 0, 8).read(Exact, ANY).yields(Yields::SockOrNull),
    Field::new("family", 8, 4).read(Narrow, ANY),
    Field::new("protocol", 12, 4).read(Narrow, ANY),
    Field::new("remote_ip4", 16, 4).read(Narrow, ANY),
    Field::array("remote_ip6", 20, 4, 4).read(Narrow, ANY),
    Field::new("remote_port", 36, 4).read(Narrow, ANY),
    Field::new("local_ip4", 40, 4).read(Narrow, ANY),
    Field::array("local_ip6", 44, 4, 4).read(Narrow, ANY),
    Field::new("local_port", 60, 4).read(Narrow, ANY),
    Field::new("ingress_ifindex", 64, 4).read(Narrow, ANY),
];

/// `struct bpf_nf_ctx`. Source: `nf_is_valid_access`.
#[rustfmt::skip] // one field per line
pub(super) const NETFILTER: &[Field] = &[
    Field::new("state", 0, 8).read(Exact, ANY).yields(Yields::BtfPtr("nf_hook_state")),
    Field::new("skb", 8, 8).read(Exact, ANY).yields(Yields::BtfPtr("sk_buff")),
];

/// The scan code of a LIRC program. Source: `lirc_mode2_is_valid_access`.
pub(super) const LIRC_MODE2: &[Field] = &[Field::new("sample", 0, 4).read(Exact, ANY)];
