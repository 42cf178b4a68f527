//! Arena: sparse memory of pages that programs allocate and user space maps.
//!
//! The arena has a window of 4 GiB that begins at a multiple of 4 GiB: the lower half of an address is where it lies in the
//! window, whatever view of the arena it belongs to. Only pages that are allocated can be seen there, and read as zero
//! at first; elsewhere accesses fault: loads yield zero, and what is stored is lost, as in the kernel.
//!
//! One bit a page says whether it is taken, another one whether it has memory: reserved ones have none. Concurrency: allocation and freeing hold one lock a map; a half-done one is
//! finished by nobody, so that a dead owner leaves at most pages that stay allocated. Each process shows itself the pages that it
//! allocates, and those that another one allocated when it meets them: [`arena_fault`], which the handler of faults asks, looks
//! in the list of this process's arenas. Of a page that another process freed it sees zeros until it is allocated again.

use crate::body::Body;
use crate::header::{MapHeader, Ops, Runner, no_delete, no_lookup, no_update};
use crate::lock;
use crate::region::{Layout, Memory, Region, WINDOW_BYTES};
use crate::spec::MapSpec;
use skep_abi::Errno;
use skep_sys::mem::PAGE;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Where an arena without a user address lies in its window.
const DEFAULT_PLACE: usize = 1 << 16;

/// Control words before the bits.
#[repr(C, align(64))]
#[derive(Debug)]
struct Control {
    lock: AtomicU32,
}

/// What is known of each page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bits {
    /// It is allocated or reserved.
    Taken,
    /// It has memory.
    Memory,
}

/// Process-private side.
#[derive(Debug)]
pub(crate) struct Arena {
    control: *const Control,
    bits: *const AtomicU64,
    pages: u32,
    /// Its place in the list of arenas.
    listed: OnceLock<&'static Listed>,
}

/// An arena of this process. A list that only grows, of entries that are reused: a signal handler walks it.
#[derive(Debug)]
struct Listed {
    /// Null if the entry is free.
    map: AtomicPtr<MapHeader>,
    next: AtomicPtr<Listed>,
}

static ARENAS: AtomicPtr<Listed> = AtomicPtr::new(std::ptr::null_mut());

fn all_listed() -> impl Iterator<Item = &'static Listed> {
    // SAFETY: entries are never freed.
    let at = |list: &AtomicPtr<Listed>| unsafe { list.load(Ordering::Acquire).as_ref() };
    std::iter::successors(at(&ARENAS), move |entry| at(&entry.next))
}

/// Puts the arena of `map`, which stays where it is, on the list.
pub(crate) fn list(arena: &Arena, map: &MapHeader) {
    let map = std::ptr::from_ref(map).cast_mut();
    let free = |entry: &&Listed| {
        let null = std::ptr::null_mut();
        let taken = entry
            .map
            .compare_exchange(null, map, Ordering::AcqRel, Ordering::Relaxed);
        taken.is_ok()
    };
    let entry = all_listed().find(free).unwrap_or_else(|| {
        let new = Box::leak(Box::new(Listed {
            map: AtomicPtr::new(map),
            next: AtomicPtr::default(),
        }));
        let raw = std::ptr::from_mut(new);
        let mut first = ARENAS.load(Ordering::Relaxed);
        loop {
            new.next.store(first, Ordering::Relaxed);
            match ARENAS.compare_exchange(first, raw, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return new,
                Err(now) => first = now,
            }
        }
    });
    let _first = arena.listed.set(entry);
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Some(entry) = self.listed.get() {
            entry.map.store(std::ptr::null_mut(), Ordering::Release);
        }
    }
}

/// What a fault met.
#[derive(Debug)]
pub enum ArenaFault {
    /// No arena.
    Elsewhere,
    /// A page that is allocated, and can be seen from now on.
    Shown,
    /// A page that is not there.
    Hole(ArenaHole),
}

/// An address without memory in the window of an arena.
#[derive(Debug)]
pub struct ArenaHole {
    map: *const MapHeader,
    address: usize,
}

impl ArenaHole {
    /// Puts a page of zeros there that is nobody's; false if there is no memory.
    #[must_use]
    pub fn fill(&self) -> bool {
        // SAFETY: whoever accesses the window has the map.
        unsafe { (*self.map).region.blank(self.address) }
    }
}

/// Looks at an address that could not be accessed. Can be called from a signal handler.
#[must_use]
pub fn arena_fault(address: usize) -> ArenaFault {
    for entry in all_listed() {
        // SAFETY: a map leaves the list before it goes; of those that can go meanwhile nobody accesses the window.
        let Some(map) = (unsafe { entry.map.load(Ordering::Acquire).as_ref() }) else {
            continue;
        };
        if !map.region.mapping().contains(address) {
            continue;
        }
        let page = address.wrapping_sub(map.data as usize) / PAGE;
        let shown = map.arena_has(address as u64, 1) && map.region.show(page * PAGE, PAGE).is_ok();
        return if shown {
            ArenaFault::Shown
        } else {
            ArenaFault::Hole(ArenaHole { map, address })
        };
    }
    ArenaFault::Elsewhere
}

pub(crate) fn create(spec: &MapSpec, memory: &Memory) -> Result<MapHeader, Errno> {
    let pages = spec.max_entries as usize;
    let control = size_of::<Control>() + 2 * pages.div_ceil(64) * 8;
    let mut layout = Layout::new(pages.checked_mul(PAGE), Some(control))?;
    layout.window_at = Some(place(spec, layout.data)?);
    let region = Region::create(spec, layout, memory)?;
    let at = region.control();
    let arena = Arena {
        control: at.cast_const().cast(),
        bits: at.wrapping_add(size_of::<Control>()).cast_const().cast(),
        pages: spec.max_entries,
        listed: OnceLock::new(),
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
    /// The bit of a page that says whether it is taken, or whether it has memory.
    fn bit(&self, what: Bits, page: u32) -> (&AtomicU64, u64) {
        let words = self.pages.div_ceil(64) as usize;
        let at = what as usize * words + page as usize / 64;
        // SAFETY: callers pass a page of the arena; there is one bit a page in whole words, twice.
        (unsafe { &*self.bits.add(at) }, 1 << (page % 64))
    }

    fn is_set(&self, what: Bits, page: u32) -> bool {
        let (word, bit) = self.bit(what, page);
        word.load(Ordering::Acquire) & bit != 0
    }

    fn set(&self, what: Bits, page: u32) {
        let (word, bit) = self.bit(what, page);
        word.fetch_or(bit, Ordering::Release);
    }

    /// Clears a bit that may be set; says whether it was.
    fn clear(&self, what: Bits, page: u32) -> bool {
        let (word, bit) = self.bit(what, page);
        word.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    fn are_free(&self, first: u32, count: u32) -> bool {
        (first..first + count).all(|page| !self.is_set(Bits::Taken, page))
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
        region: &Region,
        runner: Runner,
    ) -> Option<u32> {
        let last = self.pages.checked_sub(count).filter(|_| count != 0)?;
        self.locked(runner, || {
            let found = match first {
                Some(page) => (page <= last && self.are_free(page, count)).then_some(page),
                None => (0..=last).find(|&page| self.are_free(page, count)),
            }?;
            let (at, bytes) = (found as usize * PAGE, count as usize * PAGE);
            region.show(at, bytes).ok()?;
            // SAFETY: pages of this arena that were just shown. One that died while freeing them may have left something.
            unsafe { region.data().add(at).write_bytes(0, bytes) };
            for page in found..found + count {
                self.set(Bits::Taken, page);
                self.set(Bits::Memory, page);
            }
            Some(found)
        })
    }

    /// Makes pages taken that have no memory.
    fn reserve(&self, first: u32, count: u32, runner: Runner) -> bool {
        self.locked(runner, || {
            let free = self.are_free(first, count);
            for page in (first..first + count).filter(|_| free) {
                self.set(Bits::Taken, page);
            }
            free
        })
    }

    fn free(&self, first: u32, count: u32, region: &Region, runner: Runner) {
        let end = first.saturating_add(count).min(self.pages);
        self.locked(runner, || {
            for page in first..end {
                self.clear(Bits::Taken, page);
                if self.clear(Bits::Memory, page) {
                    region.hide(page as usize * PAGE, PAGE);
                }
            }
        });
    }
}

impl MapHeader {
    /// `bpf_arena_alloc_pages`: the number of the first page, `at` if that is given; `None` if there is no room.
    pub fn arena_allocate(&self, at: Option<u32>, count: u32, runner: Runner) -> Option<u32> {
        match &self.body {
            Body::Arena(arena) => arena.allocate(at, count, &self.region, runner),
            _ => None,
        }
    }

    /// `bpf_arena_reserve_pages`: no allocation gets them until they are freed. False if some are taken.
    pub fn arena_reserve(&self, first: u32, count: u32, runner: Runner) -> bool {
        match &self.body {
            Body::Arena(arena) => arena.reserve(first, count, runner),
            _ => false,
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
        if pages != 0
            && arena
                .allocate(Some(0), pages, &self.region, runner)
                .is_none()
        {
            return Err(Errno::EBUSY);
        }
        // SAFETY: `bytes` fit the pages that were just allocated at the beginning of the arena.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.data, bytes.len()) };
        Ok(())
    }

    /// Is there memory behind all of the `len` bytes from `address` on, which lie in the window?
    #[must_use]
    pub fn arena_has(&self, address: u64, len: u64) -> bool {
        let Body::Arena(arena) = &self.body else {
            return false;
        };
        let first = address.wrapping_sub(self.data as u64);
        let Some(last) = first.checked_add(len - 1) else {
            return false;
        };
        let pages = first / PAGE as u64..=last / PAGE as u64;
        last / (PAGE as u64) < u64::from(arena.pages)
            && pages
                .into_iter()
                .all(|page| arena.is_set(Bits::Memory, page as u32))
    }

    /// `bpf_arena_free_pages`: the pages are not there afterwards.
    pub fn arena_free(&self, first: u32, count: u32, runner: Runner) {
        if let Body::Arena(arena) = &self.body {
            arena.free(first, count, &self.region, runner);
        }
    }
}
