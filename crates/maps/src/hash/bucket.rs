//! A bucket: one cache line with a lock, a version, the tags and the indexes of up to 8 elements; more hang on a chain.
//!
//! Writers hold the lock. Readers take nothing: a reader that finds no match looks whether the version is still what it was
//! when it began; only if a writer changed the bucket meanwhile does it look again. The version changes before an element
//! that was taken out can be reused, so a reader that saw a reused element sees the new version too. It changes with an
//! insertion as well, before the lock is given back: a writer that searched before locking knows whether that still holds.

use crate::lock::{Got, wait};
use crate::sync::{self, AtomicU32, AtomicU64};
use skep_abi::Errno;
use std::sync::atomic::Ordering;

/// Elements a bucket holds itself.
pub(crate) const SLOTS: usize = 8;

/// One bucket. Zero is an empty one.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// Lower half: token of the lock's owner, 0 if free. Upper half: version.
    state: AtomicU64,
    /// First element of the chain, plus one.
    pub(crate) chain: AtomicU32,
    reserved: AtomicU32,
    /// 16-bit tags: slot `s` is lane `s / 2` of word `s % 2`.
    tags: [AtomicU64; 2],
    /// Element of each slot, plus one; 0 is an empty slot.
    pub(crate) slots: [AtomicU32; SLOTS],
}

/// The lock of a bucket, held.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    pub(crate) bucket: &'a Bucket,
    version: u32,
    token: u32,
}

/// Slots whose tag may match: bit `8 * s + 7` for slot `s`. Besides true matches it may name a slot above one.
#[derive(Clone, Copy)]
pub(crate) struct Candidates(u64);

impl Iterator for Candidates {
    type Item = usize;
    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let slot = (self.0.trailing_zeros() / 8) as usize;
        self.0 &= self.0 - 1;
        Some(slot)
    }
}

const LANES: u64 = 0x0001_0001_0001_0001;
const LANE_TOPS: u64 = 0x8000_8000_8000_8000;

/// The top bit of each 16-bit lane that is zero (and perhaps of some above).
#[inline(always)]
const fn zero_lanes(word: u64) -> u64 {
    word.wrapping_sub(LANES) & !word & LANE_TOPS
}

impl Bucket {
    #[inline(always)]
    pub(crate) fn candidates(&self, tag: u16) -> Candidates {
        let pattern = u64::from(tag) * LANES;
        let even = zero_lanes(self.tags[0].load(Ordering::Relaxed) ^ pattern);
        let odd = zero_lanes(self.tags[1].load(Ordering::Relaxed) ^ pattern);
        Candidates((even >> 8) | odd)
    }

    /// The version, for [`Self::unchanged`].
    #[inline(always)]
    pub(crate) fn version(&self) -> u32 {
        (self.state.load(Ordering::Acquire) >> 32) as u32
    }

    /// Is the bucket as it was when [`Self::version`] gave `before`?
    #[inline(always)]
    pub(crate) fn unchanged(&self, before: u32) -> bool {
        sync::fence(Ordering::Acquire);
        (self.state.load(Ordering::Relaxed) >> 32) as u32 == before
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// `EDEADLK` if this very thread holds it (an operation interrupted by another one on the same bucket).
    #[inline(always)]
    pub(crate) fn lock(&self, token: u32) -> Result<(Held<'_>, Got), Errno> {
        let state = self.state.load(Ordering::Relaxed);
        if state as u32 == 0
            && self
                .state
                .compare_exchange(
                    state,
                    state | u64::from(token),
                    Ordering::Acquire,
                    Ordering::Relaxed,
                )
                .is_ok()
        {
            let version = (state >> 32) as u32;
            return Ok((
                Held {
                    bucket: self,
                    version,
                    token,
                },
                Got::Free,
            ));
        }
        self.lock_contended(token)
    }

    /// Takes the lock if the bucket is still as it was when [`Self::version`] gave `version`.
    #[inline(always)]
    pub(crate) fn lock_unchanged(&self, version: u32, token: u32) -> Option<Held<'_>> {
        let state = u64::from(version) << 32;
        let mine = state | u64::from(token);
        self.state
            .compare_exchange(state, mine, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        Some(Held {
            bucket: self,
            version,
            token,
        })
    }

    #[cold]
    fn lock_contended(&self, token: u32) -> Result<(Held<'_>, Got), Errno> {
        let mut turn = 0;
        loop {
            let state = self.state.load(Ordering::Relaxed);
            let owner = state as u32;
            if owner == token {
                return Err(Errno::EDEADLK);
            }
            let got = if owner == 0 {
                Got::Free
            } else if wait(&mut turn) && !sync::is_alive(owner) {
                Got::Inherited { from: owner }
            } else {
                continue;
            };
            let mine = (state >> 32 << 32) | u64::from(token);
            if self
                .state
                .compare_exchange(state, mine, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                let version = (state >> 32) as u32;
                return Ok((
                    Held {
                        bucket: self,
                        version,
                        token,
                    },
                    got,
                ));
            }
        }
    }

    /// Gives back a lock whose [`Held`] was forgotten.
    pub(crate) fn unlock_forgotten(&self) {
        let state = self.state.load(Ordering::Relaxed);
        self.state.store(state >> 32 << 32, Ordering::Release);
    }

    fn set_tag(&self, slot: usize, tag: u16) {
        let word = &self.tags[slot % 2];
        let shift = slot / 2 * 16;
        let others = word.load(Ordering::Relaxed) & !(0xffff << shift);
        word.store(others | u64::from(tag) << shift, Ordering::Relaxed);
    }
}

impl Held<'_> {
    /// A slot that is empty.
    #[inline(always)]
    pub(crate) fn empty_slot(&self) -> Option<usize> {
        (0..SLOTS).find(|&s| self.bucket.slots[s].load(Ordering::Relaxed) == 0)
    }

    /// Lets readers find the element `index` in `slot`.
    #[inline(always)]
    pub(crate) fn publish(&self, slot: usize, tag: u16, index: u32) {
        self.bucket.set_tag(slot, tag);
        self.bucket.slots[slot].store(index + 1, Ordering::Release);
    }

    /// Something was added. Who searched the bucket before it was unlocked has to search again; nobody who does not lock it.
    #[inline(always)]
    pub(crate) fn grown(&mut self) {
        self.version = self.version.wrapping_add(1);
    }

    /// Tells readers that something left the bucket or moved; from here on what left may be reused.
    #[inline(always)]
    pub(crate) fn changed(&mut self) {
        self.version = self.version.wrapping_add(1);
        let state = u64::from(self.version) << 32 | u64::from(self.token);
        self.bucket.state.store(state, Ordering::Release);
    }
}

impl Drop for Held<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.bucket
            .state
            .store(u64::from(self.version) << 32, Ordering::Release);
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn candidates_name_every_slot_with_the_tag() {
        let bucket = Bucket::default();
        let (held, _) = bucket.lock(7).unwrap();
        for s in 0..SLOTS {
            held.publish(s, 100 + s as u16, s as u32);
        }
        for s in 0..SLOTS {
            let found: Vec<_> = bucket.candidates(100 + s as u16).collect();
            assert!(found.contains(&s), "slot {s} in {found:?}");
            assert!(found.len() <= 2);
        }
        assert_eq!(bucket.candidates(55).count(), 0);
    }

    #[test]
    fn own_lock_is_a_deadlock_and_a_dead_owners_lock_is_inherited() {
        let bucket = Bucket::default();
        let dead = std::thread::spawn(skep_sys::task::token).join().unwrap();
        std::mem::forget(bucket.lock(dead).unwrap());
        assert_eq!(bucket.lock(dead).unwrap_err(), Errno::EDEADLK);
        let (_held, got) = bucket.lock(skep_sys::task::token()).unwrap();
        assert_eq!(got, Got::Inherited { from: dead });
    }
}
