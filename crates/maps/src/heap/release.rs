//! Objects that go, and what they own with them.
//!
//! Objects whose last reference was given back form a chain through their headers until each of them released what it owns:
//! however long a chain of owners is, no stack grows.

use super::blocks::{HEADER_BYTES, Header, UNIT};
use super::list::Head;
use super::tree::Root;
use super::types::Owned;
use super::{FILE_BYTES, Heap};
use crate::lock::{Got, spin_lock, spin_unlock};
use crate::spin_lock_offset;
use skep_btf::{Field, Record};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Objects that nobody has any more: the first; each one's holder word has the offset of the next.
struct Dead<'a> {
    heap: &'a Heap,
    first: u64,
    /// Token of the thread that releases them.
    token: u32,
}

impl Dead<'_> {
    /// Gives one reference to the object at `at` back.
    fn give_back(&mut self, at: u64) {
        let Some(header) = self.heap.header(at) else {
            return;
        };
        let one_less = |n: u32| n.checked_sub(1);
        let references = &header.references;
        if references.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less) == Ok(1) {
            header.holder.store(self.offset(), Ordering::Relaxed);
            self.first = at;
        }
    }

    fn offset(&self) -> u32 {
        match self.first {
            0 => 0,
            at => ((at - self.heap.base()) / UNIT) as u32,
        }
    }

    fn pop(&mut self) -> Option<(u64, &Header)> {
        let at = self.first;
        let header = self.heap.header(at)?;
        let next = header.holder.load(Ordering::Relaxed);
        self.first = match next {
            0 => 0,
            offset => self.heap.base() + u64::from(offset) * UNIT,
        };
        Some((at, header))
    }
}

impl Heap {
    /// Nodes that the heap has room for: no list or tree has more.
    pub(super) fn nodes_max(&self) -> usize {
        FILE_BYTES / (HEADER_BYTES as usize + 24)
    }

    /// The thread of `token` gives one reference to the object at `at` back; with the last one the object goes, and what it
    /// owns.
    pub fn drop_object(&self, at: u64, token: u32) {
        self.stored(at, token);
        let mut dead = self.no_dead(token);
        dead.give_back(at);
        self.bury(&mut dead);
    }

    fn no_dead(&self, token: u32) -> Dead<'_> {
        Dead {
            heap: self,
            first: 0,
            token,
        }
    }

    fn bury(&self, dead: &mut Dead<'_>) {
        // No heap has more objects: a longer chain is damaged.
        for _ in 0..self.nodes_max() {
            let Some((at, header)) = dead.pop() else {
                return;
            };
            let (owns, bytes) = (header.owns(), header.bytes());
            for (owned, offset) in self.fields(owns) {
                if owned == Owned::Lock && offset + 4 <= bytes {
                    self.settle(at + offset, dead.token);
                }
            }
            for (owned, offset) in self.fields(owns) {
                let needed = if owned == Owned::Pointer { 8 } else { 16 };
                if offset + needed <= bytes && self.has(at + offset, needed) {
                    // SAFETY: inside an object that is ours alone, and of the file.
                    unsafe { self.release(owned, (at + offset) as *mut u8, dead) };
                }
            }
            self.free(at);
        }
    }

    /// Puts in order what a dead thread left that held the lock at `at`, of an object that nobody else has any more.
    fn settle(&self, at: u64, token: u32) {
        if !self.has(at & !7, 8) || !at.is_multiple_of(4) {
            return;
        }
        // SAFETY: inside the file, aligned.
        let word = unsafe { AtomicU32::from_ptr(at as *mut u32) };
        let owner = word.load(Ordering::Acquire);
        if owner != 0 && !crate::sync::is_alive(owner) {
            word.store(token, Ordering::Release);
            self.roll_back(owner, token);
            word.store(0, Ordering::Release);
        }
    }

    /// Releases what the field at `at` owns.
    ///
    /// # Safety
    /// `at` must be the aligned place of such a field, and its lock be held if others see it.
    unsafe fn release(&self, owned: Owned, at: *mut u8, dead: &mut Dead<'_>) {
        // SAFETY: promised by the caller.
        unsafe {
            match owned {
                Owned::Pointer => {
                    let object = AtomicU64::from_ptr(at.cast()).swap(0, Ordering::AcqRel);
                    dead.give_back(object);
                }
                Owned::List(offset) => self.empty_list(&Head::at(at), dead.token, &mut |node| {
                    dead.give_back(node - u64::from(offset));
                }),
                Owned::Tree(offset) => self.empty_tree(&Root::at(at), dead.token, &mut |node| {
                    dead.give_back(node - u64::from(offset));
                }),
                Owned::Lock => {}
            }
        }
    }

    /// Releases what the special field at `at`, in a value of `record`, owns: the object that a stored pointer names, the
    /// objects in a list or tree. The thread of `token` does so.
    ///
    /// # Safety
    /// `at` must be the place of the field in a value of a map.
    pub unsafe fn release_field(&self, record: &Record, field: &Field, at: *mut u8, token: u32) {
        let Some(owned) = Owned::of(field).filter(|o| *o != Owned::Lock) else {
            return;
        };
        let mut dead = self.no_dead(token);
        let lock = spin_lock_offset(record).filter(|_| owned != Owned::Pointer);
        let lock = lock.map(|offset| {
            at.wrapping_sub(field.offset as usize)
                .wrapping_add(offset as usize)
        });
        // SAFETY: the lock lies in the same value; it is given back below.
        unsafe {
            if let Some(word) = lock {
                let got = spin_lock(word.cast(), token);
                self.after(got, token);
            }
            self.release(owned, at, &mut dead);
            if let Some(word) = lock {
                spin_unlock(word.cast());
            }
        }
        self.bury(&mut dead);
    }

    /// To be called with how the thread of `token` got the lock of a value: puts in order what a dead owner left.
    pub fn after(&self, got: Got, token: u32) {
        if let Got::Inherited { from } = got {
            self.roll_back(from, token);
        }
    }
}
