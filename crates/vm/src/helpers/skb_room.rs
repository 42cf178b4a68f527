//! Packets in socket buffers that change their size or headers.

use super::skb::clear_hash;
use super::{Args, Row, helpers};
use crate::ctx::SkbCtx;
use crate::ctx::skb::{ETH_HLEN, MAX_LEN, ethertype};
use skep_abi::Errno;

pub(super) const HELPERS: &[Row] = helpers! {
    18 "bpf_skb_vlan_push" vlan_push;
    19 "bpf_skb_vlan_pop" vlan_pop;
    31 "bpf_skb_change_proto" change_proto;
    38 "bpf_skb_change_tail" change_tail;
    43 "bpf_skb_change_head" change_head;
    50 "bpf_skb_adjust_room" adjust_room;
};

/// Bytes of a VLAN header.
const VLAN_HLEN: usize = 4;
/// Bytes of an IPv4 and an IPv6 header.
const IP4_HLEN: usize = 20;
const IP6_HLEN: usize = 40;

const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
const ETH_P_IPV6: u32 = 0x86dd_u16.to_be() as u32;
const ETH_P_8021Q: u32 = 0x8100_u16.to_be() as u32;
const ETH_P_8021AD: u32 = 0x88a8_u16.to_be() as u32;

/// Bytes of the network header, by protocol.
fn network_header_bytes(protocol: u32) -> Option<usize> {
    match protocol {
        ETH_P_IP => Some(IP4_HLEN),
        ETH_P_IPV6 => Some(IP6_HLEN),
        _ => None,
    }
}

/// Bytes of the link-layer header in front of the network header.
pub(super) fn mac_len(skb: &SkbCtx) -> usize {
    (skb.network as usize).saturating_sub(skb.mac as usize)
}

/// Makes room for `len` zero bytes at `at`: what is before moves forward.
fn push(skb: &mut SkbCtx, at: usize, len: usize) -> Result<(), Errno> {
    skb.reserve(len, 0)?;
    skb.move_start(-(len as isize));
    let packet = skb.packet();
    packet.copy_within(len..len + at, 0);
    packet[at..at + len].fill(0);
    skb.mac = skb.mac.wrapping_sub(len);
    skb.network = skb.network.wrapping_sub(len);
    Ok(())
}

/// Removes `len` bytes at `at`: what is before moves back.
fn pop(skb: &mut SkbCtx, at: usize, len: usize) {
    skb.packet().copy_within(0..at, len);
    skb.move_start(len as isize);
    skb.mac = skb.mac.wrapping_add(len);
    skb.network = skb.network.wrapping_add(len);
}

/// skb, length, flags
fn change_tail(a: &Args) -> Result<i64, Errno> {
    let skb = a.skb(1);
    let new_len = a.get32(2) as usize;
    let transport = skb.kernel.transport_offset().filter(|&at| at > 0);
    let min_len = transport.unwrap_or(skb.network_offset() as i64);
    let min_len = usize::try_from(min_len).unwrap_or(0);
    if a.get(3) != 0 || new_len > MAX_LEN || new_len < min_len {
        return Err(Errno::EINVAL);
    }
    if skb.kernel.encapsulated {
        return Err(Errno::ENOTSUPP);
    }
    let old_len = skb.len as usize;
    skb.reserve(0, new_len.saturating_sub(old_len))?;
    skb.set_len(new_len);
    if new_len > old_len {
        skb.packet()[old_len..].fill(0);
    }
    if is_gso(skb) {
        (skb.gso_size, skb.gso_segs) = (0, 0);
    }
    Ok(0)
}

/// skb, bytes, flags
fn change_head(a: &Args) -> Result<i64, Errno> {
    let skb = a.skb(1);
    let new_len = skb.len.checked_add(a.get32(2)).ok_or(Errno::EINVAL)?;
    let (room, new_len) = (a.get32(2) as usize, new_len as usize);
    if a.get(3) != 0 || (new_len > MAX_LEN && !is_gso(skb)) {
        return Err(Errno::EINVAL);
    }
    skb.reserve(room, 0)?;
    skb.move_start(-(room as isize));
    skb.packet()[..room].fill(0);
    skb.mac = skb.data;
    skb.kernel.mac_len = mac_len(skb) as u16;
    Ok(0)
}

/// `BPF_ADJ_ROOM_NET`, `BPF_ADJ_ROOM_MAC`
const ROOM_NET: u32 = 0;
const ROOM_MAC: u32 = 1;
/// `BPF_F_ADJ_ROOM_*`
const ENCAP_L3_IPV4: u64 = 1 << 1;
const ENCAP_L3_IPV6: u64 = 1 << 2;
const ENCAP_L4_GRE: u64 = 1 << 3;
const ENCAP_L4_UDP: u64 = 1 << 4;
const NO_CSUM_RESET: u64 = 1 << 5;
const ENCAP_L2_ETH: u64 = 1 << 6;
const DECAP_L3_IPV4: u64 = 1 << 7;
const DECAP_L3_IPV6: u64 = 1 << 8;
const FIXED_GSO: u64 = 1;
const ENCAP_L3: u64 = ENCAP_L3_IPV4 | ENCAP_L3_IPV6;
const DECAP_L3: u64 = DECAP_L3_IPV4 | DECAP_L3_IPV6;
const ENCAP_L2_SHIFT: u64 = 56;
const ENCAP_L2: u64 = 0xff << ENCAP_L2_SHIFT;
const ENCAP_L4: u64 = ENCAP_L4_GRE | ENCAP_L4_UDP;
const ENCAP: u64 = ENCAP_L3 | ENCAP_L4 | ENCAP_L2_ETH | ENCAP_L2;
/// `bpf_skb_adjust_room` moves at most this many bytes.
const MAX_ROOM: u32 = 0xfff;

/// skb, bytes (negative: shrink), mode, flags
fn adjust_room(a: &Args) -> Result<i64, Errno> {
    let (diff, mode, flags) = (a.get32(2).cast_signed(), a.get32(3), a.get(4));
    let bytes = diff.unsigned_abs();
    let skb = a.skb(1);
    if flags & !(ENCAP | DECAP_L3 | NO_CSUM_RESET | FIXED_GSO) != 0 {
        return Err(Errno::EINVAL);
    }
    if bytes > MAX_ROOM {
        return Err(Errno::EFAULT);
    }
    let header = network_header_bytes(skb.protocol).ok_or(Errno::ENOTSUPP)?;
    let at = match mode {
        ROOM_NET => mac_len(skb) + header,
        ROOM_MAC => mac_len(skb),
        _ => return Err(Errno::ENOTSUPP),
    };
    let mut smallest = header;
    if flags & DECAP_L3 != 0 {
        smallest = match flags & DECAP_L3 {
            _ if diff >= 0 => return Err(Errno::EINVAL),
            DECAP_L3_IPV4 => IP4_HLEN,
            DECAP_L3_IPV6 => IP6_HLEN,
            _ => return Err(Errno::EINVAL),
        };
    }
    let bytes = bytes as usize;
    let network_len = (skb.len as isize - skb.network_offset()).max(0) as usize;
    if diff < 0 {
        if bytes >= network_len || network_len - bytes < smallest {
            return Err(Errno::ENOTSUPP);
        }
        shrink(skb, at, bytes, flags)?;
    } else {
        if skb.len as usize + bytes > MAX_LEN && !is_gso(skb) {
            return Err(Errno::ENOTSUPP);
        }
        grow(skb, at, bytes, flags)?;
    }
    if flags & NO_CSUM_RESET == 0 {
        super::checksum::reset(skb);
    }
    Ok(0)
}

/// Is the packet still to be cut into segments? Those of test runs are of no protocol.
pub(super) fn is_gso(skb: &SkbCtx) -> bool {
    skb.gso_size != 0
}

/// `bpf_skb_net_shrink`
fn shrink(skb: &mut SkbCtx, at: usize, bytes: usize, flags: u64) -> Result<(), Errno> {
    if flags & !(FIXED_GSO | DECAP_L3 | NO_CSUM_RESET) != 0 {
        return Err(Errno::EINVAL);
    }
    // Only packets of known protocols keep their segments.
    if is_gso(skb) {
        return Err(Errno::ENOTSUPP);
    }
    if at + bytes > skb.len as usize {
        return Err(Errno::ENOMEM);
    }
    pop(skb, at, bytes);
    match flags & DECAP_L3 {
        DECAP_L3_IPV4 => skb.protocol = ETH_P_IP,
        DECAP_L3_IPV6 => skb.protocol = ETH_P_IPV6,
        _ => {}
    }
    Ok(())
}

/// As [`push`]; a transport header at the network header stays there.
fn push_header(skb: &mut SkbCtx, at: usize, len: usize) -> Result<(), Errno> {
    skb.reserve(len, 0)?;
    skb.kernel.make_room(len as u32);
    let together = skb.kernel.transport_offset() == Some(skb.network_offset() as i64);
    push(skb, at, len)?;
    if together {
        skb.kernel.set_transport(skb.network_offset() as u32);
    }
    Ok(())
}

/// The new headers are outside: the network header behind the link-layer header. Only a tunnel over GRE or UDP has a transport
/// header, behind that.
fn encapsulate(skb: &mut SkbCtx, flags: u64) {
    let outer = match flags & ENCAP_L3 {
        ENCAP_L3_IPV6 => IP6_HLEN,
        _ => IP4_HLEN,
    };
    if flags & ENCAP_L4 != 0 {
        let behind = skb.network_offset().unsigned_abs() + outer;
        skb.kernel.set_transport(behind as u32);
    }
    skb.kernel.encapsulated = true;
}

/// `bpf_skb_net_grow`
fn grow(skb: &mut SkbCtx, at: usize, bytes: usize, flags: u64) -> Result<(), Errno> {
    let encap = flags & ENCAP != 0;
    let both = |mask: u64| flags & mask == mask;
    let inner_mac = (flags & ENCAP_L2) >> ENCAP_L2_SHIFT;
    if is_gso(skb) {
        return Err(Errno::ENOTSUPP);
    }
    if encap {
        let conflicting = both(ENCAP_L3) || both(ENCAP_L4);
        let no_l3 = flags & ENCAP_L3 == 0;
        if conflicting || no_l3 || inner_mac as usize > bytes {
            return Err(Errno::EINVAL);
        }
        if flags & ENCAP_L2_ETH != 0 && (inner_mac as usize) < ETH_HLEN {
            return Err(Errno::EINVAL);
        }
    }
    if encap && skb.kernel.encapsulated {
        return Err(Errno::EALREADY);
    }
    push_header(skb, at.min(skb.len as usize), bytes)?;
    if encap {
        encapsulate(skb, flags);
    }
    match flags & ENCAP_L3 {
        ENCAP_L3_IPV4 => skb.protocol = ETH_P_IP,
        ENCAP_L3_IPV6 => skb.protocol = ETH_P_IPV6,
        _ => {}
    }
    clear_hash(skb);
    Ok(())
}

/// skb, new protocol, flags: IPv4 to IPv6 and back, leaving the header to the program
fn change_proto(a: &Args) -> Result<i64, Errno> {
    let skb = a.skb(1);
    if a.get(3) != 0 {
        return Err(Errno::EINVAL);
    }
    let at = mac_len(skb);
    let room = IP6_HLEN - IP4_HLEN;
    match (skb.protocol, a.get32(2) & 0xffff) {
        (ETH_P_IP, ETH_P_IPV6) => push(skb, at, room)?,
        (ETH_P_IPV6, ETH_P_IP) => {
            if (skb.len as usize) < at + room {
                return Err(Errno::ENOMEM);
            }
            pop(skb, at, room);
        }
        _ => return Err(Errno::ENOTSUPP),
    }
    skb.protocol = a.get32(2) & 0xffff;
    clear_hash(skb);
    Ok(0)
}

/// Puts a tag beside the packet, as hardware does.
fn set_tag(skb: &mut SkbCtx, protocol: u32, tci: u32) {
    skb.vlan_present = 1;
    skb.vlan_proto = protocol;
    skb.vlan_tci = tci;
}

/// skb, protocol, tag: an older tag goes into the packet
fn vlan_push(a: &Args) -> Result<i64, Errno> {
    let (protocol, tci) = match a.get32(2) & 0xffff {
        ETH_P_8021AD => (ETH_P_8021AD, a.get32(3) & 0xffff),
        _ => (ETH_P_8021Q, a.get32(3) & 0xffff),
    };
    let skb = a.skb(1);
    if skb.vlan_present != 0 {
        if (skb.len as usize) < ETH_HLEN || skb.mac != skb.data {
            return Err(Errno::EINVAL);
        }
        let (outer, tag) = (skb.vlan_proto as u16, skb.vlan_tci as u16);
        let addresses = ETH_HLEN - 2;
        push(skb, addresses, VLAN_HLEN)?;
        let packet = skb.packet();
        packet[addresses..addresses + 2].copy_from_slice(&outer.to_ne_bytes());
        packet[addresses + 2..addresses + 4].copy_from_slice(&tag.to_be_bytes());
        skb.protocol = u32::from(outer);
    }
    set_tag(skb, protocol, tci);
    Ok(0)
}

fn is_vlan(protocol: u32) -> bool {
    matches!(protocol, ETH_P_8021Q | ETH_P_8021AD)
}

/// Takes the tag out of the packet.
fn pop_from_packet(skb: &mut SkbCtx) -> Result<u32, Errno> {
    let addresses = ETH_HLEN - 2;
    let header = skb.bytes_at(0, ETH_HLEN + VLAN_HLEN).ok_or(Errno::ENOMEM)?;
    let tci = u16::from_be_bytes([header[14], header[15]]);
    let inner = u16::from_be_bytes([header[16], header[17]]);
    // Behind the packet there are zeros.
    let byte = |skb: &mut SkbCtx, at: usize| skb.packet().get(at).copied().unwrap_or(0);
    let follows = u16::from_be_bytes([byte(skb, 18), byte(skb, 19)]);
    pop(skb, addresses, VLAN_HLEN);
    skb.network = skb.network.wrapping_sub(VLAN_HLEN);
    if skb.network_offset() < ETH_HLEN as isize {
        skb.network = skb.data.wrapping_add(ETH_HLEN);
    }
    skb.kernel.mac_len = mac_len(skb) as u16;
    skb.protocol = u32::from(ethertype(inner, follows).to_be());
    Ok(u32::from(tci))
}

/// skb: removes the outermost tag
fn vlan_pop(a: &Args) -> Result<i64, Errno> {
    let skb = a.skb(1);
    if skb.vlan_present != 0 {
        skb.vlan_present = 0;
        skb.vlan_tci = 0;
        skb.vlan_proto = 0;
    } else {
        if !is_vlan(skb.protocol) {
            return Ok(0);
        }
        pop_from_packet(skb)?;
    }
    if is_vlan(skb.protocol) {
        let protocol = skb.protocol;
        let tci = pop_from_packet(skb)?;
        set_tag(skb, protocol, tci);
    }
    Ok(0)
}
