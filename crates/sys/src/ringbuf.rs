//! The sides that user space has of ring buffers of the kernel: the reading one of a `BPF_MAP_TYPE_RINGBUF`, the writing one of a
//! `BPF_MAP_TYPE_USER_RINGBUF`.
//!
//! Layout (Documentation/bpf/ringbuf.rst): a page with the consumer position, a page with the producer position, then the
//! data pages twice in a row, so that a record never wraps. A record is a length with two flag bits, a reserved word, and
//! the bytes, padded to 8.

use crate::mem::{Access, Mapping, PAGE};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The record is being written.
const BUSY: u32 = 1 << 31;
/// The record was given up.
const DISCARDED: u32 = 1 << 30;
/// Bytes in front of a record.
const HEADER: u64 = 8;

/// A mapped ring buffer.
#[derive(Debug)]
pub struct Ringbuf {
    file: File,
    consumer: Mapping,
    producer: Mapping,
    size: u64,
}

impl Ringbuf {
    /// Maps the ring buffer `map` of `size` bytes (its `max_entries`).
    ///
    /// # Errors
    /// Those of `mmap`; `EINVAL` if the size is not that of a ring buffer.
    pub fn open(map: BorrowedFd<'_>, size: u32) -> io::Result<Self> {
        if !size.is_power_of_two() || (size as usize) < PAGE {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let file = File::from(map.try_clone_to_owned()?);
        let consumer = Mapping::of_file(&file, 0, PAGE, Access::ReadWrite)?;
        let producer =
            Mapping::of_file(&file, PAGE as u64, PAGE + 2 * size as usize, Access::Read)?;
        Ok(Self {
            file,
            consumer,
            producer,
            size: u64::from(size),
        })
    }

    /// Polls readable when records wait.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    fn consumer_position(&self) -> &AtomicU64 {
        // SAFETY: the mapping is a page, aligned, and lives as long as `self`; the kernel accesses the word atomically.
        unsafe { &*self.consumer.base().cast() }
    }

    fn producer_position(&self) -> &AtomicU64 {
        // SAFETY: as above, of the first page of the other mapping.
        unsafe { &*self.producer.base().cast() }
    }

    /// Hands every finished record to `each`, oldest first; returns how many there were. Ends at a record that is being
    /// written, and after one round of the buffer, so that a fast producer cannot keep it.
    pub fn drain(&mut self, each: &mut dyn FnMut(&[u8])) -> usize {
        let mut position = self.consumer_position().load(Ordering::Relaxed);
        let (mut count, mut passed) = (0, 0);
        while passed < self.size && position != self.producer_position().load(Ordering::Acquire) {
            let Some((record, length)) = self.record(position) else {
                break;
            };
            if let Some(bytes) = record {
                each(bytes);
                count += 1;
            }
            position = position.wrapping_add(length);
            passed += length;
            self.consumer_position().store(position, Ordering::Release);
        }
        count
    }

    /// Bytes between the positions of producer and consumer, with the headers of their records, and bytes that there is room for.
    #[must_use]
    pub fn fill(&self) -> (u64, u64) {
        let consumed = self.consumer_position().load(Ordering::Relaxed);
        let produced = self.producer_position().load(Ordering::Acquire);
        (produced.wrapping_sub(consumed), self.size)
    }

    /// The record at a position and its length with header and padding; `None` while it is being written. A discarded
    /// record has no bytes.
    fn record(&self, position: u64) -> Option<(Option<&[u8]>, u64)> {
        let at = PAGE + (position & (self.size - 1)) as usize;
        let start = self.producer.base().wrapping_add(at);
        // SAFETY: `at` is 8-aligned and within the first copy of the data; the word is written atomically by the kernel.
        let header = unsafe { (*start.cast::<AtomicU32>()).load(Ordering::Acquire) };
        if header & BUSY != 0 {
            return None;
        }
        let bytes = u64::from(header & !(BUSY | DISCARDED)).min(self.size - HEADER);
        let length = (bytes + HEADER).next_multiple_of(8);
        if header & DISCARDED != 0 {
            return Some((None, length));
        }
        // SAFETY: at most `size` bytes from within the first copy stay inside the second; the kernel does not touch a
        // finished record until the consumer position passes it, which happens after `each` returns.
        let record = unsafe {
            std::slice::from_raw_parts(start.wrapping_add(HEADER as usize), bytes as usize)
        };
        Some((Some(record), length))
    }
}

/// A mapped user ring buffer. It has one writer at a time.
#[derive(Debug)]
pub struct UserRingbuf {
    consumer: Mapping,
    producer: Mapping,
    size: u64,
}

impl UserRingbuf {
    /// Maps the user ring buffer `map` of `size` bytes (its `max_entries`).
    ///
    /// # Errors
    /// Those of `mmap`; `EINVAL` if the size is not that of a ring buffer.
    pub fn open(map: BorrowedFd<'_>, size: u32) -> io::Result<Self> {
        if !size.is_power_of_two() || (size as usize) < PAGE {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let whole = PAGE + 2 * size as usize;
        Ok(Self {
            consumer: Mapping::of_file(&map, 0, PAGE, Access::Read)?,
            producer: Mapping::of_file(&map, PAGE as u64, whole, Access::ReadWrite)?,
            size: u64::from(size),
        })
    }

    /// Most bytes that a sample may have.
    #[must_use]
    pub fn sample_bytes_max(&self) -> usize {
        (self.size - 2 * HEADER) as usize
    }

    /// Appends a sample; false if there is no room for it before programs have drained others.
    pub fn write(&mut self, sample: &[u8]) -> bool {
        if sample.len() > self.sample_bytes_max() {
            return false;
        }
        // SAFETY: the mappings begin with a word each, aligned, that both sides access atomically, and live as long as `self`.
        let (consumed, produced): (&AtomicU64, &AtomicU64) =
            unsafe { (&*self.consumer.base().cast(), &*self.producer.base().cast()) };
        let start = produced.load(Ordering::Relaxed);
        let length = (sample.len() as u64 + HEADER).next_multiple_of(8);
        let taken = start.wrapping_sub(consumed.load(Ordering::Acquire));
        if taken.saturating_add(length) >= self.size {
            return false;
        }
        let at = PAGE + (start & (self.size - 1)) as usize;
        let header = self.producer.base().wrapping_add(at);
        let bytes = header.wrapping_add(HEADER as usize);
        // SAFETY: at most `size` bytes from within the first copy of the data stay inside the second, and the header is aligned to
        // 8; the kernel reads neither before the position below passes them, and has read what was there, as its position says.
        unsafe {
            (*header.cast::<AtomicU32>()).store(sample.len() as u32, Ordering::Relaxed);
            std::ptr::copy_nonoverlapping(sample.as_ptr(), bytes, sample.len());
        }
        produced.store(start.wrapping_add(length), Ordering::Release);
        true
    }
}
