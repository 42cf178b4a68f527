//! The exception table of the process: which code expects faults, and where it goes on.
//!
//! A list that only grows, of entries that are reused; the signal handler walks it without locks. An entry is published by its
//! base and withdrawn before its table is freed, when no run of its code is active.

use super::image::Fault;
use skep_maps::{ArenaFault, arena_fault};
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// One stretch of code with its table.
struct Entry {
    /// Address of the code, 0 if the entry is free; 1 while it is being filled.
    base: AtomicUsize,
    len: AtomicUsize,
    table: AtomicPtr<Fault>,
    count: AtomicUsize,
    next: *mut Entry,
}

const FREE: usize = 0;
const FILLING: usize = 1;

static HEAD: AtomicPtr<Entry> = AtomicPtr::new(std::ptr::null_mut());
static INSTALL: Once = Once::new();

/// Keeps the table of some code known; withdraws it on drop.
#[derive(Debug)]
pub(super) struct Registration(&'static Entry);

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.base.load(Ordering::Relaxed))
    }
}

// SAFETY: entries are shared through atomics; `next` does not change once an entry is in the list.
unsafe impl Sync for Entry {}
// SAFETY: as above.
unsafe impl Send for Entry {}

/// Makes faults go on where the tables say, and those of arenas too.
pub(crate) fn install() {
    INSTALL.call_once(|| {
        // Without a handler a fault ends the process, as it would without a table.
        let _ = skep_sys::fault::handle_faults(resolve);
    });
}

/// Makes the faults of the code at `base` known; `None` if it expects none.
pub(super) fn register(base: usize, len: usize, faults: &[Fault]) -> Option<Registration> {
    if faults.is_empty() {
        return None;
    }
    install();
    let entry = claim();
    let table: Box<[Fault]> = faults.into();
    entry.count.store(table.len(), Ordering::Relaxed);
    entry.len.store(len, Ordering::Relaxed);
    entry
        .table
        .store(Box::into_raw(table).cast(), Ordering::Relaxed);
    entry.base.store(base, Ordering::Release);
    Some(Registration(entry))
}

/// A free entry, or a new one.
fn claim() -> &'static Entry {
    let mut at = HEAD.load(Ordering::Acquire);
    // SAFETY: entries are never freed.
    while let Some(e) = unsafe { at.as_ref() } {
        if e.base
            .compare_exchange(FREE, FILLING, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
        {
            return e;
        }
        at = e.next;
    }
    let new = Box::leak(Box::new(Entry {
        base: AtomicUsize::new(FILLING),
        len: AtomicUsize::new(0),
        table: AtomicPtr::new(std::ptr::null_mut()),
        count: AtomicUsize::new(0),
        next: HEAD.load(Ordering::Acquire),
    }));
    let raw: *mut Entry = new;
    loop {
        // SAFETY: not in the list yet, so nobody else sees it.
        let expected = unsafe { (*raw).next };
        match HEAD.compare_exchange(expected, raw, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: never freed.
            Ok(_) => return unsafe { &*raw },
            // SAFETY: as above.
            Err(now) => unsafe { (*raw).next = now },
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let e = self.0;
        let (table, count) = (
            e.table.load(Ordering::Relaxed),
            e.count.load(Ordering::Relaxed),
        );
        e.base.store(FREE, Ordering::Release);
        // SAFETY: made by `register` from a box of that length; the code it belongs to runs nowhere any more.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(table, count)) });
    }
}

/// Where the code goes on after a fault at `pc`: at the access again if it was one to an arena, and the page is there now.
fn resolve(pc: usize, address: usize) -> Option<usize> {
    match arena_fault(address) {
        ArenaFault::Elsewhere => in_tables(pc),
        ArenaFault::Shown => Some(pc),
        ArenaFault::Hole(hole) => in_tables(pc).or_else(|| {
            // The interpreter had looked, but the page was freed since: what it reads or writes is nobody's.
            hole.fill().then_some(pc)
        }),
    }
}

/// Where the tables say that code goes on after a fault at `pc`.
fn in_tables(pc: usize) -> Option<usize> {
    let mut at = HEAD.load(Ordering::Acquire);
    // SAFETY: entries are never freed.
    while let Some(e) = unsafe { at.as_ref() } {
        let base = e.base.load(Ordering::Acquire);
        if base > FILLING && (base..base + e.len.load(Ordering::Relaxed)).contains(&pc) {
            // SAFETY: the code at `base` is running (here), so its table is alive.
            let table = unsafe {
                std::slice::from_raw_parts(
                    e.table.load(Ordering::Relaxed),
                    e.count.load(Ordering::Relaxed),
                )
            };
            let offset = u32::try_from(pc - base).ok()?;
            let i = table.binary_search_by_key(&offset, |f| f.at).ok()?;
            return Some(base + table[i].resume as usize);
        }
        at = e.next;
    }
    None
}
