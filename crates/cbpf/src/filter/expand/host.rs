//! Hosts and nets: addresses of IPv4, IPv6, ARP, DECnet and of the link layer.

use super::link::{ETHERTYPE_ARP, ETHERTYPE_DECNET, ETHERTYPE_IP, ETHERTYPE_IPV6, ETHERTYPE_RARP};
use super::{Expanded, Expander, Offset};
use crate::filter::draft::Cond;
use crate::filter::lexer::Protocol;
use crate::filter::link::{NOWHERE, Naming};
use crate::filter::names::numeric;
use crate::filter::parse::{Dir, Id, Kind, Qualifiers};
use crate::insn::Size;
use alloc::format;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};

/// An IPv4 address or net.
#[derive(Clone, Copy)]
pub(super) struct Net4 {
    address: u32,
    mask: u32,
}

/// Offsets of the source and destination address after the network header's start, by protocol.
const IP_ADDRESSES: (u32, u32) = (12, 16);
const ARP_ADDRESSES: (u32, u32) = (14, 24);
const IP6_ADDRESSES: (u32, u32) = (8, 24);

impl Expander<'_> {
    /// A name, number or address with its qualifiers.
    pub(super) fn id(&mut self, id: Id<'_>, q: Qualifiers) -> Expanded {
        match (id, q.kind) {
            (_, Kind::Gateway) => {
                self.error("\"gateway\" does not work where hosts have IPv6 addresses; write: ether host MAC and not host NAME")
            }
            (Id::Name(name), _) => self.named(name, q),
            (Id::Number(number), Kind::Port | Kind::PortRange) => self.port_number(number, q),
            (Id::Number(number), Kind::Proto) => self.encapsulated(number, q),
            (Id::Number(number), Kind::ProtoChain) => self.protochain(number, q),
            (Id::Number(number), kind) => {
                let (mut address, mut mask) = (number, u32::MAX);
                // A net of less than four bytes is written without its zeros.
                while kind == Kind::Net && address != 0 && address & 0xff00_0000 == 0 {
                    address <<= 8;
                    mask <<= 8;
                }
                if q.proto == Some(Protocol::Decnet) {
                    return self.decnet(number & 0xffff, q.dir);
                }
                self.net4(Net4 { address, mask }, q)
            }
            (Id::Dotted(text), _) => self.dotted(text, q),
            (Id::Prefix(..) | Id::Mask(..), kind) if kind != Kind::Net => {
                self.error("a mask or the length of a prefix goes with \"net\" only")
            }
            (Id::Prefix(text, length), _) => {
                let (address, _) = self.ipv4(text)?;
                if length > 32 {
                    return self.error("the length of an IPv4 prefix is at most 32");
                }
                let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                self.masked_net(Net4 { address, mask }, q)
            }
            (Id::Mask(text, mask), _) => {
                let (address, _) = self.ipv4(text)?;
                let (mask, _) = self.ipv4(mask)?;
                self.masked_net(Net4 { address, mask }, q)
            }
            (Id::Ipv6(address), _) => self.net6(address, 128, q),
            (Id::Ipv6Prefix(address, length), _) => self.net6(address, length, q),
            (Id::Mac(mac), _) => self.mac(mac, q),
        }
    }

    fn named(&mut self, name: &str, q: Qualifiers) -> Expanded {
        match q.kind {
            Kind::Port => self.port_name(name, q),
            Kind::PortRange => self.port_range_name(name, q),
            Kind::Proto | Kind::ProtoChain => {
                let number = self.protocol_number(name, q.proto)?;
                if q.kind == Kind::Proto {
                    self.encapsulated(number, q)
                } else {
                    self.protochain(number, q)
                }
            }
            Kind::Net => {
                let mut address = self.target.names.network(name);
                if address == 0 {
                    return self.error(format!("no net is named {name:?} in the networks file"));
                }
                let mut mask = u32::MAX;
                while address & 0xff00_0000 == 0 {
                    address <<= 8;
                    mask <<= 8;
                }
                self.net4(Net4 { address, mask }, q)
            }
            _ => self.host_name(name, q),
        }
    }

    fn host_name(&mut self, name: &str, q: Qualifiers) -> Expanded {
        match q.proto {
            Some(Protocol::Link) => match self.target.names.ether(name) {
                Some(mac) => self.mac(mac, q),
                None => self.error(format!("no host is named {name:?} in the ethers file")),
            },
            Some(Protocol::Decnet) => self.error("a DECnet address is AREA.NODE, not a name"),
            _ => {
                let addresses: Vec<IpAddr> = match numeric(name) {
                    Some(address) => alloc::vec![IpAddr::V4(address)],
                    None => self.target.names.host(name).to_vec(),
                };
                self.any_address(&addresses, name, q)
            }
        }
    }

    fn any_address(&mut self, addresses: &[IpAddr], name: &str, q: Qualifiers) -> Expanded {
        let bare = (self.type_at.k == NOWHERE) && q.proto.is_none();
        let mut whole: Option<Cond> = None;
        for address in addresses {
            let cond = match address {
                IpAddr::V4(_) if q.proto == Some(Protocol::Ip6) => continue,
                IpAddr::V6(_) if q.proto == Some(Protocol::Ip) => continue,
                IpAddr::V4(v4) => {
                    let proto = if bare { Some(Protocol::Ip) } else { q.proto };
                    let net = Net4 {
                        address: u32::from(*v4),
                        mask: u32::MAX,
                    };
                    self.net4(net, Qualifiers { proto, ..q })?
                }
                IpAddr::V6(v6) => {
                    let proto = if bare { Some(Protocol::Ip6) } else { q.proto };
                    self.net6(*v6, 128, Qualifiers { proto, ..q })?
                }
            };
            whole = Some(self.draft.or_after(whole, cond));
        }
        match whole {
            Some(cond) => Ok(cond),
            None => self.error(format!(
                "no host is named {name:?} in the hosts file; names are not asked of a resolver"
            )),
        }
    }

    /// Up to four numbers with dots, and how many bits they are.
    fn ipv4(&mut self, text: &str) -> Result<(u32, u32), crate::filter::FilterError> {
        let mut address: u32 = 0;
        let mut bits = 0;
        for part in text.split('.') {
            let Ok(byte) = part.parse::<u8>() else {
                return self.error(format!("{part:?} is no byte of an IPv4 address"));
            };
            address = (address << 8) | u32::from(byte);
            bits += 8;
        }
        Ok((address.checked_shl(32 - bits).unwrap_or(0), bits))
    }

    fn dotted(&mut self, text: &str, q: Qualifiers) -> Expanded {
        if q.proto == Some(Protocol::Decnet) {
            return self.decnet_text(text, q);
        }
        let (address, bits) = self.ipv4(text)?;
        if !matches!(q.kind, Kind::Default | Kind::Host | Kind::Net) {
            return self.error("an IPv4 address goes with host or net only");
        }
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        self.net4(Net4 { address, mask }, q)
    }

    fn masked_net(&mut self, net: Net4, q: Qualifiers) -> Expanded {
        if net.address & !net.mask != 0 {
            return self.error("the address has bits outside its net");
        }
        self.net4(net, q)
    }

    /// An IPv4 address or net, in the packets that `proto` says.
    fn net4(&mut self, net: Net4, q: Qualifiers) -> Expanded {
        match q.proto {
            None => {
                let ip = self.address4(net, q.dir, ETHERTYPE_IP, IP_ADDRESSES)?;
                if self.labels > 0 {
                    return Ok(ip);
                }
                let arp = self.address4(net, q.dir, ETHERTYPE_ARP, ARP_ADDRESSES)?;
                let rarp = self.address4(net, q.dir, ETHERTYPE_RARP, ARP_ADDRESSES)?;
                let early = self.draft.or(ip, arp);
                Ok(self.draft.or(early, rarp))
            }
            Some(Protocol::Ip) => self.address4(net, q.dir, ETHERTYPE_IP, IP_ADDRESSES),
            Some(Protocol::Arp) => self.address4(net, q.dir, ETHERTYPE_ARP, ARP_ADDRESSES),
            Some(Protocol::Rarp) => self.address4(net, q.dir, ETHERTYPE_RARP, ARP_ADDRESSES),
            Some(Protocol::Decnet) => self.decnet(net.address & 0xffff, q.dir),
            Some(_) => self.error("an IPv4 address goes with ip, arp or rarp only"),
        }
    }

    fn address4(&mut self, net: Net4, dir: Dir, kind: u32, at: (u32, u32)) -> Expanded {
        let one = |this: &mut Self, offset: u32| -> Expanded {
            let link = this.link_type(kind)?;
            let at = this.network_at(offset);
            let address = this.masked(at, Size::W, net.mask, net.address)?;
            Ok(this.draft.and(link, address))
        };
        self.either(dir, at, one)
    }

    /// The test of `one` on the source, the destination, or both.
    fn either(
        &mut self,
        dir: Dir,
        (src, dst): (u32, u32),
        one: impl Fn(&mut Self, u32) -> Expanded,
    ) -> Expanded {
        match dir {
            Dir::Src => one(self, src),
            Dir::Dst => one(self, dst),
            Dir::SrcAndDst => {
                let (src, dst) = (one(self, src)?, one(self, dst)?);
                Ok(self.draft.and(src, dst))
            }
            Dir::Default | Dir::SrcOrDst => {
                let (src, dst) = (one(self, src)?, one(self, dst)?);
                Ok(self.draft.or(src, dst))
            }
            Dir::Addr1 | Dir::Addr2 | Dir::Addr3 | Dir::Addr4 | Dir::Ra | Dir::Ta => {
                self.error("ra, ta and addr1 to addr4 go with 802.11 MAC addresses only")
            }
        }
    }

    fn net6(&mut self, address: Ipv6Addr, length: u32, q: Qualifiers) -> Expanded {
        if length > 128 {
            return self.error("the length of an IPv6 prefix is at most 128");
        }
        let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
        let bits = u128::from(address);
        if bits & !mask != 0 {
            return self.error("the address has bits outside its net");
        }
        match q.kind {
            Kind::Default | Kind::Host if length != 128 => {
                return self.error("the length of a prefix goes with \"net\" only");
            }
            Kind::Default | Kind::Host | Kind::Net => {}
            _ => return self.error("an IPv6 address goes with host or net only"),
        }
        if !matches!(q.proto, None | Some(Protocol::Ip6)) {
            return self.error("an IPv6 address goes with ip6 only");
        }
        let one = |this: &mut Self, offset: u32| -> Expanded {
            let mut words = Vec::with_capacity(4);
            for word in 0..4 {
                let shift = 96 - 32 * word;
                let at = this.network_at(offset + 4 * word);
                // The casts keep the 32 bits of this word.
                words.push(this.masked(
                    at,
                    Size::W,
                    (mask >> shift) as u32,
                    (bits >> shift) as u32,
                )?);
            }
            let link = this.link_type(ETHERTYPE_IPV6)?;
            Ok(this.all(link, &words))
        };
        self.either(q.dir, IP6_ADDRESSES, one)
    }

    /// A MAC address.
    pub(super) fn mac(&mut self, mac: [u8; 6], q: Qualifiers) -> Expanded {
        if q.proto != Some(Protocol::Link) || !matches!(q.kind, Kind::Default | Kind::Host) {
            return self.error("a MAC address goes with \"ether host\" only");
        }
        match (self.layer.naming, self.layer.addresses) {
            (_, Some(addresses)) => {
                let inner = self.inner_ethernet()?;
                let one =
                    |this: &mut Self, offset: u32| this.bytes(Offset::HEADER.plus(offset), &mac);
                let cond = self.either(q.dir, addresses, one)?;
                Ok(self.draft.and_after(inner, cond))
            }
            (Naming::Wlan, _) => self.wlan_address(mac, q.dir),
            _ => {
                let link = self.layer.link.description();
                self.error(format!("{link} has no MAC addresses"))
            }
        }
    }

    fn decnet_text(&mut self, text: &str, q: Qualifiers) -> Expanded {
        let parts: Vec<u32> = text.split('.').filter_map(|p| p.parse().ok()).collect();
        let &[area, node] = parts.as_slice() else {
            return self.error("a DECnet address is AREA.NODE");
        };
        let (kind, address) = (q.kind, (area << 10) | (node & 0x3ff));
        if !matches!(kind, Kind::Default | Kind::Host | Kind::Net) {
            return self.error("a DECnet address goes with host only");
        }
        self.decnet(address & 0xffff, q.dir)
    }

    /// A DECnet address in a packet of any of the four layouts.
    fn decnet(&mut self, address: u32, dir: Dir) -> Expanded {
        // Flags, their mask and value (with a pad byte before them or not), offset of the address after the length.
        const SHORT: (u32, u32) = (0x07, 0x02);
        const LONG: (u32, u32) = (0x07, 0x06);
        let swapped = u32::from((address as u16).swap_bytes());
        let one = |this: &mut Self, short: u32, long: u32| -> Expanded {
            let link = this.link_type(ETHERTYPE_DECNET)?;
            let mut whole: Option<Cond> = None;
            for ((mask, value), offset) in [(SHORT, short), (LONG, long)] {
                let plain = this.masked(this.network_at(2), Size::B, mask, value)?;
                let at = this.field(this.network_at(offset), Size::H, swapped)?;
                let unpadded = this.draft.and(plain, at);
                let flags =
                    this.masked(this.network_at(2), Size::H, 0xff00 | mask, 0x8100 | value)?;
                let at = this.field(this.network_at(offset + 1), Size::H, swapped)?;
                let padded = this.draft.and(flags, at);
                for cond in [unpadded, padded] {
                    whole = Some(this.draft.or_after(whole, cond));
                }
            }
            let any = whole.unwrap_or(link);
            Ok(this.draft.and(link, any))
        };
        match dir {
            Dir::Src => one(self, 5, 17),
            Dir::Dst => one(self, 3, 9),
            Dir::SrcAndDst => {
                let (src, dst) = (one(self, 5, 17)?, one(self, 3, 9)?);
                Ok(self.draft.and(src, dst))
            }
            Dir::Default | Dir::SrcOrDst => {
                let (src, dst) = (one(self, 5, 17)?, one(self, 3, 9)?);
                Ok(self.draft.or(src, dst))
            }
            _ => self.error("ra, ta and addr1 to addr4 go with 802.11 MAC addresses only"),
        }
    }
}
