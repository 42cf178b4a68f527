//! Blocks: memory of one object each, with a header in front.
//!
//! Blocks come in classes of size and are never split or joined. A free block is on the stack of its class, whose top
//! changes by compare and exchange together with a counter, so that a late exchange fails. The part of the file that was
//! never used begins at `bump`. A block says who holds its object as long as no map or other object owns it: the thread that
//! made it or took it out last. When memory runs out, what dead threads hold is given back.

use super::{FILE_BYTES, Heap};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// Unit of offsets.
pub(super) const UNIT: u64 = 16;
/// Classes of size.
const CLASSES: usize = 80;
/// Classes that are a multiple of the unit each; then come four for every doubling.
const SMALL: usize = 16;
/// Bytes of the largest object.
pub(super) const OBJECT_BYTES_MAX: u64 = 4 << 20;

/// Time after which a heap without memory is searched again for objects of dead threads.
const LOOK_AGAIN_NS: u64 = 1_000_000_000;

/// Bytes of the blocks of a class, header included.
const fn class_bytes(class: usize) -> usize {
    if class < SMALL {
        return (class + 1) * UNIT as usize;
    }
    let (doubling, quarter) = ((class - SMALL) / 4, (class - SMALL) % 4);
    ((SMALL * UNIT as usize) << doubling) / 4 * (5 + quarter)
}

const _: () = assert!(class_bytes(CLASSES - 1) as u64 >= OBJECT_BYTES_MAX + HEADER_BYTES);

/// What all blocks share.
#[repr(C)]
pub(super) struct Control {
    /// Offset of the first byte that was never used.
    bump: AtomicU64,
    /// Bytes of blocks in use.
    live: AtomicU64,
    /// By class: counter in the upper half, the first free block's offset in units in the lower one, 0 for none.
    pub(super) free: [AtomicU64; CLASSES],
}

impl Control {
    pub(super) fn set_up(&self, first: usize) {
        self.bump.store(first as u64, Ordering::Relaxed);
    }
}

/// In front of each object.
#[repr(C)]
pub(super) struct Header {
    /// Bytes of the object.
    bytes: AtomicU32,
    /// One more than the class in the lowest byte, 0 as long as the block is being cut; what the object owns above
    /// ([`super::types`]).
    pub(super) kind: AtomicU32,
    /// 0 for a free block.
    pub(super) references: AtomicU32,
    /// Token of the thread that holds it, 0 if a map or object does; for a free block the next one.
    pub(super) holder: AtomicU32,
}

pub(super) const HEADER_BYTES: u64 = size_of::<Header>() as u64;

impl Header {
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.bytes.load(Ordering::Relaxed))
    }

    /// Index of what it owns.
    pub(super) fn owns(&self) -> u32 {
        self.kind.load(Ordering::Relaxed) >> 8
    }

    fn class(&self) -> Option<usize> {
        let kind = self.kind.load(Ordering::Acquire) as u8 as usize;
        kind.checked_sub(1).filter(|class| *class < CLASSES)
    }
}

impl Heap {
    /// The header of the object at `at`; `None` if no object can be there.
    pub(super) fn header(&self, at: u64) -> Option<&Header> {
        let start = at.wrapping_sub(HEADER_BYTES);
        // SAFETY: inside the file, aligned; a header is atomics only.
        (self.has(start, HEADER_BYTES) && start.is_multiple_of(UNIT))
            .then(|| unsafe { &*(start as *const Header) })
    }

    /// An object of `bytes` zeros, with one reference, which the thread of `token` holds; `owns` says what it owns. 0 if
    /// there is no memory.
    #[must_use]
    pub fn allocate(&self, bytes: u64, owns: u32, token: u32) -> u64 {
        if bytes > OBJECT_BYTES_MAX {
            return 0;
        }
        let needed = (bytes + HEADER_BYTES) as usize;
        let Some(class) = (0..CLASSES).find(|&class| class_bytes(class) >= needed) else {
            return 0;
        };
        let used = || self.take(class).inspect(|offset| self.zero(*offset, bytes));
        let found = used().or_else(|| self.cut(class)).or_else(|| {
            self.give_back_for_the_dead(token);
            used()
        });
        let Some(at) = found.map(|offset| self.base() + offset + HEADER_BYTES) else {
            return 0;
        };
        let live = &self.control().blocks.live;
        live.fetch_add(class_bytes(class) as u64, Ordering::Relaxed);
        if let Some(header) = self.header(at) {
            header.bytes.store(bytes as u32, Ordering::Relaxed);
            header
                .kind
                .store((class as u32 + 1) | owns << 8, Ordering::Relaxed);
            header.holder.store(token, Ordering::Relaxed);
            header.references.store(1, Ordering::Release);
        }
        at
    }

    /// Zeroes the object in the block at `offset`. (Blocks that were never used are zeros, as the file is.)
    fn zero(&self, offset: u64, bytes: u64) {
        let at = self.base() + offset + HEADER_BYTES;
        for word in (0..bytes.next_multiple_of(8)).step_by(8) {
            if let Some(word) = self.word(at + word) {
                word.store(0, Ordering::Relaxed);
            }
        }
    }

    /// A free block of the class.
    fn take(&self, class: usize) -> Option<u64> {
        let top = &self.control().blocks.free[class];
        let mut seen = top.load(Ordering::Acquire);
        loop {
            let at = self.base() + u64::from(seen as u32) * UNIT + HEADER_BYTES;
            let header = self.header(at).filter(|_| seen as u32 != 0)?;
            let next = header.holder.load(Ordering::Relaxed);
            let new = counted(seen, next);
            match top.compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(u64::from(seen as u32) * UNIT),
                Err(now) => seen = now,
            }
        }
    }

    /// A block that was never used.
    fn cut(&self, class: usize) -> Option<u64> {
        let bytes = class_bytes(class) as u64;
        let end = |at: u64| {
            at.checked_add(bytes)
                .filter(|end| *end <= FILE_BYTES as u64)
        };
        let bump = &self.control().blocks.bump;
        let at = bump.fetch_update(Ordering::AcqRel, Ordering::Acquire, end);
        let at = at.ok()?;
        // The class has to be there before anything else of the block: it leads to the next one.
        let header = self.header(self.base() + at + HEADER_BYTES)?;
        header.kind.store(class as u32 + 1, Ordering::Release);
        fence(Ordering::Release);
        Some(at)
    }

    /// Gives the block of an object back that nobody has any more.
    pub(super) fn free(&self, at: u64) {
        let Some(header) = self.header(at) else {
            return;
        };
        let Some(class) = header.class() else { return };
        let control = &self.control().blocks;
        let offset = (at - HEADER_BYTES - self.base()) / UNIT;
        let top = &control.free[class];
        let mut seen = top.load(Ordering::Acquire);
        loop {
            header.holder.store(seen as u32, Ordering::Relaxed);
            let new = counted(seen, offset as u32);
            match top.compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        let bytes = class_bytes(class) as u64;
        control.live.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Gives back the references that threads held when they died.
    pub(super) fn give_back_for_the_dead(&self, token: u32) {
        let now = skep_sys::clock::monotonic_ns();
        if now.wrapping_sub(self.looked.swap(now, Ordering::Relaxed)) < LOOK_AGAIN_NS {
            return;
        }
        let mut offset = super::CONTROL_BYTES as u64;
        let end = self.control().blocks.bump.load(Ordering::Acquire);
        let mut uncut = offset;
        while offset < end {
            let at = self.base() + offset + HEADER_BYTES;
            let Some(header) = self.header(at) else {
                return;
            };
            let Some(class) = header.class() else {
                // Being cut, or whoever cut it died: zeros up to the next block.
                offset += UNIT;
                continue;
            };
            // What looks like a header may be inside a block that was cut meanwhile.
            if let Some(cut) = (uncut..offset)
                .step_by(UNIT as usize)
                .find(|at| self.is_cut(*at))
            {
                (offset, uncut) = (cut, cut);
                continue;
            }
            self.give_back_if_dead(at, token);
            offset += class_bytes(class) as u64;
            uncut = offset;
        }
    }

    fn is_cut(&self, offset: u64) -> bool {
        let header = self.header(self.base() + offset + HEADER_BYTES);
        header.and_then(Header::class).is_some()
    }

    fn give_back_if_dead(&self, at: u64, token: u32) {
        let Some(header) = self.header(at) else {
            return;
        };
        let holder = header.holder.load(Ordering::Acquire);
        let is_held = header.references.load(Ordering::Acquire) != 0 && holder != 0;
        if is_held && holder != token && !crate::sync::is_alive(holder) {
            let ours =
                header
                    .holder
                    .compare_exchange(holder, 0, Ordering::AcqRel, Ordering::Acquire);
            if ours.is_ok() {
                self.drop_object(at, token);
            }
        }
    }

    /// One more reference to the object at `at`; false if nobody has one any more, so that it goes or went.
    #[must_use]
    pub fn acquire(&self, at: u64) -> bool {
        let one_more = |n: u32| n.checked_add(1).filter(|_| n != 0);
        self.header(at).is_some_and(|header| {
            let references = &header.references;
            references
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
                .is_ok()
        })
    }

    /// A map or an object owns the object at `at` now, and the thread of `token` does not hold it any more.
    pub fn stored(&self, at: u64, token: u32) {
        if let Some(header) = self.header(at) {
            let _others =
                header
                    .holder
                    .compare_exchange(token, 0, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// The thread of `token` took the object at `at` out of what owned it.
    pub fn taken(&self, at: u64, token: u32) {
        if let Some(header) = self.header(at) {
            header.holder.store(token, Ordering::Release);
        }
    }

    /// Bytes of the object at `at`: not more than objects can have, whatever its header says.
    #[must_use]
    pub fn object_bytes(&self, at: u64) -> u64 {
        self.header(at)
            .map_or(0, |header| header.bytes().min(OBJECT_BYTES_MAX))
    }

    /// Bytes of all blocks in use.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.control().blocks.live.load(Ordering::Relaxed)
    }
}

/// The top of a stack after `seen`: `first` is its first block.
fn counted(seen: u64, first: u32) -> u64 {
    ((seen >> 32) + 1) << 32 | u64::from(first)
}
