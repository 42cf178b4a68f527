//! Arena: sparse memory of pages that programs allocate and user space maps.
//!
//! The whole range is mapped, in a window of 4 GiB that begins at a multiple of 4 GiB: the lower half of an address is where it
//! lies in the window, whatever view of the arena it belongs to. Accesses outside of the arena meet memory that means nothing
//! (the kernel reads zeros there, and drops what is stored). A page reads as zero when it is allocated. One bit a page says
//! whether it is. Concurrency: allocation and freeing hold one lock a map; a half-done one is finished by nobody,
//! so that a dead owner leaves at most pages that stay allocated.

use crate::body::Body;
use crate::header::{MapHeader, Ops, Runner, no_delete, no_lookup, no_update};
use crate::lock;
use crate::region::{Layout, Memory, Region, WINDOW_BYTES};
use crate::spec::MapSpec;
use skep_abi::Errno;
use skep_sys::mem::PAGE;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Where an arena without a user address lies in its window.
const DEFAULT_PLACE: usize = 1 << 16;

/// Control words before the bits.
#[repr(C, align(64))]
#[derive(Debug)]
struct Control {
    lock: AtomicU32,
}

/// Process-private side.
#[derive(Debug)]
pub(crate) struct Arena {
    control: *const Control,
    bits: *const AtomicU64,
    pages: u32,
}

pub(crate) fn create(spec: &MapSpec, memory: &Memory) -> Result<MapHeader, Errno> {
    let pages = spec.max_entries as usize;
    let control = size_of::<Control>() + pages.div_ceil(64) * 8;
    let mut layout = Layout::new(pages.checked_mul(PAGE), Some(control))?;
    layout.window_at = Some(place(spec, layout.data)?);
    let region = Region::create(spec, layout, memory)?;
    let at = region.control();
    let arena = Arena {
        control: at.cast_const().cast(),
        bits: at.wrapping_add(size_of::<Control>()).cast_const().cast(),
        pages: spec.max_entries,
    };
    let ops = Ops {
        lookup: no_lookup,
        update: no_update,
        delete: no_delete,
    };
    Ok(MapHeader::new(spec, ops, Body::Arena(arena), region))
}

/// Where in its window an arena of `bytes` lies: where its user address says, else not at 0, which is NULL.
fn place(spec: &MapSpec, bytes: usize) -> Result<usize, Errno> {
    let wanted = spec.map_extra as u32 as usize;
    let wanted = if wanted == 0 { DEFAULT_PLACE } else { wanted };
    let room = WINDOW_BYTES.checked_sub(bytes).ok_or(Errno::E2BIG)?;
    Ok(if wanted <= room { wanted } else { 0 })
}

impl Arena {
    fn word(&self, page: u32) -> (&AtomicU64, u64) {
        // SAFETY: callers pass a page of the arena; there is one bit a page in whole words.
        (
            unsafe { &*self.bits.add(page as usize / 64) },
            1 << (page % 64),
        )
    }

    fn is_used(&self, page: u32) -> bool {
        let (word, bit) = self.word(page);
        word.load(Ordering::Relaxed) & bit != 0
    }

    fn are_free(&self, first: u32, count: u32) -> bool {
        (first..first + count).all(|page| !self.is_used(page))
    }

    fn locked<T>(&self, runner: Runner, run: impl FnOnce() -> T) -> T {
        // SAFETY: a word of the map's memory.
        let word = unsafe { &*self.control }.lock.as_ptr();
        // SAFETY: as above.
        unsafe { lock::spin_lock(word, runner.token) };
        let result = run();
        // SAFETY: taken above.
        unsafe { lock::spin_unlock(word) };
        result
    }

    /// The first of `count` free pages side by side, at `first` if one is asked for.
    fn allocate(
        &self,
        first: Option<u32>,
        count: u32,
        data: *mut u8,
        runner: Runner,
    ) -> Option<u32> {
        let last = self.pages.checked_sub(count).filter(|_| count != 0)?;
        self.locked(runner, || {
            let found = match first {
                Some(page) => (page <= last && self.are_free(page, count)).then_some(page),
                None => (0..=last).find(|&page| self.are_free(page, count)),
            }?;
            for page in found..found + count {
                let (word, bit) = self.word(page);
                word.fetch_or(bit, Ordering::Relaxed);
                // SAFETY: a page of this arena.
                unsafe { data.add(page as usize * PAGE).write_bytes(0, PAGE) };
            }
            Some(found)
        })
    }

    fn free(&self, first: u32, count: u32, data: *mut u8, runner: Runner) {
        let end = first.saturating_add(count).min(self.pages);
        self.locked(runner, || {
            for page in first..end {
                let (word, bit) = self.word(page);
                if word.fetch_and(!bit, Ordering::Relaxed) & bit != 0 {
                    // SAFETY: a page of this arena.
                    unsafe { data.add(page as usize * PAGE).write_bytes(0, PAGE) };
                }
            }
        });
    }
}

impl MapHeader {
    /// `bpf_arena_alloc_pages`: the number of the first page, `at` if that is given; `None` if there is no room.
    pub fn arena_allocate(&self, at: Option<u32>, count: u32, runner: Runner) -> Option<u32> {
        match &self.body {
            Body::Arena(arena) => arena.allocate(at, count, self.data, runner),
            _ => None,
        }
    }

    /// Writes `bytes` from the beginning of the arena on, into pages that are allocated for them (variables of an object).
    ///
    /// # Errors
    /// `EINVAL` for other maps, `E2BIG` if the arena is smaller, `EBUSY` if some of the pages are taken.
    pub fn arena_init(&self, bytes: &[u8], runner: Runner) -> Result<(), Errno> {
        let Body::Arena(arena) = &self.body else {
            return Err(Errno::EINVAL);
        };
        let pages = u32::try_from(bytes.len().div_ceil(PAGE)).map_err(|_| Errno::E2BIG)?;
        if pages > arena.pages {
            return Err(Errno::E2BIG);
        }
        if pages != 0 && arena.allocate(Some(0), pages, self.data, runner).is_none() {
            return Err(Errno::EBUSY);
        }
        // SAFETY: `bytes` fit the pages that were just allocated at the beginning of the arena.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.data, bytes.len()) };
        Ok(())
    }

    /// `bpf_arena_free_pages`: the pages read as zero afterwards.
    pub fn arena_free(&self, first: u32, count: u32, runner: Runner) {
        if let Body::Arena(arena) = &self.body {
            arena.free(first, count, self.data, runner);
        }
    }
}
