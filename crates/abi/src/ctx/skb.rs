//! Contexts of packet programs: `struct __sk_buff` and `struct xdp_md`.

use super::field::Mode::{Bytes, Exact, Narrow};
use super::{Field, Yields};

/// `BPF_PROG_TYPE_SOCKET_FILTER`
pub(super) const FILTER: u16 = 1;
/// `BPF_PROG_TYPE_SCHED_CLS`, `BPF_PROG_TYPE_SCHED_ACT`
pub(super) const TC: u16 = 2;
/// `BPF_PROG_TYPE_CGROUP_SKB`
pub(super) const CGROUP: u16 = 4;
/// `BPF_PROG_TYPE_LWT_*`
pub(super) const LWT: u16 = 8;
/// `BPF_PROG_TYPE_SK_SKB`
pub(super) const SK_SKB: u16 = 16;
/// `BPF_PROG_TYPE_FLOW_DISSECTOR`
pub(super) const FLOW: u16 = 32;
/// Every packet program but the flow dissector.
const MOST: u16 = FILTER | TC | CGROUP | LWT | SK_SKB;

/// `struct __sk_buff`. Source: `bpf_skb_is_valid_access` and its callers.
#[rustfmt::skip] // one field per line
pub(super) const SK_BUFF: &[Field] = &[
    Field::new("len", 0, 4).read(Narrow, MOST),
    Field::new("pkt_type", 4, 4).read(Narrow, MOST),
    Field::new("mark", 8, 4).read(Narrow, MOST & !SK_SKB).write(Exact, TC | CGROUP | LWT),
    Field::new("queue_mapping", 12, 4).read(Narrow, MOST).write(Exact, TC),
    Field::new("protocol", 16, 4).read(Narrow, MOST),
    Field::new("vlan_present", 20, 4).read(Narrow, MOST),
    Field::new("vlan_tci", 24, 4).read(Narrow, MOST),
    Field::new("vlan_proto", 28, 4).read(Narrow, MOST),
    Field::new("priority", 32, 4).read(Narrow, MOST).write(Exact, TC | CGROUP | LWT | SK_SKB),
    Field::new("ingress_ifindex", 36, 4).read(Narrow, MOST),
    Field::new("ifindex", 40, 4).read(Narrow, MOST),
    Field::new("tc_index", 44, 4).read(Narrow, MOST).write(Exact, TC | SK_SKB),
    Field::array("cb", 48, 4, 5).read(Bytes, MOST).write(Bytes, FILTER | TC | CGROUP | LWT),
    Field::new("hash", 68, 4).read(Narrow, MOST),
    Field::new("tc_classid", 72, 4).read(Narrow, TC).write(Exact, TC),
    Field::new("data", 76, 4).read(Exact, TC | CGROUP | LWT | SK_SKB | FLOW).yields(Yields::PktData),
    Field::new("data_end", 80, 4).read(Exact, TC | CGROUP | LWT | SK_SKB | FLOW).yields(Yields::PktEnd),
    Field::new("napi_id", 84, 4).read(Narrow, MOST),
    Field::new("family", 88, 4).read(Narrow, CGROUP | SK_SKB),
    Field::new("remote_ip4", 92, 4).read(Exact, CGROUP | SK_SKB),
    Field::new("local_ip4", 96, 4).read(Exact, CGROUP | SK_SKB),
    Field::array("remote_ip6", 100, 4, 4).read(Exact, CGROUP | SK_SKB),
    Field::array("local_ip6", 116, 4, 4).read(Exact, CGROUP | SK_SKB),
    Field::new("remote_port", 132, 4).read(Narrow, CGROUP | SK_SKB),
    Field::new("local_port", 136, 4).read(Narrow, CGROUP | SK_SKB),
    Field::new("data_meta", 140, 4).read(Exact, TC).yields(Yields::PktMeta),
    Field::new("flow_keys", 144, 8).read(Exact, FLOW).yields(Yields::FlowKeys),
    Field::new("tstamp", 152, 8).read(Exact, TC | CGROUP).write(Exact, TC | CGROUP),
    Field::new("wire_len", 160, 4).read(Narrow, TC),
    Field::new("gso_segs", 164, 4).read(Narrow, MOST),
    Field::new("sk", 168, 8).read(Exact, MOST).yields(Yields::SockCommonOrNull),
    Field::new("gso_size", 176, 4).read(Narrow, MOST),
    Field::new("tstamp_type", 180, 1).read(Exact, TC),
    Field::new("hwtstamp", 184, 8).read(Exact, TC | CGROUP),
];

/// `BPF_PROG_TYPE_XDP`
pub(super) const XDP: u16 = 1;
/// `BPF_XDP_DEVMAP`, in addition to [`XDP`]
pub(super) const DEVMAP: u16 = 2;

/// `struct xdp_md`. Source: `xdp_is_valid_access`.
#[rustfmt::skip] // one field per line
pub(super) const XDP_MD: &[Field] = &[
    Field::new("data", 0, 4).read(Exact, XDP).yields(Yields::PktData),
    Field::new("data_end", 4, 4).read(Exact, XDP).yields(Yields::PktEnd),
    Field::new("data_meta", 8, 4).read(Exact, XDP).yields(Yields::PktMeta),
    Field::new("ingress_ifindex", 12, 4).read(Exact, XDP),
    Field::new("rx_queue_index", 16, 4).read(Exact, XDP),
    Field::new("egress_ifindex", 20, 4).read(Exact, DEVMAP),
];
