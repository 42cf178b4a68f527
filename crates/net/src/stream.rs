//! Captures from anything that can be read, in bounded memory: a window over the bytes, moved on as packets are taken.

use crate::capture::{Cursor, FILE_HEADER, Record};
use crate::error::PcapError;
use std::io::{self, Read};

/// Bytes asked for at a time.
const READ_BYTES: usize = 1 << 18;
/// Longest block or packet: as in libpcap, 16 MiB.
const WINDOW_BYTES_MAX: usize = 16 << 20;

/// Why a capture gives no more packets.
///
/// ```
/// use skep_net::stream::{Stream, StreamError};
///
/// let error = Stream::new(&b"not a capture, whatever it is"[..]).err();
/// assert!(matches!(error, Some(StreamError::Capture(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

/// A capture that is read as it goes.
///
/// ```
/// use skep_net::stream::Stream;
///
/// let file = std::fs::File::open("../../examples/web.pcap")?;
/// let mut stream = Stream::new(file)?;
/// let mut count = 0;
/// while let Some(batch) = stream.batch()? {
///     for record in batch {
///         count += usize::from(record?.data.len() >= 14);
///     }
/// }
/// assert_eq!(count, 71);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Stream<R> {
    source: R,
    window: Vec<u8>,
    /// Bytes of the window that hold something.
    filled: usize,
    /// The source has no more bytes.
    ended: bool,
    /// All packets that are whole in the window were taken.
    drained: bool,
    failed: bool,
    /// The reader between packets; its place counts in the window.
    cursor: Cursor,
    header: Option<[u8; FILE_HEADER]>,
}

/// The packets that are whole in the window, one after the other.
///
/// ```
/// use skep_net::stream::Stream;
///
/// let file = std::fs::File::open("../../examples/web.pcap")?;
/// let mut stream = Stream::new(file)?;
/// let mut count = 0;
/// while let Some(batch) = stream.batch()? {
///     for record in batch {
///         count += usize::from(record?.data.len() >= 14);
///     }
/// }
/// assert_eq!(count, 71);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Batch<'s> {
    window: &'s [u8],
    cursor: &'s mut Cursor,
    ended: bool,
    drained: &'s mut bool,
    failed: &'s mut bool,
}

impl<'s> Iterator for Batch<'s> {
    type Item = Result<Record<'s>, StreamError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.cursor.step(self.window) {
            Ok(Some(record)) => Some(Ok(record)),
            other => self.end(other.err()).map(Err),
        }
    }
}

impl Batch<'_> {
    /// Notes that there are no more packets here, and whether that is an error, which is told once.
    #[cold]
    fn end(&mut self, error: Option<PcapError>) -> Option<StreamError> {
        *self.drained = true;
        match error {
            // The rest of the packet is still to be read.
            Some(PcapError::Truncated { .. }) if !self.ended => None,
            Some(error) if !*self.failed => {
                *self.failed = true;
                Some(StreamError::Capture(error))
            }
            _ => None,
        }
    }
}

fn read(source: &mut impl Read, into: &mut [u8]) -> Result<usize, StreamError> {
    loop {
        match source.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(StreamError::Io),
        }
    }
}

impl<R: Read> Stream<R> {
    /// Opens a capture by its first bytes.
    ///
    /// # Errors
    /// If it is of neither format, or cannot be read.
    pub fn new(mut source: R) -> Result<Self, StreamError> {
        let mut window = vec![0; READ_BYTES];
        let (mut filled, mut ended) = (0, false);
        while filled < FILE_HEADER && !ended {
            let count = read(&mut source, &mut window[filled..])?;
            ended = count == 0;
            filled += count;
        }
        let start = &window[..filled];
        let cursor = Cursor::open(start).map_err(StreamError::Capture)?;
        let header = start.first_chunk().copied().filter(|_| cursor.is_classic());
        Ok(Self {
            source,
            window,
            filled,
            ended,
            drained: false,
            failed: false,
            cursor,
            header,
        })
    }

    /// Whether the host that wrote the file was big-endian.
    #[must_use]
    pub fn is_big_endian(&self) -> bool {
        self.cursor.is_big_endian()
    }

    /// The file header, for a file of the classic format.
    #[must_use]
    pub fn classic_header(&self) -> Option<&[u8]> {
        self.header.as_ref().map(<[u8; _]>::as_slice)
    }

    /// The link type of the file, or of its first interface; `None` if it has none.
    ///
    /// # Errors
    /// If the capture is cut or damaged before its first interface, or cannot be read.
    pub fn link(&mut self) -> Result<Option<u16>, StreamError> {
        while self.cursor.link().is_none() {
            match self.cursor.seek_interface(&self.window[..self.filled]) {
                Ok(()) if self.cursor.link().is_some() => break,
                Ok(()) if self.ended => return Ok(None),
                Err(PcapError::Truncated { .. }) if !self.ended => self.fill()?,
                Err(error) => return Err(StreamError::Capture(error)),
                Ok(()) => self.fill()?,
            }
        }
        Ok(self.cursor.link())
    }

    /// Reads more: first what is done is given up.
    fn fill(&mut self) -> Result<(), StreamError> {
        let done = self.cursor.take_place();
        self.window.copy_within(done..self.filled, 0);
        self.filled -= done;
        if self.filled == self.window.len() {
            if self.window.len() >= WINDOW_BYTES_MAX {
                return Err(StreamError::Capture(self.cursor.too_long()));
            }
            self.window.resize(self.window.len() * 2, 0);
        }
        let count = read(&mut self.source, &mut self.window[self.filled..])?;
        self.ended = count == 0;
        self.filled += count;
        Ok(())
    }

    /// The packets that are there; more are waited for if there are none. `None` at the end, and after an error.
    ///
    /// # Errors
    /// If the source cannot be read, or a block is too long.
    pub fn batch(&mut self) -> Result<Option<Batch<'_>>, StreamError> {
        if self.failed || self.drained && self.ended {
            return Ok(None);
        }
        if self.drained {
            self.fill().inspect_err(|_| self.failed = true)?;
            self.drained = false;
        }
        Ok(Some(Batch {
            window: &self.window[..self.filled],
            cursor: &mut self.cursor,
            ended: self.ended,
            drained: &mut self.drained,
            failed: &mut self.failed,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::Writer;

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
        while let Some(batch) = stream.batch().unwrap() {
            for record in batch {
                match record {
                    Ok(record) => all.push(record.data.len()),
                    Err(_) => return (all, false),
                }
            }
        }
        (all, true)
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
