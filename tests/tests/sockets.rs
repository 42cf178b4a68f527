//! Sockets that packets would reach are the kernel's in both backends.

use skep_sys::namespace::enter_new_network;
use skep_tests::need::{Need, met};
use skep_tests::objects::{answers, loaded_in_both, none_differ};
use skep_tests::random::Random;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;

/// Questions to each program.
const QUESTIONS: u64 = 1500;
/// Bytes of `struct asked` before the size of the tuple, and of the packets.
const TUPLE_BYTES: usize = 36;
const PACKET_BYTES: usize = 128;
/// `BPF_F_CURRENT_NETNS`, and others.
const NETNS: &[u64] = &[
    u64::MAX,
    u64::MAX,
    u64::MAX,
    u64::MAX,
    0,
    77,
    1 << 31,
    1 << 40,
];

/// Sockets that stay open, and the addresses of both ends of some of them.
struct Host {
    _open: Vec<Box<dyn std::any::Any>>,
    ends: Vec<SocketAddr>,
}

fn host() -> Host {
    let mut open: Vec<Box<dyn std::any::Any>> = Vec::new();
    let mut ends = Vec::new();
    for at in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
        let listener = TcpListener::bind(at).unwrap();
        let port = listener.local_addr().unwrap().port();
        let to = if at.starts_with('[') {
            "::1"
        } else {
            "127.0.0.1"
        };
        let to: SocketAddr = (to.parse::<std::net::IpAddr>().unwrap(), port).into();
        let client = TcpStream::connect(to).unwrap();
        ends.extend([to, client.local_addr().unwrap()]);
        let udp = UdpSocket::bind(at).unwrap();
        ends.push((to.ip(), udp.local_addr().unwrap().port()).into());
        let other = UdpSocket::bind((to.ip(), 0)).unwrap();
        other.connect(ends[ends.len() - 1]).unwrap();
        ends.push(other.local_addr().unwrap());
        open.push(Box::new((listener, client, udp, other)));
    }
    ends.extend(["10.1.1.1:7", "[fd00::7]:7"].map(|a| a.parse::<SocketAddr>().unwrap()));
    Host { _open: open, ends }
}

/// `struct asked` with random contents: two ends of the host, of one family, mostly.
fn question(host: &Host, random: &mut Random) -> Vec<u8> {
    let mut asked = vec![0u8; PACKET_BYTES];
    let remote = *random.of(&host.ends);
    let same: Vec<SocketAddr> = host
        .ends
        .iter()
        .copied()
        .filter(|e| e.is_ipv4() == remote.is_ipv4())
        .collect();
    let local = *random.of(&same);
    let size = match (remote.ip(), local.ip()) {
        (std::net::IpAddr::V4(a), std::net::IpAddr::V4(b)) => {
            asked[..4].copy_from_slice(&a.octets());
            asked[4..8].copy_from_slice(&b.octets());
            12
        }
        (std::net::IpAddr::V6(a), std::net::IpAddr::V6(b)) => {
            asked[..16].copy_from_slice(&a.octets());
            asked[16..32].copy_from_slice(&b.octets());
            36
        }
        _ => unreachable!("one family"),
    };
    asked[size - 4..size - 2].copy_from_slice(&remote.port().to_be_bytes());
    asked[size - 2..size].copy_from_slice(&local.port().to_be_bytes());
    let told = *random.of(&[size, size, size, size, size, size, 13, 4]) as u32;
    asked[TUPLE_BYTES..TUPLE_BYTES + 4].copy_from_slice(&told.to_ne_bytes());
    asked[40..44].copy_from_slice(&(random.below(3) as u32).to_ne_bytes());
    asked[48..56].copy_from_slice(&random.of(NETNS).to_ne_bytes());
    asked[56..64].copy_from_slice(&random.of(&[0u64, 0, 0, 0, 0, 1]).to_ne_bytes());
    asked
}

#[test]
fn sockets_are_the_kernels() {
    if !met(&[Need::Bpf, Need::Root, Need::Netns]) {
        return;
    }
    // A thread of its own: the namespace goes with it.
    let different = std::thread::spawn(|| {
        enter_new_network().unwrap();
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.unwrap().success());
        let host = host();
        let sides = loaded_in_both("sockets");
        let mut random = Random::new(3);
        let mut different = Vec::new();
        let mut found = 0;
        for _ in 0..QUESTIONS {
            let packet = question(&host, &mut random);
            for program in ["find", "find_of_skb"] {
                let [ours, theirs] = answers(&sides, program, &packet);
                found += u32::from(!theirs.contains("[00, 00, 00, 00"));
                if ours != theirs {
                    different.push(format!("{program} {packet:02x?}\n  {ours}\n  {theirs}"));
                }
            }
        }
        assert!(found > 100, "only {found} found");
        different
    });
    none_differ(&different.join().unwrap());
}
