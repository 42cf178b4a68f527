//! Elements with room for two values, of which one holds: an update of a key that is there writes the other one, and then
//! says that it holds. So it writes no line but the element's, and threads that update different keys do not disturb each
//! other, not even in one bucket.
//!
//! One word in front of the values says which of them holds, whether the element is in the map, and who is changing it.
//! * Whoever finds an element without the bucket's lock may take it by one exchange, if nobody has it and it is in the map;
//!   it then stays there until it is given back, and only its key is left to compare.
//! * Insertions and deletions have both locks, the bucket's first. An element is given free, and taken to be filled, only
//!   while its word says that it is not in the map or that somebody has it.
//! * The lock of a thread that died is taken over only by one that holds the bucket and sees the element in it.
//!   Which value holds is then as it was before: half a value is never seen.

use super::ops::Kind;
use super::{Hash, Key};
use crate::lock::wait;
use crate::spec::MapSpec;
use crate::sync::{self, AtomicU64};
use skep_abi::{Errno, MapType};
use std::sync::atomic::Ordering;

/// Longest values that are there twice: copying longer ones takes longer than a line takes from one CPU to the other.
const VALUE_BYTES_MAX: usize = 64;
/// Most bytes of elements with two values. Of larger maps no CPU's cache has much, so that little is to be won.
const BYTES_MAX: usize = 4 << 20;

/// The element is in the map.
const LISTED: u64 = 1 << 32;
/// The second value holds: upper half of the word and bytes from the first value to the second, which are a multiple of 8.
const SECOND: u64 = 0xffff_fff8 << 32;
/// Who is changing the element: a token, 0 for nobody.
const OWNER: u64 = 0xffff_ffff;

/// The word in front of the values.
pub(super) type State = AtomicU64;

/// Bytes of an element with two values, if those of `spec` have them.
pub(super) fn elem_size(spec: &MapSpec) -> Option<usize> {
    let stride = spec.value_stride();
    let suits = matches!(spec.map_type, MapType::Hash | MapType::LruHash)
        && spec.record.fields.is_empty()
        && stride <= VALUE_BYTES_MAX;
    let key_stride = (spec.key_size as usize).next_multiple_of(8);
    let size = key_stride + size_of::<State>() + 2 * stride;
    let total = size.checked_mul(spec.max_entries as usize)?;
    (suits && total <= BYTES_MAX).then_some(size)
}

/// The word behind a key.
///
/// # Safety
/// A key of a map whose elements have two values ends at `at`.
#[inline(always)]
unsafe fn state_behind<'a>(at: *mut u8) -> &'a State {
    // SAFETY: there is such a word behind each key, which is only accessed as an atomic.
    unsafe { &*at.cast() }
}

/// An element that this thread has, with the word it had before.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    state: &'a State,
    before: u64,
}

impl Taken<'_> {
    /// Lets the other value hold.
    #[inline(always)]
    pub(super) fn give_other(self) {
        self.state.store(self.before ^ SECOND, Ordering::Release);
    }

    /// As it was.
    #[inline(always)]
    pub(super) fn give(self) {
        self.state.store(self.before, Ordering::Release);
    }

    /// The element left the map.
    #[inline(always)]
    pub(super) fn remove(self) {
        self.state.store(0, Ordering::Release);
    }
}

impl Hash {
    /// The word of element `index`, which was checked.
    #[inline(always)]
    pub(super) fn state(&self, index: u32) -> &State {
        // SAFETY: an element of this map.
        unsafe { state_behind(self.key_at(index).wrapping_add(self.key_stride)) }
    }

    /// One of the two values behind `state_at`.
    #[inline(always)]
    fn twin(&self, state_at: *mut u8, state: u64) -> *mut u8 {
        let offset = (state >> 32) as usize & self.value_stride;
        state_at.wrapping_add(size_of::<State>() + offset)
    }

    /// The value of the element at `elem` that holds; its key has `key_stride` bytes.
    #[inline(always)]
    pub(super) fn holding(&self, elem: *mut u8, key_stride: usize) -> *mut u8 {
        let state_at = elem.wrapping_add(key_stride);
        // SAFETY: callers pass an element of this map.
        let state = unsafe { state_behind(state_at) };
        self.twin(state_at, state.load(Ordering::Acquire))
    }

    /// The value that an update of `taken` writes.
    #[inline(always)]
    pub(super) fn other(&self, index: u32, taken: &Taken<'_>) -> *mut u8 {
        let state_at = self.key_at(index).wrapping_add(self.key_stride);
        self.twin(state_at, taken.before ^ SECOND)
    }

    /// Takes the free element `index`, which is about to be inserted; its first value holds.
    #[inline(always)]
    pub(super) fn take_new(&self, index: u32, token: u32) {
        let state = LISTED | u64::from(token);
        self.state(index).store(state, Ordering::Release);
    }

    /// The new element `index` can be found now.
    #[inline(always)]
    pub(super) fn give_new(&self, index: u32) {
        self.state(index).store(LISTED, Ordering::Release);
    }

    /// Takes the element of `key`, which was seen at `index`, without the bucket's lock.
    #[inline(always)]
    pub(super) fn take_found<K: Key>(&self, key: K, index: u32, token: u32) -> Option<Taken<'_>> {
        let state = self.state(index);
        let before = state.load(Ordering::Relaxed);
        if before & OWNER != 0 || before & LISTED == 0 {
            return None;
        }
        let mine = before | u64::from(token);
        state
            .compare_exchange(before, mine, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        let taken = Taken { state, before };
        // SAFETY: the index was checked; nobody changes the key now.
        if unsafe { key.is_at(self.key_at(index)) } {
            return Some(taken);
        }
        taken.give();
        None
    }

    /// Takes the element `index` of a bucket that is held, if elements have two values.
    ///
    /// # Errors
    /// `EDEADLK` if this very thread has it.
    #[inline(always)]
    pub(super) fn take_listed<V: Kind>(
        &self,
        index: u32,
        token: u32,
    ) -> Result<Option<Taken<'_>>, Errno> {
        if !V::TWINS {
            return Ok(None);
        }
        let state = self.state(index);
        let mut turn = 0;
        loop {
            let seen = state.load(Ordering::Relaxed);
            let owner = (seen & OWNER) as u32;
            if owner == token {
                return Err(Errno::EDEADLK);
            }
            if owner != 0 && (!wait(&mut turn) || sync::is_alive(owner)) {
                continue;
            }
            let before = seen & !OWNER;
            let mine = before | u64::from(token);
            if state
                .compare_exchange(seen, mine, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            {
                return Ok(Some(Taken { state, before }));
            }
        }
    }
}
