//! Bloom filter.
//!
//! Concurrency (the kernel's): values only ever come; bits are set one by one with atomic operations, tests read them
//! without order. A value whose push has returned is always found.

use crate::body::Body;
use crate::header::{MapHeader, Ops, Runner, no_delete, no_lookup};
use crate::region::{Layout, Memory, Region};
use crate::spec::MapSpec;
use skep_abi::Errno;
use skep_abi::map_flags::BPF_ANY;
use std::sync::atomic::{AtomicU64, Ordering};

/// Hash functions if the creator does not say.
const DEFAULT_HASHES: u32 = 5;

/// Process-private side.
#[derive(Debug)]
pub(crate) struct Bloom {
    words: *const AtomicU64,
    /// Number of bits less one.
    mask: u32,
    hashes: u32,
    value_size: usize,
}

pub(crate) fn create(spec: &MapSpec, memory: &Memory) -> Result<MapHeader, Errno> {
    let hashes = match spec.map_extra as u32 & 0xf {
        0 => DEFAULT_HASHES,
        n => n,
    };
    let mask = u64::from(spec.max_entries)
        .checked_mul(u64::from(hashes))
        .map(|n| (n / 5 * 7).max(64).next_power_of_two())
        .and_then(|bits| u32::try_from(bits - 1).ok())
        .unwrap_or(u32::MAX);
    let region = Region::create(
        spec,
        Layout::new(Some(mask as usize / 8 + 1), Some(0))?,
        memory,
    )?;
    let words = region.data().cast_const().cast();
    let body = Body::Bloom(Bloom {
        words,
        mask,
        hashes,
        value_size: spec.value_size as usize,
    });
    let ops = Ops {
        lookup: no_lookup,
        update,
        delete: no_delete,
    };
    Ok(MapHeader::new(spec, ops, body, region))
}

unsafe extern "C" fn update(
    _: *const MapHeader,
    _: *const u8,
    _: *const u8,
    _: u64,
    _: Runner,
) -> i64 {
    Errno::EINVAL.neg()
}

impl Bloom {
    fn bits(&self, value: &[u8]) -> impl Iterator<Item = (&AtomicU64, u64)> {
        let first = value.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, &b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        let step = first.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..self.hashes).map(move |i| {
            let mixed = first.wrapping_add(step.wrapping_mul(u64::from(i)));
            let bit = ((mixed ^ mixed >> 29) as u32) & self.mask;
            // SAFETY: there are `mask + 1` bits in whole words.
            (
                unsafe { &*self.words.add(bit as usize / 64) },
                1u64 << (bit % 64),
            )
        })
    }

    /// `bpf_map_push_elem`
    pub(crate) fn push(&self, value: &[u8], flags: u64) -> Result<(), Errno> {
        if flags != BPF_ANY {
            return Err(Errno::EINVAL);
        }
        for (word, bit) in self.bits(value) {
            word.fetch_or(bit, Ordering::Release);
        }
        Ok(())
    }

    /// `bpf_map_peek_elem`: is `value` perhaps in the set?
    pub(crate) fn peek(&self, value: &[u8]) -> Result<(), Errno> {
        if self
            .bits(value)
            .all(|(word, bit)| word.load(Ordering::Acquire) & bit != 0)
        {
            Ok(())
        } else {
            Err(Errno::ENOENT)
        }
    }

    /// The value at `at`.
    ///
    /// # Safety
    /// `at` must be valid for reads of the value's size.
    pub(crate) unsafe fn value<'a>(&self, at: *const u8) -> &'a [u8] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(at, self.value_size) }
    }
}
