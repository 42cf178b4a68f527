//! Captures packet by packet: both formats, both byte orders, and files that end too early.
//!
//! A [`Capture`] borrows the bytes of the file and copies nothing. Where [`crate::pcap::read`] refuses a file that is cut,
//! this gives all packets before the cut and then says so.

use crate::pcap::PcapError;
use std::io::{self, Write};

/// Bytes of the file header of the classic format, and of a packet's.
pub(crate) const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
/// Packets longer than this are taken for damage (`MAXIMUM_SNAPLEN` of libpcap).
const PACKET_BYTES_MAX: u32 = 262_144;
/// Most interfaces a pcapng section may have here.
const INTERFACES_MAX: usize = 1 << 16;

const BLOCK_SECTION: u32 = 0x0a0d_0d0a;
const BLOCK_INTERFACE: u32 = 1;
const BLOCK_SIMPLE: u32 = 3;
const BLOCK_ENHANCED: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const OPTION_TSRESOL: u16 = 9;

/// A packet of a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// When, in nanoseconds since 1970.
    pub time_ns: u64,
    /// Bytes on the wire.
    pub wire_len: u32,
    /// Captured bytes.
    pub data: &'a [u8],
    /// `LINKTYPE_*` of its interface.
    pub link: u16,
    /// The packet with its header, as it stands in a file of the classic format.
    pub raw: Option<&'a [u8]>,
}

/// An interface of a pcapng section.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u16,
    snaplen: u32,
    /// Ticks of its clock in a second.
    ticks: u64,
}

/// The format of a capture.
#[derive(Debug)]
enum Format {
    /// Nanoseconds in a unit of the fraction, and the link type.
    Classic { unit_ns: u64, link: u16 },
    /// The interfaces of the section so far.
    Ng(Vec<Interface>),
}

/// A capture that is being read.
#[derive(Debug)]
pub struct Capture<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
    format: Format,
    packets: usize,
    failed: bool,
}

/// What a reader knows between two packets.
#[derive(Debug)]
pub(crate) struct State {
    at: usize,
    big: bool,
    format: Format,
    packets: usize,
}

impl Default for State {
    fn default() -> Self {
        Self {
            at: 0,
            big: false,
            format: Format::Ng(Vec::new()),
            packets: 0,
        }
    }
}

impl State {
    pub(crate) fn is_big_endian(&self) -> bool {
        self.big
    }

    pub(crate) fn link(&self) -> Option<u16> {
        self.format.link()
    }

    /// Bytes that are done; they are given up.
    pub(crate) fn take_place(&mut self) -> usize {
        std::mem::take(&mut self.at)
    }

    pub(crate) fn too_long(&self) -> PcapError {
        PcapError::Damaged {
            packet: self.packets + 1,
            what: "its block is longer than 16 MiB",
        }
    }
}

impl Format {
    fn link(&self) -> Option<u16> {
        match self {
            Self::Classic { link, .. } => Some(*link),
            Self::Ng(interfaces) => interfaces.first().map(|i| i.link),
        }
    }
}

fn u32_at(bytes: &[u8], at: usize, big: bool) -> Option<u32> {
    let b = *bytes.get(at..)?.first_chunk()?;
    Some(if big {
        u32::from_be_bytes(b)
    } else {
        u32::from_le_bytes(b)
    })
}

fn u16_at(bytes: &[u8], at: usize, big: bool) -> Option<u16> {
    let b = *bytes.get(at..)?.first_chunk()?;
    Some(if big {
        u16::from_be_bytes(b)
    } else {
        u16::from_le_bytes(b)
    })
}

impl<'a> Capture<'a> {
    /// Opens a capture by its first bytes.
    ///
    /// # Errors
    /// [`PcapError::NotPcap`] if it is of neither format.
    pub fn new(bytes: &'a [u8]) -> Result<Self, PcapError> {
        let magic = bytes.get(..4).ok_or(PcapError::NotPcap)?;
        let (big, unit_ns) = match magic {
            [0xd4, 0xc3, 0xb2, 0xa1] => (false, 1000),
            [0xa1, 0xb2, 0xc3, 0xd4] => (true, 1000),
            [0x4d, 0x3c, 0xb2, 0xa1] => (false, 1),
            [0xa1, 0xb2, 0x3c, 0x4d] => (true, 1),
            [0x0a, 0x0d, 0x0d, 0x0a] => (false, 0),
            _ => return Err(PcapError::NotPcap),
        };
        let (format, at) = if unit_ns == 0 {
            (Format::Ng(Vec::new()), 0)
        } else {
            // The upper half of the word holds flags of the link layer.
            let link = u32_at(bytes, 20, big).ok_or(PcapError::NotPcap)? as u16;
            (Format::Classic { unit_ns, link }, FILE_HEADER)
        };
        Ok(Self {
            bytes,
            at,
            big,
            format,
            packets: 0,
            failed: false,
        })
    }

    /// Whether the host that wrote the file was big-endian.
    #[must_use]
    pub fn is_big_endian(&self) -> bool {
        self.big
    }

    /// The file header, for a file of the classic format.
    #[must_use]
    pub fn classic_header(&self) -> Option<&'a [u8]> {
        match self.format {
            Format::Classic { .. } => self.bytes.get(..FILE_HEADER),
            Format::Ng(_) => None,
        }
    }

    /// The link type of the file, or of the first interface after the packet read last.
    #[must_use]
    pub fn link(&self) -> Option<u16> {
        self.format.link()
    }

    /// Goes on in other bytes, where a reader left off.
    pub(crate) fn resume(bytes: &'a [u8], state: State) -> Self {
        Self {
            bytes,
            at: state.at,
            big: state.big,
            format: state.format,
            packets: state.packets,
            failed: false,
        }
    }

    pub(crate) fn into_state(self) -> State {
        State {
            at: self.at,
            big: self.big,
            format: self.format,
            packets: self.packets,
        }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next packet. If it is cut, the reader stays before it.
    #[inline]
    pub(crate) fn step_or_cut(&mut self) -> Result<Option<Record<'a>>, PcapError> {
        let record = self.step()?;
        self.packets += usize::from(record.is_some());
        Ok(record)
    }

    fn cut(&self) -> PcapError {
        PcapError::Truncated {
            packet: self.packets + 1,
        }
    }

    fn damaged(&self, what: &'static str) -> PcapError {
        PcapError::Damaged {
            packet: self.packets + 1,
            what,
        }
    }

    fn step(&mut self) -> Result<Option<Record<'a>>, PcapError> {
        if let Format::Classic { unit_ns, link } = self.format {
            return self.classic(unit_ns, link);
        }
        while self.at < self.bytes.len() {
            if let Some(record) = self.block()? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    #[inline]
    fn classic(&mut self, unit_ns: u64, link: u16) -> Result<Option<Record<'a>>, PcapError> {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        if rest.is_empty() {
            return Ok(None);
        }
        let Some(header) = rest.first_chunk::<PACKET_HEADER>() else {
            return Err(self.cut());
        };
        let word = |at: usize| u32_at(header, at, self.big).unwrap_or(0);
        let kept = word(8);
        if kept > PACKET_BYTES_MAX {
            return Err(self.damaged("its length is impossible"));
        }
        let end = PACKET_HEADER + kept as usize;
        let raw = rest.get(..end).ok_or_else(|| self.cut())?;
        self.at += end;
        Ok(Some(Record {
            time_ns: u64::from(word(0)) * 1_000_000_000 + u64::from(word(4)) * unit_ns,
            wire_len: word(12),
            data: &raw[PACKET_HEADER..],
            link,
            raw: Some(raw),
        }))
    }

    /// Reads a block of pcapng; `None` if it holds no packet.
    fn block(&mut self) -> Result<Option<Record<'a>>, PcapError> {
        let rest = &self.bytes[self.at..];
        let kind = u32_at(rest, 0, self.big).ok_or_else(|| self.cut())?;
        if kind == BLOCK_SECTION {
            let magic = u32_at(rest, 8, false).ok_or_else(|| self.cut())?;
            self.big = magic != BYTE_ORDER_MAGIC;
            self.format = Format::Ng(Vec::new());
        }
        let length = u32_at(rest, 4, self.big).ok_or_else(|| self.cut())? as usize;
        if length < 12 || !length.is_multiple_of(4) {
            return Err(self.damaged("the length of its block is impossible"));
        }
        let block = rest.get(..length).ok_or_else(|| self.cut())?;
        self.at += length;
        let body = &block[8..length - 4];
        let wrong = || self.damaged("its block contradicts itself");
        match kind {
            BLOCK_INTERFACE => {
                let interface = interface(body, self.big).ok_or_else(wrong)?;
                if let Format::Ng(interfaces) = &mut self.format {
                    if interfaces.len() == INTERFACES_MAX {
                        return Err(self.damaged("there are too many interfaces"));
                    }
                    interfaces.push(interface);
                }
                Ok(None)
            }
            BLOCK_ENHANCED => self.enhanced(body).map(Some).ok_or_else(wrong),
            BLOCK_SIMPLE => self.simple(body).map(Some).ok_or_else(wrong),
            _ => Ok(None),
        }
    }

    fn interface(&self, index: usize) -> Option<Interface> {
        match &self.format {
            Format::Ng(interfaces) => interfaces.get(index).copied(),
            Format::Classic { .. } => None,
        }
    }

    fn enhanced(&self, body: &'a [u8]) -> Option<Record<'a>> {
        let word = |at| u32_at(body, at, self.big);
        let interface = self.interface(word(0)? as usize)?;
        let ticks = u64::from(word(4)?) << 32 | u64::from(word(8)?);
        let ns = u128::from(ticks) * 1_000_000_000 / u128::from(interface.ticks.max(1));
        Some(Record {
            time_ns: u64::try_from(ns).unwrap_or(u64::MAX),
            wire_len: word(16)?,
            data: body.get(20..20usize.checked_add(word(12)? as usize)?)?,
            link: interface.link,
            raw: None,
        })
    }

    fn simple(&self, body: &'a [u8]) -> Option<Record<'a>> {
        let interface = self.interface(0)?;
        let wire_len = u32_at(body, 0, self.big)?;
        let limit = if interface.snaplen == 0 {
            u32::MAX
        } else {
            interface.snaplen
        };
        Some(Record {
            time_ns: 0,
            wire_len,
            data: body.get(4..4usize.checked_add(wire_len.min(limit) as usize)?)?,
            link: interface.link,
            raw: None,
        })
    }
}

/// An interface description: link type, length limit, clock.
fn interface(body: &[u8], big: bool) -> Option<Interface> {
    let mut interface = Interface {
        link: u16_at(body, 0, big)?,
        snaplen: u32_at(body, 4, big)?,
        ticks: 1_000_000,
    };
    let mut at = 8;
    while let (Some(code), Some(length)) = (u16_at(body, at, big), u16_at(body, at + 2, big)) {
        if code == OPTION_TSRESOL {
            let power = *body.get(at + 4)?;
            let exponent = u32::from(power & 0x7f);
            interface.ticks = if power & 0x80 == 0 {
                10u64.checked_pow(exponent)?
            } else {
                1u64.checked_shl(exponent)?
            };
        }
        at += 4 + usize::from(length).next_multiple_of(4);
    }
    Some(interface)
}

impl<'a> Iterator for Capture<'a> {
    type Item = Result<Record<'a>, PcapError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match self.step() {
            Ok(Some(record)) => {
                self.packets += 1;
                Some(Ok(record))
            }
            Ok(None) => None,
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// Writes a capture of the classic format.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    buffer: Vec<u8>,
    /// Whether packets of a file of the same header are copied as they are.
    copies: bool,
}

impl<W: Write> Writer<W> {
    /// A file with nanoseconds, in this machine's byte order.
    pub fn new(out: W, link: u16, snaplen: u32) -> Self {
        let mut buffer = Vec::with_capacity(WRITE_BYTES + PACKET_BYTES_MAX as usize);
        buffer.extend(0xa1b2_3c4du32.to_ne_bytes());
        buffer.extend(2u16.to_ne_bytes());
        buffer.extend(4u16.to_ne_bytes());
        buffer.extend([0; 8]);
        buffer.extend(snaplen.to_ne_bytes());
        buffer.extend(u32::from(link).to_ne_bytes());
        Self {
            out,
            buffer,
            copies: false,
        }
    }

    /// A file with the header of another one, whose packets are then copied as they are.
    pub fn like(out: W, header: &[u8]) -> Self {
        let mut buffer = Vec::with_capacity(WRITE_BYTES + PACKET_BYTES_MAX as usize);
        buffer.extend(header);
        Self {
            out,
            buffer,
            copies: true,
        }
    }

    /// Adds a packet.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        match record.raw {
            Some(raw) if self.copies => self.buffer.extend_from_slice(raw),
            _ => {
                let seconds = (record.time_ns / 1_000_000_000) as u32;
                let fraction = (record.time_ns % 1_000_000_000) as u32;
                let kept = record.data.len() as u32;
                for word in [seconds, fraction, kept, record.wire_len] {
                    self.buffer.extend(word.to_ne_bytes());
                }
                self.buffer.extend_from_slice(record.data);
            }
        }
        if self.buffer.len() >= WRITE_BYTES {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(data: &[u8]) -> Record<'_> {
        Record {
            time_ns: 1_700_000_000_123_456_789,
            wire_len: 99,
            data,
            link: 1,
            raw: None,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, 1, 262_144);
        for data in [&[1u8, 2, 3][..], &[], &[9; 100]] {
            writer.write(&record(data)).unwrap();
        }
        writer.finish().unwrap();
        let read: Vec<Record<'_>> = Capture::new(&bytes).unwrap().map(Result::unwrap).collect();
        assert_eq!(read.len(), 3);
        assert_eq!(read[0].time_ns, 1_700_000_000_123_456_789);
        assert_eq!((read[2].data.len(), read[2].wire_len), (100, 99));
    }

    #[test]
    fn a_cut_file_gives_what_is_whole() {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, 1, 262_144);
        writer.write(&record(&[1; 10])).unwrap();
        writer.write(&record(&[2; 10])).unwrap();
        writer.finish().unwrap();
        for cut in [bytes.len() - 1, bytes.len() - 20] {
            let all: Vec<_> = Capture::new(&bytes[..cut]).unwrap().collect();
            assert!(all[0].is_ok());
            assert_eq!(all[1], Err(PcapError::Truncated { packet: 2 }));
            assert_eq!(all.len(), 2);
        }
    }

    #[test]
    fn blocks_of_either_byte_order() {
        for big in [false, true] {
            let word = |v: u32| {
                if big {
                    v.to_be_bytes()
                } else {
                    v.to_le_bytes()
                }
            };
            let block = |kind: u32, body: &[u8]| {
                let length = word(body.len() as u32 + 12);
                [&word(kind)[..], &length, body, &length].concat()
            };
            let section = [&word(BYTE_ORDER_MAGIC)[..], &[0; 12]].concat();
            let link = if big { [0, 113] } else { [113, 0] };
            let interface = [&link[..], &[0; 2], &word(0)].concat();
            let packet = [
                &word(0)[..],
                &word(0),
                &word(5_000_000),
                &word(3),
                &word(60),
                &[7, 8, 9, 0],
            ]
            .concat();
            let file = [
                block(BLOCK_SECTION, &section),
                block(BLOCK_INTERFACE, &interface),
                block(BLOCK_ENHANCED, &packet),
            ]
            .concat();
            let all: Vec<_> = Capture::new(&file).unwrap().map(Result::unwrap).collect();
            assert_eq!(all.len(), 1);
            assert_eq!((all[0].time_ns, all[0].link), (5_000_000_000, 113));
            assert_eq!((all[0].data, all[0].wire_len), (&[7u8, 8, 9][..], 60));
        }
    }
}
