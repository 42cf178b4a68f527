//! Routes of the host are the kernel's in both backends.

use skep_sys::namespace::enter_new_network;
use skep_tests::need::{Need, met};
use skep_tests::objects::{answers, loaded_in_both, none_differ};
use skep_tests::random::Random;
use std::process::Command;

/// Questions to each program.
const QUESTIONS: u64 = 2000;
/// Bytes of `struct asked`, and of the packets, which are longer than an Ethernet header.
const ASKED_BYTES: usize = 72;
const PACKET_BYTES: usize = 80;

/// What `ip` makes in a network namespace of our own.
const SETUP: &[&str] = &[
    "link set lo up",
    "link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02",
    "link set v0 up mtu 1400",
    "link set v1 up",
    "addr add 10.1.0.1/24 dev v0",
    "addr add 10.1.0.2/24 dev v0",
    "addr add 10.2.0.1/24 dev v1",
    "-6 addr add fd01::1/64 dev v0 nodad",
    "-6 addr add fd02::1/64 dev v1 nodad",
    "neigh add 10.1.0.9 lladdr 02:00:00:00:00:09 dev v0 nud permanent",
    "neigh add 10.2.0.9 lladdr 02:00:00:00:00:19 dev v1 nud stale",
    "neigh add 10.2.0.10 dev v1 nud failed",
    "-6 neigh add fd01::9 lladdr 02:00:00:00:00:29 dev v0 nud permanent",
    "-6 neigh add fd02::9 lladdr 02:00:00:00:00:39 dev v1 nud permanent",
    "route add default via 10.1.0.9 metric 50",
    "route add default via 10.2.0.9 metric 40",
    "route add 10.9.0.0/16 via 10.1.0.9 src 10.1.0.2 metric 7",
    "route add 10.9.9.0/24 via 10.2.0.9",
    "route add 10.9.9.0/24 via 10.1.0.9 metric 3",
    "route add tos 0x10 10.9.9.0/24 via 10.2.0.10",
    "route add 10.9.8.0/24 via 10.2.0.9 mtu lock 1000",
    "route add blackhole 10.66.0.0/16",
    "route add unreachable 10.67.0.0/16",
    "route add prohibit 10.68.0.0/16",
    "route add throw 10.9.7.0/24",
    "route add 10.9.6.0/24 via inet6 fd01::9 dev v0",
    "route add 10.9.0.0/16 via 10.2.0.9 table 100",
    "route add 10.70.0.0/16 via 10.1.0.9 table 100",
    "rule add from 10.5.0.0/16 table 100",
    "rule add fwmark 7 table 100",
    "rule add iif v1 to 10.71.0.0/16 blackhole",
    "rule add to 10.72.0.0/16 ipproto udp dport 53 prohibit",
    "-6 route add default via fd01::9",
    "-6 route add fd09::/32 via fd02::9 metric 9",
    "-6 route add fd09:9::/48 via fd01::9",
    "-6 route add blackhole fd66::/16",
    "-6 route add unreachable fd67::/16",
    "-6 route add prohibit fd68::/16",
    "-6 route add fd09::/32 via fd01::9 table 100",
    "-6 rule add from fd05::/16 table 100",
];

/// Changes after which everything is asked again.
const CHANGES: &[&str] = &[
    "route del 10.9.9.0/24 via 10.2.0.9",
    "neigh del 10.1.0.9 dev v0",
    "link set v1 mtu 1300",
    "rule del from 10.5.0.0/16 table 100",
];

const DESTINATIONS: &[&str] = &[
    "10.1.0.9",
    "10.1.0.1",
    "10.1.0.255",
    "10.2.0.9",
    "10.2.0.10",
    "10.2.0.77",
    "10.9.0.1",
    "10.9.9.1",
    "10.9.8.1",
    "10.9.7.1",
    "10.9.6.1",
    "10.66.0.1",
    "10.67.0.1",
    "10.68.0.1",
    "10.70.0.1",
    "10.71.0.1",
    "10.72.0.1",
    "127.0.0.1",
    "8.8.8.8",
    "fd01::9",
    "fd02::9",
    "fd01::1",
    "fd02::77",
    "fd09::1",
    "fd09:9::1",
    "fd66::1",
    "fd67::1",
    "fd68::1",
    "2001:db8::1",
];
const SOURCES: &[&str] = &["0.0.0.0", "10.5.0.1", "10.1.0.7", "fd05::1", "fd02::7"];

fn ip(line: &str) {
    let status = Command::new("ip").args(line.split(' ')).status();
    assert!(status.unwrap().success(), "ip {line}");
}

/// `struct asked`, with random contents.
fn question(random: &mut Random) -> Vec<u8> {
    let mut asked = vec![0u8; PACKET_BYTES];
    let to: std::net::IpAddr = random.of(DESTINATIONS).parse().unwrap();
    let same_family: Vec<&&str> = SOURCES
        .iter()
        .filter(|s| s.contains(':') == to.is_ipv6())
        .collect();
    let from: std::net::IpAddr = random.of(&same_family).parse().unwrap();
    asked[0] = if to.is_ipv4() { 2 } else { 10 };
    asked[1] = *random.of(&[0, 6, 17]);
    asked[4..6].copy_from_slice(&random.of(&[0u16, 53, 54]).to_be_bytes());
    let len = *random.of(&[0u16, 0, 100, 1001, 1300, 1301, 1400, 1401, 1500, 1501, 9000]);
    asked[6..8].copy_from_slice(&len.to_ne_bytes());
    let device = *random.of(&[0u32, 1, 2, 3, 3, 3, 2, 2, 99]);
    asked[8..12].copy_from_slice(&device.to_ne_bytes());
    if to.is_ipv4() {
        asked[12] = *random.of(&[0, 0, 0x10, 0x11]);
    }
    for (at, address) in [(16, from), (32, to)] {
        match address {
            std::net::IpAddr::V4(a) => asked[at..at + 4].copy_from_slice(&a.octets()),
            std::net::IpAddr::V6(a) => asked[at..at + 16].copy_from_slice(&a.octets()),
        }
    }
    let table = *random.of(&[0u32, 100, 254, 255, 777]);
    asked[48..52].copy_from_slice(&table.to_ne_bytes());
    let mark = *random.of(&[0u32, 7, 8]);
    asked[52..56].copy_from_slice(&mark.to_ne_bytes());
    let flags = match random.below(3) {
        0 => 0,
        1 => 1 << random.below(8),
        _ => random.below(64),
    };
    asked[64..68].copy_from_slice(&(flags as u32).to_ne_bytes());
    asked
}

#[test]
fn routes_are_the_kernels() {
    if !met(&[Need::Bpf, Need::Root, Need::Netns]) {
        return;
    }
    // A thread of its own: the namespace goes with it.
    let different = std::thread::spawn(|| {
        enter_new_network().unwrap();
        SETUP.iter().for_each(|line| ip(line));
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/lo/forwarding", "0").unwrap();
        let sides = loaded_in_both("routes");
        let mut different = Vec::new();
        for changes in [&[], CHANGES] {
            changes.iter().for_each(|line| ip(line));
            let mut random = Random::new(5);
            for _ in 0..QUESTIONS {
                let packet = question(&mut random);
                for program in ["route", "route_of_skb"] {
                    let [ours, theirs] = answers(&sides, program, &packet);
                    if ours != theirs {
                        let asked = &packet[..ASKED_BYTES];
                        different.push(format!("{program} {asked:02x?}\n  {ours}\n  {theirs}"));
                    }
                }
            }
        }
        different
    });
    none_differ(&different.join().unwrap());
}
