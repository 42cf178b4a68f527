//! Context of sock_ops programs: `struct bpf_sock_ops`.

use super::field::ANY;
use super::field::Mode::{Exact, Prefix};
use super::{Field, Yields};

/// `struct bpf_sock_ops`; `args[0]` is also `reply`. Source: `sock_ops_is_valid_access`.
#[rustfmt::skip] // one field per line
pub(super) const SOCK_OPS: &[Field] = &[
    Field::new("op", 0, 4).read(Exact, ANY),
    Field::new("reply", 4, 4).read(Exact, ANY).write(Exact, ANY),
    Field::array("args[1..]", 8, 4, 3).read(Exact, ANY),
    Field::new("family", 20, 4).read(Exact, ANY),
    Field::new("remote_ip4", 24, 4).read(Exact, ANY),
    Field::new("local_ip4", 28, 4).read(Exact, ANY),
    Field::array("remote_ip6", 32, 4, 4).read(Exact, ANY),
    Field::array("local_ip6", 48, 4, 4).read(Exact, ANY),
    Field::new("remote_port", 64, 4).read(Exact, ANY),
    Field::new("local_port", 68, 4).read(Exact, ANY),
    Field::new("is_fullsock", 72, 4).read(Exact, ANY),
    Field::new("snd_cwnd", 76, 4).read(Exact, ANY),
    Field::new("srtt_us", 80, 4).read(Exact, ANY),
    Field::new("bpf_sock_ops_cb_flags", 84, 4).read(Exact, ANY),
    Field::new("state", 88, 4).read(Exact, ANY),
    Field::new("rtt_min", 92, 4).read(Exact, ANY),
    Field::new("snd_ssthresh", 96, 4).read(Exact, ANY),
    Field::new("rcv_nxt", 100, 4).read(Exact, ANY),
    Field::new("snd_nxt", 104, 4).read(Exact, ANY),
    Field::new("snd_una", 108, 4).read(Exact, ANY),
    Field::new("mss_cache", 112, 4).read(Exact, ANY),
    Field::new("ecn_flags", 116, 4).read(Exact, ANY),
    Field::new("rate_delivered", 120, 4).read(Exact, ANY),
    Field::new("rate_interval_us", 124, 4).read(Exact, ANY),
    Field::new("packets_out", 128, 4).read(Exact, ANY),
    Field::new("retrans_out", 132, 4).read(Exact, ANY),
    Field::new("total_retrans", 136, 4).read(Exact, ANY),
    Field::new("segs_in", 140, 4).read(Exact, ANY),
    Field::new("data_segs_in", 144, 4).read(Exact, ANY),
    Field::new("segs_out", 148, 4).read(Exact, ANY),
    Field::new("data_segs_out", 152, 4).read(Exact, ANY),
    Field::new("lost_out", 156, 4).read(Exact, ANY),
    Field::new("sacked_out", 160, 4).read(Exact, ANY),
    Field::new("sk_txhash", 164, 4).read(Exact, ANY).write(Exact, ANY),
    Field::new("bytes_received", 168, 8).read(Exact, ANY),
    Field::new("bytes_acked", 176, 8).read(Exact, ANY),
    Field::new("sk", 184, 8).read(Exact, ANY).yields(Yields::SockOrNull),
    Field::new("skb_data", 192, 8).read(Exact, ANY).yields(Yields::PktData),
    Field::new("skb_data_end", 200, 8).read(Exact, ANY).yields(Yields::PktEnd),
    Field::new("skb_len", 208, 4).read(Exact, ANY),
    Field::new("skb_tcp_flags", 212, 4).read(Prefix, ANY),
    Field::new("skb_hwtstamp", 216, 8).read(Exact, ANY),
];
