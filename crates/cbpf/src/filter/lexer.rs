//! The words of an expression.
//!
//! Longest match first: `80-90` is one name, `1.2.3.4` an address, `tcp-syn` a number by name. A word with a backslash
//! before it is a name, never a keyword.

use super::error::{FilterError, Span};
use alloc::format;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

/// A word of an expression.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Token<'a> {
    Keyword(Keyword),
    /// A name: of a host, a port, a protocol.
    Name(&'a str),
    Number(u32),
    /// Two to four numbers with dots: an IPv4 address or net, or a DECnet address.
    Dotted(&'a str),
    Ipv6(Ipv6Addr),
    Mac([u8; 6]),
    Sign(Sign),
    End,
}

/// Punctuation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[rustfmt::skip] // families of signs
pub(crate) enum Sign {
    Open, Close, OpenBracket, CloseBracket, Colon,
    And, Or, Not,
    Plus, Minus, Times, Slash, Percent, Ampersand, Bar, Caret, ShiftLeft, ShiftRight,
    Less, LessEqual, Greater, GreaterEqual, Equal, NotEqual,
}

/// A reserved word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[rustfmt::skip] // families of words
pub(crate) enum Keyword {
    Src, Dst, Host, Net, Mask, Port, PortRange, Proto, ProtoChain, Gateway,
    Ra, Ta, Addr1, Addr2, Addr3, Addr4,
    Type, Subtype, Dir,
    Less, Greater, Byte, Broadcast, Multicast, Len,
    Inbound, Outbound, IfIndex, Vlan, Mpls, Pppoed, Pppoes, Geneve, Llc,
    /// Names a protocol.
    Protocol(Protocol),
    /// `rnr`: a PF rule number, and a type of `llc`.
    Rnr,
    /// A field of packets logged by pf(4).
    Pf(Pf),
    /// A kind of ATM cell, or a field of its header.
    Atm(Atm),
    AtmField(AtmField),
    /// A kind of signal unit on an MTP2 link, or a field of its header; of a high-speed link or not.
    Mtp(Mtp, Speed),
    MtpField(MtpField, Speed),
}

/// A protocol by keyword.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[rustfmt::skip] // families of protocols
pub(crate) enum Protocol {
    Link, Ip, Arp, Rarp, Ip6, Sctp, Tcp, Udp, Icmp, Icmp6, Igmp, Igrp, Pim, Vrrp, Carp, Ah, Esp, Radio,
    Atalk, Aarp, Decnet, Lat, Sca, Moprc, Mopdl,
    Iso, Esis, Isis, Clnp, L1, L2, Iih, Lsp, Snp, Csnp, Psnp,
    Stp, Ipx, Netbeui,
}

/// Fields of packets logged by pf(4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pf {
    Interface,
    Rule,
    SubRule,
    Reason,
    RuleSet,
    Action,
}

/// Kinds of ATM cells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[rustfmt::skip] // families of kinds
pub(crate) enum Atm {
    Lane, Oam, OamEnd, OamSegment, Meta, Broadcast, Signalling, Ilmi, Connect, MetaConnect,
}

/// Fields of ATM cells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AtmField {
    Vpi,
    Vci,
}

/// Kinds of MTP2 signal units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mtp {
    Fisu,
    Lssu,
    Msu,
}

/// Fields of MTP3 messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MtpField {
    Sio,
    Opc,
    Dpc,
    Sls,
}

/// Of an MTP2 link: which of two layouts its headers have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Speed {
    Low,
    High,
}

use Keyword as Kw;
use Protocol as Pr;

/// Every reserved word, ordered.
#[rustfmt::skip] // one word per line
const KEYWORDS: &[(&str, Keyword)] = &[
    ("aarp", Kw::Protocol(Pr::Aarp)),
    ("action", Kw::Pf(Pf::Action)),
    ("addr1", Kw::Addr1),
    ("addr2", Kw::Addr2),
    ("addr3", Kw::Addr3),
    ("addr4", Kw::Addr4),
    ("address1", Kw::Addr1),
    ("address2", Kw::Addr2),
    ("address3", Kw::Addr3),
    ("address4", Kw::Addr4),
    ("ah", Kw::Protocol(Pr::Ah)),
    ("arp", Kw::Protocol(Pr::Arp)),
    ("atalk", Kw::Protocol(Pr::Atalk)),
    ("bcc", Kw::Atm(Atm::Broadcast)),
    ("broadcast", Kw::Broadcast),
    ("byte", Kw::Byte),
    ("carp", Kw::Protocol(Pr::Carp)),
    ("clnp", Kw::Protocol(Pr::Clnp)),
    ("connectmsg", Kw::Atm(Atm::Connect)),
    ("csnp", Kw::Protocol(Pr::Csnp)),
    ("decnet", Kw::Protocol(Pr::Decnet)),
    ("dir", Kw::Dir),
    ("direction", Kw::Dir),
    ("dpc", Kw::MtpField(MtpField::Dpc, Speed::Low)),
    ("dst", Kw::Dst),
    ("es-is", Kw::Protocol(Pr::Esis)),
    ("esis", Kw::Protocol(Pr::Esis)),
    ("esp", Kw::Protocol(Pr::Esp)),
    ("ether", Kw::Protocol(Pr::Link)),
    ("fddi", Kw::Protocol(Pr::Link)),
    ("fisu", Kw::Mtp(Mtp::Fisu, Speed::Low)),
    ("gateway", Kw::Gateway),
    ("geneve", Kw::Geneve),
    ("greater", Kw::Greater),
    ("hdpc", Kw::MtpField(MtpField::Dpc, Speed::High)),
    ("hfisu", Kw::Mtp(Mtp::Fisu, Speed::High)),
    ("hlssu", Kw::Mtp(Mtp::Lssu, Speed::High)),
    ("hmsu", Kw::Mtp(Mtp::Msu, Speed::High)),
    ("hopc", Kw::MtpField(MtpField::Opc, Speed::High)),
    ("host", Kw::Host),
    ("hsio", Kw::MtpField(MtpField::Sio, Speed::High)),
    ("hsls", Kw::MtpField(MtpField::Sls, Speed::High)),
    ("icmp", Kw::Protocol(Pr::Icmp)),
    ("icmp6", Kw::Protocol(Pr::Icmp6)),
    ("ifindex", Kw::IfIndex),
    ("ifname", Kw::Pf(Pf::Interface)),
    ("igmp", Kw::Protocol(Pr::Igmp)),
    ("igrp", Kw::Protocol(Pr::Igrp)),
    ("iih", Kw::Protocol(Pr::Iih)),
    ("ilmic", Kw::Atm(Atm::Ilmi)),
    ("inbound", Kw::Inbound),
    ("ip", Kw::Protocol(Pr::Ip)),
    ("ip6", Kw::Protocol(Pr::Ip6)),
    ("ipx", Kw::Protocol(Pr::Ipx)),
    ("is-is", Kw::Protocol(Pr::Isis)),
    ("isis", Kw::Protocol(Pr::Isis)),
    ("iso", Kw::Protocol(Pr::Iso)),
    ("l1", Kw::Protocol(Pr::L1)),
    ("l2", Kw::Protocol(Pr::L2)),
    ("lane", Kw::Atm(Atm::Lane)),
    ("lat", Kw::Protocol(Pr::Lat)),
    ("len", Kw::Len),
    ("length", Kw::Len),
    ("less", Kw::Less),
    ("link", Kw::Protocol(Pr::Link)),
    ("llc", Kw::Llc),
    ("lsp", Kw::Protocol(Pr::Lsp)),
    ("lssu", Kw::Mtp(Mtp::Lssu, Speed::Low)),
    ("lsu", Kw::Mtp(Mtp::Lssu, Speed::Low)),
    ("mask", Kw::Mask),
    ("metac", Kw::Atm(Atm::Meta)),
    ("metaconnect", Kw::Atm(Atm::MetaConnect)),
    ("mopdl", Kw::Protocol(Pr::Mopdl)),
    ("moprc", Kw::Protocol(Pr::Moprc)),
    ("mpls", Kw::Mpls),
    ("msu", Kw::Mtp(Mtp::Msu, Speed::Low)),
    ("multicast", Kw::Multicast),
    ("net", Kw::Net),
    ("netbeui", Kw::Protocol(Pr::Netbeui)),
    ("oam", Kw::Atm(Atm::Oam)),
    ("oamf4", Kw::Atm(Atm::Oam)),
    ("oamf4ec", Kw::Atm(Atm::OamEnd)),
    ("oamf4sc", Kw::Atm(Atm::OamSegment)),
    ("on", Kw::Pf(Pf::Interface)),
    ("opc", Kw::MtpField(MtpField::Opc, Speed::Low)),
    ("outbound", Kw::Outbound),
    ("pim", Kw::Protocol(Pr::Pim)),
    ("port", Kw::Port),
    ("portrange", Kw::PortRange),
    ("ppp", Kw::Protocol(Pr::Link)),
    ("pppoed", Kw::Pppoed),
    ("pppoes", Kw::Pppoes),
    ("proto", Kw::Proto),
    ("protochain", Kw::ProtoChain),
    ("psnp", Kw::Protocol(Pr::Psnp)),
    ("ra", Kw::Ra),
    ("radio", Kw::Protocol(Pr::Radio)),
    ("rarp", Kw::Protocol(Pr::Rarp)),
    ("reason", Kw::Pf(Pf::Reason)),
    ("rnr", Kw::Rnr),
    ("rset", Kw::Pf(Pf::RuleSet)),
    ("rulenum", Kw::Pf(Pf::Rule)),
    ("ruleset", Kw::Pf(Pf::RuleSet)),
    ("sc", Kw::Atm(Atm::Signalling)),
    ("sca", Kw::Protocol(Pr::Sca)),
    ("sctp", Kw::Protocol(Pr::Sctp)),
    ("sio", Kw::MtpField(MtpField::Sio, Speed::Low)),
    ("slip", Kw::Protocol(Pr::Link)),
    ("sls", Kw::MtpField(MtpField::Sls, Speed::Low)),
    ("snp", Kw::Protocol(Pr::Snp)),
    ("src", Kw::Src),
    ("srnr", Kw::Pf(Pf::SubRule)),
    ("stp", Kw::Protocol(Pr::Stp)),
    ("subrulenum", Kw::Pf(Pf::SubRule)),
    ("subtype", Kw::Subtype),
    ("ta", Kw::Ta),
    ("tcp", Kw::Protocol(Pr::Tcp)),
    ("tr", Kw::Protocol(Pr::Link)),
    ("type", Kw::Type),
    ("udp", Kw::Protocol(Pr::Udp)),
    ("vci", Kw::AtmField(AtmField::Vci)),
    ("vlan", Kw::Vlan),
    ("vpi", Kw::AtmField(AtmField::Vpi)),
    ("vrrp", Kw::Protocol(Pr::Vrrp)),
    ("wlan", Kw::Protocol(Pr::Link)),
];

/// Offsets and field values by name, ordered.
#[rustfmt::skip] // one name per line
const NUMBERS: &[(&str, u32)] = &[
    ("icmp-echo", 8),
    ("icmp-echoreply", 0),
    ("icmp-ireq", 15),
    ("icmp-ireqreply", 16),
    ("icmp-maskreply", 18),
    ("icmp-maskreq", 17),
    ("icmp-paramprob", 12),
    ("icmp-redirect", 5),
    ("icmp-routeradvert", 9),
    ("icmp-routersolicit", 10),
    ("icmp-sourcequench", 4),
    ("icmp-timxceed", 11),
    ("icmp-tstamp", 13),
    ("icmp-tstampreply", 14),
    ("icmp-unreach", 3),
    ("icmp6-certpathadvert", 149),
    ("icmp6-certpathsolicit", 148),
    ("icmp6-destinationunreach", 1),
    ("icmp6-echo", 128),
    ("icmp6-echoreply", 129),
    ("icmp6-homeagentdiscoveryreply", 145),
    ("icmp6-homeagentdiscoveryrequest", 144),
    ("icmp6-ineighbordiscoveryadvert", 142),
    ("icmp6-ineighbordiscoverysolicit", 141),
    ("icmp6-mobileprefixadvert", 147),
    ("icmp6-mobileprefixsolicit", 146),
    ("icmp6-multicastlistenerdone", 132),
    ("icmp6-multicastlistenerquery", 130),
    ("icmp6-multicastlistenerreportv1", 131),
    ("icmp6-multicastlistenerreportv2", 143),
    ("icmp6-multicastrouteradvert", 151),
    ("icmp6-multicastroutersolicit", 152),
    ("icmp6-multicastrouterterm", 153),
    ("icmp6-neighboradvert", 136),
    ("icmp6-neighborsolicit", 135),
    ("icmp6-nodeinformationquery", 139),
    ("icmp6-nodeinformationresponse", 140),
    ("icmp6-packettoobig", 2),
    ("icmp6-parameterproblem", 4),
    ("icmp6-redirect", 137),
    ("icmp6-routeradvert", 134),
    ("icmp6-routerrenum", 138),
    ("icmp6-routersolicit", 133),
    ("icmp6-timeexceeded", 3),
    ("icmp6code", 1),
    ("icmp6type", 0),
    ("icmpcode", 1),
    ("icmptype", 0),
    ("tcp-ack", 0x10),
    ("tcp-cwr", 0x80),
    ("tcp-ece", 0x40),
    ("tcp-fin", 0x01),
    ("tcp-push", 0x08),
    ("tcp-rst", 0x04),
    ("tcp-syn", 0x02),
    ("tcp-urg", 0x20),
    ("tcpflags", 13),
];

/// Signs of two characters before those of one.
#[rustfmt::skip] // pairs
const SIGNS: &[(&str, Sign)] = &[
    ("&&", Sign::And), ("||", Sign::Or), ("<<", Sign::ShiftLeft), (">>", Sign::ShiftRight),
    ("<=", Sign::LessEqual), (">=", Sign::GreaterEqual), ("!=", Sign::NotEqual), ("==", Sign::Equal),
    ("(", Sign::Open), (")", Sign::Close), ("[", Sign::OpenBracket), ("]", Sign::CloseBracket), (":", Sign::Colon),
    ("+", Sign::Plus), ("-", Sign::Minus), ("*", Sign::Times), ("/", Sign::Slash), ("%", Sign::Percent),
    ("&", Sign::Ampersand), ("|", Sign::Bar), ("^", Sign::Caret), ("<", Sign::Less), (">", Sign::Greater),
    ("=", Sign::Equal), ("!", Sign::Not),
];

/// Longest text of an expression, in bytes.
pub(crate) const TEXT_MAX: usize = 1 << 20;

/// Splits an expression into words; the last one is [`Token::End`].
pub(crate) fn tokens(text: &str) -> Result<Vec<(Token<'_>, Span)>, FilterError> {
    if text.len() > TEXT_MAX {
        return Err(FilterError::new(
            Span::new(0, 0),
            "the expression is longer than 1 MiB",
        ));
    }
    let mut found = Vec::with_capacity(text.len() / 4 + 2);
    let mut at = 0;
    while let Some(first) = text.as_bytes().get(at) {
        if matches!(first, b' ' | b'\t' | b'\n' | b'\r') {
            at += 1;
            continue;
        }
        let (token, length) = token(&text[at..], at)?;
        found.push((token, Span::new(at, at + length)));
        at += length;
    }
    found.push((Token::End, Span::new(text.len(), text.len())));
    Ok(found)
}

/// The word at the start of `rest` and its length.
fn token(rest: &str, at: usize) -> Result<(Token<'_>, usize), FilterError> {
    if let Some(name) = rest.strip_prefix('\\') {
        let length = name
            .find([' ', '!', '(', ')', '\n', '\t'])
            .unwrap_or(name.len());
        if length > 0 {
            return Ok((Token::Name(&name[..length]), length + 1));
        }
    }
    let word = word_length(rest);
    if let Some((token, length)) = address(rest)
        && length >= word
    {
        return Ok((token, length));
    }
    bogus_mac(rest, word, at)?;
    if word > 0 {
        let span = Span::new(at, at + word);
        return Ok((classify(&rest[..word], span)?, word));
    }
    for (text, sign) in SIGNS {
        if rest.starts_with(text) {
            return Ok((Token::Sign(*sign), text.len()));
        }
    }
    let length = rest.chars().next().map_or(1, char::len_utf8);
    Err(FilterError::new(
        Span::new(at, at + length),
        "this character means nothing in a filter",
    ))
}

/// Length of the longest word: letters, digits, and inside it `-`, `_` and `.`; the last may be a dot.
fn word_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    if !bytes.first().is_some_and(u8::is_ascii_alphanumeric) {
        return 0;
    }
    let run = bytes
        .iter()
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        .count();
    let last = bytes[..run]
        .iter()
        .rposition(|b| b.is_ascii_alphanumeric() || *b == b'.');
    last.map_or(0, |i| i + 1)
}

/// A word of letters and digits: keyword, number, address or name.
fn classify(word: &str, span: Span) -> Result<Token<'_>, FilterError> {
    if let Ok(i) = KEYWORDS.binary_search_by(|(k, _)| (*k).cmp(word)) {
        return Ok(Token::Keyword(KEYWORDS[i].1));
    }
    match word {
        "and" => return Ok(Token::Sign(Sign::And)),
        "or" => return Ok(Token::Sign(Sign::Or)),
        "not" => return Ok(Token::Sign(Sign::Not)),
        _ => {}
    }
    if let Ok(i) = NUMBERS.binary_search_by(|(n, _)| (*n).cmp(word)) {
        return Ok(Token::Number(NUMBERS[i].1));
    }
    if is_number(word) {
        return number(word, span).map(Token::Number);
    }
    let parts = word.split('.');
    if (2..=4).contains(&parts.clone().count()) && parts.clone().all(is_number) {
        return Ok(Token::Dotted(word));
    }
    Ok(Token::Name(word))
}

/// Whether a word is digits, or `0x` and hexadecimal digits.
fn is_number(word: &str) -> bool {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(hex) => !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// The value of a number as C writes it.
fn number(word: &str, span: Span) -> Result<u32, FilterError> {
    let hex = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    let (digits, radix) = match (hex, word.strip_prefix('0')) {
        (Some(hex), _) => (hex, 16),
        (None, Some(octal)) if !octal.is_empty() => (octal, 8),
        _ => (word, 10),
    };
    if radix == 8 && digits.bytes().any(|b| b > b'7') {
        return Err(FilterError::new(
            span,
            "an octal number has no digit 8 or 9",
        ));
    }
    u32::from_str_radix(digits, radix)
        .map_err(|_| FilterError::new(span, "this number does not fit in 32 bits"))
}

/// The longest MAC or IPv6 address at the start of `rest`, with its length.
fn address(rest: &str) -> Option<(Token<'_>, usize)> {
    let bytes = rest.as_bytes();
    let in_address = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.' | b'-');
    let run = bytes.iter().take_while(|b| in_address(b)).count();
    let run = run.min(ADDRESS_CHARS_MAX);
    let count = |sign: u8| bytes[..run].iter().filter(|b| **b == sign).count();
    let may_be_mac = run >= 12 || count(b'.') >= 5 || count(b'-') >= 5;
    if !may_be_mac && count(b':') < 2 {
        return None;
    }
    (2..=run).rev().find_map(|length| {
        let text = rest.get(..length)?;
        if let Some(mac) = mac(text) {
            return Some((Token::Mac(mac), length));
        }
        if !text.contains("::") && text.bytes().filter(|b| *b == b':').count() < 6 {
            return None;
        }
        text.parse().ok().map(|v6| (Token::Ipv6(v6), length))
    })
}

/// Longest text of an address: an IPv6 address with an IPv4 tail.
const ADDRESS_CHARS_MAX: usize = 45;

/// A MAC address: six parts with one separator throughout, three of four digits with dots, or twelve digits.
fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let pair = |s: &str| u8::from_str_radix(s, 16).ok();
    let hex = |s: &str| s.bytes().all(|b| b.is_ascii_hexdigit());
    if text.len() == 12 && hex(text) {
        for (i, byte) in mac.iter_mut().enumerate() {
            *byte = pair(&text[2 * i..2 * i + 2])?;
        }
        return Some(mac);
    }
    if text.len() == 14 && text.split('.').all(|p| p.len() == 4 && hex(p)) {
        for (i, part) in text.split('.').enumerate() {
            mac[2 * i] = pair(&part[..2])?;
            mac[2 * i + 1] = pair(&part[2..])?;
        }
        return Some(mac);
    }
    let separator = [':', '.', '-'].into_iter().find(|s| text.contains(*s))?;
    let mut count = 0;
    for part in text.split(separator) {
        if part.is_empty() || part.len() > 2 || !hex(part) {
            return None;
        }
        *mac.get_mut(count)? = pair(part)?;
        count += 1;
    }
    (count == 6).then_some(mac)
}

/// Refuses `aa:bb:`, the start of a MAC address that is none: pairs of digits, each with colons after it.
fn bogus_mac(rest: &str, word: usize, at: usize) -> Result<(), FilterError> {
    let mut tail = rest;
    let mut pairs = 0;
    loop {
        let digits = tail.bytes().take_while(u8::is_ascii_hexdigit).count();
        let colons = tail[digits.min(2)..]
            .bytes()
            .take_while(|b| *b == b':')
            .count();
        if digits == 0 || digits > 2 || colons == 0 {
            break;
        }
        pairs += 1;
        tail = &tail[digits + colons..];
    }
    let length = rest.len() - tail.len();
    if pairs >= 2 && length > word {
        return Err(FilterError::new(
            Span::new(at, at + length),
            "this looks like a MAC address but is none",
        ));
    }
    Ok(())
}

/// Names of tokens for messages.
pub(crate) fn describe(token: Token<'_>) -> alloc::string::String {
    match token {
        Token::End => "the end".into(),
        Token::Name(n) => format!("the name {n:?}"),
        Token::Number(_) => "a number".into(),
        Token::Dotted(_) | Token::Ipv6(_) => "an address".into(),
        Token::Mac(_) => "a MAC address".into(),
        Token::Sign(_) | Token::Keyword(_) => "this".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_ordered() {
        assert!(KEYWORDS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(NUMBERS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn words() {
        let one = |text: &'static str| {
            let all = tokens(text).unwrap();
            assert_eq!(all.len(), 2, "{text}: {all:?}");
            all[0].0
        };
        assert_eq!(one("80-90"), Token::Name("80-90"));
        assert_eq!(one("0x1F"), Token::Number(31));
        assert_eq!(one("010"), Token::Number(8));
        assert_eq!(one("1.2.3"), Token::Dotted("1.2.3"));
        assert_eq!(one("1.2.3.4.5"), Token::Name("1.2.3.4.5"));
        assert_eq!(one("0-1-2-3-4-f"), Token::Mac([0, 1, 2, 3, 4, 15]));
        assert_eq!(
            one("0011.2233.44ff"),
            Token::Mac([0, 0x11, 0x22, 0x33, 0x44, 0xff])
        );
        assert_eq!(
            one("112233445566"),
            Token::Mac([0x11, 0x22, 0x33, 0x44, 0x55, 0x66])
        );
        assert_eq!(one("::1"), Token::Ipv6(Ipv6Addr::LOCALHOST));
        assert_eq!(one("tcp-syn"), Token::Number(2));
        assert_eq!(one("\\tcp"), Token::Name("tcp"));
        assert_eq!(one("http-alt"), Token::Name("http-alt"));
        assert_eq!(one("&&"), Token::Sign(Sign::And));
        assert_eq!(tokens("ip[2:2]").unwrap().len(), 7);
        assert_eq!(tokens("net fe80::/10").unwrap().len(), 5);
        assert_eq!(tokens("tcp-").unwrap().len(), 3);
    }

    #[test]
    fn what_is_no_word() {
        for text in ["08", "4294967296", "a:b:", "\u{e9}", "ip ; tcp", "{"] {
            assert!(tokens(text).is_err(), "{text}");
        }
        assert!(tokens("ip[1:2:3]").is_err());
    }
}
