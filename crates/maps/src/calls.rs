//! What programs can do with maps beyond lookup, update and delete: one method a helper, for every map type.
//!
//! A helper that a type does not have answers as the kernel's stub does; the verifier keeps programs from asking.

use crate::body::Body;
use crate::hash::Hash;
use crate::header::{MapHeader, Runner};
use skep_abi::Errno;
use std::ops::ControlFlow;

/// `BPF_F_INDEX_MASK`; all ones are `BPF_F_CURRENT_CPU`.
const PERF_INDEX_MASK: u64 = 0xffff_ffff;
/// `BPF_F_CTXLEN_MASK`
const PERF_CTXLEN_MASK: u64 = 0xf_ffff << 32;

/// What `bpf_for_each_map_elem` calls: key and value in place.
pub type ForEach<'a> = &'a mut dyn FnMut(*const u8, *mut u8) -> ControlFlow<()>;

fn result(outcome: Result<(), Errno>) -> i64 {
    outcome.map_or_else(Errno::neg, |()| 0)
}

impl MapHeader {
    /// `bpf_map_push_elem`
    ///
    /// # Safety
    /// `value` must be valid for reads of `value_size` bytes.
    pub unsafe fn push(&self, value: *const u8, flags: u64, runner: Runner) -> i64 {
        result(match &self.body {
            Body::Queue(queue) => queue.push(self, value, flags, runner),
            // SAFETY: the caller's promise.
            Body::Bloom(bloom) => bloom.push(unsafe { bloom.value(value) }, flags),
            _ => Err(Errno::EOPNOTSUPP),
        })
    }

    /// `bpf_map_pop_elem`
    ///
    /// # Safety
    /// `value` must be valid for writes of `value_size` bytes.
    pub unsafe fn pop(&self, value: *mut u8, runner: Runner) -> i64 {
        result(match &self.body {
            Body::Queue(queue) => queue.pop(self, value, runner),
            _ => Err(Errno::EOPNOTSUPP),
        })
    }

    /// `bpf_map_peek_elem`
    ///
    /// # Safety
    /// `value` must be valid for reads (bloom filter) and writes (queue, stack) of `value_size` bytes.
    pub unsafe fn peek(&self, value: *mut u8, runner: Runner) -> i64 {
        result(match &self.body {
            Body::Queue(queue) => queue.peek(self, value, runner),
            // SAFETY: the caller's promise.
            Body::Bloom(bloom) => bloom.peek(unsafe { bloom.value(value) }),
            _ => Err(Errno::EOPNOTSUPP),
        })
    }

    /// `bpf_for_each_map_elem`: the number of elements visited, or a negative errno. `flags` must be 0.
    pub fn for_each(&self, flags: u64, runner: Runner, visit: ForEach<'_>) -> i64 {
        if flags != 0 {
            return Errno::EINVAL.neg();
        }
        match &self.body {
            Body::Array => self.for_each_index(runner, visit),
            Body::Hash(hash) => self.for_each_hashed(hash, runner, visit),
            _ => Errno::EINVAL.neg(),
        }
    }

    fn for_each_index(&self, runner: Runner, visit: ForEach<'_>) -> i64 {
        for index in 0..self.max_entries {
            let key = index.to_ne_bytes();
            // SAFETY: keys of arrays have 4 bytes.
            let value = unsafe { self.lookup(key.as_ptr(), runner) };
            if visit(key.as_ptr(), value).is_break() {
                return i64::from(index) + 1;
            }
        }
        i64::from(self.max_entries)
    }

    fn for_each_hashed(&self, hash: &Hash, runner: Runner, visit: ForEach<'_>) -> i64 {
        let mut visited = 0;
        hash.walk(&mut |index| {
            visited += 1;
            let key = hash.key_bytes(index, self.key_size as usize);
            visit(key.as_ptr(), hash.value_in_place(index, runner.cpu))
        });
        visited
    }

    /// `bpf_ringbuf_reserve`: a record of `size` bytes, or null.
    #[inline]
    #[must_use]
    pub fn ringbuf_reserve(&self, size: u64, flags: u64, runner: Runner) -> *mut u8 {
        match &self.body {
            Body::Ring(ring) if flags == 0 => ring.reserve(size, runner),
            _ => std::ptr::null_mut(),
        }
    }

    /// `bpf_ringbuf_output`
    pub fn ringbuf_output(&self, data: &[u8], flags: u64, runner: Runner) -> i64 {
        result(match &self.body {
            Body::Ring(ring) => ring.output(&[data], flags, runner),
            _ => Err(Errno::EINVAL),
        })
    }

    /// `bpf_ringbuf_query`
    #[must_use]
    pub fn ringbuf_query(&self, flags: u64) -> u64 {
        match &self.body {
            Body::Ring(ring) => ring.query(flags),
            _ => 0,
        }
    }

    /// `bpf_perf_event_output`: `flags` as in the helper (index, `BPF_F_CURRENT_CPU`); the parts of the sample in order.
    ///
    /// The rings are ring buffer maps that user space put in; each sample is a record.
    pub fn perf_event_output(&self, flags: u64, parts: &[&[u8]], runner: Runner) -> i64 {
        if flags & !(PERF_INDEX_MASK | PERF_CTXLEN_MASK) != 0 {
            return Errno::EINVAL.neg();
        }
        let index = match flags & PERF_INDEX_MASK {
            PERF_INDEX_MASK => u64::from(runner.cpu),
            index => index,
        };
        if index >= u64::from(self.max_entries) {
            return Errno::E2BIG.neg();
        }
        let ring = self.object(self.object_id(index)).cast::<MapHeader>();
        // SAFETY: the universe registers headers for the ids in such maps, and keeps them while runs may see them.
        match unsafe { ring.as_ref() }.map(|ring| &ring.body) {
            Some(Body::Ring(ring)) => match ring.output(parts, 0, runner) {
                Err(Errno::EAGAIN) => Errno::ENOSPC.neg(),
                other => result(other),
            },
            _ => Errno::ENOENT.neg(),
        }
    }

    /// `bpf_user_ringbuf_drain`: gives each sample to `drain`; the number drained, or a negative errno.
    pub fn user_ringbuf_drain(
        &self,
        flags: u64,
        drain: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> i64 {
        match &self.body {
            Body::Ring(ring) => ring.drain(flags, drain).unwrap_or_else(Errno::neg),
            _ => Errno::EINVAL.neg(),
        }
    }

    /// Stores a stack of `ips` as `bpf_get_stackid` does: its id, or a negative errno.
    pub fn stack_id(&self, ips: &[u64], flags: u64, runner: Runner) -> i64 {
        match &self.body {
            Body::Stacks(stacks) => {
                let id = stacks.insert(ips, flags, runner);
                id.map_or_else(Errno::neg, i64::from)
            }
            _ => Errno::EINVAL.neg(),
        }
    }

    /// The program that `bpf_tail_call` jumps to: what the universe registered for the program at `index`, or null.
    #[inline]
    #[must_use]
    pub fn tail_call_target(&self, index: u64) -> *const core::ffi::c_void {
        self.object(self.object_id(index)).cast_const().cast()
    }

    /// `bpf_{sk,task,inode,cgrp}_storage_get`: the storage of `owner`, made with `init` if `BPF_LOCAL_STORAGE_GET_F_CREATE`.
    ///
    /// # Safety
    /// `init` must be null or valid for reads of `value_size` bytes.
    pub unsafe fn storage_get(
        &self,
        owner: u64,
        init: *const u8,
        flags: u64,
        runner: Runner,
    ) -> *mut u8 {
        if owner == 0 || flags & !STORAGE_CREATE != 0 {
            return std::ptr::null_mut();
        }
        let key = owner.to_ne_bytes();
        let Body::Hash(hash) = &self.body else {
            return std::ptr::null_mut();
        };
        let find = || {
            hash.user_find(self, &key)
                .map(|index| hash.user_value(index))
        };
        if let Some(value) = find() {
            return value;
        }
        if flags & STORAGE_CREATE == 0 {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise; without `init` the fresh element is zeroed.
        let made = unsafe { hash.create_value(self, &key, init, runner) };
        made.ok()
            .and_then(|()| find())
            .unwrap_or(std::ptr::null_mut())
    }

    /// `bpf_{sk,task,inode,cgrp}_storage_delete`
    pub fn storage_delete(&self, owner: u64, runner: Runner) -> i64 {
        match &self.body {
            Body::Hash(hash) => {
                result(hash.user_remove(self, &owner.to_ne_bytes(), &mut [], runner))
            }
            _ => Errno::ENOENT.neg(),
        }
    }

    /// Gives each submitted record of a ring buffer to `consume` until it breaks or there is none; how many were given.
    ///
    /// One consumer at a time.
    pub fn ringbuf_consume(&self, consume: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> usize {
        match &self.body {
            Body::Ring(ring) => ring.consume(consume),
            _ => 0,
        }
    }

    /// Sleeps until a record is submitted with a wakeup, at most `timeout`.
    pub fn ringbuf_wait(&self, timeout: std::time::Duration) {
        if let Body::Ring(ring) = &self.body {
            ring.wait(timeout);
        }
    }
}

/// `BPF_LOCAL_STORAGE_GET_F_CREATE`
const STORAGE_CREATE: u64 = 1;

/// What becomes of a reserved record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordEnd {
    /// Consumers see it.
    Submit,
    /// Consumers skip it.
    Discard,
}

/// `bpf_ringbuf_submit` and `bpf_ringbuf_discard`. The map is found by the record's address.
///
/// # Safety
/// `sample` came from [`MapHeader::ringbuf_reserve`] and was not given back yet.
#[inline]
pub unsafe fn ringbuf_commit(sample: *mut u8, flags: u64, end: RecordEnd) {
    // SAFETY: the caller's promise.
    unsafe { crate::ring::commit(sample, flags, end) }
}
