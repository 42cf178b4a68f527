//! Events without a thread that waits for them: readers for tokio (feature `tokio`).
//!
//! ```no_run
//! # #[cfg(feature = "tokio")]
//! # async fn read(map: skep_bpf::Handle) -> Result<(), Box<dyn std::error::Error>> {
//! use skep_bpf::{Backend, Event};
//!
//! let kernel = skep::Kernel::new();
//! let mut stream = skep::stream::Stream::new(kernel.events_open(map)?)?;
//! loop {
//!     stream
//!         .next(&mut |event| {
//!             if let Event::Record(bytes) = event {
//!                 println!("{} bytes", bytes.len());
//!             }
//!         })
//!         .await?;
//! }
//! # }
//! ```

use crate::typed::{Plain, TypedEvent, TypedReader};
use skep_bpf::{Errno, Error, Event, EventReader, Result};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How often a backend without descriptors is asked.
const POLL: Duration = Duration::from_millis(10);

/// Reads events as they come.
///
/// ```no_run
/// # async fn example(kernel: skep::Kernel, map: skep_bpf::Handle) -> Result<(), Box<dyn std::error::Error>> {
/// use skep::stream::Stream;
/// use skep_bpf::Backend;
///
/// let mut stream = Stream::new(kernel.events_open(map)?)?;
/// stream.next(&mut |event| println!("{event:?}")).await?;
/// # Ok(())
/// # }
/// ```
pub struct Stream {
    /// Watches a descriptor of the reader's, which stays open on its own.
    ready: Option<AsyncFd<OwnedFd>>,
    reader: Box<dyn EventReader>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Stream {
    /// Watches a reader; must be called within a tokio runtime that has its I/O and time enabled.
    ///
    /// # Errors
    /// If the descriptor cannot be watched.
    pub fn new(reader: Box<dyn EventReader>) -> io::Result<Self> {
        Ok(Self {
            ready: reader.descriptor().map(watch).transpose()?,
            reader,
        })
    }

    /// Waits until there are events and hands all that wait to `each`; returns how many there were, at least one. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// Those of the reader.
    pub async fn next(&mut self, each: &mut (dyn FnMut(Event<'_>) + Send)) -> Result<usize> {
        loop {
            // What arrives after this wakes the wait below, which sees changes only.
            let count = self.reader.drain(each)?;
            if count > 0 {
                return Ok(count);
            }
            match &self.ready {
                Some(ready) => ready
                    .readable()
                    .await
                    .map_err(|e| failed(&e))?
                    .clear_ready(),
                None => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Records that had no room so far, see [`EventReader::lost`].
    #[must_use]
    pub fn lost(&self) -> Option<u64> {
        self.reader.lost()
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for descriptors that may be closed meanwhile; this one is owned"
)]
fn watch(fd: RawFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(skep_sys::bpf::duplicate(fd)?, Interest::READABLE)
}

fn failed(error: &io::Error) -> Error {
    Error {
        errno: Errno(error.raw_os_error().unwrap_or(Errno::EIO.0)),
        what: "events of a map".to_owned(),
        detail: error.to_string(),
        log: String::new(),
    }
}

/// Reads records of one type as they come.
///
/// ```no_run
/// # async fn example(loaded: skep::load::Loaded) -> Result<(), Box<dyn std::error::Error>> {
/// use skep::stream::TypedStream;
/// use skep::typed::{Events, RawMap, map};
///
/// let raw: RawMap<'_> = map(&loaded, "new_flows").ok_or("no such map")?;
/// let mut stream = TypedStream::new(Events::<[u8; 40]>::from(raw).open()?)?;
/// stream.next(|event| println!("{event:?}")).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TypedStream<T> {
    stream: Stream,
    record: std::marker::PhantomData<T>,
}

impl<T: Plain> TypedStream<T> {
    /// Watches a reader, see [`Stream::new`].
    ///
    /// # Errors
    /// If the descriptor cannot be watched.
    pub fn new(reader: TypedReader<T>) -> io::Result<Self> {
        Ok(Self {
            stream: Stream::new(reader.into_inner())?,
            record: std::marker::PhantomData,
        })
    }

    /// Waits until there are events and hands all that wait to `each`, see [`Stream::next`].
    ///
    /// # Errors
    /// Those of the reader.
    pub async fn next(&mut self, mut each: impl FnMut(TypedEvent<'_, T>) + Send) -> Result<usize> {
        self.stream
            .next(&mut |event| TypedEvent::of(event, &mut each))
            .await
    }

    /// Records that had no room so far, see [`EventReader::lost`].
    #[must_use]
    pub fn lost(&self) -> Option<u64> {
        self.stream.lost()
    }
}
