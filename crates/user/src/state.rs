//! Handles and ids.

use crate::link::LinkObject;
use crate::load::ProgObject;
use crate::map_object::MapObject;
use crate::objects::{BtfObject, Object};
use crate::universe::Shared;
use skep_bpf::{Errno, Handle, ObjKind};
use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Weak;

/// Ids of one kind end here, as they must fit an [`ObjectTable`](skep_maps::ObjectTable).
const IDS_MAX: u32 = 1 << 20;
/// The first handle; numbers below look like standard streams.
const FIRST_HANDLE: i32 = 3;
/// Handles one universe gives out at a time.
const HANDLES_MAX: usize = 1 << 20;

/// What a handle may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mode {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Mode {
    /// Anything.
    pub(crate) const FULL: Self = Self {
        read: true,
        write: true,
    };
}

/// An open object.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) object: Object,
    pub(crate) mode: Mode,
}

/// Objects of one kind by id, given out in a circle as the kernel does.
#[derive(Debug)]
pub(crate) struct Ids<T> {
    live: BTreeMap<u32, Weak<T>>,
    next: u32,
}

impl<T> Default for Ids<T> {
    fn default() -> Self {
        Self {
            live: BTreeMap::new(),
            next: 1,
        }
    }
}

impl<T> Ids<T> {
    /// An id nobody has.
    pub(crate) fn allocate(&mut self) -> Result<u32, Errno> {
        for _ in 1..IDS_MAX {
            let id = self.next;
            self.next = if id + 1 == IDS_MAX { 1 } else { id + 1 };
            if let MapEntry::Vacant(free) = self.live.entry(id) {
                free.insert(Weak::new());
                return Ok(id);
            }
        }
        Err(Errno::ENOSPC)
    }

    /// Makes an allocated id mean `object`.
    pub(crate) fn set(&mut self, id: u32, object: Weak<T>) {
        self.live.insert(id, object);
    }

    pub(crate) fn free(&mut self, id: u32) {
        self.live.remove(&id);
    }

    pub(crate) fn get(&self, id: u32) -> Option<std::sync::Arc<T>> {
        self.live.get(&id).and_then(Weak::upgrade)
    }

    fn after(&self, id: u32) -> Option<u32> {
        let from = id.checked_add(1)?;
        self.live
            .range(from..)
            .find(|(_, object)| object.strong_count() > 0)
            .map(|(id, _)| *id)
    }
}

/// The tables of a universe.
#[derive(Debug, Default)]
pub(crate) struct State {
    handles: HashMap<i32, Entry>,
    last_handle: i32,
    pub(crate) maps: Ids<MapObject>,
    pub(crate) progs: Ids<ProgObject>,
    pub(crate) btfs: Ids<BtfObject>,
    pub(crate) links: Ids<LinkObject>,
}

impl State {
    /// A handle to an object, which the caller keeps alive until the lock is gone.
    fn open(&mut self, object: &Object, mode: Mode) -> Result<Handle, Errno> {
        if self.handles.len() >= HANDLES_MAX {
            return Err(Errno::EMFILE);
        }
        loop {
            self.last_handle = self.last_handle.wrapping_add(1).max(FIRST_HANDLE);
            if !self.handles.contains_key(&self.last_handle) {
                break;
            }
        }
        object.gain_user();
        let object = object.clone();
        self.handles
            .insert(self.last_handle, Entry { object, mode });
        Ok(Handle(self.last_handle))
    }

    pub(crate) fn entry(&self, handle: Handle) -> Result<Entry, Errno> {
        self.handles.get(&handle.0).cloned().ok_or(Errno::EBADF)
    }

    pub(crate) fn close(&mut self, handle: Handle) -> Option<Object> {
        self.handles.remove(&handle.0).map(|entry| entry.object)
    }

    /// The lowest id above `after`.
    pub(crate) fn next_id(&self, kind: ObjKind, after: u32) -> Option<u32> {
        match kind {
            ObjKind::Map => self.maps.after(after),
            ObjKind::Prog => self.progs.after(after),
            ObjKind::Btf => self.btfs.after(after),
            ObjKind::Link => self.links.after(after),
        }
    }

    pub(crate) fn by_id(&self, kind: ObjKind, id: u32) -> Option<Object> {
        match kind {
            ObjKind::Map => self.maps.get(id).map(Object::Map),
            ObjKind::Prog => self.progs.get(id).map(Object::Prog),
            ObjKind::Btf => self.btfs.get(id).map(Object::Btf),
            ObjKind::Link => self.links.get(id).map(Object::Link),
        }
    }
}

impl Shared {
    /// A handle to an object. If there is none left, the object may go here: after the lock, which its drop takes.
    pub(crate) fn open(&self, object: Object, mode: Mode) -> Result<Handle, Errno> {
        let opened = self.state().open(&object, mode);
        drop(object);
        opened
    }
}
