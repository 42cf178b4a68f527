//! Objects of programs (`bpf_obj_new`, sets of CPUs), in memory that all processes with one pin directory share.
//!
//! Pointers to objects lie in values of maps and in other objects, where programs load them as they are. So the heap lies at
//! the same address in every process, and so do the maps whose values own objects ([`place`]).
//!
//! What another process writes is not believed: every pointer that is read from shared memory is confined to the heap before
//! it is followed ([`Heap::node`]; engines do the same for pointers that programs load), and numbers in front of objects are
//! checked. A peer that scribbles over the file damages objects and nothing else.
//!
//! A process may die at any point. Changes of lists and trees are written to a journal first ([`journal`]); who takes the
//! lock over rolls them back. An object that the dead held is found when memory runs out ([`blocks`]).

mod blocks;
mod journal;
mod list;
pub(crate) mod place;
mod release;
#[cfg(all(test, not(feature = "loom")))]
mod tests;
mod tree;
mod types;

use crate::region::{Memory, errno};
use journal::{JOURNALS, Journal};
use skep_abi::Errno;
use skep_sys::mem::{self, Access, Mapping};
use std::fs::File;
use std::mem::offset_of;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes of the window of addresses that a heap lies at the start of, and what it is aligned to: the upper half of a pointer
/// tells whether it points there.
const WINDOW_BYTES: u64 = 1 << 32;
/// Bytes of the file: of all objects at most.
const FILE_BYTES: usize = 1 << 30;
/// Bytes in front of the first block.
const CONTROL_BYTES: usize = size_of::<Control>().next_multiple_of(mem::PAGE);
/// Addresses before and behind the window that show the file, too: no access of an object reaches further.
const GUARD_BYTES: usize = 16 << 20;
/// First bytes of the file.
const MAGIC: u64 = u64::from_le_bytes(*b"skepobj\x02");

/// The start of the file.
#[repr(C)]
struct Control {
    magic: AtomicU64,
    /// Where the window begins.
    base: AtomicU64,
    blocks: blocks::Control,
    types: types::Control,
    journals: [Journal; JOURNALS],
}

/// Memory of objects.
#[derive(Debug)]
pub struct Heap {
    file: File,
    /// The window with its guards.
    mapping: Mapping,
    /// Where maps lie whose values own objects, of this process.
    places: Mutex<Vec<Range<usize>>>,
    /// When this process last looked for objects of the dead, in nanoseconds.
    looked: AtomicU64,
}

impl Heap {
    /// A heap without objects.
    ///
    /// # Errors
    /// `ENOMEM` if there is no memory, or no room at the addresses where heaps lie.
    pub fn new(memory: &Memory) -> Result<Self, Errno> {
        let len = FILE_BYTES as u64;
        let file = match memory {
            Memory::Anonymous => mem::anonymous_file(c"skep-objects", len),
            Memory::Directory(dir) => mem::unnamed_file_in(dir, len),
            Memory::Existing(file) => return Self::open(file.try_clone().map_err(|e| errno(&e))?),
        };
        let file = file.map_err(|e| errno(&e))?;
        let window = WINDOW_BYTES as usize;
        let mapping = place::somewhere(window, |at| Self::window_at(at, &file))?;
        let heap = Self::over(file, mapping);
        let control = heap.control();
        control.blocks.set_up(CONTROL_BYTES);
        control.base.store(heap.base(), Ordering::Relaxed);
        control.magic.store(MAGIC, Ordering::Release);
        Ok(heap)
    }

    /// The heap that some process made in `file`.
    ///
    /// # Errors
    /// `EINVAL` for other files, `EEXIST` if this process has something else at the heap's addresses.
    pub fn open(file: File) -> Result<Self, Errno> {
        let read = |at: usize| {
            let mut word = [0; 8];
            file.read_exact_at(&mut word, at as u64)
                .map_err(|_| Errno::EINVAL)?;
            Ok(u64::from_ne_bytes(word))
        };
        let len = file.metadata().map_err(|e| errno(&e))?.len();
        let at = usize::try_from(read(offset_of!(Control, base))?).map_err(|_| Errno::EINVAL)?;
        let is_place = place::is_allowed(at, WINDOW_BYTES as usize)
            && (at as u64).is_multiple_of(WINDOW_BYTES);
        if read(0)? != MAGIC || len != FILE_BYTES as u64 || !is_place {
            return Err(Errno::EINVAL);
        }
        let mapping = Self::window_at(at, &file).map_err(|e| errno(&e))?;
        Ok(Self::over(file, mapping))
    }

    fn over(file: File, mapping: Mapping) -> Self {
        Self {
            file,
            mapping,
            places: Mutex::default(),
            looked: AtomicU64::new(0),
        }
    }

    /// The window, filled with the file again and again, and so are the guards: whatever the lower half of a pointer becomes, an
    /// access through it hits the file.
    fn window_at(at: usize, file: &File) -> std::io::Result<Mapping> {
        let len = WINDOW_BYTES as usize + 2 * GUARD_BYTES;
        let mut window = Mapping::reserve_at(at - GUARD_BYTES, len)?;
        let ends = [0, len - GUARD_BYTES].map(|at| (at, GUARD_BYTES));
        let copies = (GUARD_BYTES..len - GUARD_BYTES).step_by(FILE_BYTES);
        for (at, bytes) in copies.map(|at| (at, FILE_BYTES)).chain(ends) {
            window.overlay(at, file, 0, bytes, Access::ReadWrite)?;
        }
        Ok(window)
    }

    /// The file, for giving it a name.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where the window begins, a multiple of [`WINDOW_BYTES`].
    #[must_use]
    pub fn base(&self) -> u64 {
        self.mapping.base() as u64 + GUARD_BYTES as u64
    }

    fn control(&self) -> &Control {
        // SAFETY: the mapping begins with it behind the guard and lives as long; it consists of atomics.
        unsafe { &*(self.base() as *const Control) }
    }

    /// Is there room for `len` bytes of blocks at `at`, a multiple of 8?
    fn has(&self, at: u64, len: u64) -> bool {
        let first = CONTROL_BYTES as u64;
        let offset = at.wrapping_sub(self.base());
        at.is_multiple_of(8) && offset >= first && offset <= FILE_BYTES as u64 - len
    }

    /// A pointer that was read from shared memory: 0 unless it leads to the window, aligned.
    #[must_use]
    pub fn confined(&self, at: u64) -> u64 {
        let is_inside = at.wrapping_sub(self.base()) < WINDOW_BYTES && at.is_multiple_of(8);
        if is_inside { at } else { 0 }
    }

    /// A pointer that was read from shared memory: 0 unless it leads to where objects can be, with room for the nodes of
    /// lists and trees.
    fn node(&self, at: u64) -> u64 {
        const NODE_BYTES: u64 = 32;
        if self.has(at, NODE_BYTES) { at } else { 0 }
    }

    /// The word at `at`, or `None` outside of the blocks.
    fn word(&self, at: u64) -> Option<&AtomicU64> {
        // SAFETY: inside the file, aligned.
        self.has(at, 8)
            .then(|| unsafe { AtomicU64::from_ptr(at as *mut u64) })
    }

    /// From now on heads of lists and trees may lie in this memory, until [`Self::forget`].
    pub fn learn(&self, place: Range<usize>) {
        self.places().push(place);
    }

    /// The map there is gone.
    pub fn forget(&self, place: &Range<usize>) {
        self.places().retain(|known| known != place);
    }

    fn places(&self) -> std::sync::MutexGuard<'_, Vec<Range<usize>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
