//! What becomes of the special fields of elements that leave their map.

use crate::map_object::MapObject;
use crate::universe::Shared;
use skep_btf::{Field, FieldKind, Record};
use skep_maps::{FieldHook, FieldOwner, MapHeader};
use skep_vm::helpers::release_objects;
use std::sync::{Arc, Weak};

/// Releases the fields of one map's values.
struct Owner {
    shared: Weak<Shared>,
}

impl FieldOwner for Owner {
    fn release(&self, map: &MapHeader, field: &Field, at: *mut u8) {
        match field.kind {
            FieldKind::Timer | FieldKind::Workqueue => {
                if let Some(shared) = self.shared.upgrade() {
                    shared.host.deferred.release(&shared, at as u64);
                }
            }
            FieldKind::Kptr { .. } | FieldKind::ListHead { .. } | FieldKind::RbRoot { .. } => {
                // SAFETY: a field of a map that no other process can open ([`owns_objects`]).
                unsafe { release_objects(&map.spec().record, field, at) };
            }
            _ => {}
        }
    }
}

/// Do values own objects of this process's heap?
pub(crate) fn owns_objects(record: &Record) -> bool {
    record.fields.iter().any(|f| {
        matches!(
            f.kind,
            FieldKind::Kptr { .. } | FieldKind::ListHead { .. } | FieldKind::RbRoot { .. }
        )
    })
}

/// Makes `map` release what its values own.
pub(crate) fn watch(shared: &Arc<Shared>, map: &skep_maps::Map) {
    if !map.spec().record.fields.is_empty() {
        let shared = Arc::downgrade(shared);
        map.set_field_hook(FieldHook(Arc::new(Owner { shared })));
    }
}

impl MapObject {
    /// User space has no way to the map any more: its timers stop, and no program can start them again.
    pub(crate) fn stop_deferred(&self) {
        self.map.release_all_fields(Some(&FieldKind::Timer));
        self.map.release_all_fields(Some(&FieldKind::Workqueue));
    }
}
