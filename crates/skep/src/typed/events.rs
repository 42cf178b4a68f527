//! Records of ring and perf buffers with their type.

use super::{MapHandle, Plain};
use skep_bpf::{Event, EventReader, Fill, Result};
use std::marker::PhantomData;
use std::os::fd::RawFd;

/// A ring buffer or perf event array whose records are `T`.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../tests/objects/emit.bpf.o")?, "emit.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::typed::{Events, Program, RawMap, map};
///
/// let records: RawMap<'_> = map(&loaded, "records").ok_or("no such map")?;
/// let mut reader = Events::<[u32; 2]>::from(records).open()?;
/// let input = skep::test_run::Input { data: Some(vec![0; 64]), ctx: None };
/// Program::of(&loaded, "emit").ok_or("no such program")?.test_run(&input)?;
/// assert_eq!(reader.drain(|event| println!("{event:?}"))?, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../tests/objects/emit.bpf.o")?, "emit.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::typed::{Events, Program, RawMap, TypedEvent, map};
///
/// let records: RawMap<'_> = map(&loaded, "records").ok_or("no such map")?;
/// let mut reader = Events::<[u32; 2]>::from(records).open()?;
/// # let input = skep::test_run::Input { data: Some(vec![0; 64]), ctx: None };
/// # Program::of(&loaded, "emit").ok_or("no such program")?.test_run(&input)?;
/// reader.drain(|event| match event {
///     TypedEvent::Record([run, bytes], _rest) => assert_eq!((run, bytes), (1, 64)),
///     TypedEvent::Short(bytes) => println!("{} bytes are no record", bytes.len()),
///     TypedEvent::Lost { cpu, count } => println!("{count} lost on CPU {cpu}"),
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../tests/objects/emit.bpf.o")?, "emit.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::typed::{Events, RawMap, TypedReader, map};
///
/// let records: RawMap<'_> = map(&loaded, "records").ok_or("no such map")?;
/// let mut reader: TypedReader<[u32; 2]> = Events::from(records).open()?;
/// assert_eq!(reader.drain(|event| println!("{event:?}"))?, 0);
/// assert!(reader.fill().is_none_or(|f| f.bytes == 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
