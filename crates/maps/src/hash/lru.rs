//! Eviction: a clock over the elements.
//!
//! The kernel keeps an active and an inactive list and moves elements by a reference bit that lookups set. A clock with the
//! same bit keeps the same elements to within a percent of hits and has no lists to repair when somebody dies.

use super::ops::Kind;
use super::{Hash, Key};
use crate::header::{MapHeader, Runner};
use crate::sync::AtomicU8;
use std::sync::atomic::Ordering;

/// Rounds of the hand before an eviction gives up.
const ROUNDS: u32 = 3;
/// Most elements that one eviction frees (the kernel's `LOCAL_FREE_TARGET`).
const EVICTED_AT_ONCE: u32 = 128;

impl Hash {
    #[inline(always)]
    fn recent(&self, index: u32) -> &AtomicU8 {
        // SAFETY: LRU maps have one byte an element; the index was checked.
        unsafe { &*self.recent.add(index as usize) }
    }

    /// Notes that element `index` was used.
    #[inline(always)]
    pub(super) fn touch(&self, index: u32) {
        let recent = self.recent(index);
        if recent.load(Ordering::Relaxed) == 0 {
            recent.store(1, Ordering::Relaxed);
        }
    }

    /// Element `index` is new.
    #[inline(always)]
    pub(super) fn forget(&self, index: u32) {
        self.recent(index).store(0, Ordering::Relaxed);
    }

    /// Frees elements under the hand that were not used since the hand last passed them: as many at once as the kernel does,
    /// at most half of what is one CPU's.
    #[cold]
    pub(super) fn evict<K: Key, V: Kind>(&self, map: &MapHeader, runner: Runner) -> bool {
        let wanted = (self.capacity / self.cpus / 2).clamp(1, EVICTED_AT_ONCE);
        let hand = &self.shared().hand;
        let mut freed = 0;
        for _ in 0..self.total.saturating_mul(ROUNDS) {
            let index = hand.fetch_add(1, Ordering::Relaxed) % self.total;
            let recent = self.recent(index);
            if recent.load(Ordering::Relaxed) != 0 {
                recent.store(0, Ordering::Relaxed);
                continue;
            }
            freed += u32::from(self.remove_index::<K, V>(map, index, runner));
            if freed == wanted {
                break;
            }
        }
        freed != 0
    }
}
