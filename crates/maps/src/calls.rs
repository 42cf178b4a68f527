//! What programs can do with maps beyond lookup, update and delete: one method a helper, for every map type.
//!
//! A helper that a type does not have answers as the kernel's stub does; the verifier keeps programs from asking.

use crate::header::{MapHeader, Runner};
use skep_abi::{Errno, MapType};
use std::ops::ControlFlow;

/// What `bpf_for_each_map_elem` calls: key and value in place.
pub type ForEach<'a> = &'a mut dyn FnMut(*const u8, *mut u8) -> ControlFlow<()>;

impl MapHeader {
    /// `bpf_map_push_elem`
    ///
    /// # Safety
    /// `value` must be valid for reads of `value_size` bytes.
    pub unsafe fn push(&self, _value: *const u8, _flags: u64, _runner: Runner) -> i64 {
        Errno::EOPNOTSUPP.neg()
    }

    /// `bpf_map_pop_elem`
    ///
    /// # Safety
    /// `value` must be valid for writes of `value_size` bytes.
    pub unsafe fn pop(&self, _value: *mut u8, _runner: Runner) -> i64 {
        Errno::EOPNOTSUPP.neg()
    }

    /// `bpf_map_peek_elem`
    ///
    /// # Safety
    /// `value` must be valid for reads (bloom filter) and writes (queue, stack) of `value_size` bytes.
    pub unsafe fn peek(&self, _value: *mut u8, _runner: Runner) -> i64 {
        Errno::EOPNOTSUPP.neg()
    }

    /// `bpf_for_each_map_elem`: the number of elements visited, or a negative errno. `flags` must be 0.
    pub fn for_each(&self, flags: u64, runner: Runner, visit: ForEach<'_>) -> i64 {
        if flags != 0 {
            return Errno::EINVAL.neg();
        }
        match self.map_type {
            MapType::Array | MapType::PercpuArray => self.for_each_index(runner, visit),
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

    /// `bpf_ringbuf_reserve`: a record of `size` bytes, or null.
    pub fn ringbuf_reserve(&self, _size: u64, _flags: u64, _runner: Runner) -> *mut u8 {
        std::ptr::null_mut()
    }

    /// `bpf_ringbuf_output` of several parts that follow each other (a dynptr can be in pieces).
    pub fn ringbuf_output(&self, _data: &[u8], _flags: u64, _runner: Runner) -> i64 {
        Errno::EINVAL.neg()
    }

    /// `bpf_ringbuf_query`
    pub fn ringbuf_query(&self, _flags: u64) -> u64 {
        0
    }

    /// `bpf_perf_event_output`: `flags` as in the helper (index, `BPF_F_CURRENT_CPU`); the parts of the sample in order.
    pub fn perf_event_output(&self, _flags: u64, _parts: &[&[u8]], _runner: Runner) -> i64 {
        Errno::ENOENT.neg()
    }

    /// `bpf_user_ringbuf_drain`: gives each sample to `drain`; the number drained, or a negative errno.
    pub fn user_ringbuf_drain(
        &self,
        _flags: u64,
        _drain: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> i64 {
        Errno::EINVAL.neg()
    }

    /// Stores a stack of `ips` as `bpf_get_stackid` does: its id, or a negative errno.
    pub fn stack_id(&self, _ips: &[u64], _flags: u64) -> i64 {
        Errno::EINVAL.neg()
    }

    /// The program that `bpf_tail_call` jumps to: what the universe registered for the program at `index`, or null.
    #[inline]
    pub fn tail_call_target(&self, _index: u64) -> *const core::ffi::c_void {
        std::ptr::null()
    }

    /// `bpf_{sk,task,inode,cgrp}_storage_get`: the storage of `owner`, made with `init` if `BPF_LOCAL_STORAGE_GET_F_CREATE`.
    ///
    /// # Safety
    /// `init` must be null or valid for reads of `value_size` bytes.
    pub unsafe fn storage_get(
        &self,
        _owner: u64,
        _init: *const u8,
        _flags: u64,
        _runner: Runner,
    ) -> *mut u8 {
        std::ptr::null_mut()
    }

    /// `bpf_{sk,task,inode,cgrp}_storage_delete`
    pub fn storage_delete(&self, _owner: u64, _runner: Runner) -> i64 {
        Errno::ENOENT.neg()
    }
}

/// `bpf_ringbuf_submit` and, with `discard`, `bpf_ringbuf_discard`. The map is found by the record's address.
///
/// # Safety
/// `sample` came from [`MapHeader::ringbuf_reserve`] and was not given back yet.
pub unsafe fn ringbuf_commit(_sample: *mut u8, _flags: u64, _end: RecordEnd) {}

/// What becomes of a reserved record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordEnd {
    /// Consumers see it.
    Submit,
    /// Consumers skip it.
    Discard,
}
