//! Protocols: by name, inside IP, inside 802.2, and along chains of headers.

use super::link::{
    ETHERTYPE_AARP, ETHERTYPE_ARP, ETHERTYPE_ATALK, ETHERTYPE_DECNET, ETHERTYPE_IP, ETHERTYPE_IPV6,
    ETHERTYPE_RARP, FRAME_RELAY, LSAP_IPX, LSAP_ISO, LSAP_NETBEUI, LSAP_STP,
};
use super::{Expanded, Expander, Offset};
use crate::filter::FilterError;
use crate::filter::draft::Cond;
use crate::filter::lexer::Protocol;
use crate::filter::link::Naming;
use crate::filter::parse::{Dir, Qualifiers};
use crate::insn::{Relation, Size};
use alloc::format;

pub(super) const IPPROTO_ICMP: u32 = 1;
const IPPROTO_IGMP: u32 = 2;
pub(super) const IPPROTO_TCP: u32 = 6;
const IPPROTO_IGRP: u32 = 9;
pub(super) const IPPROTO_UDP: u32 = 17;
const IPPROTO_FRAGMENT: u32 = 44;
const IPPROTO_ESP: u32 = 50;
const IPPROTO_AH: u32 = 51;
pub(super) const IPPROTO_ICMPV6: u32 = 58;
const IPPROTO_PIM: u32 = 103;
const IPPROTO_VRRP: u32 = 112;
pub(super) const IPPROTO_SCTP: u32 = 132;

const ISO_CLNP: u32 = 0x81;
const ISO_ESIS: u32 = 0x82;
const ISO_ISIS: u32 = 0x83;

/// IS-IS PDU types of each keyword.
#[rustfmt::skip] // one keyword per line
const ISIS_TYPES: &[(Protocol, &[u32])] = &[
    (Protocol::L1,   &[26, 24, 18, 15, 17]),
    (Protocol::L2,   &[27, 25, 20, 16, 17]),
    (Protocol::Iih,  &[17, 15, 16]),
    (Protocol::Lsp,  &[18, 20]),
    (Protocol::Snp,  &[27, 26, 24, 25]),
    (Protocol::Csnp, &[24, 25]),
    (Protocol::Psnp, &[26, 27]),
];

/// Link-layer protocols by the names of `ether proto`; an Ethernet type, or a SAP if up to 0xff.
#[rustfmt::skip] // one name per line
const ETHER_PROTOCOLS: &[(&str, u32)] = &[
    ("aarp",     ETHERTYPE_AARP),
    ("arp",      ETHERTYPE_ARP),
    ("atalk",    ETHERTYPE_ATALK),
    ("decnet",   ETHERTYPE_DECNET),
    ("ip",       ETHERTYPE_IP),
    ("ip6",      ETHERTYPE_IPV6),
    ("ipx",      LSAP_IPX),
    ("iso",      LSAP_ISO),
    ("lat",      0x6004),
    ("loopback", 0x9000),
    ("mopdl",    0x6001),
    ("moprc",    0x6002),
    ("netbeui",  LSAP_NETBEUI),
    ("rarp",     ETHERTYPE_RARP),
    ("sca",      0x6007),
    ("stp",      LSAP_STP),
];

impl Expander<'_> {
    /// A protocol by its keyword.
    pub(super) fn protocol(&mut self, protocol: Protocol) -> Expanded {
        match protocol {
            Protocol::Ip => self.link_type(ETHERTYPE_IP),
            Protocol::Ip6 => self.link_type(ETHERTYPE_IPV6),
            Protocol::Arp => self.link_type(ETHERTYPE_ARP),
            Protocol::Rarp => self.link_type(ETHERTYPE_RARP),
            Protocol::Atalk => self.link_type(ETHERTYPE_ATALK),
            Protocol::Aarp => self.link_type(ETHERTYPE_AARP),
            Protocol::Decnet => self.link_type(ETHERTYPE_DECNET),
            Protocol::Lat => self.link_type(0x6004),
            Protocol::Sca => self.link_type(0x6007),
            Protocol::Moprc => self.link_type(0x6002),
            Protocol::Mopdl => self.link_type(0x6001),
            Protocol::Iso => self.link_type(LSAP_ISO),
            Protocol::Stp => self.link_type(LSAP_STP),
            Protocol::Ipx => self.link_type(LSAP_IPX),
            Protocol::Netbeui => self.link_type(LSAP_NETBEUI),
            Protocol::Tcp => self.in_ip(IPPROTO_TCP),
            Protocol::Udp => self.in_ip(IPPROTO_UDP),
            Protocol::Sctp => self.in_ip(IPPROTO_SCTP),
            Protocol::Ah => self.in_ip(IPPROTO_AH),
            Protocol::Esp => self.in_ip(IPPROTO_ESP),
            Protocol::Pim => self.in_ip(IPPROTO_PIM),
            Protocol::Icmp => self.in_ip4(IPPROTO_ICMP),
            Protocol::Igmp => self.in_ip4(IPPROTO_IGMP),
            Protocol::Igrp => self.in_ip4(IPPROTO_IGRP),
            Protocol::Vrrp | Protocol::Carp => self.in_ip4(IPPROTO_VRRP),
            Protocol::Icmp6 => self.in_ip6(IPPROTO_ICMPV6),
            Protocol::Clnp => self.in_iso(ISO_CLNP),
            Protocol::Esis => self.in_iso(ISO_ESIS),
            Protocol::Isis => self.in_iso(ISO_ISIS),
            Protocol::Link => {
                self.error("the link layer alone is no primitive; try \"ether host\"")
            }
            Protocol::Radio => self.error("\"radio\" is no protocol; write radio[OFFSET]"),
            _ => self.isis_types(protocol),
        }
    }

    fn isis_types(&mut self, protocol: Protocol) -> Expanded {
        let row = ISIS_TYPES.iter().find(|(p, _)| *p == protocol);
        let mut whole: Option<Cond> = None;
        for kind in row.map_or(&[] as &[u32], |(_, kinds)| kinds) {
            let isis = self.in_iso(ISO_ISIS)?;
            let at = Offset::PAYLOAD.plus(self.network_without_snap.wrapping_add(4));
            let kind = self.field(at, Size::B, *kind)?;
            let cond = self.draft.and(isis, kind);
            whole = Some(self.draft.or_after(whole, cond));
        }
        Ok(whole.unwrap_or_else(|| self.draft.truth(false)))
    }

    /// A protocol inside IPv4 or IPv6.
    fn in_ip(&mut self, protocol: u32) -> Expanded {
        let four = self.in_ip4(protocol)?;
        let six = self.in_ip6(protocol)?;
        Ok(self.draft.or(four, six))
    }

    fn in_ip4(&mut self, protocol: u32) -> Expanded {
        let ip = self.link_type(ETHERTYPE_IP)?;
        let is = self.field(self.network_at(9), Size::B, protocol)?;
        Ok(self.draft.and(ip, is))
    }

    /// A protocol inside IPv6, perhaps after a fragment header.
    fn in_ip6(&mut self, protocol: u32) -> Expanded {
        let ip6 = self.link_type(ETHERTYPE_IPV6)?;
        let is = self.field(self.network_at(6), Size::B, protocol)?;
        let fragment = self.field(self.network_at(6), Size::B, IPPROTO_FRAGMENT)?;
        let inside = self.field(self.network_at(40), Size::B, protocol)?;
        let inside = self.draft.and(fragment, inside);
        let either = self.draft.or(is, inside);
        Ok(self.draft.and(ip6, either))
    }

    fn in_iso(&mut self, protocol: u32) -> Expanded {
        if self.layer.naming == Naming::FrameRelay {
            return self.field(Offset::HEADER.plus(2), Size::H, FRAME_RELAY | protocol);
        }
        let iso = self.link_type(LSAP_ISO)?;
        let padding = u32::from(self.layer.naming == Naming::CiscoHdlc);
        let at = Offset::PAYLOAD.plus(self.network_without_snap.wrapping_add(padding));
        let is = self.field(at, Size::B, protocol)?;
        Ok(self.draft.and(iso, is))
    }

    /// `PROTO proto NUMBER`.
    pub(super) fn encapsulated(&mut self, number: u32, q: Qualifiers) -> Expanded {
        if q.dir != Dir::Default {
            return self.error("a protocol has no direction");
        }
        match q.proto {
            None => self.in_ip(number),
            Some(Protocol::Link) => self.link_type(number),
            Some(Protocol::Ip) => self.in_ip4(number),
            Some(Protocol::Ip6) => self.in_ip6(number),
            Some(Protocol::Iso) => self.in_iso(number),
            Some(Protocol::Isis) => {
                let isis = self.in_iso(ISO_ISIS)?;
                let at = Offset::PAYLOAD.plus(self.network_without_snap.wrapping_add(4));
                let is = self.field(at, Size::B, number)?;
                Ok(self.draft.and(isis, is))
            }
            Some(_) => self.error("\"proto\" goes with ether, ip, ip6, iso or isis only"),
        }
    }

    /// The number of a protocol inside `proto`.
    pub(super) fn protocol_number(
        &self,
        name: &str,
        proto: Option<Protocol>,
    ) -> Result<u32, FilterError> {
        match proto {
            None | Some(Protocol::Ip | Protocol::Ip6) => {
                self.target.names.protocol(name).map(u32::from).map_or_else(
                    || {
                        self.error(format!(
                            "no protocol is named {name:?} in the protocols file"
                        ))
                    },
                    Ok,
                )
            }
            Some(Protocol::Link) => ETHER_PROTOCOLS
                .iter()
                .find(|(n, _)| *n == name)
                .map_or_else(
                    || self.error(format!("no Ethernet protocol is named {name:?}")),
                    |(_, kind)| Ok(*kind),
                ),
            Some(Protocol::Iso) => match name {
                "clnp" => Ok(ISO_CLNP),
                "esis" => Ok(ISO_ESIS),
                "isis" => Ok(ISO_ISIS),
                _ => self.error("the protocols inside iso are clnp, esis and isis"),
            },
            Some(_) => self.error("\"proto\" goes with ether, ip, ip6, iso or isis only"),
        }
    }

    /// `PROTO protochain NUMBER`: the protocol is somewhere in the chain of headers.
    pub(super) fn protochain(&mut self, number: u32, q: Qualifiers) -> Expanded {
        if self.layer.naming == Naming::Wlan {
            return self.error("\"protochain\" is not supported on 802.11");
        }
        let six = match q.proto {
            None => {
                let four = self.chain(number, false)?;
                let six = self.chain(number, true)?;
                return Ok(self.draft.or(four, six));
            }
            Some(Protocol::Ip) => false,
            Some(Protocol::Ip6) => true,
            Some(_) => return self.error("\"protochain\" goes with ip or ip6 only"),
        };
        self.chain(number, six)
    }

    fn chain(&mut self, protocol: u32, six: bool) -> Expanded {
        if self.payload.variable {
            return self.error("\"protochain\" is not supported with variable-length link headers");
        }
        self.leave_as_is();
        let link = self.link_type(if six { ETHERTYPE_IPV6 } else { ETHERTYPE_IP })?;
        let word = self.take_word()?;
        let offset = self.payload.k.wrapping_add(self.network);
        let insns = super::walk::chain_code(six, offset, protocol, word);
        self.draft.extend(&insns);
        let found = self.draft.compare(Relation::Eq, protocol);
        self.words.give_back(word);
        Ok(self.draft.and(link, found))
    }
}
