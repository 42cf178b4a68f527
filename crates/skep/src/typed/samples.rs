//! Samples with their type, for programs that drain a user ring buffer.

use super::{MapHandle, Plain};
use skep_bpf::{Result, SampleWriter};
use std::marker::PhantomData;

/// A user ring buffer whose samples are `T`.
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
