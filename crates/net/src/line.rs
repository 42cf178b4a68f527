//! One line a packet, in the short style of tcpdump -nn.
//!
//! Numbers of a TCP conversation count from its first packet with an acknowledgment, as tcpdump has it, if [`Flows`] are
//! kept; otherwise they are those in the packet.

mod icmp;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most conversations remembered; with more, all are forgotten.
const FLOWS_MAX: usize = 1 << 16;

/// Where numbers of TCP conversations begin.
///
/// ```
/// use skep_net::line::{Flows, Line};
///
/// // Sequence numbers count from the first one of their connection.
/// let file = std::fs::read("../../examples/web.pcap")?;
/// let flows = Flows::default();
/// for record in skep_net::capture::read(&file)? {
///     let line = Line {
///         time_ns: record.time_ns,
///         data: record.data,
///         wire_len: record.wire_len,
///         link: record.link,
///         flows: Some(&flows),
///     };
///     println!("{line}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Flows {
    /// By sender and receiver: the numbers that their bytes count from.
    bases: RefCell<HashMap<(Peer, Peer), u32>>,
}

/// An address and a port.
type Peer = (IpAddr, u16);

impl Flows {
    /// The sequence and acknowledgment numbers to print for a segment that acknowledges something.
    fn relative(&self, from: Peer, to: Peer, seq: u32, ack: u32, syn: bool) -> (u32, u32) {
        let mut bases = self.bases.borrow_mut();
        let known = bases
            .get(&(from, to))
            .copied()
            .zip(bases.get(&(to, from)).copied());
        if let (Some((own, other)), false) = (known, syn) {
            return (seq.wrapping_sub(own), ack.wrapping_sub(other));
        }
        if bases.len() >= 2 * FLOWS_MAX {
            bases.clear();
        }
        bases.insert((from, to), seq);
        bases.insert((to, from), ack.wrapping_sub(1));
        (seq, ack)
    }
}

/// A line under construction.
struct Text<'f> {
    text: String,
    /// The header at hand, as it is called where the packet ends inside it.
    header: &'static str,
    flows: Option<&'f Flows>,
}

impl Text<'_> {
    fn push_str(&mut self, text: &str) {
        self.text.push_str(text);
    }
}

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text.write_str(text)
    }
}

/// A packet as a line of text.
///
/// ```
/// use skep_net::line::{Flows, Line};
///
/// let file = std::fs::read("../../examples/web.pcap")?;
/// let flows = Flows::default();
/// for record in skep_net::capture::read(&file)? {
///     let line = Line {
///         time_ns: record.time_ns,
///         data: record.data,
///         wire_len: record.wire_len,
///         link: record.link,
///         flows: Some(&flows),
///     };
///     println!("{line}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// When, in nanoseconds since 1970; printed as the time of day, UTC.
    pub time_ns: u64,
    /// Captured bytes.
    pub data: &'a [u8],
    /// Bytes on the wire.
    pub wire_len: u32,
    /// `LINKTYPE_*`
    pub link: u16,
    /// The conversations of the packets printed so far, if numbers are to count from their beginning.
    pub flows: Option<&'a Flows>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, us) = (
            self.time_ns / 1_000_000_000,
            self.time_ns / 1000 % 1_000_000,
        );
        let day = seconds % 86_400;
        write!(
            f,
            "{:02}:{:02}:{:02}.{us:06} ",
            day / 3600,
            day / 60 % 60,
            day % 60
        )?;
        let mut out = Text {
            text: String::new(),
            header: "ether",
            flows: self.flows,
        };
        let whole = network(&mut out, self.link, self.data, self.wire_len);
        f.write_str(&out.text)?;
        match whole {
            Some(()) => Ok(()),
            None => write!(f, " [|{}]", out.header),
        }
    }
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?
        .first_chunk()
        .map(|b| u16::from_be_bytes(*b))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?
        .first_chunk()
        .map(|b| u32::from_be_bytes(*b))
}

/// Prints what is after the link header; `None` if the packet ends too early. Writing to a string does not fail.
fn network(out: &mut Text<'_>, link: u16, data: &[u8], wire_len: u32) -> Option<()> {
    match link {
        1 => ethernet(out, data, wire_len),
        113 => typed(out, u16_at(data, 14)?, data.get(16..)?),
        276 => typed(out, u16_at(data, 0)?, data.get(20..)?),
        0 | 108 => ip(out, data.get(4..)?),
        12 | 14 | 101 | 228 | 229 => ip(out, data),
        9 => ip(out, data.get(4..)?),
        _ => {
            let _ = write!(out, "link type {link}, length {}", data.len());
            Some(())
        }
    }
}

fn ethernet(out: &mut Text<'_>, data: &[u8], wire_len: u32) -> Option<()> {
    let kind = u16_at(data, 12)?;
    if kind <= 1500 {
        let _ = write!(out, "802.3, length {kind}");
        return Some(());
    }
    if !is_printed(kind) {
        let (dst, src) = (mac(data, 0)?, mac(data, 6)?);
        let _ = write!(
            out,
            "{src} > {dst}, ethertype Unknown (0x{kind:04x}), length {wire_len}: "
        );
        return Some(());
    }
    typed(out, kind, data.get(14..)?)
}

fn mac(data: &[u8], at: usize) -> Option<String> {
    let bytes: Vec<String> = data
        .get(at..at + 6)?
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    Some(bytes.join(":"))
}

/// Whether [`typed`] knows a type.
fn is_printed(kind: u16) -> bool {
    matches!(
        kind,
        0x0800 | 0x86dd | 0x0806 | 0x8035 | 0x8100 | 0x88a8 | 0x9100 | 0x8847 | 0x8848 | 0x8864
    )
}

fn typed(out: &mut Text<'_>, kind: u16, data: &[u8]) -> Option<()> {
    match kind {
        0x0800 | 0x86dd => ip(out, data),
        0x0806 | 0x8035 => arp(out, data),
        0x8100 | 0x88a8 | 0x9100 => {
            // The tag itself is printed with link headers alone.
            out.header = "vlan";
            typed(out, u16_at(data, 2)?, data.get(4..)?)
        }
        0x8847 | 0x8848 => mpls(out, data),
        0x8864 => pppoe(out, data),
        _ => {
            let _ = write!(out, "ethertype 0x{kind:04x}, length {}", data.len());
            Some(())
        }
    }
}

/// Most labels that are printed.
const LABELS_MAX: usize = 16;

fn mpls(out: &mut Text<'_>, data: &[u8]) -> Option<()> {
    out.header = "mpls";
    out.push_str("MPLS ");
    for at in 0..LABELS_MAX {
        let word = u32_at(data, 4 * at)?;
        let (label, class, ttl) = (word >> 12, word >> 9 & 7, word & 0xff);
        let last = word & 0x100 != 0;
        let bottom = if last { ", [S]" } else { "" };
        let _ = write!(out, "(label {label}, tc {class}{bottom}, ttl {ttl}) ");
        if last {
            return ip(out, data.get(4 * at + 4..)?);
        }
    }
    Some(())
}

fn pppoe(out: &mut Text<'_>, data: &[u8]) -> Option<()> {
    const IPV4: u16 = 0x0021;
    const IPV6: u16 = 0x0057;
    out.header = "pppoe";
    let (session, length) = (u16_at(data, 2)?, usize::from(u16_at(data, 4)?));
    let rest = data.get(6..)?;
    out.push_str("PPPoE ");
    if length > rest.len() {
        let _ = write!(out, " [len {length} > {}!]", rest.len());
    }
    if session != 0 {
        let _ = write!(out, " [ses 0x{session:x}] ");
    }
    match u16_at(rest, 0)? {
        IPV4 | IPV6 => ip(out, rest.get(2..)?),
        protocol => {
            let _ = write!(out, "PPP protocol 0x{protocol:04x}, length {length}");
            Some(())
        }
    }
}

fn arp(out: &mut Text<'_>, data: &[u8]) -> Option<()> {
    out.header = "arp";
    let address = |at| u32_at(data, at).map(Ipv4Addr::from);
    let (sender, target) = (address(14)?, address(24)?);
    let length = data.len().min(28);
    let _ = match u16_at(data, 6)? {
        1 => {
            let known = data.get(18..24)?.iter().any(|b| *b != 0);
            let hardware = match known {
                true => format!(" ({})", mac(data, 18)?),
                false => String::new(),
            };
            write!(
                out,
                "ARP, Request who-has {target}{hardware} tell {sender}, length {length}"
            )
        }
        2 => write!(
            out,
            "ARP, Reply {sender} is-at {}, length {length}",
            mac(data, 8)?
        ),
        other => write!(out, "ARP, operation {other}, length {length}"),
    };
    Some(())
}

fn ip(out: &mut Text<'_>, data: &[u8]) -> Option<()> {
    match data.first()? >> 4 {
        4 => ip4(out, data),
        6 => ip6(out, data),
        version => {
            let _ = write!(out, "IP version {version}");
            Some(())
        }
    }
}

fn ip4(out: &mut Text<'_>, data: &[u8]) -> Option<()> {
    out.header = "ip";
    out.push_str("IP ");
    let header = usize::from(data[0] & 0xf) * 4;
    let (src, dst) = (
        Ipv4Addr::from(u32_at(data, 12)?),
        Ipv4Addr::from(u32_at(data, 16)?),
    );
    let protocol = data[9];
    if u16_at(data, 6)? & 0x1fff != 0 {
        let _ = write!(out, "{src} > {dst}: ip-proto-{protocol}");
        return Some(());
    }
    let upper = Upper {
        src: src.into(),
        dst: dst.into(),
        data: data.get(header..).unwrap_or_default(),
        length: usize::from(u16_at(data, 2)?).saturating_sub(header),
        whole: u16_at(data, 6)? & 0x2000 == 0,
    };
    transport(out, protocol, "", upper)
}

fn ip6_address(data: &[u8], at: usize) -> Option<Ipv6Addr> {
    let bytes = data.get(at..)?.first_chunk::<16>();
    bytes.map(|b| Ipv6Addr::from(*b))
}

/// Most extension headers that are followed.
const EXTENSIONS_MAX: usize = 8;

fn ip6(out: &mut Text<'_>, data: &[u8]) -> Option<()> {
    out.header = "ip6";
    let (src, dst) = (ip6_address(data, 8)?, ip6_address(data, 24)?);
    out.push_str("IP6 ");
    let mut upper = Upper {
        src: src.into(),
        dst: dst.into(),
        data: data.get(40..).unwrap_or_default(),
        length: usize::from(u16_at(data, 4)?),
        whole: true,
    };
    let mut next = data[6];
    let mut before = String::new();
    for _ in 0..EXTENSIONS_MAX {
        let (name, length) = match next {
            0 => ("HBH ", (usize::from(*upper.data.get(1)?) + 1) * 8),
            60 => ("DSTOPT ", (usize::from(*upper.data.get(1)?) + 1) * 8),
            44 => ("", 8),
            _ => break,
        };
        before.push_str(name);
        if next == 44 {
            let place = u16_at(upper.data, 2)?;
            let size = upper.length.saturating_sub(length);
            let _ = write!(before, "frag ({}|{size}) ", place & 0xfff8);
            upper.whole = place & 1 == 0;
            if place & 0xfff8 != 0 {
                let _ = write!(out, "{src} > {dst}: {}", before.trim_end());
                return Some(());
            }
        }
        next = *upper.data.first()?;
        upper.data = upper.data.get(length..)?;
        upper.length = upper.length.saturating_sub(length);
    }
    transport(out, next, &before, upper)
}

/// What an IP packet carries.
#[derive(Clone, Copy)]
struct Upper<'a> {
    src: IpAddr,
    dst: IpAddr,
    data: &'a [u8],
    /// Bytes of the payload on the wire.
    length: usize,
    /// Not a fragment.
    whole: bool,
}

/// The transport header and what is in it, with what extension headers say before it.
fn transport(out: &mut Text<'_>, protocol: u8, before: &str, upper: Upper<'_>) -> Option<()> {
    let Upper {
        src,
        dst,
        data,
        length,
        whole,
    } = upper;
    let ports = |out: &mut Text<'_>| -> Option<()> {
        let (Some(from), Some(to)) = (u16_at(data, 0), u16_at(data, 2)) else {
            let _ = write!(out, "{src} > {dst}: {before}");
            return None;
        };
        let _ = write!(out, "{src}.{from} > {dst}.{to}: {before}");
        Some(())
    };
    match protocol {
        6 => {
            out.header = "tcp";
            ports(out)?;
            tcp(out, src, dst, data, length)
        }
        17 => {
            out.header = "udp";
            ports(out)?;
            let told = usize::from(u16_at(data, 4)?);
            let _ = match whole && told > length {
                true => write!(
                    out,
                    "UDP, bad length {} > {}",
                    told.saturating_sub(8),
                    length.saturating_sub(8)
                ),
                false => write!(out, "UDP, length {}", told.saturating_sub(8)),
            };
            Some(())
        }
        132 => {
            out.header = "sctp";
            ports(out)?;
            out.push_str("sctp");
            data.get(..12).map(|_| ())
        }
        1 | 58 => {
            out.header = if protocol == 58 { "icmp6" } else { "icmp" };
            let _ = write!(out, "{src} > {dst}: {before}");
            icmp::message(out, protocol == 58, data)?;
            let _ = write!(out, ", length {length}");
            Some(())
        }
        50 => {
            out.header = "esp";
            let _ = write!(out, "{src} > {dst}: {before}");
            let (index, number) = (u32_at(data, 0)?, u32_at(data, 4)?);
            let _ = write!(
                out,
                "ESP(spi=0x{index:08x},seq=0x{number:x}), length {length}"
            );
            Some(())
        }
        _ => {
            let _ = write!(out, "{src} > {dst}: {before} ip-proto-{protocol} {length}");
            Some(())
        }
    }
}

fn tcp(out: &mut Text<'_>, src: IpAddr, dst: IpAddr, data: &[u8], length: usize) -> Option<()> {
    const FLAGS: &[(u8, char)] = &[
        (1, 'F'),
        (2, 'S'),
        (4, 'R'),
        (8, 'P'),
        (16, '.'),
        (32, 'U'),
        (64, 'E'),
        (128, 'W'),
    ];
    data.get(..TCP_HEADER)?;
    let (mut seq, mut ack) = (u32_at(data, 4)?, u32_at(data, 8)?);
    let (offset, flags, window) = (*data.get(12)?, *data.get(13)?, u16_at(data, 14)?);
    if let (Some(flows), true) = (out.flows, flags & 0x10 != 0) {
        let (from, to) = ((src, u16_at(data, 0)?), (dst, u16_at(data, 2)?));
        (seq, ack) = flows.relative(from, to, seq, ack, flags & 2 != 0);
    }
    let names: String = FLAGS
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, c)| *c)
        .collect();
    let payload = length.saturating_sub(usize::from(offset >> 4) * 4);
    let _ = write!(
        out,
        "Flags [{}]",
        if names.is_empty() { "none" } else { &names }
    );
    if payload > 0 || flags & 0x07 != 0 {
        let _ = write!(out, ", seq {seq}");
        if payload > 0 {
            let _ = write!(out, ":{}", seq.wrapping_add(payload as u32));
        }
    }
    if flags & 0x10 != 0 {
        let _ = write!(out, ", ack {ack}");
    }
    let _ = write!(out, ", win {window}");
    let end = usize::from(offset >> 4) * 4;
    if end > TCP_HEADER {
        let options = data.get(TCP_HEADER..end)?;
        let _ = write!(out, ", options [{}]", tcp_options(options));
    }
    let _ = write!(out, ", length {payload}");
    Some(())
}

/// Bytes of a TCP header without options.
const TCP_HEADER: usize = 20;

/// The options of a TCP header, as far as they are whole.
fn tcp_options(options: &[u8]) -> String {
    let mut all = Vec::new();
    let mut rest = options;
    while let Some(kind) = rest.first() {
        let length = match kind {
            0 | 1 => 1,
            _ => usize::from(rest.get(1).copied().unwrap_or(0)),
        };
        let Some(option) = rest.get(..length).filter(|o| !o.is_empty()) else {
            all.push("[bad opt]".to_owned());
            break;
        };
        all.push(tcp_option(option));
        if *kind == 0 {
            break;
        }
        rest = &rest[length..];
    }
    all.join(",")
}

/// One option, from its kind on.
fn tcp_option(option: &[u8]) -> String {
    let words = || {
        let pairs = option[2..].as_chunks::<8>().0;
        let pair = |p: &[u8; 8]| (u32_at(p, 0).unwrap_or(0), u32_at(p, 4).unwrap_or(0));
        pairs.iter().map(pair).collect::<Vec<_>>()
    };
    match (option[0], option.len()) {
        (0, _) => "eol".to_owned(),
        (1, _) => "nop".to_owned(),
        (2, 4) => format!("mss {}", u16_at(option, 2).unwrap_or(0)),
        (3, 3) => format!("wscale {}", option[2]),
        (4, 2) => "sackOK".to_owned(),
        (5, 10..) => {
            let blocks = words();
            let texts: Vec<String> = blocks.iter().map(|(a, b)| format!("{{{a}:{b}}}")).collect();
            format!("sack {} {}", blocks.len(), texts.join(""))
        }
        (8, 10) => {
            let (value, echo) = words().first().copied().unwrap_or_default();
            format!("TS val {value} ecr {echo}")
        }
        (kind, _) => format!("unknown-{kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let tcp = [
            0x45, 0, 0, 41, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
            0, 80, 1, 187, 0, 0, 0, 5, 0, 0, 0, 9, 0x50, 0x18, 2, 0, 0, 0, 0, 0, 7, // TCP
        ];
        let line = |link, data: &[u8]| {
            Line {
                time_ns: 3_661_000_001_000,
                data,
                wire_len: 60,
                link,
                flows: None,
            }
            .to_string()
        };
        assert_eq!(
            line(101, &tcp),
            "01:01:01.000001 IP 10.0.0.1.80 > 10.0.0.2.443: Flags [P.], seq 5:6, ack 9, win 512, length 1"
        );
        let mut with_options = tcp[..40].to_vec();
        with_options[32] = 0xa0;
        with_options[3] = 60;
        with_options.extend([
            2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 1, 3, 3, 7,
        ]);
        assert!(line(101, &with_options).ends_with(
            ", win 512, options [mss 1460,sackOK,TS val 7 ecr 9,nop,wscale 7], length 0"
        ));
        assert_eq!(
            line(101, &tcp[..22]),
            "01:01:01.000001 IP 10.0.0.1 > 10.0.0.2:  [|tcp]"
        );
        let echo = [
            0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 8, 0, 0, 0, 0, 5, 0,
            7,
        ];
        assert!(
            line(101, &echo)
                .ends_with("IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 5, seq 7, length 8")
        );
        assert_eq!(line(1, &[0; 5]), "01:01:01.000001  [|ether]");
    }

    /// A handshake and what follows, as tcpdump prints it.
    #[test]
    fn numbers_count_from_the_beginning() {
        let flows = Flows::default();
        let line = |reply: bool, seq: u32, ack: u32, flags: u8, payload: usize| {
            let mut data = vec![0x45, 0, 0, 40 + payload as u8, 0, 0, 0, 0, 64, 6, 0, 0];
            let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
            let (p, q) = ([0, 80], [1, 187]);
            data.extend(if reply { b } else { a });
            data.extend(if reply { a } else { b });
            data.extend(if reply { q } else { p });
            data.extend(if reply { p } else { q });
            data.extend(seq.to_be_bytes());
            data.extend(ack.to_be_bytes());
            data.extend([0x50, flags, 2, 0, 0, 0, 0, 0]);
            data.resize(40 + payload, 0);
            let line = Line {
                time_ns: 0,
                data: &data,
                wire_len: 40 + payload as u32,
                link: 101,
                flows: Some(&flows),
            };
            let text = line.to_string();
            text.split_once("Flags ").unwrap().1.to_owned()
        };
        assert_eq!(
            line(false, 1000, 0, 2, 0),
            "[S], seq 1000, win 512, length 0"
        );
        assert_eq!(
            line(true, u32::MAX, 1001, 0x12, 0),
            "[S.], seq 4294967295, ack 1001, win 512, length 0"
        );
        assert_eq!(
            line(false, 1001, 0, 0x10, 0),
            "[.], ack 1, win 512, length 0"
        );
        assert_eq!(
            line(false, 1001, 0, 0x18, 5),
            "[P.], seq 1:6, ack 1, win 512, length 5"
        );
        assert_eq!(
            line(true, 0, 1006, 0x11, 0),
            "[F.], seq 1, ack 6, win 512, length 0"
        );
    }

    #[test]
    fn no_cut_panics() {
        let frame: Vec<u8> = (0..200u8).collect();
        for link in [0, 1, 9, 101, 108, 113, 127, 276] {
            for end in 0..frame.len() {
                let _ = Line {
                    time_ns: 0,
                    data: &frame[..end],
                    wire_len: 0,
                    link,
                    flows: Some(&Flows::default()),
                }
                .to_string();
            }
        }
    }
}
