//! Routing as an unprivileged process can read it: devices, rules, routes, neighbours, addresses.
//!
//! Source: rtnetlink(7), include/uapi/linux/{rtnetlink,fib_rules,neighbour,if_addr,netconf}.h.

use super::{
    F_ACK, F_CREATE, F_DUMP, F_EXCL, IFINFOMSG, IFLA_IFNAME, IFLA_MTU, Message, NLMSG_DONE,
    NLMSG_ERROR, RTA_DST, RTA_ENCAP_TYPE, RTA_OIF, RTM_GETLINK, Socket, find, ifinfomsg, number16,
    number32,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const RTM_NEWRULE: u16 = 32;
const RTM_GETRULE: u16 = 34;
const RTM_NEWNETCONF: u16 = 80;
const RTM_GETNETCONF: u16 = 82;

const IFLA_ADDRESS: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTAX_LOCK: u16 = 1;
const RTAX_MTU: u16 = 2;
/// `NUD_PERMANENT`
const PERMANENT: u16 = 0x80;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_GOTO: u16 = 4;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const FRA_DPORT_RANGE: u16 = 24;
/// `FIB_RULE_INVERT`
const INVERT: u32 = 2;
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;

/// Bytes of `struct rtmsg` and `struct fib_rule_hdr`, `struct ndmsg`, `struct ifaddrmsg`, `struct netconfmsg` in its frame.
const RTMSG: usize = 12;
const NDMSG: usize = 12;
const IFADDRMSG: usize = 8;
const NETCONFMSG: usize = 4;
/// Bytes of `struct rtnexthop`.
const RTNEXTHOP: usize = 8;

/// `RTMGRP_*` of links, neighbours, addresses, routes, rules and configuration of both families.
const GROUPS: u32 = 1 | 4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18 | 1 << 23 | 1 << 24;

/// A network, by its first address and the length of its prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// Its first address.
    pub address: IpAddr,
    /// Bits that all its addresses share.
    pub len: u8,
}

impl Prefix {
    /// Is an address of the same family in it?
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)).leading_zeros(),
            _ => return false,
        };
        differ >= u32::from(self.len)
    }
}

/// A way to go on from here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hop {
    /// The device.
    pub ifindex: u32,
    /// The next router; none if the destination is on the device's own network.
    pub gateway: Option<IpAddr>,
    /// Packets are put into others.
    pub is_tunnel: bool,
    /// The device is down.
    pub is_dead: bool,
}

/// A route of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteEntry {
    /// Its table.
    pub table: u32,
    /// `RTN_*`
    pub kind: u8,
    /// Type of service it is for, 0 for all.
    pub tos: u8,
    /// Where it leads.
    pub to: Prefix,
    /// Whose packets take it.
    pub from: Prefix,
    /// `RTA_PRIORITY`: less is better.
    pub metric: u32,
    /// The address that packets of this host should come from.
    pub source: Option<IpAddr>,
    /// Bytes of the largest packet, where the route says so, and whether that is fixed.
    pub mtu: Option<(u32, bool)>,
    /// The ways.
    pub hops: Vec<Hop>,
}

/// Which table is asked for which packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Rules are asked in this order.
    pub priority: u32,
    /// `FR_ACT_*`: 1 is "ask the table".
    pub action: u8,
    /// The table.
    pub table: u32,
    /// Priority of the rule to go on with (`FR_ACT_GOTO`).
    pub target: u32,
    /// Destinations.
    pub to: Prefix,
    /// Sources.
    pub from: Prefix,
    /// Type of service, 0 for all.
    pub tos: u8,
    /// Device that packets come in on; empty for all.
    pub input: String,
    /// Device that packets are bound to; empty for all.
    pub output: String,
    /// Mark and its mask.
    pub mark: (u32, u32),
    /// Protocol, 0 for all.
    pub protocol: u8,
    /// Source and destination ports, first and last.
    pub ports: [Option<(u16, u16)>; 2],
    /// It holds for all other packets.
    pub is_inverted: bool,
}

/// A network device, as far as routing cares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Its number.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its address, zeros if it has none of six bytes.
    pub address: [u8; 6],
    /// Bytes of its largest packet.
    pub mtu: u32,
}

/// An entry of the neighbour tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// The device.
    pub ifindex: u32,
    /// Address on the network.
    pub address: IpAddr,
    /// `NUD_*`
    pub state: u16,
    /// Address on the link, zeros if not of six bytes.
    pub link_address: [u8; 6],
}

/// An address of this host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnAddress {
    /// The device.
    pub ifindex: u32,
    /// The address.
    pub address: IpAddr,
    /// The network it is in.
    pub network: Prefix,
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(v6).into())
}

fn any(family: u8) -> IpAddr {
    if i32::from(family) == libc::AF_INET6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

fn link_address(bytes: Option<&[u8]>) -> [u8; 6] {
    bytes.and_then(|b| b.try_into().ok()).unwrap_or_default()
}

fn text(bytes: Option<&[u8]>) -> String {
    let bytes = bytes.unwrap_or_default();
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn prefix(family: u8, bytes: Option<&[u8]>, len: u8) -> Prefix {
    Prefix {
        address: bytes.and_then(address).unwrap_or(any(family)),
        len,
    }
}

/// The way that attributes of a route or of one of its hops describe.
fn hop(ifindex: u32, flags: u32, attributes: &[u8]) -> Hop {
    const DEAD: u32 = 1;
    const FAMILY_BYTES: usize = 2;
    let via = find(attributes, RTA_VIA).and_then(|v| address(v.get(FAMILY_BYTES..)?));
    Hop {
        ifindex,
        gateway: find(attributes, RTA_GATEWAY).and_then(address).or(via),
        is_tunnel: find(attributes, RTA_ENCAP_TYPE).is_some(),
        is_dead: flags & DEAD != 0,
    }
}

fn hops(mut list: &[u8]) -> Vec<Hop> {
    let mut all = Vec::new();
    while list.len() >= RTNEXTHOP {
        let length = usize::from(number16(list, 0)).clamp(RTNEXTHOP, list.len());
        let (flags, ifindex) = (u32::from(list[2]), number32(list, 4));
        all.push(hop(ifindex, flags, &list[RTNEXTHOP..length]));
        list = list.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// The word of an attribute, 0 without it.
fn word(attributes: &[u8], kind: u16) -> u32 {
    find(attributes, kind).map_or(0, |b| number32(b, 0))
}

fn route(body: &[u8]) -> Option<RouteEntry> {
    let attributes = body.get(RTMSG..)?;
    let [family, to_len, from_len, tos, table, _, _, kind] = *body.first_chunk::<8>()?;
    let table = match word(attributes, RTA_TABLE) {
        0 => u32::from(table),
        long => long,
    };
    let metrics = find(attributes, RTA_METRICS).unwrap_or_default();
    let fixed = word(metrics, RTAX_LOCK) & 1 << RTAX_MTU != 0;
    Some(RouteEntry {
        table,
        kind,
        tos,
        to: prefix(family, find(attributes, RTA_DST), to_len),
        from: prefix(family, find(attributes, RTA_SRC), from_len),
        metric: word(attributes, RTA_PRIORITY),
        source: find(attributes, RTA_PREFSRC).and_then(address),
        mtu: find(metrics, RTAX_MTU).map(|b| (number32(b, 0), fixed)),
        hops: match find(attributes, RTA_MULTIPATH) {
            Some(list) => hops(list),
            None => vec![hop(
                word(attributes, RTA_OIF),
                number32(body, 8),
                attributes,
            )],
        },
    })
}

fn rule(body: &[u8]) -> Option<Rule> {
    let attributes = body.get(RTMSG..)?;
    let [family, to_len, from_len, tos, table, _, _, action] = *body.first_chunk::<8>()?;
    let table = match word(attributes, FRA_TABLE) {
        0 => u32::from(table),
        long => long,
    };
    let ports = |kind| find(attributes, kind).map(|b| (number16(b, 0), number16(b, 2)));
    let mark = word(attributes, FRA_FWMARK);
    let mask = find(attributes, FRA_FWMASK).map(|b| number32(b, 0));
    Some(Rule {
        priority: word(attributes, FRA_PRIORITY),
        action,
        table,
        target: word(attributes, FRA_GOTO),
        to: prefix(family, find(attributes, FRA_DST), to_len),
        from: prefix(family, find(attributes, FRA_SRC), from_len),
        tos,
        input: text(find(attributes, FRA_IIFNAME)),
        output: text(find(attributes, FRA_OIFNAME)),
        mark: (mark, mask.unwrap_or(if mark == 0 { 0 } else { u32::MAX })),
        protocol: find(attributes, FRA_IP_PROTO).map_or(0, |b| b[0]),
        ports: [ports(FRA_SPORT_RANGE), ports(FRA_DPORT_RANGE)],
        is_inverted: number32(body, 8) & INVERT != 0,
    })
}

impl Socket {
    /// Hears of every change to what this file reads, from now on ([`Self::has_news`]).
    ///
    /// # Errors
    /// Those of `bind`.
    pub fn listen_to_routing(&mut self) -> io::Result<()> {
        // SAFETY: all-zero is a valid address.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as u16;
        address.nl_groups = GROUPS;
        let len = size_of::<libc::sockaddr_nl>() as u32;
        // SAFETY: the address is as long as said.
        let bound = unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), len) };
        if bound == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Did anything come since the last call? Does not wait.
    pub fn has_news(&mut self) -> bool {
        let mut any = false;
        let mut buffer = [0u8; 1 << 12];
        loop {
            let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
            // SAFETY: the buffer is writable for its length.
            let got = unsafe {
                let (at, len) = (buffer.as_mut_ptr().cast(), buffer.len());
                libc::recv(self.fd.as_raw_fd(), at, len, flags)
            };
            if got < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
                return any;
            }
            any = true;
            if got == 0 {
                return any;
            }
        }
    }

    fn dump(
        &mut self,
        ask: u16,
        body: &[u8],
        answer: u16,
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        let request = Message::new(ask, F_DUMP, body).finish();
        self.talk(&request, &mut |kind, body| {
            debug_assert!(kind != NLMSG_DONE && kind != NLMSG_ERROR);
            if kind == answer {
                each(body);
            }
        })
    }

    /// All devices.
    ///
    /// # Errors
    /// Those of the socket, as for the others below.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut all = Vec::new();
        self.dump(RTM_GETLINK, &ifinfomsg(0), RTM_NEWLINK, &mut |body| {
            let attributes = body.get(IFINFOMSG..).unwrap_or_default();
            all.push(Link {
                ifindex: number32(body, 4),
                name: text(find(attributes, IFLA_IFNAME)),
                address: link_address(find(attributes, IFLA_ADDRESS)),
                mtu: word(attributes, IFLA_MTU),
            });
        })?;
        Ok(all)
    }

    /// All routes of a family, in the kernel's order.
    ///
    /// # Errors
    /// See [`Self::links`].
    pub fn routes(&mut self, family: u8) -> io::Result<Vec<RouteEntry>> {
        let mut header = [0; RTMSG];
        header[0] = family;
        let mut all = Vec::new();
        self.dump(RTM_GETROUTE, &header, RTM_NEWROUTE, &mut |body| {
            all.extend(route(body));
        })?;
        Ok(all)
    }

    /// All rules of a family.
    ///
    /// # Errors
    /// See [`Self::links`].
    pub fn rules(&mut self, family: u8) -> io::Result<Vec<Rule>> {
        let mut header = [0; RTMSG];
        header[0] = family;
        let mut all = Vec::new();
        self.dump(RTM_GETRULE, &header, RTM_NEWRULE, &mut |body| {
            all.extend(rule(body));
        })?;
        Ok(all)
    }

    /// Gives a device an IPv4 address in a network of so many bits.
    ///
    /// # Errors
    /// Those of the kernel: `EEXIST` if it has it.
    pub fn address_add(&mut self, ifindex: u32, address: Ipv4Addr, bits: u8) -> io::Result<()> {
        // struct ifaddrmsg: family, bits, flags, scope; device.
        let mut body = vec![libc::AF_INET as u8, bits, 0, 0];
        body.extend(ifindex.to_ne_bytes());
        let mut message = Message::new(RTM_NEWADDR, F_ACK | F_CREATE | F_EXCL, &body);
        for kind in [IFA_LOCAL, IFA_ADDRESS] {
            message.attribute(kind, &address.octets());
        }
        self.command(message)
    }

    /// Says for good which link address an IPv4 neighbour has.
    ///
    /// # Errors
    /// Those of the kernel: `EEXIST` if the neighbour is known.
    pub fn neighbour_add(
        &mut self,
        ifindex: u32,
        address: Ipv4Addr,
        link_address: [u8; 6],
    ) -> io::Result<()> {
        // struct ndmsg: family, padding; device; state, flags, type.
        let mut body = vec![libc::AF_INET as u8, 0, 0, 0];
        body.extend(ifindex.to_ne_bytes());
        body.extend(PERMANENT.to_ne_bytes());
        body.extend([0, 0]);
        let mut message = Message::new(RTM_NEWNEIGH, F_ACK | F_CREATE | F_EXCL, &body);
        message.attribute(NDA_DST, &address.octets());
        message.attribute(NDA_LLADDR, &link_address);
        self.command(message)
    }

    /// All neighbours of a family.
    ///
    /// # Errors
    /// See [`Self::links`].
    pub fn neighbours(&mut self, family: u8) -> io::Result<Vec<Neighbour>> {
        let mut header = [0; NDMSG];
        header[0] = family;
        let mut all = Vec::new();
        self.dump(RTM_GETNEIGH, &header, RTM_NEWNEIGH, &mut |body| {
            let attributes = body.get(NDMSG..).unwrap_or_default();
            let Some(address) = find(attributes, NDA_DST).and_then(address) else {
                return;
            };
            all.push(Neighbour {
                ifindex: number32(body, 4),
                address,
                state: number16(body, 8),
                link_address: link_address(find(attributes, NDA_LLADDR)),
            });
        })?;
        Ok(all)
    }

    /// The addresses of this host, of a family.
    ///
    /// # Errors
    /// See [`Self::links`].
    pub fn addresses(&mut self, family: u8) -> io::Result<Vec<OwnAddress>> {
        let mut header = [0; IFADDRMSG];
        header[0] = family;
        let mut all = Vec::new();
        self.dump(RTM_GETADDR, &header, RTM_NEWADDR, &mut |body| {
            let attributes = body.get(IFADDRMSG..).unwrap_or_default();
            let peer = find(attributes, IFA_ADDRESS).and_then(address);
            let local = find(attributes, IFA_LOCAL).and_then(address).or(peer);
            if let (Some(address), Some(peer)) = (local, peer) {
                let network = Prefix {
                    address: peer,
                    len: body[1],
                };
                all.push(OwnAddress {
                    ifindex: number32(body, 4),
                    address,
                    network,
                });
            }
        })?;
        Ok(all)
    }

    /// The devices that pass packets of a family on.
    ///
    /// # Errors
    /// See [`Self::links`].
    pub fn forwarding(&mut self, family: u8) -> io::Result<Vec<u32>> {
        let mut header = [0; NETCONFMSG];
        header[0] = family;
        let mut all = Vec::new();
        self.dump(RTM_GETNETCONF, &header, RTM_NEWNETCONF, &mut |body| {
            let attributes = body.get(NETCONFMSG..).unwrap_or_default();
            if word(attributes, NETCONFA_FORWARDING) != 0 {
                all.push(word(attributes, NETCONFA_IFINDEX));
            }
        })?;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_contain_their_addresses() {
        let net = |a: [u8; 4], len| Prefix {
            address: Ipv4Addr::from(a).into(),
            len,
        };
        let one = IpAddr::from([10, 1, 2, 3]);
        assert!(net([10, 1, 0, 0], 16).contains(one));
        assert!(!net([10, 2, 0, 0], 16).contains(one));
        assert!(net([0; 4], 0).contains(one));
        assert!(!net([0; 4], 0).contains(Ipv6Addr::LOCALHOST.into()));
    }

    #[test]
    fn routing_of_this_host_is_read() {
        let mut socket = Socket::open().unwrap();
        let links = socket.links().unwrap();
        assert!(links.iter().any(|l| l.name == "lo" && l.ifindex == 1));
        for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
            socket.routes(family).unwrap();
            socket.neighbours(family).unwrap();
            socket.addresses(family).unwrap();
            socket.forwarding(family).unwrap();
            assert!(!socket.rules(family).unwrap().is_empty());
        }
    }
}
