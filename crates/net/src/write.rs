//! Writing captures of the classic format.

use crate::capture::{PACKET_BYTES_MAX, Record};
use std::io::{self, Write};

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 1 << 18;

/// Writes a capture of the classic format.
///
/// ```
/// use skep_net::capture::read;
/// use skep_net::write::Writer;
///
/// let file = std::fs::read("../../examples/web.pcap")?;
/// let mut kept = Vec::new();
/// let mut writer = Writer::new(&mut kept, skep_net::capture::ETHERNET, 65_535);
/// for record in read(&file)?.iter().filter(|r| r.wire_len > 100) {
///     writer.write(record)?;
/// }
/// writer.finish()?;
/// assert!(read(&kept)?.len() < read(&file)?.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
