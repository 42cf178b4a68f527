//! Changes of several words that a death must not leave half done.
//!
//! Whoever changes a list or a tree, whose lock it holds, writes down each word before it changes it. If it dies, the next
//! owner of the lock finds the journal by the dead thread's token and puts the words back, last one first.

use super::Heap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Journals: threads that change something at the same time.
pub(super) const JOURNALS: usize = 256;
/// Words of one change: the longest is a removal from a tree of as many nodes as the heap has room for.
const WORDS: usize = 254;

/// One thread's change.
#[repr(C)]
pub(super) struct Journal {
    /// Token of the thread, 0 if the journal is free.
    owner: AtomicU32,
    /// Words that were written down.
    count: AtomicU32,
    _unused: AtomicU64,
    /// Where each word is, and what it was.
    words: [[AtomicU64; 2]; WORDS],
}

/// A change under way; its end is when it is dropped.
pub(super) struct Change<'a> {
    journal: Option<&'a Journal>,
}

impl Change<'_> {
    /// Gives a word a new value.
    pub(super) fn set(&self, word: &AtomicU64, new: u64) {
        if let Some(journal) = self.journal {
            let count = journal.count.load(Ordering::Relaxed);
            if let Some([place, old]) = journal.words.get(count as usize) {
                place.store(word.as_ptr() as u64, Ordering::Relaxed);
                old.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
                journal.count.store(count + 1, Ordering::Release);
            }
        }
        word.store(new, Ordering::Release);
    }
}

#[cfg(all(test, not(feature = "loom")))]
impl Journal {
    pub(super) fn is_free(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == 0
    }

    pub(super) fn give_to(&self, from: u32, to: u32) {
        assert_eq!(self.owner.swap(to, Ordering::Relaxed), from);
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        if let Some(journal) = self.journal {
            journal.count.store(0, Ordering::Release);
            journal.owner.store(0, Ordering::Release);
        }
    }
}

impl Heap {
    /// Begins a change by the thread of `token`. Should all journals be taken, which needs as many threads, it is not secured.
    pub(super) fn change(&self, token: u32) -> Change<'_> {
        let journals = &self.control().journals;
        let first = token as usize % JOURNALS;
        let free = |journal: &&Journal| {
            let owner = &journal.owner;
            owner
                .compare_exchange(0, token, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        };
        let journal = journals[first..]
            .iter()
            .chain(&journals[..first])
            .find(free);
        if let Some(journal) = journal {
            journal.count.store(0, Ordering::Release);
        }
        Change { journal }
    }

    /// Puts back what the thread of token `dead`, whose lock the thread of `token` took over, was changing when it died. The
    /// journal is the new owner's first: should it die as well, who takes the lock over from it goes on.
    pub fn roll_back(&self, dead: u32, token: u32) {
        for journal in &self.control().journals {
            let owner = &journal.owner;
            let ours = owner.compare_exchange(dead, token, Ordering::AcqRel, Ordering::Acquire);
            if ours.is_err() {
                continue;
            }
            let count = journal.count.load(Ordering::Acquire) as usize;
            for [place, old] in journal.words.iter().take(count).rev() {
                if let Some(word) = self.changeable(place.load(Ordering::Relaxed)) {
                    word.store(old.load(Ordering::Relaxed), Ordering::Release);
                }
            }
            journal.count.store(0, Ordering::Release);
            journal.owner.store(0, Ordering::Release);
        }
    }

    /// The word at `at`, in an object or in a value of a map that this process has.
    fn changeable(&self, at: u64) -> Option<&AtomicU64> {
        if let Some(word) = self.word(at) {
            return Some(word);
        }
        let bytes = usize::try_from(at).ok()?..usize::try_from(at.checked_add(8)?).ok()?;
        let is_known = at.is_multiple_of(8)
            && self
                .places()
                .iter()
                .any(|place| place.start <= bytes.start && bytes.end <= place.end);
        // SAFETY: aligned, inside a map of this process: it is forgotten here before it is unmapped. That the map outlives the
        // caller's use is the lock's doing, which lies in it.
        is_known.then(|| unsafe { AtomicU64::from_ptr(at as *mut u64) })
    }
}
