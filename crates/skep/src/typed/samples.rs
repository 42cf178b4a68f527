//! Samples with their type, for programs that drain a user ring buffer.

use super::{MapHandle, Plain};
use skep_bpf::{Result, SampleWriter};
use std::marker::PhantomData;

/// A user ring buffer whose samples are `T`.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../tests/objects/drain.bpf.o")?, "drain.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::typed::{Program, RawMap, Samples, map};
///
/// let samples: RawMap<'_> = map(&loaded, "samples").ok_or("no such map")?;
/// let mut writer = Samples::<[u8; 4]>::from(samples).open()?;
/// assert!(writer.write(&[5, 0, 0, 0])?);
/// // The program counts samples and adds up their first bytes.
/// let input = skep::test_run::Input { data: Some(vec![0; 64]), ctx: None };
/// let run = Program::of(&loaded, "drain").ok_or("no such program")?.test_run(&input)?;
/// assert_eq!(run.retval, 5 << 16 | 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a, T> {
    map: MapHandle<'a>,
    sample: PhantomData<T>,
}

impl<'a, T: Plain> From<MapHandle<'a>> for Samples<'a, T> {
    fn from(map: MapHandle<'a>) -> Self {
        Self {
            map,
            sample: PhantomData,
        }
    }
}

/// Writes samples.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../tests/objects/drain.bpf.o")?, "drain.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::typed::{RawMap, Samples, TypedWriter, map};
///
/// let samples: RawMap<'_> = map(&loaded, "samples").ok_or("no such map")?;
/// let mut writer: TypedWriter<u64> = Samples::from(samples).open()?;
/// // Until the buffer is full, as nobody drains it: a sample takes 16 of its 4096 bytes.
/// let mut count = 0;
/// while writer.write(&count)? {
///     count += 1;
/// }
/// assert_eq!(count, 255);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TypedWriter<T> {
    writer: Box<dyn SampleWriter>,
    sample: PhantomData<T>,
}

impl<T> std::fmt::Debug for TypedWriter<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TypedWriter").finish_non_exhaustive()
    }
}

impl<T: Plain> Samples<'_, T> {
    /// Opens the buffer for writing; a map has one writer at a time.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn open(&self) -> Result<TypedWriter<T>> {
        Ok(TypedWriter {
            writer: self.map.backend().samples_open(self.map.handle())?,
            sample: PhantomData,
        })
    }
}

impl<T: Plain> TypedWriter<T> {
    /// Appends a sample; false if there is no room for it before programs have drained others.
    ///
    /// # Errors
    /// `E2BIG` for a type that the buffer has never room for.
    pub fn write(&mut self, sample: &T) -> Result<bool> {
        self.writer.write(sample.as_bytes())
    }
}
