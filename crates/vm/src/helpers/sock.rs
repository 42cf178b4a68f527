//! Sockets, as far as an unprivileged process can tell: which one a packet would reach. Priority and queue of a socket are
//! unknown and read as for one that nobody changed.

use super::{Args, Row, helpers};
use crate::ctx::SockImage;
use crate::ctx::skb::ETH_HLEN;
use crate::routes::INET;
use skep_abi::{Errno, ProgType};
use skep_sys::netlink::{Socket as Netlink, SocketInfo};
use std::net::{IpAddr, SocketAddr};

pub(super) const HELPERS: &[Row] = helpers! {
    46 "bpf_get_socket_cookie" get_socket_cookie;
    47 "bpf_get_socket_uid" get_socket_uid;
    84 "bpf_sk_lookup_tcp" sk_lookup_tcp;
    85 "bpf_sk_lookup_udp" sk_lookup_udp;
    86 "bpf_sk_release" sk_release;
    95 "bpf_sk_fullsock" sk_fullsock;
    96 "bpf_tcp_sock" none;
    98 "bpf_get_listener_sock" get_listener_sock;
    99 "bpf_skc_lookup_tcp" skc_lookup_tcp;
    107 "bpf_sk_storage_get" sk_storage_get;
    108 "bpf_sk_storage_delete" sk_storage_delete;
    124 "bpf_sk_assign" sk_assign;
    163 "bpf_check_mtu" check_mtu;
};

fn none(_: &Args) -> u64 {
    0
}

/// `TCP_*`
mod state {
    pub(super) const TIME_WAIT: u8 = 6;
    pub(super) const LISTEN: u8 = 10;
    pub(super) const NEW_SYN_RECV: u8 = 12;
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// ctx, tuple, its size, network namespace, flags: the socket as programs see it, or NULL
fn lookup(a: &Args, protocol: u8, wanted: impl Fn(&SocketInfo) -> bool) -> u64 {
    /// Bytes of `struct bpf_sock_tuple` for IPv4 and IPv6.
    const V4_BYTES: u32 = 12;
    const V6_BYTES: u32 = 36;
    // Other namespaces than this one are known to the kernel only.
    if a.get(5) != 0 || a.get32(4).cast_signed() >= 0 {
        return 0;
    }
    let tuple = a.bytes(2, a.get32(3) as usize);
    let port = |at: usize| u16::from_be_bytes([tuple[at], tuple[at + 1]]);
    let end = |at: usize, len: usize, port: u16| {
        let bytes = &tuple[at..at + len];
        let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
        v4.or(v6).ok().map(|ip| SocketAddr::new(ip, port))
    };
    let ends = match a.get32(3) {
        V4_BYTES => (end(0, 4, port(8)), end(4, 4, port(10))),
        V6_BYTES => (end(0, 16, port(32)), end(16, 16, port(34))),
        _ => return 0,
    };
    let (Some(remote), Some(local)) = ends else {
        return 0;
    };
    let device = match a.prog_type() {
        ProgType::Xdp => a.xdp(1).ingress_ifindex,
        _ => a.skb(1).ifindex,
    };
    let found = Netlink::open_diag()
        .and_then(|mut diag| diag.socket_of(protocol, remote, local, device))
        .ok()
        .filter(wanted);
    found.map_or(0, |info| a.world().keep_socket(image(&info, protocol)))
}

fn image(info: &SocketInfo, protocol: u8) -> SockImage {
    const STREAM: u32 = 1;
    const DATAGRAM: u32 = 2;
    const NO_QUEUE: i32 = -1;
    let word = |bytes: &[u8; 16], n: usize| {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| bytes[4 * n + i]);
        u32::from_ne_bytes([a, b, c, d])
    };
    let [own, other] = &info.addresses;
    let all = |bytes: &[u8; 16]| [0, 1, 2, 3].map(|n| word(bytes, n));
    let is_v4 = info.family == INET;
    let v4 = |bytes| if is_v4 { word(bytes, 0) } else { 0 };
    let v6 = |bytes| if is_v4 { [0; 4] } else { all(bytes) };
    SockImage {
        bound_dev_if: info.ifindex,
        family: info.family.into(),
        sock_type: if protocol == TCP { STREAM } else { DATAGRAM },
        protocol: protocol.into(),
        src_ip4: v4(own),
        src_ip6: v6(own),
        src_port: info.ports[0].into(),
        dst_port: info.ports[1].to_be(),
        dst_ip4: v4(other),
        dst_ip6: v6(other),
        state: info.state.into(),
        rx_queue_mapping: NO_QUEUE,
        cookie: info.cookie,
        ..SockImage::default()
    }
}

/// Sockets that are not whole are those of connections that begin or end.
fn is_full(info: &SocketInfo) -> bool {
    !matches!(info.state, state::TIME_WAIT | state::NEW_SYN_RECV)
}

fn sk_lookup_tcp(a: &Args) -> u64 {
    lookup(a, TCP, is_full)
}

fn skc_lookup_tcp(a: &Args) -> u64 {
    lookup(a, TCP, |_| true)
}

fn sk_lookup_udp(a: &Args) -> u64 {
    lookup(a, UDP, |_| true)
}

/// socket: itself if it listens
fn get_listener_sock(a: &Args) -> u64 {
    // SAFETY: the verifier proved a socket pointer, which points to an image.
    let state = unsafe { (*(a.get(1) as *const SockImage)).state };
    if state == u32::from(state::LISTEN) {
        a.get(1)
    } else {
        0
    }
}

fn sk_release(a: &Args) -> i64 {
    a.world().release_socket(a.get(1));
    0
}

/// Every socket that packet programs see is a full one.
fn sk_fullsock(a: &Args) -> u64 {
    a.get(1)
}

fn cookie(at: u64) -> u64 {
    if at == 0 {
        return 0;
    }
    // SAFETY: the verifier proved a socket pointer, which points to an image.
    unsafe { (*(at as *const SockImage)).cookie }
}

fn get_socket_cookie(a: &Args) -> u64 {
    match crate::ctx::has_skb(a.prog_type()) {
        true => cookie(a.skb(1).sk as u64),
        false => 0,
    }
}

/// The owner of the packet's socket: root, to whom those that nobody opened belong.
fn get_socket_uid(_: &Args) -> u64 {
    0
}

/// map, socket, initial value or NULL, flags
fn sk_storage_get(a: &Args) -> *mut u8 {
    let owner = cookie(a.get(2));
    if owner == 0 {
        return std::ptr::null_mut();
    }
    // SAFETY: the verifier proved an initial value of the map's size, or NULL.
    unsafe { a.map(1).storage_get(owner, a.ptr(3), a.get(4), a.runner()) }
}

/// map, socket
fn sk_storage_delete(a: &Args) -> Result<i64, Errno> {
    match cookie(a.get(2)) {
        0 => Err(Errno::EINVAL),
        owner => Ok(a.map(1).storage_delete(owner, a.runner())),
    }
}

/// ctx, socket or NULL, flags: there is no socket that a packet could be given to but its own, and that one has another kind.
fn sk_assign(a: &Args) -> Result<i64, Errno> {
    /// `BPF_SK_LOOKUP_F_REPLACE`, `BPF_SK_LOOKUP_F_NO_REUSEPORT`
    const LOOKUP_FLAGS: u64 = 3;
    let is_lookup = a.prog_type() == ProgType::SkLookup;
    let known = if is_lookup { LOOKUP_FLAGS } else { 0 };
    if a.get(3) & !known != 0 {
        return Err(Errno::EINVAL);
    }
    if is_lookup && a.get(2) == 0 {
        return Ok(0);
    }
    Err(Errno::EOPNOTSUPP)
}

/// ctx, device, MTU in and out, difference, flags
fn check_mtu(a: &Args) -> Result<i64, Errno> {
    const LOOPBACK_MTU: i32 = 65536;
    /// `BPF_MTU_CHK_RET_FRAG_NEEDED`
    const FRAG_NEEDED: i64 = 1;
    let xdp = a.prog_type() == ProgType::Xdp;
    let given = a.bytes(3, 4);
    let given = u32::from_ne_bytes([given[0], given[1], given[2], given[3]]);
    /// `BPF_MTU_CHK_SEGS`
    const SEGMENTS: u64 = 1;
    let known = if xdp { 0 } else { SEGMENTS };
    let by_segments = a.get(5) & SEGMENTS != 0;
    if a.get(5) & !known != 0 || (by_segments && (given != 0 || a.get32(4) != 0)) {
        return Err(Errno::EINVAL);
    }
    if !matches!(a.get32(2), 0 | 1) {
        return Err(Errno::ENODEV);
    }
    let len = match given {
        0 if xdp => a.xdp(1).len() as i32,
        0 => a.skb(1).len.cast_signed(),
        given => given.wrapping_add(ETH_HLEN as u32).cast_signed(),
    };
    let len = len.wrapping_add(a.get32(4).cast_signed());
    a.write(3, &(LOOPBACK_MTU as u32).to_ne_bytes());
    let largest = LOOPBACK_MTU + ETH_HLEN as i32;
    // What is to be cut into segments may be longer than one.
    let in_segments = !xdp && super::skb_room::is_gso(a.skb(1));
    Ok(if len <= largest || in_segments {
        0
    } else {
        FRAG_NEEDED
    })
}
