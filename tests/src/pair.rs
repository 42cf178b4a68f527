//! A pair of devices in the network namespace of the calling thread, and packets of the tests' own on it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use skep_sys::netlink::{self, Socket};
use skep_sys::packet::{PacketSocket, Received};

/// `ETH_P_802_EX1`, for experiments: nobody else sends packets of this type.
const TYPE: [u8; 2] = [0x88, 0xb5];
/// Bytes before the type: two addresses.
const ADDRESSES: usize = 12;
/// Longest packet of a test.
const PACKET_BYTES_MAX: usize = 9000;

/// Two devices: what is sent on one comes in on the other.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Where programs are tried.
    pub near: u32,
    /// Where packets come from.
    pub far: u32,
}

impl Pair {
    /// Makes a pair of which the near device has this name, and switches both on.
    ///
    /// # Panics
    /// If the kernel refuses it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut socket = Socket::open().unwrap();
        // Packets that the kernel sends of its own accord would only disturb; where there is no IPv6 there are none.
        let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        let before: Vec<u32> = socket
            .devices()
            .unwrap()
            .iter()
            .map(|d| d.ifindex)
            .collect();
        socket.device_add("veth", name).unwrap();
        let near = netlink::ifindex(name).unwrap();
        let after = socket.devices().unwrap();
        let mut made = after
            .iter()
            .map(|d| d.ifindex)
            .filter(|i| !before.contains(i));
        let far = made.find(|i| *i != near).unwrap();
        socket.up(near).unwrap();
        socket.up(far).unwrap();
        Self { near, far }
    }
}

/// A packet of the tests' type, told from others by its number.
#[must_use]
pub fn packet(number: u8, length: usize) -> Vec<u8> {
    let mut packet = vec![0xff; ADDRESSES / 2];
    packet.extend([2, 0, 0, 0, 0, 1]);
    packet.extend(TYPE);
    packet.resize(length, number);
    packet
}

/// Sees the packets of the tests' type that come in on a device, or go out, and sends.
#[derive(Debug)]
pub struct Tap(PacketSocket);

impl Tap {
    /// Opens a tap on a device.
    ///
    /// # Panics
    /// If the kernel refuses it.
    #[must_use]
    pub fn new(ifindex: u32) -> Self {
        // ldh [12]; jeq #TYPE; ret whole or nothing
        let filter = [
            (0x28, 0, 0, 12),
            (0x15, 0, 1, u32::from(u16::from_be_bytes(TYPE))),
            (0x06, 0, 0, u32::MAX),
            (0x06, 0, 0, 0),
        ];
        Self(PacketSocket::open(ifindex, &filter).unwrap())
    }

    /// Sends a packet.
    ///
    /// # Panics
    /// If the kernel refuses it.
    pub fn send(&self, packet: &[u8]) {
        self.0.send(packet).unwrap();
    }

    /// The next packet, if one comes in time.
    ///
    /// # Panics
    /// If the socket fails.
    #[must_use]
    pub fn next(&self, timeout_ms: i32) -> Option<Vec<u8>> {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        match self.0.receive(&mut buffer, -1, timeout_ms).unwrap() {
            Received::Packet { stored, .. } => Some(buffer[..stored].to_vec()),
            Received::Nothing | Received::Stop => None,
        }
    }
}
