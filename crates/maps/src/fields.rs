//! Special fields inside values: they read as zero from user space, survive updates, and are released with their element.

use crate::body::Body;
use crate::header::{MapHeader, Runner};
use crate::lock;
use skep_btf::{Field, FieldKind, Record};
use std::sync::Arc;

/// Releases what the special fields of a dying element own (timers, kptrs, list and tree heads).
pub trait FieldOwner: Send + Sync {
    /// `field` lies at `at` inside an element of `map`.
    fn release(&self, map: &MapHeader, field: &Field, at: *mut u8);

    /// The lock of a value was taken over from a thread that died: what it was changing has to be put in order.
    fn inherited(&self, from: u32, runner: Runner);
}

/// A shared [`FieldOwner`].
#[derive(Clone)]
pub struct FieldHook(pub Arc<dyn FieldOwner>);

impl std::fmt::Debug for FieldHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FieldHook")
    }
}

/// Offset of the spin lock in values of `record`.
#[must_use]
pub fn spin_lock_offset(record: &Record) -> Option<u32> {
    let is_lock = |f: &&Field| matches!(f.kind, FieldKind::SpinLock);
    record.fields.iter().find(is_lock).map(|f| f.offset)
}

/// Copies a value but for its special fields, which stay as they are in `to` (`copy_map_value`).
///
/// # Safety
/// Both must be valid for `len` bytes and must not overlap unless equal; other threads may copy to and from the same
/// memory: what they see is then mixed, as in the kernel.
pub(crate) unsafe fn copy_value(record: &Record, from: *const u8, to: *mut u8, len: usize) {
    let mut at = 0;
    for field in &record.fields {
        let start = (field.offset as usize).clamp(at, len);
        // SAFETY: `at <= start <= len`.
        unsafe { copy_words(from.add(at), to.add(at), start - at) };
        at = (field.offset as usize + field.size as usize).clamp(start, len);
    }
    // SAFETY: `at <= len`.
    unsafe { copy_words(from.add(at), to.add(at), len - at) };
}

/// Copies `len` bytes: whole words where both sides are aligned, so that aligned fields of 8 bytes are never torn.
///
/// # Safety
/// As [`copy_value`].
#[inline]
pub(crate) unsafe fn copy_words(from: *const u8, to: *mut u8, len: usize) {
    if len == 8 {
        // SAFETY: both are valid for 8 bytes.
        unsafe {
            to.cast::<u64>()
                .write_unaligned(from.cast::<u64>().read_unaligned());
        };
        return;
    }
    let words = len / 8;
    for i in 0..words {
        // SAFETY: `i * 8 + 8 <= len`. Volatile: each word is copied by one load and one store.
        unsafe {
            let word = from.cast::<u64>().add(i).read_unaligned();
            to.cast::<u64>().add(i).write_unaligned(word);
        }
    }
    // SAFETY: the rest of `len`.
    unsafe { std::ptr::copy_nonoverlapping(from.add(words * 8), to.add(words * 8), len % 8) };
}

/// Zeroes the special fields of an element that left its map, its lock excepted: a program that still has the value may
/// hold it.
///
/// # Safety
/// `value` is a value of `record`'s type that nobody uses.
pub(crate) unsafe fn clear_fields(record: &Record, value: *mut u8) {
    let is_lock = |f: &&Field| matches!(f.kind, FieldKind::SpinLock | FieldKind::ResSpinLock);
    for field in record.fields.iter().filter(|f| !is_lock(f)) {
        // SAFETY: fields lie inside the value (checked when the map was made).
        unsafe {
            value
                .add(field.offset as usize)
                .write_bytes(0, field.size as usize);
        };
    }
}

/// Zeroes the special fields of a value that user space reads (`check_and_init_map_value`).
pub(crate) fn zero_fields(record: &Record, value: &mut [u8]) {
    for field in &record.fields {
        let start = (field.offset as usize).min(value.len());
        let end = (field.offset as usize + field.size as usize).min(value.len());
        value[start..end].fill(0);
    }
}

impl MapHeader {
    /// Copies under the value's spin lock, the lock word excepted.
    ///
    /// # Safety
    /// `from` and `to` are valid for `value_size` bytes; the lock in `locked`'s value is the one to take.
    pub(crate) unsafe fn copy_locked(
        &self,
        from: *const u8,
        to: *mut u8,
        locked: *mut u8,
        runner: Runner,
    ) {
        let len = self.value_size as usize;
        let Some(offset) = spin_lock_offset(&self.spec.record) else {
            // SAFETY: the caller's promise.
            return unsafe { copy_value(&self.spec.record, from, to, len) };
        };
        // SAFETY: the lock word lies inside the value at a multiple of 4.
        unsafe {
            let word = locked.add(offset as usize).cast();
            let got = lock::spin_lock(word, runner.token);
            if let (Some(hook), lock::Got::Inherited { from }) = (self.hook.get(), got) {
                hook.0.inherited(from, runner);
            }
            copy_value(&self.spec.record, from, to, len);
            lock::spin_unlock(word);
        }
    }

    /// Releases what the fields of the value at `value` own.
    pub(crate) fn release_fields(&self, value: *mut u8) {
        if self.spec.record.fields.is_empty() {
            return;
        }
        if let Some(hook) = self.hook.get() {
            for field in &self.spec.record.fields {
                hook.0
                    .release(self, field, value.wrapping_add(field.offset as usize));
            }
        }
    }

    /// The key of the element whose value is at `value`: in the element, or for arrays its index, written to `index`.
    #[must_use]
    pub fn key_of(&self, value: *const u8, index: &mut [u8; 4]) -> *const u8 {
        if let Body::Hash(hash) = &self.body {
            return hash.key_of_value(value);
        }
        let distance = (value as usize).wrapping_sub(self.data as usize);
        let at = distance.checked_div(self.elem_size as usize).unwrap_or(0);
        *index = (at as u32).to_ne_bytes();
        index.as_ptr()
    }

    /// Releases what the special fields of all elements own, and zeroes them: for a map that goes, or whose timers have to stop.
    /// With `only` the others stay.
    pub fn release_all_fields(&self, only: Option<&FieldKind>) {
        let Some(hook) = self.hook.get() else {
            return;
        };
        let wanted = |f: &&Field| only.is_none_or(|kind| f.kind == *kind);
        let fields: Vec<&Field> = self.spec.record.fields.iter().filter(wanted).collect();
        if fields.is_empty() {
            return;
        }
        let release = |value: *mut u8| {
            for field in &fields {
                hook.0
                    .release(self, field, value.wrapping_add(field.offset as usize));
            }
        };
        let cpus = if self.percpu_stride == 0 {
            1
        } else {
            self.spec.cpus
        };
        match &self.body {
            Body::Array => {
                for index in 0..self.max_entries as usize {
                    for cpu in 0..cpus as usize {
                        let offset =
                            index * self.elem_size as usize + cpu * self.percpu_stride as usize;
                        release(self.data.wrapping_add(offset));
                    }
                }
            }
            Body::Hash(hash) => hash.for_each_index(&mut |index| {
                (0..cpus).for_each(|cpu| release(hash.value_in_place(index, cpu)));
            }),
            _ => {}
        }
    }
}
