//! Captures from anything that can be read, in bounded memory: a window over the bytes, moved on as packets are taken.

use crate::capture::{Capture, Record};
use crate::pcap::PcapError;
use std::io::{self, Read};
use std::ops::Range;

/// Bytes asked for at a time.
const READ_BYTES: usize = 1 << 18;
/// Longest block or packet: as in libpcap, 16 MiB.
const WINDOW_BYTES_MAX: usize = 16 << 20;

/// Why a capture gives no more packets.
#[derive(Debug)]
pub enum StreamError {
    /// The bytes are no capture, or damaged.
    Capture(PcapError),
    /// They cannot be read.
    Io(io::Error),
}

impl std::fmt::Display for StreamError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Capture(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StreamError {}

/// A record, with places in the window instead of bytes.
struct Found {
    time_ns: u64,
    wire_len: u32,
    link: u16,
    data: Range<usize>,
    raw: Option<Range<usize>>,
}

/// A capture that is read as it goes.
#[derive(Debug)]
pub struct Stream<R> {
    source: R,
    window: Vec<u8>,
    /// Bytes of the window that hold something.
    filled: usize,
    ended: bool,
    failed: bool,
    /// The reader's state between packets; its place counts in the window.
    state: crate::capture::State,
    header: Option<[u8; crate::capture::FILE_HEADER]>,
}

impl<R: Read> Stream<R> {
    /// Opens a capture by its first bytes.
    ///
    /// # Errors
    /// If it is of neither format, or cannot be read.
    pub fn new(source: R) -> Result<Self, StreamError> {
        let mut stream = Self {
            source,
            window: vec![0; READ_BYTES],
            filled: 0,
            ended: false,
            failed: false,
            state: crate::capture::State::default(),
            header: None,
        };
        while stream.filled < crate::capture::FILE_HEADER && !stream.ended {
            stream.fill()?;
        }
        let capture =
            Capture::new(&stream.window[..stream.filled]).map_err(StreamError::Capture)?;
        stream.header = capture
            .classic_header()
            .and_then(|header| header.first_chunk().copied());
        stream.state = capture.into_state();
        Ok(stream)
    }

    /// Whether the host that wrote the file was big-endian.
    #[must_use]
    pub fn is_big_endian(&self) -> bool {
        self.state.is_big_endian()
    }

    /// The file header, for a file of the classic format.
    #[must_use]
    pub fn classic_header(&self) -> Option<&[u8]> {
        self.header.as_ref().map(<[u8; _]>::as_slice)
    }

    /// The link type of the file, or of the first interface seen.
    #[must_use]
    pub fn link(&self) -> Option<u16> {
        self.state.link()
    }

    /// Reads more: first what is done is given up.
    fn fill(&mut self) -> Result<(), StreamError> {
        let done = self.state.take_place();
        self.window.copy_within(done..self.filled, 0);
        self.filled -= done;
        if self.filled == self.window.len() {
            if self.window.len() >= WINDOW_BYTES_MAX {
                return Err(StreamError::Capture(self.state.too_long()));
            }
            self.window.resize(self.window.len() * 2, 0);
        }
        loop {
            match self.source.read(&mut self.window[self.filled..]) {
                Ok(count) => {
                    self.ended = count == 0;
                    self.filled += count;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StreamError::Io(error)),
            }
        }
    }

    fn find(&mut self) -> Result<Option<Found>, StreamError> {
        loop {
            let window = &self.window[..self.filled];
            let mut capture = Capture::resume(window, std::mem::take(&mut self.state));
            let result = capture.step_or_cut();
            let within = |part: &[u8]| {
                let start = part.as_ptr() as usize - window.as_ptr() as usize;
                start..start + part.len()
            };
            let found = result.map(|record| {
                record.map(|record| Found {
                    time_ns: record.time_ns,
                    wire_len: record.wire_len,
                    link: record.link,
                    data: within(record.data),
                    raw: record.raw.map(within),
                })
            });
            let at_end = capture.is_at_end();
            self.state = capture.into_state();
            match found {
                Ok(None) if at_end && !self.ended => {}
                Err(PcapError::Truncated { .. }) if !self.ended => {}
                found => return found.map_err(StreamError::Capture),
            }
            self.fill()?;
        }
    }

    /// The next packet; after an error there are none.
    pub fn next_record(&mut self) -> Option<Result<Record<'_>, StreamError>> {
        if self.failed {
            return None;
        }
        match self.find() {
            Ok(None) => None,
            Ok(Some(found)) => Some(Ok(Record {
                time_ns: found.time_ns,
                wire_len: found.wire_len,
                link: found.link,
                data: &self.window[found.data],
                raw: found.raw.map(|raw| &self.window[raw]),
            })),
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Writer;

    /// Gives one byte at a time.
    struct Drops<'a>(&'a [u8]);

    impl Read for Drops<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = out.len().min(1).min(self.0.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn lengths(source: impl Read) -> (Vec<usize>, bool) {
        let mut stream = Stream::new(source).unwrap();
        let mut all = Vec::new();
        loop {
            match stream.next_record() {
                None => return (all, true),
                Some(Err(_)) => return (all, false),
                Some(Ok(record)) => all.push(record.data.len()),
            }
        }
    }

    #[test]
    fn a_window_gives_the_same_packets() {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, 1, 262_144);
        let data = vec![7; 200_000];
        let sizes = [0, 3, 200_000, 1, 199_999];
        for length in sizes {
            let record = Record {
                time_ns: 5,
                wire_len: 9,
                data: &data[..length],
                link: 1,
                raw: None,
            };
            writer.write(&record).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(lengths(&bytes[..]), (sizes.to_vec(), true));
        assert_eq!(lengths(Drops(&bytes[..300])), (vec![0, 3], false));
        assert_eq!(
            lengths(&bytes[..bytes.len() - 1]),
            (sizes[..4].to_vec(), false)
        );
    }
}
