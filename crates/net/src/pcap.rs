//! Reading packet captures: the classic format and pcapng, either byte order.
//!
//! Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.

use std::fmt;

/// Bytes of the file header of the classic format, and of a packet's.
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
/// Packets longer than this are taken for damage (`MAXIMUM_SNAPLEN` of libpcap).
const PACKET_BYTES_MAX: u32 = 262_144;
/// Link type of Ethernet.
pub const ETHERNET: u16 = 1;

const BLOCK_SECTION: u32 = 0x0a0d_0d0a;
const BLOCK_INTERFACE: u32 = 1;
const BLOCK_SIMPLE: u32 = 3;
const BLOCK_PACKET: u32 = 6;
const OPTION_TSRESOL: u16 = 9;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// A recorded packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// When, in nanoseconds since 1970.
    pub time_ns: u64,
    /// How long it was on the wire.
    pub wire_bytes: u32,
    /// What was kept of it.
    pub data: &'a [u8],
    /// `LINKTYPE_*`
    pub link_type: u16,
}

/// A capture cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PcapError {
    /// Neither of the two formats.
    NotPcap,
    /// The file ends inside a packet or block.
    Truncated {
        /// Number of the packet, from 1.
        packet: usize,
    },
    /// A packet or block contradicts the format.
    Damaged {
        /// Number of the packet, from 1.
        packet: usize,
        /// What is wrong.
        what: &'static str,
    },
}

impl fmt::Display for PcapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPcap => f.write_str("not a packet capture (pcap or pcapng)"),
            Self::Truncated { packet } => write!(f, "the capture is cut inside packet {packet}"),
            Self::Damaged { packet, what } => write!(f, "damaged capture: packet {packet}: {what}"),
        }
    }
}

impl std::error::Error for PcapError {}

/// Numbers in the file's byte order.
#[derive(Clone, Copy)]
struct Order {
    big: bool,
}

impl Order {
    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let b = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big {
            u32::from_be_bytes(b)
        } else {
            u32::from_le_bytes(b)
        })
    }

    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let b = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.big {
            u16::from_be_bytes(b)
        } else {
            u16::from_le_bytes(b)
        })
    }
}

/// Reads every packet of a capture.
///
/// # Errors
/// [`PcapError`]; a capture that is cut is an error, not a shorter capture.
pub fn read(bytes: &[u8]) -> Result<Vec<Packet<'_>>, PcapError> {
    let magic = bytes.get(..4).ok_or(PcapError::NotPcap)?;
    match magic {
        [0xd4, 0xc3, 0xb2, 0xa1] => classic(bytes, Order { big: false }, 1000),
        [0xa1, 0xb2, 0xc3, 0xd4] => classic(bytes, Order { big: true }, 1000),
        [0x4d, 0x3c, 0xb2, 0xa1] => classic(bytes, Order { big: false }, 1),
        [0xa1, 0xb2, 0x3c, 0x4d] => classic(bytes, Order { big: true }, 1),
        [0x0a, 0x0d, 0x0d, 0x0a] => Blocks::default().read(bytes),
        _ => Err(PcapError::NotPcap),
    }
}

fn classic(bytes: &[u8], order: Order, unit_ns: u64) -> Result<Vec<Packet<'_>>, PcapError> {
    let link_type = order.u32(bytes, 20).ok_or(PcapError::NotPcap)? as u16;
    let mut packets = Vec::new();
    let mut rest = bytes.get(FILE_HEADER..).unwrap_or_default();
    while !rest.is_empty() {
        let packet = packets.len() + 1;
        let cut = PcapError::Truncated { packet };
        let field = |at| order.u32(rest, at).ok_or(PcapError::Truncated { packet });
        let (seconds, fraction, kept, wire_bytes) = (field(0)?, field(4)?, field(8)?, field(12)?);
        if kept > PACKET_BYTES_MAX {
            return Err(PcapError::Damaged {
                packet,
                what: "its length is impossible",
            });
        }
        let end = PACKET_HEADER + kept as usize;
        let data = rest.get(PACKET_HEADER..end).ok_or(cut)?;
        let time_ns = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * unit_ns;
        packets.push(Packet {
            time_ns,
            wire_bytes,
            data,
            link_type,
        });
        rest = &rest[end..];
    }
    Ok(packets)
}

/// An interface of a pcapng section.
#[derive(Clone, Copy)]
struct Interface {
    link_type: u16,
    snap_bytes: u32,
    /// `if_tsresol`: a power of ten, or of two with the top bit.
    resolution: u8,
}

impl Interface {
    fn nanoseconds(self, ticks: u64) -> u64 {
        let power = u32::from(self.resolution & 0x7f);
        let per_second = if self.resolution & 0x80 == 0 {
            10u128.checked_pow(power)
        } else {
            1u128.checked_shl(power)
        };
        let ns = u128::from(ticks) * 1_000_000_000 / per_second.unwrap_or(u128::MAX).max(1);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

/// The blocks of a pcapng file.
struct Blocks<'a> {
    order: Order,
    interfaces: Vec<Interface>,
    packets: Vec<Packet<'a>>,
}

impl Default for Blocks<'_> {
    fn default() -> Self {
        Self {
            order: Order { big: false },
            interfaces: Vec::new(),
            packets: Vec::new(),
        }
    }
}

impl<'a> Blocks<'a> {
    fn read(mut self, bytes: &'a [u8]) -> Result<Vec<Packet<'a>>, PcapError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let packet = self.packets.len() + 1;
            let cut = || PcapError::Truncated { packet };
            let damaged = |what| PcapError::Damaged { packet, what };
            // The section header's type reads the same in either order.
            let kind = self.order.u32(rest, 0).ok_or_else(cut)?;
            if kind == BLOCK_SECTION {
                let little = Order { big: false };
                self.order.big = little.u32(rest, 8).ok_or_else(cut)? != BYTE_ORDER_MAGIC;
                self.interfaces.clear();
            }
            let length = self.order.u32(rest, 4).ok_or_else(cut)? as usize;
            if length < 12 || !length.is_multiple_of(4) {
                return Err(damaged("the length of its block is impossible"));
            }
            let block = rest.get(..length).ok_or_else(cut)?;
            let body = &block[8..length - 4];
            match kind {
                BLOCK_INTERFACE => self
                    .interface(body)
                    .ok_or_else(|| damaged("its interface block is cut"))?,
                BLOCK_PACKET => self
                    .packet(body)
                    .ok_or_else(|| damaged("its block contradicts itself"))?,
                BLOCK_SIMPLE => self
                    .simple(body)
                    .ok_or_else(|| damaged("its block contradicts itself"))?,
                _ => {}
            }
            rest = &rest[length..];
        }
        Ok(self.packets)
    }

    fn interface(&mut self, body: &[u8]) -> Option<()> {
        let mut interface = Interface {
            link_type: self.order.u16(body, 0)?,
            snap_bytes: self.order.u32(body, 4)?,
            resolution: 6,
        };
        let mut options = body.get(8..)?;
        while let (Some(code), Some(length)) =
            (self.order.u16(options, 0), self.order.u16(options, 2))
        {
            if code == OPTION_TSRESOL {
                interface.resolution = *options.get(4)?;
            }
            options = options
                .get(4 + usize::from(length).next_multiple_of(4)..)
                .unwrap_or_default();
        }
        self.interfaces.push(interface);
        Some(())
    }

    fn packet(&mut self, body: &'a [u8]) -> Option<()> {
        let field = |at| self.order.u32(body, at);
        let interface = *self.interfaces.get(field(0)? as usize)?;
        let ticks = u64::from(field(4)?) << 32 | u64::from(field(8)?);
        let (kept, wire_bytes) = (field(12)? as usize, field(16)?);
        let data = body.get(20..20usize.checked_add(kept)?)?;
        self.packets.push(Packet {
            time_ns: interface.nanoseconds(ticks),
            wire_bytes,
            data,
            link_type: interface.link_type,
        });
        Some(())
    }

    fn simple(&mut self, body: &'a [u8]) -> Option<()> {
        let interface = *self.interfaces.first()?;
        let wire_bytes = self.order.u32(body, 0)?;
        let limit = if interface.snap_bytes == 0 {
            u32::MAX
        } else {
            interface.snap_bytes
        };
        let data = body.get(4..4 + wire_bytes.min(limit) as usize)?;
        self.packets.push(Packet {
            time_ns: 0,
            wire_bytes,
            data,
            link_type: interface.link_type,
        });
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::{ETHERNET, PcapError, read};

    /// A classic capture of two packets, of 3 and 5 bytes.
    fn capture() -> Vec<u8> {
        let mut bytes = vec![
            0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
        ];
        for (second, data) in [(1u32, &b"abc"[..]), (2, b"defgh")] {
            for number in [second, 500, data.len() as u32, 60] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(data);
        }
        bytes
    }

    /// The same packets as pcapng, big-endian, in nanoseconds.
    fn capture_ng() -> Vec<u8> {
        let block = |kind: u32, body: &[u8]| {
            let mut body = body.to_vec();
            body.resize(body.len().next_multiple_of(4), 0);
            let length = (body.len() as u32 + 12).to_be_bytes();
            [&kind.to_be_bytes()[..], &length, &body, &length].concat()
        };
        let mut bytes = block(
            0x0a0d_0d0a,
            &[
                0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255,
            ],
        );
        bytes.extend(block(
            1,
            &[0, 1, 0, 0, 0, 4, 0, 0, 0, 9, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0],
        ));
        for (second, data) in [(1u64, &b"abc"[..]), (2, b"defgh")] {
            let ticks = second * 1_000_000_000 + 500_000;
            let mut body = vec![0; 4];
            body.extend(((ticks >> 32) as u32).to_be_bytes());
            body.extend((ticks as u32).to_be_bytes());
            body.extend((data.len() as u32).to_be_bytes());
            body.extend(60u32.to_be_bytes());
            body.extend(data);
            bytes.extend(block(6, &body));
        }
        bytes
    }

    #[test]
    fn both_formats_are_read() {
        let (classic, ng) = (capture(), capture_ng());
        let packets = read(&classic).unwrap();
        assert_eq!(packets, read(&ng).unwrap());
        assert_eq!(
            (packets.len(), packets[1].data, packets[1].link_type),
            (2, &b"defgh"[..], ETHERNET)
        );
        assert_eq!(packets[0].time_ns, 1_000_500_000);
    }

    #[test]
    fn a_cut_capture_is_an_error_wherever_it_is_cut() {
        let whole = capture();
        for end in 25..whole.len() {
            let result = read(&whole[..end]);
            let at_boundary = end == 24 + 16 + 3;
            assert_eq!(result.is_ok(), at_boundary, "cut at {end}");
        }
        assert_eq!(read(b"not a capture"), Err(PcapError::NotPcap));
        assert_eq!(read(b""), Err(PcapError::NotPcap));
        let ng = capture_ng();
        for end in 0..ng.len() {
            let _ = read(&ng[..end]); // does not panic
        }
    }
}
