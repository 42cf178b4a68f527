//! Sockets and routes: what an unprivileged process can tell of them, which is that there is none.

use super::{Args, Row, helpers};
use crate::ctx::SockImage;
use crate::ctx::skb::ETH_HLEN;
use skep_abi::Errno;

pub(super) const HELPERS: &[Row] = helpers! {
    46 "bpf_get_socket_cookie" get_socket_cookie;
    47 "bpf_get_socket_uid" get_socket_uid;
    69 "bpf_fib_lookup" fib_lookup;
    84 "bpf_sk_lookup_tcp" none;
    85 "bpf_sk_lookup_udp" none;
    86 "bpf_sk_release" sk_release;
    95 "bpf_sk_fullsock" sk_fullsock;
    96 "bpf_tcp_sock" none;
    98 "bpf_get_listener_sock" none;
    99 "bpf_skc_lookup_tcp" none;
    107 "bpf_sk_storage_get" sk_storage_get;
    108 "bpf_sk_storage_delete" sk_storage_delete;
    124 "bpf_sk_assign" sk_assign;
    163 "bpf_check_mtu" check_mtu;
};

fn none(_: &Args) -> u64 {
    0
}

fn sk_release(_: &Args) -> i64 {
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

/// `overflowuid`, as for a packet without a full socket.
fn get_socket_uid(_: &Args) -> u64 {
    const OVERFLOW_UID: u64 = 65534;
    OVERFLOW_UID
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

/// There is no socket that a packet could be given to but its own, and that one has another kind.
fn sk_assign(a: &Args) -> Result<i64, Errno> {
    if a.get(1) != 0 && a.get(3) != 0 {
        return Err(Errno::EINVAL);
    }
    Err(Errno::EOPNOTSUPP)
}

/// ctx, parameters, their size, flags
fn fib_lookup(a: &Args) -> Result<i64, Errno> {
    const PARAMS_BYTES: u32 = 64;
    const KNOWN_FLAGS: u32 = 0x7f;
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    /// `BPF_FIB_LOOKUP_OUTPUT`
    const OUTPUT: u32 = 2;
    /// `BPF_FIB_LKUP_RET_NOT_FWDED`
    const NOT_FORWARDED: i64 = 4;
    /// `BPF_FIB_LKUP_RET_FWD_DISABLED`
    const FORWARDING_DISABLED: i64 = 5;
    if a.get32(3) < PARAMS_BYTES || a.get32(4) & !KNOWN_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let params = a.bytes(2, PARAMS_BYTES as usize);
    let family = match params[0] {
        AF_INET => "ipv4",
        AF_INET6 => "ipv6",
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    let ifindex = u32::from_ne_bytes([params[8], params[9], params[10], params[11]]);
    let forwards = skep_sys::socket::device_forwards(ifindex, family).ok_or(Errno::ENODEV)?;
    let outgoing = a.get32(4) & OUTPUT != 0;
    // Routes are the kernel's business: what a host may say without privileges does not name the way of foreign packets.
    Ok(if forwards || outgoing {
        NOT_FORWARDED
    } else {
        FORWARDING_DISABLED
    })
}

/// ctx, device, MTU in and out, difference, flags
fn check_mtu(a: &Args) -> Result<i64, Errno> {
    const LOOPBACK_MTU: i32 = 65536;
    /// `BPF_MTU_CHK_RET_FRAG_NEEDED`
    const FRAG_NEEDED: i64 = 1;
    let xdp = a.prog_type() == skep_abi::ProgType::Xdp;
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
