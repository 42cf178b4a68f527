//! Expressions to compare: the manual's examples, a list of usual ones, and generated ones.

use super::random::Random;
use skep_cbpf::filter::LinkType;

/// Filters as people write them, and corners of the language.
const USUAL: &str = include_str!("usual.txt");
/// Examples of the manual.
const MANUAL: &str = include_str!("manual.txt");

#[rustfmt::skip] // families of primitives
const PRIMITIVES: &[&str] = &[
    "ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "sctp", "igmp", "rarp",
    "host 10.0.0.1", "src host 192.168.1.1", "dst host 8.8.8.8", "ip host 10.1.2.3", "arp host 10.0.0.1",
    "host 2001:db8::1", "src host fe80::211:22ff:fe33:4455", "dst host ::1", "host 10.0.0.1 or 10.1.2.3",
    "net 10.0.0.0/8", "src net 192.168.0.0/16", "dst net 192.168.1.0/24", "net 10.0.0.0/25", "net 172.16.0.0/12",
    "net 224.0.0.0/4", "net 0.0.0.0/0", "net 128.0.0.0/1", "ip6 net 2001:db8::/32", "net fe80::/10", "net 10.1",
    "port 80", "tcp port 443", "udp port 53", "src port 22", "tcp dst port 8080", "sctp port 7000",
    "port 80 or 443", "tcp port 80 or 443 or 8080", "src port 53 or 123", "dst port 20 or 21 or 22",
    "portrange 6000-6008", "tcp portrange 20-22", "udp dst portrange 6000-7000", "portrange 1-1023",
    "src and dst port 53", "src or dst port 80", "port http", "port domain", "tcp port ssh",
    "less 64", "greater 128", "len > 100", "len <= 60", "len & 3 = 0",
    "ip proto 6", "ip6 proto 17", "proto 132", "ip proto \\icmp", "ip multicast", "ip6 multicast", "ip broadcast",
    "tcp[tcpflags] & tcp-syn != 0", "tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn", "tcp[13] = 2", "tcp[13] & 2 = 2",
    "tcp[tcpflags] == tcp-syn", "tcp[0:2] > 1024", "tcp[2:2] = 80", "udp[4:2] < 100", "udp[0:2] = udp[2:2]",
    "icmp[icmptype] = icmp-echo", "icmp[0] = 8 or icmp[0] = 0", "icmp6[0] = 128", "ip[8] < 5", "ip[9] = 6",
    "ip[0] & 0xf > 5", "ip[6:2] & 0x1fff != 0", "ip[6] & 0x40 != 0", "ip[12:4] = 0x0a000001", "ip[1] & 0xfc = 0x10",
    "ip6[6] = 58", "ip6[4:2] > 100", "ip[2:2] > 100", "ip[2:2] - ((ip[0]&0xf)<<2) > 20",
    "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420", "ip[ip[0] & 0xf] = 0", "ip[2:2] = len - 14",
    "(ip[2:2] + 14) != len", "ip[8] * 2 > ip[9]", "ip[16] ^ ip[12] = 0", "ip[8] % 2 = 1", "ip[2:2] / 4 > 10",
    "ah", "esp", "pim", "vrrp", "igrp", "carp",
];

#[rustfmt::skip] // families of primitives
const ETHERNET: &[&str] = &[
    "ether host 0:11:22:33:44:55", "ether src 2:0:0:0:0:1", "ether dst ff:ff:ff:ff:ff:ff", "broadcast", "multicast",
    "ether broadcast", "ether multicast", "ether proto 0x86dd", "ether[12:2] = 0x800", "ether[0] & 1 = 1",
    "vlan", "vlan 100", "vlan and ip", "vlan 5 and tcp port 80", "vlan and vlan", "vlan 100 and host 10.0.0.1",
    "mpls", "mpls 5", "mpls and ip", "mpls 1024 and mpls", "mpls and host 10.0.0.1", "pppoes", "pppoes 5 and ip",
    "pppoes and tcp port 80", "pppoed", "stp", "ipx", "iso", "isis", "l1", "clnp", "esis", "netbeui", "atalk", "aarp",
    "llc", "llc i", "llc u", "llc rr", "llc ui", "decnet src 10.123", "decnet host 10.123", "lat", "geneve",
    "geneve 5 and ip", "geneve and tcp port 80", "geneve and ether host 2:0:0:0:0:1", "geneve and vlan 5",
    "ether[6:4] = 0x00112233", "ether proto 0x42", "ether proto 300",
];

#[rustfmt::skip] // families of primitives
const WLAN: &[&str] = &[
    "wlan host 0:11:22:33:44:55", "wlan src 2:0:0:0:0:1", "wlan dst 0:1:2:3:4:5", "wlan ra 0:1:2:3:4:5",
    "wlan ta 0:11:22:33:44:55", "wlan addr1 ff:ff:ff:ff:ff:ff", "wlan addr2 0:1:2:3:4:5", "wlan addr3 0:1:2:3:4:5",
    "wlan addr4 0:1:2:3:4:5", "broadcast", "multicast", "type mgt", "type data", "type ctl", "subtype beacon",
    "type mgt subtype probe-req", "subtype qos-data", "dir tods", "dir fromds", "wlan[0] & 0xc = 8", "wlan[1] = 2",
    "llc", "llc ui", "stp", "ipx", "isis", "atalk", "vlan", "vlan 5 and ip", "radio[2:2] > 8", "radio[4] & 2 != 0",
];

#[rustfmt::skip] // families of primitives
const OTHER: &[&str] = &["inbound", "outbound", "ifindex 2", "ether[0] = 1", "link[0:2] = 4", "stp", "ipx", "iso", "atalk", "mpls and ip"];

#[rustfmt::skip] // families of primitives
const PFLOG: &[&str] = &[
    "on eth0", "ifname em0", "rulenum 5", "rnr 5", "subrulenum 3", "srnr 3", "reason match", "reason 3", "reason bad-offset",
    "reason unknown", "rset foo", "ruleset abcdefghijklmnop", "action pass", "action block", "action nat", "action unknown",
    "inbound", "outbound", "on eth0 and tcp port 80",
];

#[rustfmt::skip] // families of primitives
const ATM: &[&str] = &[
    "vpi 5", "vci 5", "vci > 5", "vci <= 30", "vci != 5", "vpi (1 or 2)", "vci (1 or 2 or 3)", "vci (5)", "vci ((5))", "vci & 5",
    "oam", "oamf4", "oamf4ec", "oamf4sc", "metac", "bcc", "sc", "ilmic", "connectmsg", "metaconnect", "llc", "llc ui",
    "lane", "lane and ip", "lane and ether host 1:2:3:4:5:6", "lane and vlan", "lane and llc", "lane and broadcast",
    "lane and multicast", "lane and tcp port 80", "lane and lane", "lane and vci 5", "lane and isis", "lane and mpls and ip",
    "lane and pppoes and ip", "lane and ip[0] = 1", "ip and lane", "lane or ip", "not lane", "lane and ether[0] = 1",
    "lane and connectmsg", "lane and ether proto 0x100",
];

#[rustfmt::skip] // families of primitives
const MTP2: &[&str] = &[
    "fisu", "lssu", "lsu", "msu", "hfisu", "hlssu", "hmsu", "sio 5", "opc 5", "dpc 5", "sls 5", "hsio 5", "hopc 5", "hdpc 5",
    "hsls 5", "sio > 5", "sio 256", "opc 16384", "sls 16", "sio (5 or 6)", "opc < 5", "hopc (1 or 2)", "sio != 5", "dpc >= 300",
    "fisu or opc 3", "opc 16383", "lssu and not sls 3",
];

/// Expressions for a link type.
pub(crate) fn for_link(link: LinkType, generated: usize, random: &mut Random) -> Vec<String> {
    let lines = MANUAL.lines().chain(USUAL.lines());
    let mut all: Vec<String> = lines
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let own = match link {
        LinkType::ETHERNET => ETHERNET,
        LinkType::IEEE802_11
        | LinkType::IEEE802_11_RADIOTAP
        | LinkType::IEEE802_11_AVS
        | LinkType::PRISM
        | LinkType::PPI => WLAN,
        LinkType(6 | 7 | 10 | 122 | 129 | 240 | 241) => ETHERNET,
        LinkType::PFLOG => PFLOG,
        LinkType::SUNATM => ATM,
        LinkType::MTP2 | LinkType::MTP2_WITH_PHDR => MTP2,
        _ => OTHER,
    };
    let primitives: Vec<&str> = PRIMITIVES.iter().chain(own).copied().collect();
    all.extend(primitives.iter().map(|p| (*p).to_owned()));
    for _ in 0..generated {
        all.push(combined(&primitives, random, 3));
    }
    all
}

fn combined(primitives: &[&str], random: &mut Random, depth: usize) -> String {
    let count = if depth == 3 {
        1 + random.below(4)
    } else {
        1 + random.below(3)
    };
    let mut text = String::new();
    for i in 0..count {
        if i > 0 {
            text.push_str(if random.once_in(2) { " and " } else { " or " });
        }
        if random.once_in(6) {
            text.push_str("not ");
        }
        if depth > 0 && random.once_in(4) {
            text.push_str(&format!("({})", combined(primitives, random, depth - 1)));
        } else if random.once_in(8) {
            text.push_str(&comparison(random));
        } else {
            text.push_str(random.of(primitives));
        }
    }
    text
}

fn comparison(random: &mut Random) -> String {
    let relation = random.of(&["=", "!=", "<", "<=", ">", ">=", "=="]);
    format!(
        "{} {relation} {}",
        arithmetic(random, 2),
        arithmetic(random, 1)
    )
}

fn arithmetic(random: &mut Random, depth: usize) -> String {
    if depth > 0 && random.once_in(2) {
        let operator = random.of(&["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"]);
        let right = if matches!(operator, "/" | "%" | "<<" | ">>") {
            (1 + random.below(8)).to_string()
        } else {
            arithmetic(random, depth - 1)
        };
        return format!("({} {operator} {right})", arithmetic(random, depth - 1));
    }
    match random.below(6) {
        0 => random
            .of(&["0", "1", "0xff", "64", "0x0a000001", "1500", "0x10", "7"])
            .to_owned(),
        1 => "len".to_owned(),
        _ => {
            let protocol = random.of(&["ip", "tcp", "udp", "ip", "ip6", "icmp", "arp", "ether"]);
            let size = random.of(&["", ":1", ":2", ":4"]);
            format!("{protocol}[{}{size}]", random.below(24))
        }
    }
}
