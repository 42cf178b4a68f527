//! Stack traces, filed under a hash of their addresses.
//!
//! Concurrency (the kernel's): a bucket holds one stack, replaced as a whole under the bucket's lock word; readers of user
//! space copy under it too.

use crate::body::Body;
use crate::header::{MapHeader, Ops, Runner, no_delete, no_lookup, no_update};
use crate::lock;
use crate::region::{Layout, Memory, Region};
use crate::spec::MapSpec;
use skep_abi::Errno;
use std::sync::atomic::{AtomicU32, Ordering};

/// `BPF_F_FAST_STACK_CMP`
const FAST_CMP: u64 = 1 << 9;
/// `BPF_F_REUSE_STACKID`
const REUSE: u64 = 1 << 10;
/// Frames to skip, in the flags of `bpf_get_stackid`.
const SKIP_MASK: u64 = 0xff;
/// `BPF_F_USER_STACK`
const USER: u64 = 1 << 8;

/// Does a read take the stack out?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Take {
    Yes,
    No,
}

/// Control of one bucket.
#[repr(C)]
#[derive(Debug)]
struct Bucket {
    lock: AtomicU32,
    hash: AtomicU32,
    /// Addresses stored, plus one; 0 is an empty bucket.
    len: AtomicU32,
    reserved: AtomicU32,
}

/// Process-private side.
#[derive(Debug)]
pub(crate) struct Stacks {
    buckets: *const Bucket,
    data: *mut u8,
    /// Number of buckets, a power of two.
    count: u32,
    value_size: usize,
}

pub(crate) fn create(spec: &MapSpec, memory: &Memory) -> Result<MapHeader, Errno> {
    let count = spec
        .max_entries
        .checked_next_power_of_two()
        .ok_or(Errno::E2BIG)?;
    let value_size = spec.value_size as usize;
    let layout = Layout::new(
        value_size.checked_mul(count as usize),
        (count as usize).checked_mul(size_of::<Bucket>()),
    )?;
    let region = Region::create(spec, layout, memory)?;
    let (buckets, data) = (region.control().cast_const().cast(), region.data());
    let body = Body::Stacks(Stacks {
        buckets,
        data,
        count,
        value_size,
    });
    let ops = Ops {
        lookup: no_lookup,
        update: no_update,
        delete: no_delete,
    };
    Ok(MapHeader::new(spec, ops, body, region))
}

impl Stacks {
    fn bucket(&self, id: u32) -> Option<(&Bucket, *mut u8)> {
        // SAFETY: there are `count` buckets.
        (id < self.count).then(|| unsafe {
            (
                &*self.buckets.add(id as usize),
                self.data.add(id as usize * self.value_size),
            )
        })
    }

    /// `bpf_get_stackid`: files `ips` (already cut and skipped) and returns the id.
    pub(crate) fn insert(&self, ips: &[u64], flags: u64, runner: Runner) -> Result<u32, Errno> {
        if flags & !(SKIP_MASK | USER | FAST_CMP | REUSE) != 0 {
            return Err(Errno::EINVAL);
        }
        let ips = &ips[..ips.len().min(self.value_size / 8)];
        let hash = ips.iter().fold(0u64, |h, ip| {
            (h.rotate_left(5) ^ ip).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        let hash = (hash >> 32) as u32;
        let id = hash & (self.count - 1);
        let (bucket, data) = self.bucket(id).ok_or(Errno::EINVAL)?;
        // SAFETY: a word of the map's memory.
        unsafe { lock::spin_lock(bucket.lock.as_ptr(), runner.token) };
        let result = self.file(bucket, data, ips, hash, flags).map(|()| id);
        // SAFETY: taken above.
        unsafe { lock::spin_unlock(bucket.lock.as_ptr()) };
        result
    }

    fn file(
        &self,
        bucket: &Bucket,
        data: *mut u8,
        ips: &[u64],
        hash: u32,
        flags: u64,
    ) -> Result<(), Errno> {
        let len = bucket.len.load(Ordering::Relaxed);
        if len != 0 {
            let same_hash = bucket.hash.load(Ordering::Relaxed) == hash;
            let same = same_hash
                && (flags & FAST_CMP != 0 || (len as usize == ips.len() + 1 && holds(data, ips)));
            if same {
                return Ok(());
            }
            if flags & REUSE == 0 {
                return Err(Errno::EEXIST);
            }
        }
        for (i, ip) in ips.iter().enumerate() {
            // SAFETY: cut to the bucket's size.
            unsafe { data.cast::<u64>().add(i).write_unaligned(*ip) };
        }
        bucket.hash.store(hash, Ordering::Relaxed);
        bucket.len.store(ips.len() as u32 + 1, Ordering::Release);
        Ok(())
    }

    fn id_of(key: &[u8]) -> Option<u32> {
        key.try_into().ok().map(u32::from_ne_bytes)
    }

    pub(crate) fn user_read(
        &self,
        _: &MapHeader,
        key: &[u8],
        value: &mut [u8],
        take: Take,
    ) -> Result<(), Errno> {
        let (bucket, data) = Self::id_of(key)
            .and_then(|id| self.bucket(id))
            .ok_or(Errno::ENOENT)?;
        let len = bucket.len.load(Ordering::Acquire);
        let bytes = ((len as usize).checked_sub(1).ok_or(Errno::ENOENT)? * 8).min(value.len());
        // SAFETY: at most a bucket's bytes.
        unsafe { std::ptr::copy_nonoverlapping(data, value.as_mut_ptr(), bytes) };
        value[bytes..].fill(0);
        if take == Take::Yes {
            bucket.len.store(0, Ordering::Release);
        }
        Ok(())
    }

    pub(crate) fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        let id = Self::id_of(key).ok_or(Errno::EINVAL)?;
        let (bucket, _) = self.bucket(id).ok_or(Errno::E2BIG)?;
        match bucket.len.swap(0, Ordering::AcqRel) {
            0 => Err(Errno::ENOENT),
            _ => Ok(()),
        }
    }

    pub(crate) fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        let given = key.and_then(Self::id_of);
        let used = |id: u32| {
            self.bucket(id)
                .is_some_and(|(b, _)| b.len.load(Ordering::Acquire) != 0)
        };
        let from = match given {
            Some(id) if used(id) => id + 1,
            _ => 0,
        };
        let id = (from..self.count)
            .find(|&id| used(id))
            .ok_or(Errno::ENOENT)?;
        next.copy_from_slice(&id.to_ne_bytes());
        Ok(())
    }
}

fn holds(data: *mut u8, ips: &[u64]) -> bool {
    // SAFETY: callers compare at most a bucket's addresses.
    ips.iter()
        .enumerate()
        .all(|(i, ip)| unsafe { data.cast::<u64>().add(i).read_unaligned() } == *ip)
}
