//! What handles name.

use crate::link::LinkObject;
use crate::load::ProgObject;
use crate::map_object::MapObject;
use crate::universe::Shared;
use skep_abi::Errno;
use skep_btf::Btf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// An object of any kind.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Map(Arc<MapObject>),
    Prog(Arc<ProgObject>),
    Btf(Arc<BtfObject>),
    Link(Arc<LinkObject>),
    /// `BPF_ENABLE_STATS`
    Stats(#[expect(dead_code, reason = "held for its drop")] Arc<StatsOn>),
}

impl Object {
    /// User space has one more way to the object.
    pub(crate) fn gain_user(&self) {
        if let Self::Map(map) = self {
            map.users.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// User space has one way less; with the last one a prog array is cleared.
    pub(crate) fn lose_user(&self) {
        if let Self::Map(map) = self
            && map.users.fetch_sub(1, Ordering::SeqCst) == 1
        {
            map.last_user_left();
        }
    }
}

/// BTF that was loaded.
#[derive(Debug)]
pub(crate) struct BtfObject {
    pub(crate) id: u32,
    pub(crate) btf: Arc<Btf>,
    pub(crate) shared: Weak<Shared>,
}

impl Shared {
    /// Gives BTF an id.
    pub(crate) fn register_btf(self: &Arc<Self>, btf: Arc<Btf>) -> Result<Arc<BtfObject>, Errno> {
        let id = self.state().btfs.allocate()?;
        let shared = Arc::downgrade(self);
        let object = Arc::new(BtfObject { id, btf, shared });
        self.state().btfs.set(id, Arc::downgrade(&object));
        Ok(object)
    }
}

impl Drop for BtfObject {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.state().btfs.free(self.id);
        }
    }
}

/// Statistics are on as long as it lives.
#[derive(Debug)]
pub(crate) struct StatsOn(Arc<Shared>);

impl StatsOn {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.stats.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for StatsOn {
    fn drop(&mut self) {
        self.0.stats.fetch_sub(1, Ordering::SeqCst);
    }
}
