//! Captures packet by packet: both formats, both byte orders, and files that end too early.
//!
//! A [`Capture`] borrows the bytes of the file and copies nothing. It gives all packets before a cut and then says so;
//! [`read`] refuses such a file. Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.

use crate::error::PcapError;

/// Bytes of the file header of the classic format, and of a packet's.
pub(crate) const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
/// Packets longer than this are taken for damage (`MAXIMUM_SNAPLEN` of libpcap).
pub(crate) const PACKET_BYTES_MAX: u32 = 262_144;
/// Link type of Ethernet.
pub const ETHERNET: u16 = 1;
/// Most interfaces a pcapng section may have here.
const INTERFACES_MAX: usize = 1 << 16;

const BLOCK_SECTION: u32 = 0x0a0d_0d0a;
const BLOCK_INTERFACE: u32 = 1;
const BLOCK_SIMPLE: u32 = 3;
const BLOCK_ENHANCED: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const OPTION_TSRESOL: u16 = 9;

/// A packet of a capture.
///
/// ```
/// let file = std::fs::read("../../examples/web.pcap")?;
/// let record = skep_net::capture::read(&file)?.remove(0);
/// assert!(record.data.len() <= record.wire_len as usize);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

/// What a reader knows between two packets; its place counts in the bytes it is given.
#[derive(Debug)]
pub(crate) struct Cursor {
    at: usize,
    big: bool,
    format: Format,
    packets: usize,
}

/// A capture that is being read.
///
/// ```
/// use skep_net::capture::Capture;
///
/// let file = std::fs::read("../../examples/web.pcap")?;
/// let mut bytes = 0;
/// for record in Capture::new(&file)? {
///     bytes += u64::from(record?.wire_len);
/// }
/// assert!(bytes > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Capture<'a> {
    bytes: &'a [u8],
    cursor: Cursor,
    failed: bool,
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
        Ok(Self {
            bytes,
            cursor: Cursor::open(bytes)?,
            failed: false,
        })
    }
}

impl<'a> Iterator for Capture<'a> {
    type Item = Result<Record<'a>, PcapError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let result = self.cursor.step(self.bytes);
        self.failed = result.is_err();
        result.transpose()
    }
}

/// Reads every packet of a capture.
///
/// # Errors
/// [`PcapError`]; a capture that is cut is an error, not a shorter capture.
pub fn read(bytes: &[u8]) -> Result<Vec<Record<'_>>, PcapError> {
    Capture::new(bytes)?.collect()
}

impl Cursor {
    /// The start of a capture, by its first bytes.
    pub(crate) fn open(bytes: &[u8]) -> Result<Self, PcapError> {
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
            at,
            big,
            format,
            packets: 0,
        })
    }

    pub(crate) fn is_big_endian(&self) -> bool {
        self.big
    }

    pub(crate) fn is_classic(&self) -> bool {
        matches!(self.format, Format::Classic { .. })
    }

    /// The link type of the file, or of the first interface read so far.
    pub(crate) fn link(&self) -> Option<u16> {
        match &self.format {
            Format::Classic { link, .. } => Some(*link),
            Format::Ng(interfaces) => interfaces.first().map(|i| i.link),
        }
    }

    /// Goes on to the first interface, or to the end of the bytes.
    pub(crate) fn seek_interface(&mut self, bytes: &[u8]) -> Result<(), PcapError> {
        while self.link().is_none() && self.at < bytes.len() {
            // A packet before any interface is an error.
            self.block(bytes)?;
        }
        Ok(())
    }

    /// Bytes that are done; they are given up.
    pub(crate) fn take_place(&mut self) -> usize {
        std::mem::take(&mut self.at)
    }

    pub(crate) fn too_long(&self) -> PcapError {
        self.damaged("its block is longer than 16 MiB")
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

    /// The next packet; `None` at the end of the bytes. If a packet is cut, the cursor stays before it.
    #[inline]
    pub(crate) fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Record<'a>>, PcapError> {
        if let Format::Classic { unit_ns, link } = self.format {
            return self.classic(bytes, unit_ns, link);
        }
        self.blocks(bytes)
    }

    fn blocks<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Record<'a>>, PcapError> {
        while self.at < bytes.len() {
            if let Some(record) = self.block(bytes)? {
                self.packets += 1;
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    #[inline]
    fn classic<'a>(
        &mut self,
        bytes: &'a [u8],
        unit_ns: u64,
        link: u16,
    ) -> Result<Option<Record<'a>>, PcapError> {
        let rest = bytes.get(self.at..).unwrap_or_default();
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
        self.packets += 1;
        Ok(Some(Record {
            time_ns: u64::from(word(0)) * 1_000_000_000 + u64::from(word(4)) * unit_ns,
            wire_len: word(12),
            data: &raw[PACKET_HEADER..],
            link,
            raw: Some(raw),
        }))
    }

    /// Reads a block of pcapng; `None` if it holds no packet.
    fn block<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Record<'a>>, PcapError> {
        let rest = &bytes[self.at..];
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

    fn enhanced<'a>(&self, body: &'a [u8]) -> Option<Record<'a>> {
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

    fn simple<'a>(&self, body: &'a [u8]) -> Option<Record<'a>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::Writer;

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

    /// A classic capture of two packets, of 3 and 5 bytes.
    fn classic() -> Vec<u8> {
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
    fn ng() -> Vec<u8> {
        let block = |kind: u32, body: &[u8]| {
            let mut body = body.to_vec();
            body.resize(body.len().next_multiple_of(4), 0);
            let length = (body.len() as u32 + 12).to_be_bytes();
            [&kind.to_be_bytes()[..], &length, &body, &length].concat()
        };
        let section = [
            &BYTE_ORDER_MAGIC.to_be_bytes()[..],
            &[0, 1, 0, 0],
            &[255; 8],
        ]
        .concat();
        let mut bytes = block(BLOCK_SECTION, &section);
        let interface = [0, 1, 0, 0, 0, 4, 0, 0, 0, 9, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(block(BLOCK_INTERFACE, &interface));
        for (second, data) in [(1u64, &b"abc"[..]), (2, b"defgh")] {
            let ticks = second * 1_000_000_000 + 500_000;
            let words = [0, (ticks >> 32) as u32, ticks as u32, data.len() as u32, 60];
            let mut body: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
            body.extend(data);
            bytes.extend(block(BLOCK_ENHANCED, &body));
        }
        bytes
    }

    #[test]
    fn both_formats_give_the_same_packets() {
        let (classic, ng) = (classic(), ng());
        let facts = |bytes| -> Vec<(u64, u32, Vec<u8>, u16)> {
            let all = read(bytes).unwrap().into_iter();
            all.map(|r| (r.time_ns, r.wire_len, r.data.to_vec(), r.link))
                .collect()
        };
        let expected = vec![
            (1_000_500_000, 60, b"abc".to_vec(), 1),
            (2_000_500_000, 60, b"defgh".to_vec(), 1),
        ];
        assert_eq!(facts(&classic), expected);
        assert_eq!(facts(&ng), expected);
    }

    #[test]
    fn a_cut_capture_is_an_error_wherever_it_is_cut() {
        let whole = classic();
        for end in FILE_HEADER + 1..whole.len() {
            let at_boundary = end == FILE_HEADER + PACKET_HEADER + 3;
            assert_eq!(read(&whole[..end]).is_ok(), at_boundary, "cut at {end}");
        }
        assert_eq!(read(b"not a capture"), Err(PcapError::NotPcap));
        assert_eq!(read(b""), Err(PcapError::NotPcap));
        let ng = ng();
        for end in 0..ng.len() {
            let _ = read(&ng[..end]); // does not panic
        }
    }
}
