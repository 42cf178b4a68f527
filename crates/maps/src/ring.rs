//! Ring buffer and user ring buffer.
//!
//! The file is laid out as the kernel's map: consumer position, producer position, data, which is mapped twice so that no
//! record is ever split. A record is a header of 8 bytes (length and flags; owner) and its bytes.
//!
//! Concurrency (the kernel's): any number of producers, which reserve under a lock and fill and submit without; one
//! consumer, without a lock, that sees records in the order of their reservation and stops at one that is not submitted.
//! Beyond the kernel: a header names the reserving thread, and the consumer discards records whose thread died.

use crate::body::Body;
use crate::calls::RecordEnd;
use crate::header::{MapHeader, Ops, Runner, no_lookup};
use crate::lock;
use crate::region::{Layout, Memory, Region};
use crate::spec::MapSpec;
use crate::sync::{self, AtomicU32, AtomicU64, fence};
use skep_abi::Errno;
use skep_sys::mem::PAGE;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::time::Duration;

/// Bytes of a record's header.
const HEADER: u64 = 8;
/// In a header's length: not submitted yet (`BPF_RINGBUF_BUSY_BIT`).
const BUSY: u32 = 1 << 31;
/// In a header's length: to be skipped (`BPF_RINGBUF_DISCARD_BIT`).
const DISCARD: u32 = 1 << 30;
/// Longest record (`RINGBUF_MAX_RECORD_SZ`).
const RECORD_BYTES_MAX: u64 = (u32::MAX / 4) as u64;
/// `BPF_RB_NO_WAKEUP`
const NO_WAKEUP: u64 = 1;
/// `BPF_RB_FORCE_WAKEUP`
const FORCE_WAKEUP: u64 = 2;
/// Offset of the data in the file.
const DATA_AT: usize = 2 * PAGE;
/// Samples one drain handles (`BPF_MAX_USER_RINGBUF_SAMPLES`).
const DRAIN_SAMPLES_MAX: i64 = 128 * 1024;
/// Rings up to this size have their pages from the start, as in the kernel.
const POPULATED_BYTES_MAX: usize = 32 << 20;
/// Ring buffers one process may have mapped.
const RINGS_MAX: usize = 1024;

/// Control words that the kernel's layout has no place for.
#[repr(C)]
#[derive(Debug, Default)]
struct Control {
    /// Token of the reserving thread.
    lock: AtomicU32,
    /// Changes with each wakeup; consumers sleep on it.
    wakeups: AtomicU32,
    /// Consumers that sleep.
    sleepers: AtomicU32,
    /// A drain is under way (user ring buffer).
    draining: AtomicU32,
    /// Headers of the first records: loom's atomics do not fit into the data.
    #[cfg(feature = "loom")]
    headers: [(AtomicU32, AtomicU32); 16],
}

/// Process-private side.
#[derive(Debug)]
pub(crate) struct Ring {
    consumer: *const AtomicU64,
    producer: *const AtomicU64,
    /// Oldest position that may still be busy.
    pending: *const AtomicU64,
    control: *const Control,
    data: *mut u8,
    mask: u64,
}

/// Every ring of this process, by address: records are submitted without naming their map.
struct Listed {
    start: AtomicUsize,
    end: AtomicUsize,
    ring: AtomicPtr<Ring>,
}

static LISTED: [Listed; RINGS_MAX] = [const {
    Listed {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        ring: AtomicPtr::new(std::ptr::null_mut()),
    }
}; RINGS_MAX];

pub(crate) fn create(spec: &MapSpec, memory: &Memory) -> Result<MapHeader, Errno> {
    let size = spec.max_entries as usize;
    let mut layout = Layout::new(Some(DATA_AT + size), Some(size_of::<Control>()))?;
    layout.twice_from = Some(DATA_AT);
    let region = Region::create(spec, layout, memory)?;
    if size <= POPULATED_BYTES_MAX {
        region.mapping().populate(0, DATA_AT + 2 * size);
    }
    let base = region.data();
    #[cfg(feature = "loom")]
    // SAFETY: the pages of the words, and the control words, of a new ring.
    unsafe {
        region.control().cast::<Control>().write(Control::default());
        for at in [0, PAGE, PAGE + size_of::<AtomicU64>()] {
            base.add(at).cast::<AtomicU64>().write(AtomicU64::default());
        }
    }
    let ring = Ring {
        consumer: base.cast_const().cast(),
        producer: base.wrapping_add(PAGE).cast_const().cast(),
        pending: base
            .wrapping_add(PAGE + size_of::<AtomicU64>())
            .cast_const()
            .cast(),
        control: region.control().cast_const().cast(),
        data: base.wrapping_add(DATA_AT),
        mask: u64::from(spec.max_entries) - 1,
    };
    let ops = Ops {
        lookup: no_lookup,
        update: no_ring_update,
        delete: no_ring_delete,
    };
    Ok(MapHeader::new(spec, ops, Body::Ring(ring), region))
}

unsafe extern "C" fn no_ring_update(
    _: *const MapHeader,
    _: *const u8,
    _: *const u8,
    _: u64,
    _: Runner,
) -> i64 {
    Errno::ENOTSUPP.neg()
}

unsafe extern "C" fn no_ring_delete(_: *const MapHeader, _: *const u8, _: Runner) -> i64 {
    Errno::ENOTSUPP.neg()
}

fn rounded(len: u64) -> u64 {
    (len + HEADER).next_multiple_of(8)
}

impl Ring {
    fn consumer(&self) -> &AtomicU64 {
        // SAFETY: the word lies in the map's first page.
        unsafe { &*self.consumer }
    }
    fn producer(&self) -> &AtomicU64 {
        // SAFETY: the word lies in the map's second page.
        unsafe { &*self.producer }
    }
    fn pending(&self) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { &*self.pending }
    }
    fn control(&self) -> &Control {
        // SAFETY: the control words of this map.
        unsafe { &*self.control }
    }

    /// Length and owner of the record at `position`.
    #[cfg(feature = "loom")]
    fn header(&self, position: u64) -> (&AtomicU32, &AtomicU32) {
        let (length, owner) = &self.control().headers[(position & self.mask) as usize / 8];
        (length, owner)
    }

    /// Length and owner of the record at `position`.
    #[cfg(not(feature = "loom"))]
    fn header(&self, position: u64) -> (&AtomicU32, &AtomicU32) {
        let at = self
            .data
            .wrapping_add((position & self.mask & !7) as usize)
            .cast::<AtomicU32>();
        // SAFETY: inside the data, aligned to 8.
        unsafe { (&*at, &*at.wrapping_add(1)) }
    }

    /// `bpf_ringbuf_reserve`
    #[inline]
    pub(crate) fn reserve(&self, len: u64, runner: Runner) -> *mut u8 {
        if len > RECORD_BYTES_MAX || rounded(len) > self.mask + 1 {
            return std::ptr::null_mut();
        }
        let word = &self.control().lock;
        lock::take(word, runner.token);
        let at = self.claim(len, runner.token);
        lock::give(word);
        at
    }

    fn claim(&self, len: u64, token: u32) -> *mut u8 {
        let start = self.producer().load(Ordering::Relaxed);
        let end = start.wrapping_add(rounded(len));
        if end.wrapping_sub(self.consumer().load(Ordering::Acquire)) > self.mask
            || end.wrapping_sub(self.pending().load(Ordering::Relaxed)) > self.mask
                && !self.advance_pending(start, end)
        {
            return std::ptr::null_mut();
        }
        let (length, owner) = self.header(start);
        length.store(len as u32 | BUSY, Ordering::Relaxed);
        owner.store(token, Ordering::Relaxed);
        self.producer().store(end, Ordering::Release);
        self.data
            .wrapping_add((start & self.mask) as usize + HEADER as usize)
    }

    /// Moves the pending position over finished records; is there room up to `end` then?
    #[cold]
    fn advance_pending(&self, producer: u64, end: u64) -> bool {
        let mut position = self.pending().load(Ordering::Relaxed);
        // A corrupted ring may say that more is pending than fits.
        for _ in 0..=self.mask / HEADER {
            if position >= producer {
                break;
            }
            let (length, _) = self.header(position);
            let len = length.load(Ordering::Acquire);
            if len & BUSY != 0 {
                break;
            }
            position += rounded(u64::from(len & !DISCARD));
        }
        self.pending().store(position, Ordering::Relaxed);
        end.wrapping_sub(position) <= self.mask
    }

    /// `bpf_ringbuf_submit`, `bpf_ringbuf_discard`
    #[inline]
    fn commit(&self, sample: *mut u8, flags: u64, end: RecordEnd) {
        let position = (sample as usize - self.data as usize) as u64 - HEADER;
        let (length, _) = self.header(position);
        let mut len = length.load(Ordering::Relaxed) & !BUSY;
        if end == RecordEnd::Discard {
            len |= DISCARD;
        }
        length.store(len, Ordering::Release);
        if flags & NO_WAKEUP != 0 {
            return;
        }
        fence(Ordering::SeqCst);
        let caught_up = (self.consumer().load(Ordering::Relaxed) ^ position) & self.mask == 0;
        if caught_up || flags & FORCE_WAKEUP != 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        let control = self.control();
        if control.sleepers.load(Ordering::Relaxed) != 0 {
            control.wakeups.fetch_add(1, Ordering::Release);
            sync::wake_all(&control.wakeups);
        }
    }

    /// `bpf_ringbuf_output`
    pub(crate) fn output(&self, parts: &[&[u8]], flags: u64, runner: Runner) -> Result<(), Errno> {
        if flags & !(NO_WAKEUP | FORCE_WAKEUP) != 0 {
            return Err(Errno::EINVAL);
        }
        let len = parts.iter().map(|p| p.len() as u64).sum();
        let record = self.reserve(len, runner);
        if record.is_null() {
            return Err(Errno::EAGAIN);
        }
        let mut to = record;
        for part in parts {
            // SAFETY: the record has room for all parts.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), to, part.len()) };
            to = to.wrapping_add(part.len());
        }
        self.commit(record, flags, RecordEnd::Submit);
        Ok(())
    }

    /// `bpf_ringbuf_query`
    pub(crate) fn query(&self, flags: u64) -> u64 {
        let (producer, consumer) = (
            self.producer().load(Ordering::Acquire),
            self.consumer().load(Ordering::Acquire),
        );
        match flags {
            0 => producer.wrapping_sub(consumer),
            1 => self.mask + 1,
            2 => consumer,
            3 => producer,
            _ => 0,
        }
    }

    /// Gives each submitted record to `consume`, in order, until it breaks or there is none; how many were given.
    pub(crate) fn consume(&self, consume: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> usize {
        let mut given = 0;
        let mut position = self.consumer().load(Ordering::Acquire);
        // A corrupted ring may say that more was produced than fits; what is produced meanwhile waits for the next call.
        let full = position.saturating_add(self.mask + 1);
        while position < self.producer().load(Ordering::Acquire).min(full) {
            let (length, owner) = self.header(position);
            let len = length.load(Ordering::Acquire);
            if len & BUSY != 0 {
                let token = owner.load(Ordering::Relaxed);
                if sync::is_alive(token) {
                    break;
                }
                let dead = (len & !BUSY) | DISCARD;
                let _lost_race =
                    length.compare_exchange(len, dead, Ordering::AcqRel, Ordering::Relaxed);
                continue;
            }
            let bytes = u64::from(len & !DISCARD).min(self.mask + 1 - HEADER);
            let mut done = ControlFlow::Continue(());
            if len & DISCARD == 0 {
                let at = self
                    .data
                    .wrapping_add((position & self.mask & !7) as usize + HEADER as usize);
                // SAFETY: at most the ring's size, which is mapped twice.
                done = consume(unsafe { std::slice::from_raw_parts(at, bytes as usize) });
                given += 1;
            }
            position += rounded(bytes);
            self.consumer().store(position, Ordering::Release);
            if done.is_break() {
                break;
            }
        }
        given
    }

    /// Sleeps until a record is submitted with a wakeup, or `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) {
        let control = self.control();
        control.sleepers.fetch_add(1, Ordering::SeqCst);
        let seen = control.wakeups.load(Ordering::Acquire);
        let consumer = self.consumer().load(Ordering::SeqCst);
        let ready = consumer < self.producer().load(Ordering::SeqCst)
            && self.header(consumer).0.load(Ordering::SeqCst) & BUSY == 0;
        if !ready {
            sync::sleep_on(&control.wakeups, seen, timeout);
        }
        control.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// `bpf_user_ringbuf_drain`
    pub(crate) fn drain(
        &self,
        flags: u64,
        drain: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<i64, Errno> {
        if flags & !(NO_WAKEUP | FORCE_WAKEUP) != 0 {
            return Err(Errno::EINVAL);
        }
        let busy = &self.control().draining;
        if busy
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return Err(Errno::EBUSY);
        }
        let result = self.drain_alone(drain);
        busy.store(0, Ordering::Release);
        if flags & FORCE_WAKEUP != 0 || flags & NO_WAKEUP == 0 && !matches!(result, Ok(0)) {
            self.wake();
        }
        result
    }

    fn drain_alone(&self, drain: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<i64, Errno> {
        let mut given = 0;
        for _ in 0..DRAIN_SAMPLES_MAX {
            let producer = self.producer().load(Ordering::Acquire);
            if !producer.is_multiple_of(8) {
                return Err(Errno::EINVAL);
            }
            let consumer = self.consumer().load(Ordering::Acquire);
            if consumer >= producer {
                break;
            }
            let len = self.header(consumer).0.load(Ordering::Acquire);
            if len & BUSY != 0 {
                break;
            }
            let bytes = u64::from(len & !DISCARD);
            if rounded(bytes) > producer - consumer {
                return Err(Errno::EINVAL);
            }
            if bytes > self.mask + 1 {
                return Err(Errno::E2BIG);
            }
            let mut done = ControlFlow::Continue(());
            if len & DISCARD == 0 {
                let at = self
                    .data
                    .wrapping_add((consumer & self.mask & !7) as usize + HEADER as usize);
                // SAFETY: at most the ring's size, which is mapped twice.
                done = drain(unsafe { std::slice::from_raw_parts(at, bytes as usize) });
                given += 1;
            }
            self.consumer()
                .store(consumer + rounded(bytes), Ordering::Release);
            if done.is_break() {
                break;
            }
        }
        Ok(given)
    }

    fn range(&self) -> (usize, usize) {
        let start = self.data as usize;
        (start, start + 2 * (self.mask as usize + 1))
    }
}

/// Lists a ring whose header has its final address.
pub(crate) fn list(ring: &Ring) -> Result<(), Errno> {
    let (start, end) = ring.range();
    for slot in &LISTED {
        let mine = slot
            .start
            .compare_exchange(0, start, Ordering::Acquire, Ordering::Relaxed);
        if mine.is_ok() {
            slot.ring
                .store(std::ptr::from_ref(ring).cast_mut(), Ordering::Release);
            slot.end.store(end, Ordering::Release);
            return Ok(());
        }
    }
    Err(Errno::ENOMEM)
}

/// Undoes [`list`].
pub(crate) fn unlist(ring: &Ring) {
    let (start, _) = ring.range();
    if let Some(slot) = LISTED
        .iter()
        .find(|s| s.start.load(Ordering::Acquire) == start)
    {
        slot.end.store(0, Ordering::Release);
        slot.ring.store(std::ptr::null_mut(), Ordering::Release);
        slot.start.store(0, Ordering::Release);
    }
}

/// Submits or discards the record at `sample`.
///
/// # Safety
/// `sample` came from `reserve` and was not given back yet; its map lives.
pub(crate) unsafe fn commit(sample: *mut u8, flags: u64, end: RecordEnd) {
    let at = sample as usize;
    for slot in &LISTED {
        if at < slot.end.load(Ordering::Acquire) && at >= slot.start.load(Ordering::Relaxed) {
            let ring = slot.ring.load(Ordering::Acquire);
            if !ring.is_null() {
                // SAFETY: listed rings live, and the record's map does by the caller's promise.
                unsafe { &*ring }.commit(sample, flags, end);
            }
            return;
        }
    }
}
