//! Packets of every link type: well-formed ones with addresses and ports from small pools, so that filters hit, malformed
//! ones, and cut ones.

use super::random::Random;
use skep_cbpf::filter::LinkType;

/// A packet as a file holds it.
pub(crate) struct Packet {
    /// Bytes on the wire.
    pub(crate) wire: u32,
    /// Captured bytes.
    pub(crate) bytes: Vec<u8>,
}

#[rustfmt::skip] // several a line
const HOSTS4: &[[u8; 4]] = &[
    [10, 0, 0, 1], [10, 1, 2, 3], [192, 168, 1, 1], [192, 168, 1, 77], [127, 0, 0, 1],
    [172, 16, 5, 9], [224, 0, 0, 251], [255, 255, 255, 255], [0, 0, 0, 0], [8, 8, 8, 8],
];
const HOSTS6: &[[u8; 16]] = &[
    [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [
        0xfe, 0x80, 0, 0, 0, 0, 0, 0, 2, 0x11, 0x22, 0xff, 0xfe, 0x33, 0x44, 0x55,
    ],
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfb],
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
];
#[rustfmt::skip] // several a line
const MACS: &[[u8; 6]] = &[
    [0, 0x11, 0x22, 0x33, 0x44, 0x55], [2, 0, 0, 0, 0, 1], [0xff; 6],
    [1, 0, 0x5e, 0, 0, 0xfb], [0, 1, 2, 3, 4, 5],
];
const PORTS: &[u16] = &[
    22, 53, 80, 443, 8080, 6000, 6008, 7000, 20, 21, 123, 6081, 65535, 0,
];
const PROTOCOLS: &[u8] = &[
    6, 6, 6, 17, 17, 17, 1, 2, 58, 132, 50, 51, 103, 112, 0, 43, 44, 60, 89, 255,
];

/// Protocols of Ethernet, and of PPP.
const ETHERTYPES: &[u16] = &[0x0800, 0x86dd, 0x8847, 0xfefe];
const PPP_PROTOCOLS: &[u16] = &[0x21, 0x57, 0x23, 0x2d, 0x2f, 0x29];

struct Builder<'r> {
    random: &'r mut Random,
}

impl Builder<'_> {
    fn fill(&mut self, out: &mut Vec<u8>, count: usize) {
        for _ in 0..count {
            let byte = self.random.byte();
            out.push(if self.random.once_in(3) {
                byte
            } else {
                byte & 0x13
            });
        }
    }

    fn port(&mut self, out: &mut Vec<u8>) {
        let port = if self.random.once_in(5) {
            self.random.bits() as u16
        } else {
            self.random.of(PORTS)
        };
        out.extend(port.to_be_bytes());
    }

    fn transport(&mut self, protocol: u8, depth: u32) -> Vec<u8> {
        let mut out = Vec::new();
        match protocol {
            17 if depth < 2 && self.random.once_in(5) => {
                self.port(&mut out);
                out.extend(6081u16.to_be_bytes());
                self.fill(&mut out, 4);
                self.geneve(&mut out, depth);
            }
            6 | 17 | 132 => {
                self.port(&mut out);
                self.port(&mut out);
                self.fill(&mut out, 8);
                out.push(0x50 | self.random.byte() & 0x80);
                out.push(self.random.of(&[0x02, 0x10, 0x12, 0x04, 0x14, 0x18, 0x11]));
                self.fill(&mut out, 6);
            }
            1 => {
                out.push(self.random.of(&[0, 3, 8, 11, 8]));
                self.fill(&mut out, 7);
            }
            58 => {
                out.push(self.random.of(&[128, 129, 135, 1, 143]));
                self.fill(&mut out, 7);
            }
            51 => {
                out.push(self.random.of(PROTOCOLS));
                out.push(self.random.of(&[1, 2, 4]));
                self.fill(&mut out, 10);
                let inner = self.transport(6, depth);
                out.extend(inner);
            }
            0 | 43 | 44 | 60 => {
                out.push(self.random.of(PROTOCOLS));
                out.push(self.random.of(&[0, 0, 1]));
                self.fill(&mut out, 6);
                let inner = self.transport(6, depth);
                out.extend(inner);
            }
            _ => {}
        }
        let more = self.random.below(40);
        self.fill(&mut out, more);
        out
    }

    fn geneve(&mut self, out: &mut Vec<u8>, depth: u32) {
        let options = self.random.of(&[0u8, 0, 1, 2, 3]);
        let version = if self.random.once_in(8) { 0x40 } else { 0 };
        out.push(version | options);
        out.push(0);
        let (kind, inner) = match self.random.below(4) {
            0 => (0x6558u16, self.ethernet(depth + 1)),
            1 => (0x0800, self.ip4(depth + 1)),
            2 => (0x86dd, self.ip6(depth + 1)),
            _ => (0x0806, self.arp()),
        };
        out.extend(kind.to_be_bytes());
        out.extend([0, 0, self.random.of(&[5, 11, 12]), 0]);
        self.fill(out, usize::from(options) * 4);
        out.extend(inner);
    }

    fn ip4(&mut self, depth: u32) -> Vec<u8> {
        let protocol = self.random.of(PROTOCOLS);
        let words = self.random.of(&[5u8, 5, 5, 6, 15]);
        let mut out = vec![0x40 | words, self.random.byte() & 0x1c];
        let payload = self.transport(protocol, depth);
        let length = payload.len() as u16 + u16::from(words) * 4;
        out.extend(length.to_be_bytes());
        self.fill(&mut out, 2);
        let fragment = self
            .random
            .of(&[0u16, 0x4000, 0x4000, 0x2000, 0x2001, 0x0100, 0]);
        out.extend(fragment.to_be_bytes());
        out.push(self.random.of(&[64, 1, 255, 128]));
        out.push(protocol);
        self.fill(&mut out, 2);
        for _ in 0..2 {
            let host = self.random.of(HOSTS4);
            out.extend(host);
        }
        self.fill(&mut out, usize::from(words - 5) * 4);
        out.extend(payload);
        out
    }

    fn ip6(&mut self, depth: u32) -> Vec<u8> {
        let protocol = self.random.of(PROTOCOLS);
        let mut out = vec![0x60, self.random.byte() & 0xf, 0, 0];
        let payload = self.transport(protocol, depth);
        out.extend((payload.len() as u16).to_be_bytes());
        out.extend([protocol, 64]);
        for _ in 0..2 {
            let host = self.random.of(HOSTS6);
            out.extend(host);
        }
        out.extend(payload);
        out
    }

    fn arp(&mut self) -> Vec<u8> {
        let mut out = vec![0, 1, 8, 0, 6, 4, 0, self.random.of(&[1, 2])];
        for _ in 0..2 {
            let mac = self.random.of(MACS);
            out.extend(mac);
            let host = self.random.of(HOSTS4);
            out.extend(host);
        }
        out
    }

    /// An 802.2 header and what follows.
    fn llc(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.random.below(6) {
            0 => {
                let kind = self
                    .random
                    .of(&[0x0800u16, 0x0806, 0x809b, 0x80f3, 0x8137, 0x86dd]);
                let organisation = self.random.of(&[[0, 0, 0], [8, 0, 7]]);
                out.extend([0xaa, 0xaa, 3]);
                out.extend(organisation);
                out.extend(kind.to_be_bytes());
                let inner = if kind == 0x86dd {
                    self.ip6(2)
                } else {
                    self.ip4(2)
                };
                out.extend(inner);
            }
            1 => {
                out.extend([0xfe, 0xfe, 3, self.random.of(&[0x81, 0x82, 0x83, 0x83])]);
                self.fill(&mut out, 3);
                out.push(self.random.of(&[15, 16, 17, 18, 20, 24, 25, 26, 27]));
            }
            2 => {
                let sap = self.random.of(&[0x42, 0xe0, 0xf0, 0x06, 0xff]);
                out.extend([sap, sap]);
                out.push(self.random.of(&[
                    0x03, 0x00, 0x01, 0x05, 0x63, 0xaf, 0xe3, 0x87, 0x6f, 0x43, 0x09,
                ]));
            }
            _ => self.fill(&mut out, 4),
        }
        self.fill(&mut out, 20);
        out
    }

    /// A type and what it announces, with VLAN, MPLS and PPPoE headers at times.
    fn typed(&mut self, depth: u32) -> (u16, Vec<u8>) {
        match self.random.below(16) {
            0..=4 => (0x0800, self.ip4(depth)),
            5..=6 => (0x86dd, self.ip6(depth)),
            7 => (self.random.of(&[0x0806, 0x8035]), self.arp()),
            8..=9 if depth < 3 => {
                let tag = self.random.of(&[5u16, 100, 200, 300, 0x2064]);
                let (kind, inner) = self.typed(depth + 1);
                let mut out = tag.to_be_bytes().to_vec();
                out.extend(kind.to_be_bytes());
                out.extend(inner);
                (self.random.of(&[0x8100, 0x88a8, 0x9100, 0x8100]), out)
            }
            10 => {
                let mut out = Vec::new();
                let labels = self.random.below(3) + 1;
                for i in 0..labels {
                    let label = self.random.of(&[5u32, 1024, 100_000, 7]) << 12 | 64;
                    out.extend((label | u32::from(i + 1 == labels) << 8).to_be_bytes());
                }
                let inner = if self.random.once_in(2) {
                    self.ip4(depth)
                } else {
                    self.ip6(depth)
                };
                out.extend(inner);
                (0x8847, out)
            }
            11 => {
                let mut out = vec![0x11, 0, 0, self.random.of(&[5, 0x27]), 0, 99];
                let four = self.random.once_in(2);
                out.extend([0, if four { 0x21 } else { 0x57 }]);
                let inner = if four {
                    self.ip4(depth)
                } else {
                    self.ip6(depth)
                };
                out.extend(inner);
                (0x8864, out)
            }
            12..=13 => {
                let llc = self.llc();
                (llc.len() as u16, llc)
            }
            14 => {
                let mut out = Vec::new();
                out.push(self.random.of(&[0x02, 0x06, 0x81]));
                let flags = self.random.of(&[0x02, 0x06, 0x28]);
                out.extend([10, flags]);
                for _ in 0..20 {
                    out.extend([0x7b, 0x28]);
                }
                (0x6003, out)
            }
            _ => {
                let mut out = Vec::new();
                self.fill(&mut out, 40);
                let kind = self.random.of(&[
                    0x6004u16, 0x6007, 0x8137, 0x809b, 0x80f3, 0x8863, 0x9000, 0x4321,
                ]);
                (kind, out)
            }
        }
    }

    fn ethernet(&mut self, depth: u32) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..2 {
            let mac = self.random.of(MACS);
            out.extend(mac);
        }
        let (kind, payload) = self.typed(depth);
        out.extend(kind.to_be_bytes());
        out.extend(payload);
        out
    }

    fn wlan(&mut self) -> Vec<u8> {
        let kind = self.random.of(&[
            0x08u8, 0x08, 0x88, 0x88, 0x80, 0x40, 0x50, 0xb0, 0xc4, 0xd4, 0xb4, 0x48, 0xc8, 0x0c,
            0x28,
        ]);
        let mut out = vec![kind, self.random.of(&[0, 1, 2, 3, 0x41, 0x42]), 0, 0];
        for _ in 0..3 {
            let mac = self.random.of(MACS);
            out.extend(mac);
        }
        self.fill(&mut out, 2);
        if kind & 0x8c == 0x88 {
            self.fill(&mut out, 2);
        }
        let llc = self.llc();
        out.extend(llc);
        out
    }

    fn radiotap(&mut self) -> Vec<u8> {
        let timestamp = self.random.once_in(2);
        let flags = self.random.once_in(2);
        let present = u32::from(timestamp) | u32::from(flags) << 1 | 4;
        let mut out = vec![0, 0, 0, 0];
        out.extend(present.to_le_bytes());
        if timestamp {
            self.fill(&mut out, 8);
        }
        let padded = flags && self.random.once_in(2);
        if flags {
            out.push(if padded { 0x20 } else { 0x00 });
        }
        let more = self.random.below(6);
        self.fill(&mut out, more);
        out[2] = out.len() as u8;
        let header = out.len();
        let mut frame = self.wlan();
        let body = if frame[0] & 0x8c == 0x88 { 26 } else { 24 };
        if padded && frame[0] & 0x0c == 0x08 {
            let pad = (4 - (header + body) % 4) % 4;
            let at = body.min(frame.len());
            frame.splice(at..at, std::iter::repeat_n(0, pad));
        }
        out.extend(frame);
        out
    }

    fn cooked(&mut self, version: u32) -> Vec<u8> {
        let direction = self.random.of(&[0u8, 1, 2, 3, 4]);
        let (mut kind, payload) = self.typed(0);
        if kind <= 1500 {
            kind = self.random.of(&[4, 4, 1, 3]);
        }
        let mut out = Vec::new();
        if version == 1 {
            out.extend([0, direction, 0, 1, 0, 6]);
            self.fill(&mut out, 8);
            out.extend(kind.to_be_bytes());
        } else {
            out.extend(kind.to_be_bytes());
            out.extend([
                0,
                0,
                0,
                0,
                0,
                self.random.of(&[1, 2, 3]),
                0,
                1,
                direction,
                6,
            ]);
            self.fill(&mut out, 8);
        }
        out.extend(payload);
        out
    }

    fn loopback(&mut self, network_order: bool) -> Vec<u8> {
        let (family, inner) = match self.random.below(6) {
            0..=2 => (2u32, self.ip4(0)),
            3 => (self.random.of(&[10, 24, 28, 30]), self.ip6(0)),
            4 => (30, self.ip6(0)),
            _ => (self.random.bits() & 0x1f, self.ip4(0)),
        };
        let mut out = if network_order {
            family.to_be_bytes()
        } else {
            family.to_le_bytes()
        }
        .to_vec();
        out.extend(inner);
        out
    }

    fn ppp(&mut self) -> Vec<u8> {
        let (kind, inner) = match self.random.below(5) {
            0 | 1 => (0x0021u16, self.ip4(0)),
            2 => (0x0057, self.ip6(0)),
            3 => (0x0281, self.ip4(0)),
            _ => (self.random.of(&[0x23, 0x2b, 0x29, 0xc021]), self.ip4(0)),
        };
        let mut out = vec![0xff, 3];
        out.extend(kind.to_be_bytes());
        out.extend(inner);
        out
    }

    fn ip(&mut self) -> Vec<u8> {
        if self.random.once_in(3) {
            self.ip6(0)
        } else {
            self.ip4(0)
        }
    }

    fn packet(&mut self, link: LinkType) -> Vec<u8> {
        match link {
            LinkType::ETHERNET => self.ethernet(0),
            LinkType::LINUX_SLL => self.cooked(1),
            LinkType::LINUX_SLL2 => self.cooked(2),
            LinkType::NULL => self.loopback(false),
            LinkType::LOOP => self.loopback(true),
            LinkType::PPP => self.ppp(),
            LinkType::IEEE802_11 => self.wlan(),
            LinkType::IEEE802_11_RADIOTAP => self.radiotap(),
            LinkType::IPV4 => self.ip4(0),
            LinkType::IPV6 => self.ip6(0),
            LinkType::RAW => self.ip(),
            link => match link.0 {
                192 => self.ppi(),
                119 => self.prism(),
                163 => self.avs(),
                240 => self.ethernet_after(4),
                241 => self.ethernet_after(12),
                6 | 10 | 122 | 100 | 106 | 123 => self.with_llc(link),
                139 | 140 => self.mtp2(link),
                _ => self.framed(link),
            },
        }
    }

    fn ppi(&mut self) -> Vec<u8> {
        let header = self.random.below(3) * 4 + 8;
        let kind = if self.random.once_in(6) { 1 } else { 105 };
        let mut out = vec![0, 0, header as u8, 0, kind, 0, 0, 0];
        self.fill(&mut out, header - 8);
        out.extend(self.wlan());
        out
    }

    fn prism(&mut self) -> Vec<u8> {
        if self.random.once_in(2) {
            return self.avs();
        }
        self.monitored(0x44, 144)
    }

    fn avs(&mut self) -> Vec<u8> {
        self.monitored(0x8021_1001, 64)
    }

    /// An 802.11 frame after a header of this length.
    fn monitored(&mut self, cookie: u32, length: u32) -> Vec<u8> {
        let mut out = [cookie.to_be_bytes(), length.to_be_bytes()].concat();
        self.fill(&mut out, length as usize - 8);
        out.extend(self.wlan());
        out
    }

    fn ethernet_after(&mut self, length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        self.fill(&mut out, length);
        out.extend(self.ethernet(0));
        out
    }

    fn mtp2(&mut self, link: LinkType) -> Vec<u8> {
        let mut out = vec![0; if link.0 == 139 { 4 } else { 0 }];
        out.extend([0, 0, self.random.of(&[0, 1, 2, 3, 0x3f])]);
        out.extend([self.random.of(&[5, 6, 0]), self.random.of(&[0, 1, 5])]);
        out.extend([self.random.of(&[0x40, 1, 0x80]), 0x40, 0x50]);
        self.fill(&mut out, 8);
        out
    }

    /// A packet after headers that programs for the link type look at: what they ask for is there now and then.
    fn framed(&mut self, link: LinkType) -> Vec<u8> {
        let mut out = self.header(link);
        self.protocol(link, &mut out);
        out.extend(self.ip());
        out
    }

    /// The header up to the protocol of what follows, if it ends with one.
    #[rustfmt::skip] // one link type per line
    fn header(&mut self, link: LinkType) -> Vec<u8> {
        match link.0 {
            104 => vec![0x0f, 0],
            50 | 166 => vec![self.random.of(&[0, 1, 0xff]), 3],
            51 => vec![0x11, 0, 0, 1, 0, 40],
            103 => vec![0; 5],
            117 => self.pflog(),
            226 => vec![1, self.random.of(&[2, 26]), 0, self.random.of(&[1, 2])],
            107 => vec![0x18, 0x41, 3, self.random.of(&[0xcc, 0x8e, 0x81, 0x83])],
            7 => vec![1, self.random.of(&[0, 2]), self.random.of(&[0xd4, 0xf0, 0xc4, 0xd5, 0xdd]), 0, 0, 0],
            129 => vec![1, 0, 0, 0, self.random.of(&[0xd4, 0xf0, 0xc4, 0xd6, 0xdd]), 0, 0, 0],
            109 => vec![self.random.of(&[2, 30, 24]), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            8 => self.slip(15),
            102 => self.slip(23),
            165 => vec![0x55, 0xff],
            99 => vec![0; 6],
            130..=238 if link.name().is_some_and(|n| n.starts_with("JUNIPER")) => self.juniper(),
            _ => Vec::new(),
        }
    }

    fn pflog(&mut self) -> Vec<u8> {
        let length = 61 + self.random.below(5);
        let mut out = vec![length as u8, self.random.of(&[2, 10, 2, 30])];
        self.fill(&mut out, length.next_multiple_of(4) - 2);
        out[60] = self.random.of(&[0, 1, 2]);
        out
    }

    fn slip(&mut self, rest: usize) -> Vec<u8> {
        let mut out = vec![self.random.of(&[0, 0x45, 0x60])];
        self.fill(&mut out, rest);
        out
    }

    fn juniper(&mut self) -> Vec<u8> {
        let mut out = vec![0x4d, 0x47, 0x43, self.random.of(&[0, 1])];
        let length = self.random.of(&[0, 2, 4, 8, 12, 28]);
        self.fill(&mut out, length);
        out
    }

    /// The protocol of what follows, and the rest of the header.
    fn protocol(&mut self, link: LinkType, out: &mut Vec<u8>) {
        let (before, kinds, after): (_, &[u16], _) = match link.0 {
            104 => (0, ETHERTYPES, 0),
            138 => (16, ETHERTYPES, 0),
            99 => (0, ETHERTYPES, 36),
            50 | 51 | 166 => (0, PPP_PROTOCOLS, 0),
            103 => (0, PPP_PROTOCOLS, 17),
            226 => (20, &[], 0),
            _ => return,
        };
        self.fill(out, before);
        if !kinds.is_empty() {
            out.extend(self.random.of(kinds).to_be_bytes());
        }
        self.fill(out, after);
    }

    /// A packet after an 802.2 header.
    fn with_llc(&mut self, link: LinkType) -> Vec<u8> {
        let mut out = Vec::new();
        match link.0 {
            123 => {
                let kind = self.random.of(&[2, 2, 1, 6]);
                out.extend([
                    kind,
                    self.random.of(&[0, 0, 5]),
                    0,
                    self.random.of(&[1, 2, 3, 4, 5, 16]),
                ]);
                if kind == 1 {
                    out.extend(self.random.of(&[[0xff, 0], [0, 5]]));
                    out.extend(self.ethernet(0));
                    return out;
                }
                if kind == 6 {
                    self.fill(&mut out, 5);
                    out.push(self.random.of(&[0x5a, 0x4d, 15, 7, 5, 2, 1]));
                    self.fill(&mut out, 8);
                    return out;
                }
            }
            _ => {
                let length = match link.0 {
                    6 => 14,
                    10 => 13,
                    122 => 16,
                    _ => 0,
                };
                self.fill(&mut out, length);
                if self.random.once_in(5) {
                    out.fill(0xff);
                }
            }
        }
        match self.random.below(6) {
            0 => out.extend([0xfe, 0xfe, 3, 0x83]),
            1 => out.extend([0x42, 0x42, 3]),
            _ => {
                let kind = self.random.of(&[0x0800u16, 0x86dd, 0x0806, 0x809b]);
                out.extend([0xaa, 0xaa, 3, 0, 0, if kind == 0x809b { 7 } else { 0 }]);
                out.extend(kind.to_be_bytes());
            }
        }
        out.extend(self.ip());
        out
    }
}

/// Packets of a link type.
pub(crate) fn generate(link: LinkType, count: usize, random: &mut Random) -> Vec<Packet> {
    let mut packets = Vec::with_capacity(count);
    for i in 0..count {
        let mut builder = Builder { random };
        let mut bytes = builder.packet(link);
        if i % 16 == 0 {
            bytes = Vec::new();
            let length = builder.random.below(120);
            builder.fill(&mut bytes, length);
        }
        let wire = if random.once_in(10) {
            bytes.len() as u32 + 900
        } else {
            bytes.len() as u32
        };
        if i % 2 == 1 {
            let length = random.below(bytes.len().min(100) + 1);
            bytes.truncate(length);
        }
        packets.push(Packet { wire, bytes });
    }
    packets
}

/// Packets in the form that the oracle reads.
pub(crate) fn write_for_oracle(packets: &[Packet]) -> Vec<u8> {
    let mut out = Vec::new();
    for packet in packets {
        out.extend(packet.wire.to_le_bytes());
        out.extend((packet.bytes.len() as u32).to_le_bytes());
        out.extend(&packet.bytes);
    }
    out
}
