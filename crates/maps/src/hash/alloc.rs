//! Which elements are free: one stack a CPU slot, elements never used yet, and a spare element a CPU for replacements.
//!
//! As in the kernel's preallocated maps, `max_entries` elements can be in the map and each CPU has one more, so that an
//! update of an existing key always finds an element to write the new value to. All of it happens under some bucket's lock,
//! so that whoever holds all bucket locks ([`Hash::sweep`]) sees every element either in a bucket or free; what is neither
//! was lost by a thread that died in between, and is free again afterwards.

use super::{Hash, bucket::Held};
use crate::header::Runner;
use crate::lock;
use crate::sync::{self, AtomicU32, AtomicU64};
use std::sync::atomic::Ordering;

/// Turns to wait for a busy CPU before asking whether its thread still runs.
const TURNS_UNTIL_SUSPECT: u32 = 200;

/// What belongs to one CPU slot. The slot's lessee writes it; others take from `free` when theirs is empty.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub(super) struct CpuLine {
    /// Stack of free elements: index plus one in the lower half, a count of changes in the upper (against ABA).
    free: AtomicU64,
    /// The spare element, plus one.
    spare: AtomicU32,
    /// Token of the thread inside an operation, or 0.
    busy: AtomicU32,
}

/// What belongs to the whole map.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub(super) struct SharedLine {
    /// Seed of the hash function, set at creation.
    pub(super) seed: AtomicU64,
    /// Elements from here on were never used.
    unused: AtomicU32,
    /// Somebody died inside an operation: a sweep is due.
    dirty: AtomicU32,
    /// Held during a sweep.
    sweeping: AtomicU32,
    /// Where the next eviction looks first (LRU).
    pub(super) hand: AtomicU32,
}

/// Marks a CPU busy as long as it lives.
pub(super) struct Busy<'a>(&'a AtomicU32);

impl Drop for Busy<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

impl Hash {
    #[inline(always)]
    fn cpu_line(&self, cpu: u32) -> &CpuLine {
        let cpu = if cpu < self.lines { cpu } else { 0 };
        // SAFETY: one line a CPU lies there (`Hash::new`), shared memory of atomics only.
        unsafe { &*self.cpu_lines.add(cpu as usize) }
    }

    #[inline(always)]
    pub(super) fn shared(&self) -> &SharedLine {
        // SAFETY: as above.
        unsafe { &*self.shared }
    }

    /// Link of element `index`, which was checked.
    #[inline(always)]
    pub(super) fn link(&self, index: u32) -> &AtomicU32 {
        debug_assert!(index < self.total);
        // SAFETY: there are `total` links.
        unsafe { &*self.links.add(index as usize) }
    }

    /// Notes that `runner` is inside an operation.
    #[inline(always)]
    pub(super) fn enter(&self, runner: Runner) -> Busy<'_> {
        let busy = &self.cpu_line(runner.cpu).busy;
        let left = busy.load(Ordering::Relaxed);
        if left != 0 && left != runner.token {
            self.note_death();
        }
        busy.store(runner.token, Ordering::Release);
        Busy(busy)
    }

    /// A thread died inside an operation, or may have.
    #[cold]
    pub(super) fn note_death(&self) {
        self.shared().dirty.store(1, Ordering::Release);
    }

    /// The first spare elements, one a CPU, behind the `capacity` others. At creation only.
    pub(crate) fn give_spares(&self) {
        for cpu in 0..self.total - self.capacity {
            self.cpu_line(cpu)
                .spare
                .store(self.capacity + cpu + 1, Ordering::Relaxed);
        }
    }

    /// An element for a new key, or `None` if `max_entries` are in use. The caller holds a bucket.
    #[inline]
    pub(super) fn take_free(&self, cpu: u32) -> Option<u32> {
        let own = self.pop(self.cpu_line(cpu));
        if own.is_some() {
            return own;
        }
        self.take_unused().or_else(|| {
            (1..self.lines).find_map(|n| self.pop(self.cpu_line((cpu + n) % self.lines)))
        })
    }

    fn take_unused(&self) -> Option<u32> {
        let unused = &self.shared().unused;
        let mut next = unused.load(Ordering::Relaxed);
        while next < self.capacity {
            match unused.compare_exchange_weak(next, next + 1, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Some(next),
                Err(now) => next = now,
            }
        }
        None
    }

    #[inline]
    fn pop(&self, line: &CpuLine) -> Option<u32> {
        let mut head = line.free.load(Ordering::Acquire);
        loop {
            let index = (head as u32).wrapping_sub(1);
            if index >= self.total {
                return None;
            }
            let next = self.link(index).load(Ordering::Relaxed);
            let count = (head >> 32).wrapping_add(1);
            match line.free.compare_exchange_weak(
                head,
                count << 32 | u64::from(next),
                Ordering::Acquire,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(index),
                Err(now) => head = now,
            }
        }
    }

    /// Gives an element back. The caller holds a bucket and has told its readers ([`Held::changed`]).
    #[inline]
    pub(super) fn give_free(&self, _held: &Held<'_>, cpu: u32, index: u32) {
        let line = self.cpu_line(cpu);
        let mut head = line.free.load(Ordering::Relaxed);
        loop {
            self.link(index).store(head as u32, Ordering::Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(index + 1);
            match line
                .free
                .compare_exchange_weak(head, new, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// The CPU's spare element. The caller holds a bucket, and the lease of the CPU: nobody else takes it.
    #[inline(always)]
    pub(super) fn take_spare(&self, cpu: u32) -> Option<u32> {
        let spare = &self.cpu_line(cpu).spare;
        let index = spare.load(Ordering::Acquire).wrapping_sub(1);
        if index >= self.total {
            return None;
        }
        spare.store(0, Ordering::Relaxed);
        Some(index)
    }

    /// Keeps a replaced element as the CPU's spare. As [`Self::give_free`].
    #[inline(always)]
    pub(super) fn give_spare(&self, held: &Held<'_>, cpu: u32, index: u32) {
        let spare = &self.cpu_line(cpu).spare;
        if spare.load(Ordering::Relaxed) == 0 {
            spare.store(index + 1, Ordering::Release);
        } else {
            self.give_free(held, cpu, index);
        }
    }

    /// Does somebody look dead who was inside an operation? Asked when the map is full; the caller holds no bucket.
    #[cold]
    pub(super) fn sweep_is_due(&self, runner: Runner) -> bool {
        if self.shared().dirty.load(Ordering::Acquire) != 0 {
            return true;
        }
        (0..self.lines).filter(|&cpu| cpu != runner.cpu).any(|cpu| {
            let busy = &self.cpu_line(cpu).busy;
            let token = busy.load(Ordering::Relaxed);
            let stuck = token != 0
                && (0..TURNS_UNTIL_SUSPECT).all(|_| {
                    sync::pause();
                    busy.load(Ordering::Relaxed) == token
                });
            stuck && !sync::is_alive(token)
        })
    }

    /// Finds the elements that dead threads lost and frees them. The caller holds no bucket.
    #[cold]
    pub(super) fn sweep(&self, runner: Runner) {
        let sweeping = &self.shared().sweeping;
        lock::take(sweeping, runner.token);
        if self.lock_all(runner) {
            self.shared().dirty.store(0, Ordering::Relaxed);
            for line in (0..self.lines).map(|cpu| self.cpu_line(cpu)) {
                let token = line.busy.load(Ordering::Relaxed);
                if token != 0 && !sync::is_alive(token) {
                    line.busy.store(0, Ordering::Relaxed);
                }
            }
            self.clear_marks();
            self.for_each_index(&mut |index| self.mark(index));
            self.rebuild_free();
            self.unlock_all();
        }
        lock::give(sweeping);
    }

    fn lock_all(&self, runner: Runner) -> bool {
        for i in 0..=self.mask {
            match self.bucket(i).lock(runner.token) {
                Ok((held, _)) => std::mem::forget(held),
                Err(_) => {
                    (0..i).for_each(|done| self.bucket(done).unlock_forgotten());
                    return false;
                }
            }
        }
        true
    }

    fn unlock_all(&self) {
        (0..=self.mask).for_each(|i| self.bucket(i).unlock_forgotten());
    }

    fn mark_word(&self, index: u32) -> &AtomicU64 {
        // SAFETY: there is one bit an element, in whole words.
        unsafe { &*self.marks.add(index as usize / 64) }
    }

    fn clear_marks(&self) {
        (0..self.total)
            .step_by(64)
            .for_each(|i| self.mark_word(i).store(0, Ordering::Relaxed));
    }

    fn mark(&self, index: u32) {
        self.mark_word(index)
            .fetch_or(1 << (index % 64), Ordering::Relaxed);
    }

    fn is_marked(&self, index: u32) -> bool {
        self.mark_word(index).load(Ordering::Relaxed) >> (index % 64) & 1 != 0
    }

    /// Makes every element that is not marked a spare or free. All buckets are held.
    fn rebuild_free(&self) {
        for cpu in 0..self.lines {
            let line = self.cpu_line(cpu);
            line.spare.store(0, Ordering::Relaxed);
            let count = (line.free.load(Ordering::Relaxed) >> 32).wrapping_add(1);
            line.free.store(count << 32, Ordering::Relaxed);
        }
        self.shared().unused.store(self.capacity, Ordering::Relaxed);
        let mut spares = self.total - self.capacity;
        for index in (0..self.total).rev().filter(|&i| !self.is_marked(i)) {
            if spares > 0 {
                spares -= 1;
                self.cpu_line(spares)
                    .spare
                    .store(index + 1, Ordering::Release);
                continue;
            }
            let free = &self.cpu_line(0).free;
            let head = free.load(Ordering::Relaxed);
            self.link(index).store(head as u32, Ordering::Relaxed);
            free.store(head >> 32 << 32 | u64::from(index + 1), Ordering::Release);
        }
    }
}
