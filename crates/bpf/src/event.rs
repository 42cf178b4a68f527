//! What programs emit: ring buffer records, perf samples, trace lines; and what they take: samples of user ring buffers.

use crate::Result;
use std::os::fd::RawFd;

/// One thing a program emitted.
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend, map: Handle) -> Result<()> {
///     let mut reader = backend.events_open(map)?;
///     reader.drain(&mut |event| match event {
///         Event::Record(data) | Event::Sample { data, .. } => println!("{} bytes", data.len()),
///         Event::Lost { cpu, count } => println!("{count} lost on CPU {cpu}"),
///         Event::Trace(line) => println!("{line}"),
///     })?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// A record of a ring buffer.
    Record(&'a [u8]),
    /// A sample of a perf event array; the kernel may have padded it at the end.
    Sample {
        /// Where the program ran.
        cpu: u32,
        /// The bytes.
        data: &'a [u8],
    },
    /// Samples that had no room.
    Lost {
        /// Where the program ran.
        cpu: u32,
        /// How many.
        count: u64,
    },
    /// A line of `bpf_trace_printk`, without its line end.
    Trace(&'a str),
}

/// How full a buffer is.
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend, map: Handle) -> Result<()> {
///     let reader = backend.events_open(map)?;
///     if let Some(Fill { bytes, capacity }) = reader.fill() {
///         println!("{bytes} of {capacity} bytes wait");
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fill {
    /// Bytes that wait, with the headers of their records.
    pub bytes: u64,
    /// Bytes that there is room for.
    pub capacity: u64,
}

/// A stream of events.
///
/// ```
/// # use skep_bpf::*;
/// # use skep_abi::*;
/// fn example(backend: &dyn Backend, map: Handle) -> Result<()> {
///     let mut reader: Box<dyn EventReader> = backend.events_open(map)?;
///     let count = reader.drain(&mut |event| println!("{event:?}"))?;
///     println!("{count} events, {:?} lost", reader.lost());
///     Ok(())
/// }
/// ```
pub trait EventReader: Send {
    /// A descriptor that polls readable when events wait (an epoll descriptor, where there are several); `None` if the
    /// backend has none, and [`Self::drain`] is to be called from time to time.
    fn descriptor(&self) -> Option<RawFd>;

    /// Hands every waiting event to `each`, oldest first per CPU, without blocking; returns how many there were.
    ///
    /// # Errors
    /// Those of the backend's reads.
    fn drain(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<usize>;

    /// Records that had no room, as far as they were drained; `None` where nobody counts them: a program learns from
    /// `bpf_ringbuf_reserve` that a ring buffer is full, its reader does not. See [`Self::fill`] for those.
    fn lost(&self) -> Option<u64> {
        None
    }

    /// How full the buffer is; `None` where that cannot be told. A ring buffer near its capacity is about to lose records.
    fn fill(&self) -> Option<Fill> {
        None
    }
}

/// Hands samples to programs, which take them with `bpf_user_ringbuf_drain`.
///
/// ```
/// # use skep_bpf::*;
/// fn example(backend: &dyn Backend, map: Handle) -> Result<()> {
///     let mut writer: Box<dyn SampleWriter> = backend.samples_open(map)?;
///     if !writer.write(b"a sample")? {
///         println!("programs have to drain some first");
///     }
///     Ok(())
/// }
/// ```
pub trait SampleWriter: Send {
    /// Appends a sample; false if there is no room for it before programs have drained others.
    ///
    /// # Errors
    /// `E2BIG` for one that the buffer has never room for.
    fn write(&mut self, sample: &[u8]) -> Result<bool>;
}
