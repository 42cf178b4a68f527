//! Records of ring and perf buffers with their type.

use super::{MapHandle, Plain};
use skep_bpf::{Event, EventReader, Fill, Result};
use std::marker::PhantomData;
use std::os::fd::RawFd;

/// A ring buffer or perf event array whose records are `T`.
#[derive(Clone, Copy, Debug)]
pub struct Events<'a, T> {
    map: MapHandle<'a>,
    record: PhantomData<T>,
}

impl<'a, T: Plain> From<MapHandle<'a>> for Events<'a, T> {
    fn from(map: MapHandle<'a>) -> Self {
        Self {
            map,
            record: PhantomData,
        }
    }
}

/// One thing that arrived.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum TypedEvent<'a, T> {
    /// A record, and what follows its type's bytes: padding of perf samples, or a tail of variable size.
    Record(T, &'a [u8]),
    /// A record too short for its type.
    Short(&'a [u8]),
    /// Records that had no room, and the CPU that lost them.
    Lost {
        /// The CPU.
        cpu: u32,
        /// How many.
        count: u64,
    },
}

/// Reads events; dropping it ends the stream.
pub struct TypedReader<T> {
    reader: Box<dyn EventReader>,
    record: PhantomData<T>,
}

impl<T> std::fmt::Debug for TypedReader<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TypedReader").finish_non_exhaustive()
    }
}

impl<T: Plain> Events<'_, T> {
    /// Opens the stream of records; a map has one reader.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn open(&self) -> Result<TypedReader<T>> {
        Ok(TypedReader {
            reader: self.map.backend().events_open(self.map.handle())?,
            record: PhantomData,
        })
    }
}

impl<T: Plain> TypedReader<T> {
    /// A descriptor that polls readable when records wait; `None` if [`Self::drain`] is to be called from time to time.
    #[must_use]
    pub fn descriptor(&self) -> Option<RawFd> {
        self.reader.descriptor()
    }

    /// Hands every waiting event to `each` without blocking; returns how many there were.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn drain(&mut self, mut each: impl FnMut(TypedEvent<'_, T>)) -> Result<usize> {
        self.reader
            .drain(&mut |event| TypedEvent::of(event, &mut each))
    }

    /// Records that had no room so far, see [`EventReader::lost`].
    #[must_use]
    pub fn lost(&self) -> Option<u64> {
        self.reader.lost()
    }

    /// How full the buffer is, see [`EventReader::fill`].
    #[must_use]
    pub fn fill(&self) -> Option<Fill> {
        self.reader.fill()
    }

    /// The reader without the type.
    #[must_use]
    pub fn into_inner(self) -> Box<dyn EventReader> {
        self.reader
    }
}

impl<'a, T: Plain> TypedEvent<'a, T> {
    /// Hands an event to `each` with its type; lines of the trace stream have none.
    pub(crate) fn of(event: Event<'a>, each: &mut impl FnMut(Self)) {
        match event {
            Event::Record(data) | Event::Sample { data, .. } => each(typed(data)),
            Event::Lost { cpu, count } => each(TypedEvent::Lost { cpu, count }),
            Event::Trace(_) => {}
        }
    }
}

/// A record and what follows it.
fn typed<T: Plain>(data: &[u8]) -> TypedEvent<'_, T> {
    match T::read_from_prefix(data) {
        Ok((record, rest)) => TypedEvent::Record(record, rest),
        Err(_) => TypedEvent::Short(data),
    }
}
