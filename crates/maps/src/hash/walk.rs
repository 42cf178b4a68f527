//! Walking over the elements: bucket by bucket, slots before chain.
//!
//! As in the kernel the order means nothing but that it stays while nobody changes the map; elements that come or go during
//! a walk may be seen or not.

use super::bucket::SLOTS;
use super::{Hash, Key, Key4, Key8, Key16, KeyN};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

impl Hash {
    /// Calls `visit` with each element.
    pub(crate) fn for_each_index(&self, visit: &mut dyn FnMut(u32)) {
        self.walk(&mut |index| {
            visit(index);
            ControlFlow::Continue(())
        });
    }

    /// Calls `visit` with each element until it breaks.
    pub(crate) fn walk(&self, visit: &mut dyn FnMut(u32) -> ControlFlow<()>) {
        for number in 0..=self.mask {
            let mut after = None;
            while let Some((place, index)) = self.next_in_bucket(number, after) {
                if visit(index).is_break() {
                    return;
                }
                after = Some((place, index));
            }
        }
    }

    /// The element of `bucket` after the one that was at place `after` (a slot, or on the chain).
    pub(super) fn next_in_bucket(
        &self,
        bucket: u32,
        after: Option<(usize, u32)>,
    ) -> Option<(usize, u32)> {
        let b = self.bucket(bucket);
        let first_slot = match after {
            Some((place, index)) if place >= SLOTS => {
                return self.on_chain(place + 1, self.link(index).load(Ordering::Acquire));
            }
            Some((place, _)) => place + 1,
            None => 0,
        };
        (first_slot..SLOTS)
            .map(|s| (s, b.slots[s].load(Ordering::Acquire).wrapping_sub(1)))
            .find(|&(_, index)| index < self.total)
            .or_else(|| self.on_chain(SLOTS, b.chain.load(Ordering::Acquire)))
    }

    fn on_chain(&self, place: usize, link: u32) -> Option<(usize, u32)> {
        let index = link.wrapping_sub(1);
        let in_bounds = place < SLOTS + self.total as usize;
        (index < self.total && in_bounds).then_some((place, index))
    }

    /// The element that follows `key`, or the first one if there is no `key` or it is not in the map.
    pub(crate) fn next_index(&self, key: Option<&[u8]>) -> Option<u32> {
        let from = key.and_then(|key| self.position(key));
        let (mut bucket, mut after) = match from {
            Some((bucket, place, index)) => (bucket, Some((place, index))),
            None => (0, None),
        };
        loop {
            if let Some((_, index)) = self.next_in_bucket(bucket, after) {
                return Some(index);
            }
            after = None;
            if bucket == self.mask {
                return None;
            }
            bucket += 1;
        }
    }

    /// Bucket, place and element of a key.
    fn position(&self, key: &[u8]) -> Option<(u32, usize, u32)> {
        let bucket = self.bucket_number(key);
        let mut at = self.next_in_bucket(bucket, None);
        while let Some((place, index)) = at {
            if self.key_bytes(index, key.len()) == key {
                return Some((bucket, place, index));
            }
            at = self.next_in_bucket(bucket, Some((place, index)));
        }
        None
    }

    /// The bucket that a key belongs to.
    pub(crate) fn bucket_number(&self, key: &[u8]) -> u32 {
        (self.hash_of(key) as u32) & self.mask
    }

    fn hash_of(&self, key: &[u8]) -> u64 {
        let (at, len) = (key.as_ptr(), key.len());
        // SAFETY: `at` is valid for `len` bytes.
        unsafe {
            match len {
                4 => Key4::read(at, len).hash(self.seed),
                8 => Key8::read(at, len).hash(self.seed),
                16 => Key16::read(at, len).hash(self.seed),
                _ => KeyN::read(at, len).hash(self.seed),
            }
        }
    }

    /// The key of element `index`. Another thread may be reusing the element: then the bytes are a mixture.
    pub(crate) fn key_bytes(&self, index: u32, len: usize) -> &[u8] {
        // SAFETY: the element exists; walks check indexes.
        unsafe { std::slice::from_raw_parts(self.key_at(index), len) }
    }
}
