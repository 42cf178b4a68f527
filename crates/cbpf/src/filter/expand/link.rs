//! Link layers: where they keep their fields, and how each names its payload.

use super::{Base, Expanded, Expander, Offset, Place};
use crate::filter::draft::{Cond, code};
use crate::filter::lexer::Protocol;
use crate::filter::link::{LinkType, Naming};
use crate::filter::{FilterError, Source};
use crate::insn::{Relation, Size};
use alloc::format;
use skep_isa::opcode::X;

pub(super) const ETHERTYPE_IP: u32 = 0x0800;
pub(super) const ETHERTYPE_ARP: u32 = 0x0806;
pub(super) const ETHERTYPE_RARP: u32 = 0x8035;
pub(super) const ETHERTYPE_IPV6: u32 = 0x86dd;
pub(super) const ETHERTYPE_ATALK: u32 = 0x809b;
pub(super) const ETHERTYPE_AARP: u32 = 0x80f3;
pub(super) const ETHERTYPE_DECNET: u32 = 0x6003;
pub(super) const ETHERTYPE_MPLS: u32 = 0x8847;
pub(super) const ETHERTYPE_PPPOED: u32 = 0x8863;
pub(super) const ETHERTYPE_PPPOES: u32 = 0x8864;
const ETHERTYPE_NS: u32 = 0x0600;
const ETHERTYPE_IPX: u32 = 0x8137;

/// Greatest value of a length field; above it the field is an Ethernet type.
const LENGTH_MAX: u32 = 1500;

pub(super) const LSAP_ISO: u32 = 0xfe;
pub(super) const LSAP_STP: u32 = 0x42;
pub(super) const LSAP_IPX: u32 = 0xe0;
pub(super) const LSAP_NETBEUI: u32 = 0xf0;
const LSAP_IP: u32 = 0x06;

/// Protocol types of a Linux cooked header that are no Ethernet types.
const SLL_8023: u32 = 1;
const SLL_8022: u32 = 4;

/// Protocol families of IPv6 on loopback interfaces of the BSDs, in the order they are asked for.
const BSD_AF_INET6: [u32; 3] = [30, 24, 28];
const AF_INET: u32 = 2;

/// PPP protocol numbers of payloads known by another number.
#[rustfmt::skip] // one protocol per line
const PPP_PROTOCOLS: &[(u32, u32)] = &[
    (ETHERTYPE_IP,     0x0021),
    (ETHERTYPE_IPV6,   0x0057),
    (ETHERTYPE_DECNET, 0x0027),
    (ETHERTYPE_ATALK,  0x0029),
    (ETHERTYPE_NS,     0x0025),
    (LSAP_ISO,         0x0023),
    (LSAP_STP,         0x0031),
    (LSAP_IPX,         0x002b),
];

/// System codes of payloads on ARCNET.
#[rustfmt::skip] // one protocol per line
const ARCNET_PROTOCOLS: &[(u32, &[u32])] = &[
    (ETHERTYPE_IP,    &[0xd4, 0xf0]),
    (ETHERTYPE_IPV6,  &[0xc4]),
    (ETHERTYPE_ARP,   &[0xd5, 0xf1]),
    (ETHERTYPE_RARP,  &[0xd6]),
    (ETHERTYPE_ATALK, &[0xdd]),
];

/// Cisco HDLC's type of ISO protocols.
const CISCO_ISO: u32 = 0xfefe;

/// The control byte of unnumbered information, before a network layer protocol identifier.
pub(super) const FRAME_RELAY: u32 = 0x0300;

/// Link layers with 802.2 headers for which `llc` is not there.
const NOT_LLC: [LinkType; 2] = [LinkType(106), LinkType(122)];

impl Expander<'_> {
    /// Sets where the headers of the outermost link layer are.
    pub(super) fn set_up(&mut self) {
        let layer = self.layer;
        self.header = Place::fixed(layer.header);
        self.type_at = Place::fixed(layer.type_at);
        self.payload = Place::fixed(layer.payload);
        self.network = layer.network;
        self.network_without_snap = layer.without_snap;
        if layer.naming == Naming::Wlan {
            self.header.variable = layer.link != LinkType::IEEE802_11;
            self.payload.variable = true;
        }
        self.payload.variable |= layer.link == LinkType::PFLOG;
    }

    /// Bytes of the network layer.
    pub(super) fn network_at(&self, offset: u32) -> Offset {
        Offset::PAYLOAD.plus(self.network.wrapping_add(offset))
    }

    /// The payload of the link layer is of this type: an Ethernet type, or a SAP if up to [`LENGTH_MAX`].
    pub(super) fn link_type(&mut self, kind: u32) -> Expanded {
        if self.labels > 0 {
            return self.type_after_labels(kind);
        }
        match self.layer.naming {
            Naming::Ethernet => {
                let inner = self.emulated_ethernet()?;
                let kind = self.ethernet_type(kind)?;
                Ok(self.draft.and_after(inner, kind))
            }
            Naming::Llc => self.llc_type(kind),
            Naming::SunAtm => {
                let framed = self.is_sun_llc()?;
                let llc = self.llc_type(kind)?;
                Ok(self.draft.and(framed, llc))
            }
            Naming::Wlan => {
                let data = self.wlan_data_frame()?;
                let llc = self.llc_type(kind)?;
                Ok(self.draft.and(data, llc))
            }
            Naming::Cooked => self.cooked_type(kind),
            Naming::EtherType => self.type_field(kind),
            Naming::CiscoHdlc => self.type_field(match kind {
                LSAP_ISO => CISCO_ISO,
                kind => kind,
            }),
            Naming::Ppp | Naming::BsdPpp => self.ppp_type(kind),
            Naming::FrameRelay => self.frame_relay_type(kind),
            Naming::Arcnet => self.arcnet_type(kind),
            Naming::Version => match kind {
                ETHERTYPE_IP => self.version(Offset::HEADER, 4),
                ETHERTYPE_IPV6 => self.version(Offset::HEADER, 6),
                _ => Ok(self.draft.truth(false)),
            },
            Naming::Always(always) => Ok(self.draft.truth(kind == always)),
            Naming::HostFamily | Naming::NetworkFamily => match kind {
                ETHERTYPE_IP => self.family(AF_INET),
                ETHERTYPE_IPV6 => self.family_inet6(),
                _ => Ok(self.draft.truth(false)),
            },
            Naming::FamilyByte(ip, ip6) => match kind {
                ETHERTYPE_IP => self.field(Offset::HEADER.plus(1), Size::B, ip),
                ETHERTYPE_IPV6 => self.field(Offset::HEADER.plus(1), Size::B, ip6),
                _ => Ok(self.draft.truth(false)),
            },
            Naming::Magic(mask, value) => self.masked(Offset::HEADER, Size::W, mask, value),
            Naming::Unknown => self.error(format!(
                "what packets of link type {} carry is not known; \"link[OFFSET]\" and \"len\" can be compared",
                self.layer.link.0
            )),
        }
    }

    fn is_sun_llc(&mut self) -> Expanded {
        /// Protocol of 802.2 packets.
        const PT_LLC: u32 = 2;
        self.masked(Offset::HEADER, Size::B, 0x0f, PT_LLC)
    }

    fn ppp_type(&mut self, kind: u32) -> Expanded {
        /// IPv4 with compressed TCP headers, as the second sends them and as the first time.
        const COMPRESSED: [u32; 2] = [0x002d, 0x002f];
        let row = PPP_PROTOCOLS.iter().find(|(k, _)| *k == kind);
        let plain = self.type_field(row.map_or(kind, |(_, ppp)| *ppp))?;
        if self.layer.naming != Naming::BsdPpp || kind != ETHERTYPE_IP {
            return Ok(plain);
        }
        let [van_jacobson, uncompressed] = COMPRESSED;
        let first = self.type_field(van_jacobson)?;
        let second = self.type_field(uncompressed)?;
        let either = self.draft.or(first, second);
        Ok(self.draft.or(plain, either))
    }

    /// The control byte and a network layer protocol identifier.
    fn frame_relay_type(&mut self, kind: u32) -> Expanded {
        let identifier = Offset::HEADER.plus(2);
        match kind {
            ETHERTYPE_IP => self.field(identifier, Size::H, FRAME_RELAY | 0xcc),
            ETHERTYPE_IPV6 => self.field(identifier, Size::H, FRAME_RELAY | 0x8e),
            LSAP_ISO => {
                let clnp = self.field(identifier, Size::H, FRAME_RELAY | 0x81)?;
                let esis = self.field(identifier, Size::H, FRAME_RELAY | 0x82)?;
                let isis = self.field(identifier, Size::H, FRAME_RELAY | 0x83)?;
                let later = self.draft.or(esis, isis);
                Ok(self.draft.or(clnp, later))
            }
            _ => Ok(self.draft.truth(false)),
        }
    }

    fn arcnet_type(&mut self, kind: u32) -> Expanded {
        let row = ARCNET_PROTOCOLS.iter().find(|(k, _)| *k == kind);
        let (first, more) = match row.map(|(_, all)| *all) {
            Some([first, more @ ..]) => (*first, more),
            _ => return Ok(self.draft.truth(false)),
        };
        let mut cond = self.field(Offset::LINK_TYPE, Size::B, first)?;
        for number in more {
            let other = self.field(Offset::LINK_TYPE, Size::B, *number)?;
            cond = self.draft.or(cond, other);
        }
        Ok(cond)
    }

    fn type_field(&mut self, kind: u32) -> Expanded {
        self.field(Offset::LINK_TYPE, Size::H, kind)
    }

    /// The high nibble of an IP header.
    fn version(&mut self, at: Offset, version: u32) -> Expanded {
        self.masked(at, Size::B, 0xf0, version << 4)
    }

    fn family(&mut self, family: u32) -> Expanded {
        let swapped = match self.target.source {
            Source::File { big_endian } => !big_endian,
            Source::Live | Source::Unknown => cfg!(target_endian = "little"),
        } && self.layer.naming == Naming::HostFamily;
        let family = if swapped { family.swap_bytes() } else { family };
        self.field(Offset::HEADER, Size::W, family)
    }

    fn family_inet6(&mut self) -> Expanded {
        /// `AF_INET6` of Linux.
        const LINUX_AF_INET6: u32 = 10;
        if !matches!(self.target.source, Source::File { .. }) {
            return self.family(LINUX_AF_INET6);
        }
        let [first, second, third] = BSD_AF_INET6;
        let (first, second) = (self.family(first)?, self.family(second)?);
        let third = self.family(third)?;
        let later = self.draft.or(second, third);
        Ok(self.draft.or(first, later))
    }

    /// The payload of an MPLS stack, told by its first nibble.
    fn type_after_labels(&mut self, kind: u32) -> Expanded {
        let version = match kind {
            ETHERTYPE_IP => 4,
            ETHERTYPE_IPV6 => 6,
            _ => return self.error("after \"mpls\" only IPv4 and IPv6 can be told apart"),
        };
        let bottom = self.network_at(0).plus(2u32.wrapping_sub(4));
        let bottom = self.masked(bottom, Size::B, 1, 1)?;
        let version = self.version(self.network_at(0), version)?;
        Ok(self.draft.and(bottom, version))
    }

    fn is_length(&mut self) -> Expanded {
        let kind = self.relate(Offset::LINK_TYPE, Size::H, Relation::Gt, LENGTH_MAX);
        self.fails(kind)
    }

    fn ethernet_type(&mut self, kind: u32) -> Expanded {
        match kind {
            LSAP_ISO | LSAP_IP | LSAP_NETBEUI => {
                let length = self.is_length()?;
                let saps = self.field(Offset::PAYLOAD, Size::H, (kind << 8) | kind)?;
                Ok(self.draft.and(length, saps))
            }
            LSAP_IPX => {
                let sap = self.field(Offset::PAYLOAD, Size::B, LSAP_IPX)?;
                let raw = self.field(Offset::PAYLOAD, Size::H, 0xffff)?;
                let snap = self.snap(0, ETHERTYPE_IPX)?;
                let saps = self.draft.or(sap, raw);
                let framed = self.draft.or(snap, saps);
                let length = self.is_length()?;
                let framed = self.draft.and(length, framed);
                let typed = self.type_field(ETHERTYPE_IPX)?;
                Ok(self.draft.or(typed, framed))
            }
            ETHERTYPE_ATALK | ETHERTYPE_AARP => {
                let length = self.is_length()?;
                let snap = self.snap(if kind == ETHERTYPE_ATALK { 0x080007 } else { 0 }, kind)?;
                let framed = self.draft.and(length, snap);
                let typed = self.type_field(kind)?;
                Ok(self.draft.or(typed, framed))
            }
            sap if sap <= LENGTH_MAX => {
                let length = self.is_length()?;
                let sap = self.field(Offset::PAYLOAD, Size::B, sap)?;
                Ok(self.draft.and(length, sap))
            }
            kind => self.type_field(kind),
        }
    }

    fn cooked_type(&mut self, kind: u32) -> Expanded {
        match kind {
            LSAP_ISO | LSAP_IP | LSAP_NETBEUI => {
                let llc = self.type_field(SLL_8022)?;
                let saps = self.field(Offset::PAYLOAD, Size::H, (kind << 8) | kind)?;
                Ok(self.draft.and(llc, saps))
            }
            LSAP_IPX => {
                let sap = self.field(Offset::PAYLOAD, Size::B, LSAP_IPX)?;
                let snap = self.snap(0, ETHERTYPE_IPX)?;
                let framed = self.draft.or(sap, snap);
                let llc = self.type_field(SLL_8022)?;
                let framed = self.draft.and(llc, framed);
                let raw = self.type_field(SLL_8023)?;
                let framed = self.draft.or(raw, framed);
                let typed = self.type_field(ETHERTYPE_IPX)?;
                Ok(self.draft.or(typed, framed))
            }
            ETHERTYPE_ATALK | ETHERTYPE_AARP => {
                let llc = self.type_field(SLL_8022)?;
                let snap = self.snap(if kind == ETHERTYPE_ATALK { 0x080007 } else { 0 }, kind)?;
                let framed = self.draft.and(llc, snap);
                let typed = self.type_field(kind)?;
                Ok(self.draft.or(typed, framed))
            }
            sap if sap <= LENGTH_MAX => {
                let llc = self.type_field(SLL_8022)?;
                let sap = self.field(Offset::PAYLOAD, Size::B, sap)?;
                Ok(self.draft.and(llc, sap))
            }
            kind => self.type_field(kind),
        }
    }

    /// The type by the 802.2 header, on links that always have one.
    fn llc_type(&mut self, kind: u32) -> Expanded {
        match kind {
            LSAP_ISO | LSAP_IP | LSAP_NETBEUI => {
                self.field(Offset::PAYLOAD, Size::H, (kind << 8) | kind)
            }
            ETHERTYPE_ATALK => self.snap(0x080007, ETHERTYPE_ATALK),
            sap if sap <= LENGTH_MAX => self.field(Offset::PAYLOAD, Size::B, sap),
            kind => self.field(Offset::PAYLOAD.plus(6), Size::H, kind),
        }
    }

    /// A SNAP header with this organisation and type.
    fn snap(&mut self, organisation: u32, kind: u32) -> Expanded {
        let [_, o0, o1, o2] = organisation.to_be_bytes();
        let [_, _, k0, k1] = kind.to_be_bytes();
        self.bytes(Offset::PAYLOAD, &[0xaa, 0xaa, 0x03, o0, o1, o2, k0, k1])
    }

    /// The packet has an 802.2 header.
    fn has_llc(&mut self) -> Expanded {
        match (self.layer.naming, self.layer.link) {
            (Naming::Ethernet, LinkType::ETHERNET) => {
                let length = self.is_length()?;
                let raw = self.field(Offset::PAYLOAD, Size::H, 0xffff)?;
                let framed = self.draft.not(raw);
                Ok(self.draft.and(length, framed))
            }
            (Naming::Llc, link) if !NOT_LLC.contains(&link) => Ok(self.draft.truth(true)),
            (Naming::SunAtm, _) => self.is_sun_llc(),
            (Naming::Wlan, _) => self.wlan_data_frame(),
            (_, link) => self.error(format!("\"llc\" means nothing on {}", link.description())),
        }
    }

    pub(super) fn llc(&mut self, kind: Option<&str>) -> Expanded {
        /// Commands by the low nibble of the control byte, or by all of it but the poll bit.
        #[rustfmt::skip] // families of PDUs
        const TYPES: &[(&str, u32, u32)] = &[
            ("s", 0x03, 0x01), ("u", 0x03, 0x03),
            ("rr", 0x0f, 0x01), ("rnr", 0x0f, 0x05), ("rej", 0x0f, 0x09),
            ("ui", 0xef, 0x03), ("ua", 0xef, 0x63), ("disc", 0xef, 0x43), ("test", 0xef, 0xe3),
            ("sabme", 0xef, 0x6f), ("xid", 0xef, 0xaf), ("frmr", 0xef, 0x87),
        ];
        let control = Offset::PAYLOAD.plus(2);
        let Some(name) = kind else {
            return self.has_llc();
        };
        let row = TYPES.iter().find(|(n, _, _)| *n == name);
        if name != "i" && row.is_none() {
            return self.error(alloc::format!(
                "{name:?} is no type of 802.2 PDU; there are i, s, u, rr, rnr, rej, ui, ua, disc, test, sabme, xid and frmr"
            ));
        }
        let llc = self.has_llc()?;
        let kind = match row {
            Some((_, mask, value)) => self.masked(control, Size::B, *mask, *value)?,
            None => {
                let other = self.bit(control, 0x01);
                self.fails(other)?
            }
        };
        Ok(self.draft.and(llc, kind))
    }

    fn arcnet_broadcast(&mut self) -> Expanded {
        self.field(Offset::HEADER.plus(1), Size::B, 0)
    }

    pub(super) fn broadcast(&mut self, proto: Option<Protocol>) -> Expanded {
        match proto {
            None | Some(Protocol::Link) => match (self.layer.naming, self.layer.addresses) {
                (_, Some((_, dst))) => {
                    let inner = self.inner_ethernet()?;
                    let address = self.bytes(Offset::HEADER.plus(dst), &[0xff; 6])?;
                    Ok(self.draft.and_after(inner, address))
                }
                (Naming::Wlan, _) => self.wlan_destination([0xff; 6]),
                (Naming::Arcnet, _) => self.arcnet_broadcast(),
                _ => self.error(format!(
                    "{} has no broadcast",
                    self.layer.link.description()
                )),
            },
            Some(Protocol::Ip) => {
                let Some(netmask) = self.target.netmask else {
                    return self.error("\"ip broadcast\" needs the netmask of the interface");
                };
                let ip = self.link_type(ETHERTYPE_IP)?;
                let destination = self.network_at(16);
                let zeros = self.masked(destination, Size::W, !netmask, 0)?;
                let ones = self.masked(destination, Size::W, !netmask, !netmask)?;
                let either = self.draft.or(zeros, ones);
                Ok(self.draft.and(ip, either))
            }
            Some(_) => self.error("only \"ether broadcast\" and \"ip broadcast\" exist"),
        }
    }

    pub(super) fn multicast(&mut self, proto: Option<Protocol>) -> Expanded {
        match proto {
            None | Some(Protocol::Link) => match (self.layer.naming, self.layer.addresses) {
                (_, Some((_, dst))) => {
                    let inner = self.inner_ethernet()?;
                    let group = self.bit(Offset::HEADER.plus(dst), 1)?;
                    Ok(self.draft.and_after(inner, group))
                }
                (Naming::Wlan, _) => self.wlan_multicast(),
                (Naming::Arcnet, _) => self.arcnet_broadcast(),
                _ => self.error(format!(
                    "{} has no multicast",
                    self.layer.link.description()
                )),
            },
            Some(Protocol::Ip) => {
                let ip = self.link_type(ETHERTYPE_IP)?;
                let at = self.network_at(16);
                let group = self.relate(at, Size::B, Relation::Ge, 224)?;
                Ok(self.draft.and(ip, group))
            }
            Some(Protocol::Ip6) => {
                let ip6 = self.link_type(ETHERTYPE_IPV6)?;
                let group = self.field(self.network_at(24), Size::B, 255)?;
                Ok(self.draft.and(ip6, group))
            }
            Some(_) => {
                self.error("only \"ether multicast\", \"ip multicast\" and \"ip6 multicast\" exist")
            }
        }
    }

    /// After `lane`: whether the packet carries Ethernet, rather than control of the emulated network.
    fn emulated_ethernet(&mut self) -> Result<Option<Cond>, FilterError> {
        /// What stands before the header instead of the identifier of a client.
        const CONTROL: u32 = 0xff00;
        let Some(at) = self.emulated else {
            return Ok(None);
        };
        self.draft.extend(&[code::load(Size::H, at)]);
        let control = self.draft.compare(Relation::Eq, CONTROL);
        Ok(Some(self.draft.not(control)))
    }

    /// After `geneve`: whether the tunnel carries Ethernet, so that there is an inner link header.
    pub(super) fn inner_ethernet(&mut self) -> Result<Option<Cond>, FilterError> {
        if !self.tunnelled {
            return self.emulated_ethernet();
        }
        let header = self.word_of(Base::Header)?;
        let payload = self.word_of(Base::Payload)?;
        let (Some(header), Some(payload)) = (header, payload) else {
            return Ok(None);
        };
        self.draft
            .extend(&[code::word(header), code::x_word(payload)]);
        let same = self.draft.end(Relation::Eq.code() | X, 0);
        Ok(Some(self.draft.not(same)))
    }
}
