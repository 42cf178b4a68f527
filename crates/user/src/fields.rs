//! What becomes of the special fields of elements that leave their map.

use crate::map_object::MapObject;
use crate::universe::{Shared, thread_token};
use skep_abi::Errno;
use skep_abi::trust::is_made_by_programs;
use skep_btf::{Btf, Field, FieldKind, Kind, KptrTag, Record};
use skep_maps::{FieldHook, FieldOwner, Heap, MapHeader, Runner};
use std::fs::TryLockError;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Weak};

/// Releases the fields of one map's values.
struct Owner {
    shared: Weak<Shared>,
    /// Where what they own is, if they own objects.
    objects: Option<Place>,
}

/// A map whose values own objects, as the heap knows it.
struct Place {
    heap: Arc<Heap>,
    bytes: Range<usize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.heap.forget(&self.bytes);
    }
}

impl FieldOwner for Owner {
    fn inherited(&self, from: u32, runner: Runner) {
        if let Some(place) = &self.objects {
            place.heap.roll_back(from, runner.token);
        }
    }

    fn release(&self, map: &MapHeader, field: &Field, at: *mut u8) {
        match field.kind {
            FieldKind::Timer | FieldKind::Workqueue => {
                if let Some(shared) = self.shared.upgrade() {
                    shared.host.deferred.release(&shared, at as u64);
                }
            }
            _ => {
                if let Some(Place { heap, .. }) = &self.objects {
                    let record = &map.spec().record;
                    // SAFETY: a field of a value of this map.
                    unsafe { heap.release_field(record, field, at, thread_token()) };
                }
            }
        }
    }
}

/// Do values hold pointers that mean something in this process only: to what the kernel has, or user space?
pub(crate) fn holds_own_pointers(record: &Record, kernel_btf: Option<&Btf>) -> bool {
    record.fields.iter().any(|f| match &f.kind {
        FieldKind::Kptr { tag, target, .. } => {
            let of_kernel = kernel_btf.is_some_and(|btf| btf.find(target, Kind::Struct).is_some());
            *tag == KptrTag::User || (of_kernel && !is_made_by_programs(target))
        }
        _ => false,
    })
}

/// Makes `map` release what its values own.
///
/// # Errors
/// `ENOMEM` if its values own objects, and there is no room for any; `EAGAIN` if the last process that had the map is releasing
/// them.
pub(crate) fn watch(shared: &Arc<Shared>, map: &skep_maps::Map) -> Result<(), Errno> {
    let spec = map.spec();
    if spec.record.fields.is_empty() {
        return Ok(());
    }
    let objects = if spec.record.owns_objects() {
        let heap = Arc::clone(shared.heap().ok_or(Errno::ENOMEM)?);
        if let Err(TryLockError::WouldBlock) = map.file().try_lock_shared() {
            return Err(Errno::EAGAIN);
        }
        let bytes = map.bytes();
        heap.learn(bytes.clone());
        Some(Place { heap, bytes })
    } else {
        None
    };
    let shared = Arc::downgrade(shared);
    map.set_field_hook(FieldHook(Arc::new(Owner { shared, objects })));
    Ok(())
}

impl MapObject {
    /// Does what its values own go with this object? Not if the map has a name, or another process has it: each that has a map
    /// whose values own objects holds a lock of its file, which all can share (see [`watch`]). Copies of a process share what
    /// it holds, and leave this to it.
    pub(crate) fn owns_last(&self) -> bool {
        if !self.map.spec().record.owns_objects() {
            return true;
        }
        let file = self.map.file();
        let is_named = || file.metadata().is_ok_and(|m| m.nlink() != 0);
        self.process == std::process::id() && !is_named() && file.try_lock().is_ok()
    }

    /// User space has no way to the map any more: its timers stop, and no program can start them again.
    pub(crate) fn stop_deferred(&self) {
        self.map.release_all_fields(Some(&FieldKind::Timer));
        self.map.release_all_fields(Some(&FieldKind::Workqueue));
    }
}
