//! Link types a filter can be compiled for.

/// A link type, by its number in capture files (`LINKTYPE_*`).
///
/// ```
/// use skep_cbpf::filter::{Filter, LinkType, Target};
///
/// let link = LinkType::by_name("LINUX_SLL2").ok_or("no such link type")?;
/// assert_eq!(link, LinkType::LINUX_SLL2);
/// assert!(Filter::compile("udp port 53", &Target::file(link)).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: the protocol family in the byte order of the capturing host.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// SLIP, with a pseudo-header.
    pub const SLIP: Self = Self(8);
    /// PPP with address and control bytes.
    pub const PPP: Self = Self(9);
    /// IPv4 or IPv6 without a link header.
    pub const RAW: Self = Self(101);
    /// IEEE 802.11.
    pub const IEEE802_11: Self = Self(105);
    /// OpenBSD loopback: the protocol family in network byte order.
    pub const LOOP: Self = Self(108);
    /// Cisco HDLC.
    pub const C_HDLC: Self = Self(104);
    /// Linux cooked capture.
    pub const LINUX_SLL: Self = Self(113);
    /// What OpenBSD's pf(4) logs.
    pub const PFLOG: Self = Self(117);
    /// IEEE 802.11 after a Prism header.
    pub const PRISM: Self = Self(119);
    /// ATM of SunATM devices.
    pub const SUNATM: Self = Self(123);
    /// IEEE 802.11 after a radiotap header.
    pub const IEEE802_11_RADIOTAP: Self = Self(127);
    /// MTP2, with a pseudo-header.
    pub const MTP2_WITH_PHDR: Self = Self(139);
    /// MTP2.
    pub const MTP2: Self = Self(140);
    /// IEEE 802.11 after an AVS header.
    pub const IEEE802_11_AVS: Self = Self(163);
    /// BACnet MS/TP.
    pub const BACNET: Self = Self(165);
    /// PPP as pppd(8) sees it, with the direction before it.
    pub const PPP_PPPD: Self = Self(166);
    /// IEEE 802.11, or anything else, after a per-packet information header.
    pub const PPI: Self = Self(192);
    /// Solaris's ipnet devices.
    pub const IPNET: Self = Self(226);
    /// IPv4 without a link header.
    pub const IPV4: Self = Self(228);
    /// IPv6 without a link header.
    pub const IPV6: Self = Self(229);
    /// Linux cooked capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);

    /// Link type of a capture file; the number of raw IP differs between systems.
    #[must_use]
    pub const fn of_file(number: u16) -> Self {
        match number {
            12 | 14 => Self::RAW,
            number => Self(number),
        }
    }

    /// The link type by its name, as after tcpdump's `-y`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("DLT_").unwrap_or(&name);
        LAYERS.iter().find(|l| l.name == name).map(|l| l.link)
    }

    /// The name, if filters know what the type's headers hold.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.row().map(|l| l.name)
    }

    /// What the type is called in messages.
    #[must_use]
    pub fn description(self) -> &'static str {
        self.row().map_or("this link type", |l| l.description)
    }

    /// Every link type whose headers filters know. For the others, filters of lengths and bytes can be compiled.
    pub fn all() -> impl Iterator<Item = Self> {
        LAYERS.iter().map(|l| l.link)
    }

    fn row(self) -> Option<&'static Layer> {
        LAYERS.iter().find(|l| l.link == self)
    }

    /// Where the headers are; `None` if there is no such link type.
    pub(crate) fn layer(self) -> Option<Layer> {
        let other = || Layer {
            link: self,
            ..UNKNOWN
        };
        (self.row().copied()).or_else(|| OTHERS.contains(&self.0).then(other))
    }
}

/// Numbers of link types that captures may have; headers of those that are not listed are not known.
const OTHERS: core::ops::RangeInclusive<u16> = 100..=299;

/// How a link layer names its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Naming {
    /// Not in a way that is known.
    Unknown,
    /// An Ethernet type, or a length before an 802.2 header.
    Ethernet,
    /// An 802.2 header.
    Llc,
    /// An 802.2 header, if the first byte says so.
    SunAtm,
    /// An 802.2 header in data frames of 802.11.
    Wlan,
    /// The protocol type of a Linux cooked header.
    Cooked,
    /// An Ethernet type.
    EtherType,
    /// An Ethernet type; ISO protocols have one, too, and a byte of padding.
    CiscoHdlc,
    /// A PPP protocol number.
    Ppp,
    /// The same, with compressed IPv4 as numbers of their own.
    BsdPpp,
    /// A network layer protocol identifier.
    FrameRelay,
    /// A byte.
    Arcnet,
    /// The version of the IP header at the start of the packet.
    Version,
    /// It is always IPv4, always IPv6, or always AppleTalk.
    Always(u32),
    /// A protocol family of four bytes in the order of the capturing host, or in network byte order.
    HostFamily,
    NetworkFamily,
    /// A protocol family in the second byte: of IPv4, and of IPv6.
    FamilyByte(u32, u32),
    /// Everything after a magic number: a mask and the value of the first four bytes.
    Magic(u32, u32),
}

/// A link layer. Offsets are in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layer {
    pub(crate) link: LinkType,
    /// Name after `-y`, and in messages.
    name: &'static str,
    description: &'static str,
    pub(crate) naming: Naming,
    /// Start of the header; addresses count from there: of the sender, of the receiver.
    pub(crate) header: u32,
    pub(crate) addresses: Option<(u32, u32)>,
    /// What names the payload, and the payload.
    pub(crate) type_at: u32,
    pub(crate) payload: u32,
    /// From there to the network header, and the same without a SNAP header.
    pub(crate) network: u32,
    pub(crate) without_snap: u32,
}

/// The offset of what does not exist.
pub(crate) const NOWHERE: u32 = u32::MAX;

const UNKNOWN: Layer = layer(
    0,
    "",
    "this link type",
    Naming::Unknown,
    NOWHERE,
    NOWHERE,
    NOWHERE,
    NOWHERE,
);

#[expect(clippy::too_many_arguments, reason = "a row of the table below")]
const fn layer(
    link: u16,
    name: &'static str,
    description: &'static str,
    naming: Naming,
    type_at: u32,
    payload: u32,
    network: u32,
    without_snap: u32,
) -> Layer {
    Layer {
        link: LinkType(link),
        name,
        description,
        naming,
        header: 0,
        addresses: None,
        type_at,
        payload,
        network,
        without_snap,
    }
}

impl Layer {
    const fn with_addresses(self, src: u32, dst: u32) -> Self {
        Self {
            addresses: Some((src, dst)),
            ..self
        }
    }

    const fn after(self, header: u32) -> Self {
        Self { header, ..self }
    }
}

use Naming as N;

const IP: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const ATALK: u32 = 0x809b;
const NONE: u32 = NOWHERE;
const JUNIPER: Naming = N::Magic(0xffff_ff00, 0x4d47_4300);

/// Every link layer that is known. Source: the LINKTYPE_ list of tcpdump.org; offsets as tcpdump's `-d` shows them.
#[rustfmt::skip] // one type per line
const LAYERS: &[Layer] = &[
    //                                                                            type payload network without SNAP
    layer(0,   "NULL",                "BSD loopback",         N::HostFamily,         0,    4, 0, 0),
    layer(1,   "EN10MB",              "Ethernet",             N::Ethernet,          12,   14, 0, 3).with_addresses(6, 0),
    layer(6,   "IEEE802",             "token ring",           N::Llc,               14,   14, 8, 3).with_addresses(8, 2),
    layer(7,   "ARCNET",              "BSD ARCNET",           N::Arcnet,             2,    6, 0, 0),
    layer(8,   "SLIP",                "SLIP",                 N::Version,         NONE,   16, 0, 0),
    layer(9,   "PPP",                 "PPP",                  N::Ppp,                2,    4, 0, 0),
    layer(10,  "FDDI",                "FDDI",                 N::Llc,               13,   13, 8, 3).with_addresses(7, 1),
    layer(50,  "PPP_SERIAL",          "PPP over serial",      N::Ppp,                2,    4, 0, 0),
    layer(51,  "PPP_ETHER",           "PPPoE",                N::Ppp,                6,    8, 0, 0),
    layer(99,  "SYMANTEC_FIREWALL",   "Symantec firewall",    N::EtherType,          6,   44, 0, 0),
    layer(100, "ATM_RFC1483",         "RFC 1483 ATM",         N::Llc,                0,    0, 8, 3),
    layer(101, "RAW",                 "raw IP",               N::Version,         NONE,    0, 0, 0),
    layer(102, "SLIP_BSDOS",          "BSD/OS SLIP",          N::Version,         NONE,   24, 0, 0),
    layer(103, "PPP_BSDOS",           "BSD/OS PPP",           N::BsdPpp,             5,   24, 0, 0),
    layer(104, "C_HDLC",              "Cisco HDLC",           N::CiscoHdlc,          2,    4, 0, 0),
    layer(105, "IEEE802_11",          "802.11",               N::Wlan,              24,    0, 8, 3),
    layer(106, "ATM_CLIP",            "Linux classical IP over ATM", N::Llc,         0,    0, 8, 3),
    layer(107, "FRELAY",              "frame relay",          N::FrameRelay,      NONE,    0, 0, 0),
    layer(108, "LOOP",                "OpenBSD loopback",     N::NetworkFamily,      0,    4, 0, 0),
    layer(109, "ENC",                 "OpenBSD encapsulated IP", N::HostFamily,      0,   12, 0, 0),
    layer(113, "LINUX_SLL",           "Linux cooked v1",      N::Cooked,            14,   16, 0, 0),
    layer(114, "LTALK",               "LocalTalk",            N::Always(ATALK),   NONE,    0, 0, 0),
    layer(117, "PFLOG",               "OpenBSD pflog",        N::FamilyByte(2, 10), NONE,  0, 0, 0),
    layer(119, "PRISM_HEADER",        "802.11 with Prism",    N::Wlan,              24,    0, 8, 3),
    layer(122, "IP_OVER_FC",          "IP over Fibre Channel", N::Llc,              16,   16, 8, 3).with_addresses(10, 2),
    layer(123, "SUNATM",              "SunATM",               N::SunAtm,             4,    4, 8, 3),
    layer(127, "IEEE802_11_RADIO",    "802.11 with radiotap", N::Wlan,              24,    0, 8, 3),
    layer(129, "ARCNET_LINUX",        "Linux ARCNET",         N::Arcnet,             4,    8, 0, 0),
    layer(130, "JUNIPER_MLPPP",       "Juniper MLPPP",        JUNIPER,               0,    4, 0, NONE),
    layer(131, "JUNIPER_MLFR",        "Juniper MLFR",         JUNIPER,               0,    4, 0, NONE),
    layer(132, "JUNIPER_ES",          "Juniper ES PIC",       JUNIPER,               0, NONE, NONE, NONE),
    layer(133, "JUNIPER_GGSN",        "Juniper GGSN PIC",     JUNIPER,               0,   12, 0, NONE),
    layer(134, "JUNIPER_MFR",         "Juniper FRF.16",       JUNIPER,               0,    4, 0, NONE),
    layer(135, "JUNIPER_ATM2",        "Juniper ATM2 PIC",     JUNIPER,               0,    8, 0, 10),
    layer(136, "JUNIPER_SERVICES",    "Juniper services PIC", JUNIPER,               0, NONE, NONE, NONE),
    layer(137, "JUNIPER_ATM1",        "Juniper ATM1 PIC",     JUNIPER,               0,    4, 0, 10),
    layer(138, "APPLE_IP_OVER_IEEE1394", "Apple IP over IEEE 1394", N::EtherType,   16,   18, 0, 0),
    layer(139, "MTP2_WITH_PHDR",      "MTP2 with a pseudo-header", N::Unknown,     NONE, NONE, NONE, NONE),
    layer(140, "MTP2",                "MTP2",                 N::Unknown,         NONE, NONE, NONE, NONE),
    layer(163, "IEEE802_11_RADIO_AVS", "802.11 with AVS",     N::Wlan,              24,    0, 8, 3),
    layer(164, "JUNIPER_MONITOR",     "Juniper monitor PIC",  JUNIPER,               0,   12, 0, NONE),
    layer(165, "BACNET_MS_TP",        "BACnet MS/TP",         N::Magic(0xffff_0000, 0x55ff_0000), NONE, NONE, NONE, NONE),
    layer(166, "PPP_PPPD",            "PPP of pppd",          N::Ppp,                2,    4, 0, 0),
    layer(167, "JUNIPER_PPPOE",       "Juniper PPPoE",        JUNIPER,               0,   18, 14, 17),
    layer(168, "JUNIPER_PPPOE_ATM",   "Juniper PPPoE/ATM",    JUNIPER,               0,    6, 0, NONE),
    layer(178, "JUNIPER_ETHER",       "Juniper Ethernet",     JUNIPER,               0,   18, 14, 17),
    layer(179, "JUNIPER_PPP",         "Juniper PPP",          JUNIPER,               0,    4, 0, NONE),
    layer(180, "JUNIPER_FRELAY",      "Juniper frame relay",  JUNIPER,               0,    4, 0, NONE),
    layer(181, "JUNIPER_CHDLC",       "Juniper C-HDLC",       JUNIPER,               0,    4, 0, NONE),
    layer(183, "JUNIPER_VP",          "Juniper voice PIC",    JUNIPER,               0, NONE, NONE, NONE),
    layer(192, "PPI",                 "per-packet information", N::Wlan,            24,    0, 8, 3),
    layer(194, "JUNIPER_ISM",         "Juniper integrated service module", JUNIPER,    0, NONE, NONE, NONE),
    layer(200, "JUNIPER_ST",          "Juniper secure tunnel", JUNIPER,              0, NONE, NONE, NONE),
    layer(226, "IPNET",               "Solaris ipnet",        N::FamilyByte(2, 26), NONE, 24, 0, NONE),
    layer(228, "IPV4",                "raw IPv4",             N::Always(IP),      NONE,    0, 0, 0),
    layer(229, "IPV6",                "raw IPv6",             N::Always(IPV6),    NONE,    0, 0, 0),
    layer(232, "JUNIPER_VS",          "Juniper virtual server", JUNIPER,             0, NONE, NONE, NONE),
    layer(233, "JUNIPER_SRX_E2E",     "Juniper SRX E2E",      JUNIPER,               0, NONE, NONE, NONE),
    layer(234, "JUNIPER_FIBRECHANNEL", "Juniper Fibre Channel", JUNIPER,             0, NONE, NONE, NONE),
    layer(238, "JUNIPER_ATM_CEMIC",   "Juniper ATM CEMIC",    JUNIPER,               0, NONE, NONE, NONE),
    layer(240, "NETANALYZER",         "netANALYZER",          N::Ethernet,          16,   18, 0, 3).with_addresses(6, 0).after(4),
    layer(241, "NETANALYZER_TRANSPARENT", "transparent netANALYZER", N::Ethernet,   24,   26, 0, 3).with_addresses(6, 0).after(12),
    layer(276, "LINUX_SLL2",          "Linux cooked v2",      N::EtherType,          0,   20, 0, 0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ordered_and_names_distinct() {
        assert!(LAYERS.is_sorted_by_key(|l| l.link.0));
        for layer in LAYERS {
            assert_eq!(LinkType::by_name(layer.name), Some(layer.link));
        }
    }
}
