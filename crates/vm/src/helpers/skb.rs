//! Packets in socket buffers: bytes, fields, redirection.

use super::{Args, Row, helpers};
use crate::ctx::SkbCtx;
use crate::ctx::skb::TUNNEL_KEY_BYTES;
use crate::world::Redirect;
use skep_abi::{Errno, ProgType};

pub(super) const HELPERS: &[Row] = helpers! {
    9 "bpf_skb_store_bytes" store_bytes;
    13 "bpf_clone_redirect" clone_redirect;
    17 "bpf_get_cgroup_classid" zero;
    20 "bpf_skb_get_tunnel_key" get_tunnel_key;
    21 "bpf_skb_set_tunnel_key" set_tunnel_key;
    23 "bpf_redirect" redirect;
    24 "bpf_get_route_realm" zero;
    26 "bpf_skb_load_bytes" load_bytes;
    32 "bpf_skb_change_type" change_type;
    34 "bpf_get_hash_recalc" get_hash_recalc;
    39 "bpf_skb_pull_data" pull_data;
    41 "bpf_set_hash_invalid" set_hash_invalid;
    48 "bpf_set_hash" set_hash;
    68 "bpf_skb_load_bytes_relative" load_bytes_relative;
    97 "bpf_skb_ecn_set_ce" ecn_set_ce;
    152 "bpf_redirect_neigh" redirect_neigh;
    155 "bpf_redirect_peer" redirect_peer;
    192 "bpf_skb_set_tstamp" set_tstamp;
};

/// `BPF_F_RECOMPUTE_CSUM`
const RECOMPUTE_CSUM: u64 = 1;
/// `BPF_F_INVALIDATE_HASH`
const INVALIDATE_HASH: u64 = 2;
/// Offsets above this are refused.
const MAX_OFFSET: u32 = i32::MAX as u32;

fn zero(_: &Args) -> u64 {
    0
}

/// `len` writable bytes at `offset` of the packet.
pub(super) fn writable(skb: &mut SkbCtx, offset: usize, len: usize) -> Result<&mut [u8], Errno> {
    skb.bytes_at(offset, len).ok_or(Errno::EFAULT)
}

/// Copies bytes of the packet, or zeros if they are not there.
pub(super) fn read(skb: &mut SkbCtx, offset: usize, to: &mut [u8]) -> Result<(), Errno> {
    to.fill(0);
    let from = skb.bytes_at(offset, to.len()).ok_or(Errno::EFAULT)?;
    to.copy_from_slice(from);
    Ok(())
}

/// `__bpf_skb_store_bytes`
pub(super) fn store(skb: &mut SkbCtx, offset: usize, from: &[u8], flags: u64) -> Result<(), Errno> {
    if flags & !(RECOMPUTE_CSUM | INVALIDATE_HASH) != 0 {
        return Err(Errno::EINVAL);
    }
    writable(skb, offset, from.len())?.copy_from_slice(from);
    if flags & INVALIDATE_HASH != 0 {
        clear_hash(skb);
    }
    Ok(())
}

/// `skb_clear_hash`
pub(super) fn clear_hash(skb: &mut SkbCtx) {
    skb.hash = 0;
    skb.sw_hash = false;
}

/// skb, `offset`, from, its length, flags
fn store_bytes(a: &Args) -> Result<i64, Errno> {
    let (offset, len) = (a.get32(2), a.get32(4) as usize);
    if a.get(5) & !(RECOMPUTE_CSUM | INVALIDATE_HASH) != 0 {
        return Err(Errno::EINVAL);
    }
    if offset > MAX_OFFSET {
        return Err(Errno::EFAULT);
    }
    store(a.skb(1), offset as usize, a.bytes(3, len), a.get(5))?;
    Ok(0)
}

/// skb, `offset`, to, its length
fn load_bytes(a: &Args) -> Result<i64, Errno> {
    let (offset, len) = (a.get32(2), a.get32(4) as usize);
    let mut bytes = vec![0; len];
    let result = if offset > MAX_OFFSET {
        Err(Errno::EFAULT)
    } else {
        read(a.skb(1), offset as usize, &mut bytes)
    };
    a.write(3, &bytes);
    result.map(|()| 0)
}

/// skb, `offset`, to, its length, which header `offset` counts from
fn load_bytes_relative(a: &Args) -> Result<i64, Errno> {
    const FROM_MAC: u32 = 0;
    const FROM_NETWORK: u32 = 1;
    let (offset, len) = (a.get32(2) as usize, a.get32(4) as usize);
    let skb = a.skb(1);
    let header = match a.get32(5) {
        FROM_MAC => Some(skb.mac),
        FROM_NETWORK => Some(skb.network),
        _ => None,
    };
    let mut bytes = vec![0; len];
    let start = header.map(|h| h as usize + offset);
    let fits = start.is_some_and(|s| offset <= 0xffff && s + len <= skb.data_end as usize);
    if let Some(start) = start.filter(|_| fits) {
        // SAFETY: headers lie in the buffer, and the bytes end before the packet does.
        bytes.copy_from_slice(unsafe { std::slice::from_raw_parts(start as *const u8, len) });
    }
    a.write(3, &bytes);
    if fits { Ok(0) } else { Err(Errno::EFAULT) }
}

/// skb, length (0: all): all packets are in one piece, so this only checks
fn pull_data(a: &Args) -> Result<i64, Errno> {
    if a.get32(2) > a.skb(1).len {
        return Err(Errno::ENOMEM);
    }
    Ok(0)
}

/// skb, type
fn change_type(a: &Args) -> Result<i64, Errno> {
    const PACKET_OTHERHOST: u32 = 3;
    let skb = a.skb(1);
    if skb.pkt_type > PACKET_OTHERHOST || a.get32(2) > PACKET_OTHERHOST {
        return Err(Errno::EINVAL);
    }
    skb.pkt_type = a.get32(2);
    Ok(0)
}

/// The hash of the flow; never 0 once calculated.
fn get_hash_recalc(a: &Args) -> u64 {
    const HASHED_BYTES: usize = 40;
    let skb = a.skb(1);
    if skb.hash == 0 && !skb.sw_hash {
        let from = usize::try_from(skb.network_offset()).unwrap_or(0);
        let packet = skb.packet();
        let flow = packet.get(from..).unwrap_or_default();
        let flow = &flow[..flow.len().min(HASHED_BYTES)];
        let hash = flow.iter().fold(0x811c_9dc5u32, |h, &b| {
            (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
        });
        skb.hash = hash.max(1);
    }
    u64::from(skb.hash)
}

fn set_hash_invalid(a: &Args) {
    clear_hash(a.skb(1));
}

/// skb, hash
fn set_hash(a: &Args) -> i64 {
    let skb = a.skb(1);
    skb.hash = a.get32(2);
    skb.sw_hash = true;
    0
}

/// skb, time, its clock
fn set_tstamp(a: &Args) -> Result<i64, Errno> {
    const REALTIME: u32 = 0;
    const MONOTONIC: u32 = 1;
    const TAI: u32 = 2;
    let (time, clock) = (a.get(2), a.get32(3));
    let ip = [0x0800u16.to_be(), 0x86dd_u16.to_be()];
    let skb = a.skb(1);
    if !ip.contains(&(skb.protocol as u16)) {
        return Err(Errno::EOPNOTSUPP);
    }
    match clock {
        REALTIME => {}
        MONOTONIC | TAI if time != 0 => {}
        _ => return Err(Errno::EINVAL),
    }
    skb.tstamp = time;
    skb.tstamp_type = clock as u8;
    Ok(0)
}

/// The protocol behind VLAN tags in the packet, in the order of the network.
fn protocol_behind_tags(skb: &mut SkbCtx) -> u16 {
    const ETH_HLEN: usize = 14;
    const VLAN_HLEN: usize = 4;
    /// `VLAN_MAX_DEPTH`
    const DEPTH_MAX: usize = 8;
    let is_tag = |protocol: u16| matches!(protocol, 0x8100 | 0x88a8);
    let mut protocol = (skb.protocol as u16).to_be();
    // The type field in front of the network header comes first, or the tag behind the Ethernet header.
    let first = match skb.kernel.mac_len {
        0 => ETH_HLEN,
        len => usize::from(len).saturating_sub(VLAN_HLEN),
    };
    let mut places = (first..).step_by(VLAN_HLEN).take(DEPTH_MAX - 1);
    while is_tag(protocol) {
        let tag = places.next().and_then(|at| skb.bytes_at(at, VLAN_HLEN));
        let Some(tag) = tag else { return 0 };
        protocol = u16::from_be_bytes([tag[2], tag[3]]);
    }
    protocol
}

/// Sets "congestion experienced" if the packet's transport can: 1 if it is set afterwards.
fn ecn_set_ce(a: &Args) -> u64 {
    const ECN_MASK: u8 = 3;
    let skb = a.skb(1);
    let protocol = protocol_behind_tags(skb);
    let Ok(at) = usize::try_from(skb.network_offset()) else {
        return 0;
    };
    let header_bytes = match protocol {
        0x0800 => 20,
        0x86dd => 40,
        _ => return 0,
    };
    let Some(header) = skb.bytes_at(at, header_bytes) else {
        return 0;
    };
    let shift = if protocol == 0x0800 { 0 } else { 4 };
    match header[1] >> shift & ECN_MASK {
        0 => return 0,
        ECN_MASK => {}
        _ if protocol == 0x0800 => set_ce_ip4(header),
        _ => header[1] |= ECN_MASK << shift,
    }
    1
}

/// Sets the bits and corrects the header's checksum by what they add, as a sum with end-around carry.
fn set_ce_ip4(header: &mut [u8]) {
    let codepoint = u16::from(header[1].wrapping_add(1) & 3);
    let sum = u16::from_be_bytes([header[10], header[11]]);
    let (sum, carry) = sum.overflowing_add(0xfffb + codepoint);
    header[1] |= 3;
    header[10..12].copy_from_slice(&sum.wrapping_add(u16::from(carry)).to_be_bytes());
}

/// `BPF_F_INGRESS`
const INGRESS: u64 = 1;
const TC_ACT_SHOT: u64 = 2;
const TC_ACT_REDIRECT: u64 = 7;
const XDP_ABORTED: u64 = 0;
const XDP_REDIRECT: u64 = 4;

/// device, flags
fn redirect(a: &Args) -> u64 {
    let (ifindex, flags) = (a.get32(1), a.get(2));
    let (refused, accepted, known) = match a.prog_type() {
        ProgType::Xdp => (XDP_ABORTED, XDP_REDIRECT, 0),
        _ => (TC_ACT_SHOT, TC_ACT_REDIRECT, INGRESS),
    };
    if flags & !known != 0 {
        return refused;
    }
    a.world().redirect = Some(Redirect::Device { ifindex, flags });
    accepted
}

/// device, flags
fn redirect_peer(a: &Args) -> u64 {
    if a.get(2) != 0 {
        return TC_ACT_SHOT;
    }
    a.world().redirect = Some(Redirect::Peer {
        ifindex: a.get32(1),
    });
    TC_ACT_REDIRECT
}

/// device, next hop or NULL, its size, flags
fn redirect_neigh(a: &Args) -> u64 {
    const NEXT_HOP_BYTES: u32 = 20;
    let len = a.get32(3);
    if (len != 0 && len < NEXT_HOP_BYTES) || a.get(4) != 0 {
        return TC_ACT_SHOT;
    }
    a.world().redirect = Some(Redirect::Neighbour {
        ifindex: a.get32(1),
    });
    TC_ACT_REDIRECT
}

/// skb, device, flags: sends a copy
fn clone_redirect(a: &Args) -> Result<i64, Errno> {
    let (ifindex, flags) = (a.get32(2), a.get(3));
    if flags & !INGRESS != 0 {
        return Err(Errno::EINVAL);
    }
    let host = a.world().host.clone();
    host.send_clone(a.skb(1).packet(), ifindex, flags & INGRESS != 0)?;
    Ok(0)
}

/// `BPF_F_TUNINFO_IPV6`
const TUNINFO_IPV6: u64 = 1;
/// `BPF_F_TUNINFO_FLAGS`
const TUNINFO_FLAGS: u64 = 16;
/// Sizes of `struct bpf_tunnel_key` in kernels since 4.3.
const KEY_SIZES: [usize; 5] = [TUNNEL_KEY_BYTES, 28, 24, 22, 8];
/// Fields of `struct bpf_tunnel_key`: where addresses lie, and what only some packets may have.
const REMOTE: usize = 4;
const EXTENSION: usize = 22;
const LABEL: usize = 24;
const LOCAL: usize = 28;

/// skb, key, its size, flags: what was set before, seen from the other end
fn get_tunnel_key(a: &Args) -> Result<i64, Errno> {
    let (len, flags) = (a.get32(3) as usize, a.get(4));
    a.zero(2, len);
    let Some((key, is_ip6)) = a.skb(1).tunnel else {
        return Err(Errno::EINVAL);
    };
    if flags & !(TUNINFO_IPV6 | TUNINFO_FLAGS) != 0 {
        return Err(Errno::EINVAL);
    }
    if is_ip6 != (flags & TUNINFO_IPV6 != 0) {
        return Err(Errno::EPROTO);
    }
    if !KEY_SIZES.contains(&len) {
        return Err(Errno::EINVAL);
    }
    let mut seen = key;
    let address_bytes = if is_ip6 { 16 } else { 4 };
    seen[REMOTE..REMOTE + address_bytes].copy_from_slice(&key[LOCAL..LOCAL + address_bytes]);
    seen[LOCAL..LOCAL + address_bytes].copy_from_slice(&key[REMOTE..REMOTE + address_bytes]);
    a.write(2, &seen[..len]);
    Ok(0)
}

/// skb, key, its size, flags
fn set_tunnel_key(a: &Args) -> Result<i64, Errno> {
    const KNOWN_FLAGS: u64 = 0x1f;
    let (len, flags) = (a.get32(3) as usize, a.get(4));
    if flags & !KNOWN_FLAGS != 0 || !KEY_SIZES.contains(&len) {
        return Err(Errno::EINVAL);
    }
    let is_ip6 = flags & TUNINFO_IPV6 != 0;
    let mut key = [0; TUNNEL_KEY_BYTES];
    key[..len].copy_from_slice(a.bytes(2, len));
    let has_label = key[LABEL..LABEL + 4] != [0; 4];
    if (!is_ip6 && has_label) || key[EXTENSION..EXTENSION + 2] != [0; 2] {
        return Err(Errno::EINVAL);
    }
    a.skb(1).tunnel = Some((key, is_ip6));
    Ok(0)
}
