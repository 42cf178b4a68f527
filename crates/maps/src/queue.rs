//! Queue and stack.
//!
//! Concurrency (the kernel's): one lock a map, so that operations happen one after the other. The lock names its owner and
//! is taken over from the dead; positions are stored last, so that a half-done operation never happened.

use crate::body::Body;
use crate::fields::copy_words;
use crate::header::{MapHeader, Ops, Runner, no_delete, no_lookup};
use crate::lock;
use crate::region::{Layout, Memory, Region};
use crate::spec::MapSpec;
use skep_abi::map_flags::{BPF_EXIST, BPF_NOEXIST};
use skep_abi::{Errno, MapType};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The control words.
#[repr(C)]
#[derive(Debug)]
struct Control {
    /// Token of the lock's owner.
    lock: AtomicU32,
    reserved: AtomicU32,
    /// Lower half: slot of the next push. Upper half: slot of the oldest element. Equal when empty.
    ends: AtomicU64,
}

/// Process-private side.
#[derive(Debug)]
pub(crate) struct Queue {
    control: *const Control,
    data: *mut u8,
    value_size: usize,
    /// One more than `max_entries`.
    slots: u32,
}

pub(crate) fn create(spec: &MapSpec, memory: &Memory) -> Result<MapHeader, Errno> {
    let slots = spec.max_entries.checked_add(1).ok_or(Errno::E2BIG)?;
    let value_size = spec.value_size as usize;
    let layout = Layout::new(
        value_size.checked_mul(slots as usize),
        Some(size_of::<Control>()),
    )?;
    let region = Region::create(spec, layout, memory)?;
    let (control, data) = (region.control().cast_const().cast(), region.data());
    let queue = Queue {
        control,
        data,
        value_size,
        slots,
    };
    let ops = Ops {
        lookup: no_lookup,
        update,
        delete: no_delete,
    };
    Ok(MapHeader::new(spec, ops, Body::Queue(queue), region))
}

unsafe extern "C" fn update(
    _: *const MapHeader,
    _: *const u8,
    _: *const u8,
    _: u64,
    _: Runner,
) -> i64 {
    Errno::EINVAL.neg()
}

/// The lock, held.
struct Held<'a> {
    control: &'a Control,
    head: u32,
    tail: u32,
}

impl Held<'_> {
    fn store(&self, head: u32, tail: u32) {
        self.control
            .ends
            .store(u64::from(tail) << 32 | u64::from(head), Ordering::Release);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: taken in `Queue::lock`.
        unsafe { lock::spin_unlock(self.control.lock.as_ptr()) };
    }
}

/// Does a read take the element out?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Take {
    Yes,
    No,
}

impl Queue {
    fn lock(&self, runner: Runner) -> Held<'_> {
        // SAFETY: the control words lie there.
        let control = unsafe { &*self.control };
        // SAFETY: a word of the map's memory.
        unsafe { lock::spin_lock(control.lock.as_ptr(), runner.token) };
        let ends = control.ends.load(Ordering::Acquire);
        let slot = |n: u64| (n as u32) % self.slots;
        Held {
            control,
            head: slot(ends),
            tail: slot(ends >> 32),
        }
    }

    fn slot(&self, number: u32) -> *mut u8 {
        self.data.wrapping_add(number as usize * self.value_size)
    }

    fn after(&self, number: u32) -> u32 {
        if number + 1 == self.slots {
            0
        } else {
            number + 1
        }
    }

    /// `bpf_map_push_elem`; with `BPF_EXIST` the oldest element makes room.
    pub(crate) fn push(
        &self,
        _: &MapHeader,
        value: *const u8,
        flags: u64,
        runner: Runner,
    ) -> Result<(), Errno> {
        if flags & BPF_NOEXIST != 0 || flags > BPF_EXIST {
            return Err(Errno::EINVAL);
        }
        let held = self.lock(runner);
        let next = self.after(held.head);
        let mut tail = held.tail;
        if next == tail {
            if flags & BPF_EXIST == 0 {
                return Err(Errno::E2BIG);
            }
            tail = self.after(tail);
        }
        // SAFETY: the slot is inside the data; callers pass a value of the map's size.
        unsafe { copy_words(value, self.slot(held.head), self.value_size) };
        held.store(next, tail);
        Ok(())
    }

    fn read(&self, map: &MapHeader, out: *mut u8, take: Take, runner: Runner) -> Result<(), Errno> {
        let held = self.lock(runner);
        let (head, tail) = (held.head, held.tail);
        if head == tail {
            // SAFETY: callers pass room for a value.
            unsafe { out.write_bytes(0, self.value_size) };
            return Err(Errno::ENOENT);
        }
        let last = if head == 0 { self.slots - 1 } else { head - 1 };
        let (from, left) = match map.map_type {
            MapType::Stack => (last, (last, tail)),
            _ => (tail, (head, self.after(tail))),
        };
        // SAFETY: the slot is inside the data; callers pass room for a value.
        unsafe { copy_words(self.slot(from), out, self.value_size) };
        if take == Take::Yes {
            held.store(left.0, left.1);
        }
        Ok(())
    }

    /// `bpf_map_pop_elem`; an empty map zeroes `out`.
    pub(crate) fn pop(&self, map: &MapHeader, out: *mut u8, runner: Runner) -> Result<(), Errno> {
        self.read(map, out, Take::Yes, runner)
    }

    /// `bpf_map_peek_elem`; an empty map zeroes `out`.
    pub(crate) fn peek(&self, map: &MapHeader, out: *mut u8, runner: Runner) -> Result<(), Errno> {
        self.read(map, out, Take::No, runner)
    }
}
