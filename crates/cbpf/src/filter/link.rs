//! Link types a filter can be compiled for.

/// A link type, by its number in capture files (`LINKTYPE_*`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: the protocol family in the byte order of the capturing host.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// PPP with address and control bytes.
    pub const PPP: Self = Self(9);
    /// IPv4 or IPv6 without a link header.
    pub const RAW: Self = Self(101);
    /// IEEE 802.11.
    pub const IEEE802_11: Self = Self(105);
    /// OpenBSD loopback: the protocol family in network byte order.
    pub const LOOP: Self = Self(108);
    /// Linux cooked capture.
    pub const LINUX_SLL: Self = Self(113);
    /// IEEE 802.11 after a radiotap header.
    pub const IEEE802_11_RADIOTAP: Self = Self(127);
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
        NAMES
            .iter()
            .find(|(_, n, _)| *n == name)
            .map(|(l, _, _)| *l)
    }

    /// The name, if filters know the type.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES
            .iter()
            .find(|(l, _, _)| *l == self)
            .map(|(_, n, _)| *n)
    }

    /// What the type is called in messages.
    #[must_use]
    pub fn description(self) -> &'static str {
        NAMES
            .iter()
            .find(|(l, _, _)| *l == self)
            .map_or("this link type", |(_, _, d)| *d)
    }

    /// Every link type a filter can be compiled for.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(l, _, _)| *l)
    }
}

/// Known link types: name after `-y`, name in messages.
#[rustfmt::skip] // one type per line
const NAMES: &[(LinkType, &str, &str)] = &[
    (LinkType::NULL,                "NULL",             "BSD loopback"),
    (LinkType::ETHERNET,            "EN10MB",           "Ethernet"),
    (LinkType::PPP,                 "PPP",              "PPP"),
    (LinkType::RAW,                 "RAW",              "raw IP"),
    (LinkType::IEEE802_11,          "IEEE802_11",       "802.11"),
    (LinkType::LOOP,                "LOOP",             "OpenBSD loopback"),
    (LinkType::LINUX_SLL,           "LINUX_SLL",        "Linux cooked v1"),
    (LinkType::IEEE802_11_RADIOTAP, "IEEE802_11_RADIO", "802.11 with radiotap"),
    (LinkType::IPV4,                "IPV4",             "raw IPv4"),
    (LinkType::IPV6,                "IPV6",             "raw IPv6"),
    (LinkType::LINUX_SLL2,          "LINUX_SLL2",       "Linux cooked v2"),
];
