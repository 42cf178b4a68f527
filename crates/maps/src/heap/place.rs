//! Addresses that are the same in every process: those of heaps, and of the maps whose values own objects.
//!
//! The creator tries some at random, as the kernel does for everything it maps; others map the file where it says. Of
//! thousands of places two processes hardly ever choose the same, and a process that has something else there is told.

use crate::region::errno;
use skep_abi::Errno;
use skep_sys::mem::Mapping;

/// Addresses that systems with 47 bits of them leave alone: above small programs and their heaps, below programs that are
/// loaded anywhere.
const LOWEST: usize = 0x1100_0000_0000;
const HIGHEST: usize = 0x5000_0000_0000;
/// Places that are tried.
const TRIES: usize = 64;

/// May `len` bytes lie at `at`?
pub(crate) fn is_allowed(at: usize, len: usize) -> bool {
    at >= LOWEST && at.checked_add(len).is_some_and(|end| end <= HIGHEST)
}

/// Maps something at a multiple of `align`, a power of two, where nothing is yet.
pub(crate) fn somewhere(
    align: usize,
    map_at: impl Fn(usize) -> std::io::Result<Mapping>,
) -> Result<Mapping, Errno> {
    let slots = (HIGHEST - LOWEST) / align - 1;
    for _ in 0..TRIES {
        let slot = skep_sys::random::u64() as usize % slots;
        match map_at(LOWEST.next_multiple_of(align) + slot * align) {
            Err(e) if e.raw_os_error() == Some(Errno::EEXIST.0) => {}
            other => return other.map_err(|e| errno(&e)),
        }
    }
    Err(Errno::ENOMEM)
}
