//! Maps as objects: creation, elements, freezing, information.

use crate::error::{Named, refused};
use crate::inner;
use crate::objects::{BtfObject, Object};
use crate::state::Mode;
use crate::storage;
use crate::universe::{Reference, Shared, lock};
use skep_abi::map_flags::{
    BPF_F_LOCK, BPF_F_NO_COMMON_LRU, BPF_F_NO_PREALLOC, BPF_F_RDONLY, BPF_F_RDONLY_PROG,
    BPF_F_WRONLY,
};
use skep_abi::{Errno, MapType};
use skep_bpf::{Handle, MapCreate, MapInfo, Result};
use skep_btf::{Kind, Record};
use skep_maps::{Map, MapSpec, holds_objects, is_storage};
use skep_sys::filelock::{FileLock, Sharing};
use skep_verifier::{MapDesc, MapOwner};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// Longest name, without its end (`BPF_OBJ_NAME_LEN`).
pub(crate) const NAME_BYTES_MAX: usize = skep_abi::limits::BPF_OBJ_NAME_LEN - 1;

/// A map of a universe.
#[derive(Debug)]
pub(crate) struct MapObject {
    pub(crate) id: u32,
    pub(crate) map: Map,
    pub(crate) created: MapCreate,
    pub(crate) btf: Option<Arc<BtfObject>>,
    /// Description of the inner maps of a map of maps.
    pub(crate) inner: Option<Arc<MapDesc>>,
    /// Handles and pins.
    pub(crate) users: AtomicU32,
    /// The kind of all programs in a map of programs, and of those that name it.
    pub(crate) owner: Mutex<Option<MapOwner>>,
    /// References of the objects in the map: by id, with how often they are in it.
    held: Mutex<HashMap<u32, (Reference, u32)>>,
    charged: u64,
    /// The process that made this; copies of it have the map through what it opened.
    pub(crate) process: u32,
    pub(crate) shared: Weak<Shared>,
}

impl Drop for MapObject {
    fn drop(&mut self) {
        if self.owns_last() {
            self.map.release_all_fields(None);
        } else {
            self.stop_deferred();
        }
        if let Some(shared) = self.shared.upgrade() {
            shared.host.deferred.forget_map(&shared, self.id);
            shared.charged.fetch_sub(self.charged, Ordering::Relaxed);
            shared.map_table.clear(self.id);
            shared.state().maps.free(self.id);
        }
    }
}

/// Names are letters, digits, `_` and `.`, at most 15.
pub(crate) fn check_name(name: &str) -> std::result::Result<(), Errno> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'.';
    if name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Elements that a map gets: those with a list a CPU get lists of one length (`htab_map_alloc`).
fn entries(spec: &MapCreate, cpus: u32) -> u32 {
    let has_lists = matches!(spec.map_type, MapType::LruHash | MapType::LruPercpuHash)
        && spec.map_flags & BPF_F_NO_COMMON_LRU != 0;
    if !has_lists {
        return spec.max_entries;
    }
    let up = spec.max_entries.checked_next_multiple_of(cpus);
    up.unwrap_or(spec.max_entries / cpus * cpus)
}

impl Shared {
    /// `BPF_MAP_CREATE`
    pub(crate) fn map_create(self: &Arc<Self>, spec: &MapCreate) -> Result<Handle> {
        let what = format!("BPF_MAP_CREATE for map \"{}\"", spec.name);
        let mode = Mode {
            read: spec.map_flags & BPF_F_WRONLY == 0,
            write: spec.map_flags & BPF_F_RDONLY == 0,
        };
        let object = self.make_map(spec, &what)?;
        self.open(Object::Map(object), mode).named(&what)
    }

    /// Makes a map that nobody has a handle to yet.
    pub(crate) fn make_map(
        self: &Arc<Self>,
        spec: &MapCreate,
        what: &str,
    ) -> Result<Arc<MapObject>> {
        let spec = &MapCreate {
            max_entries: entries(spec, self.options.cpus),
            ..spec.clone()
        };
        check_name(&spec.name).named(what)?;
        if spec.btf_vmlinux_value_type_id != 0 && spec.map_type != MapType::StructOps
            || spec.btf_key_type_id != 0 && spec.btf_value_type_id == 0
        {
            return Err(refused(
                Errno::EINVAL,
                what,
                "BTF of the key without BTF of the value",
            ));
        }
        let btf = self.map_btf(spec, what)?;
        let record = match &btf {
            Some(object) if spec.btf_value_type_id != 0 => {
                // Fields that break a rule are none: helpers that need them refuse the map.
                Record::of(&object.btf, spec.btf_value_type_id).unwrap_or_default()
            }
            _ => Record::default(),
        };
        let map_spec = MapSpec {
            map_flags: spec.map_flags,
            map_extra: spec.map_extra,
            record: Arc::new(record),
            has_btf: spec.btf_value_type_id != 0 && spec.btf_key_type_id != 0,
            notes: crate::pin::notes(spec, btf.as_deref()),
            ..MapSpec::new(
                spec.map_type,
                spec.key_size,
                spec.value_size,
                spec.max_entries,
                self.options.cpus,
            )
        };
        map_spec
            .check()
            .map_err(|errno| refused(errno, what, &only_in_a_kernel(spec.map_type, errno)))?;
        check_key_type(spec, btf.as_deref()).named(what)?;
        inner::check_values(&map_spec, spec).named(what)?;
        let inner = inner::template(self, spec).named(what)?;
        let charged = self.charge(&map_spec).named(what)?;
        let map = Map::create(&map_spec, &self.memory(charged)).map_err(|errno| {
            self.charged.fetch_sub(charged, Ordering::Relaxed);
            refused(errno, what, &only_in_a_kernel(spec.map_type, errno))
        })?;
        self.register_map(map, spec.clone(), btf, inner, charged)
            .named(what)
    }

    pub(crate) fn register_map(
        self: &Arc<Self>,
        map: Map,
        created: MapCreate,
        btf: Option<Arc<BtfObject>>,
        inner: Option<Arc<MapDesc>>,
        charged: u64,
    ) -> std::result::Result<Arc<MapObject>, Errno> {
        let id = self.state().maps.allocate()?;
        map.id.store(id, Ordering::Relaxed);
        let table = if map.map_type == MapType::ProgArray {
            &self.prog_table
        } else {
            &self.map_table
        };
        map.set_objects(Arc::clone(table));
        crate::fields::watch(self, &map)?;
        self.map_table.set(id, map.as_ptr().cast_mut().cast())?;
        let object = Arc::new(MapObject {
            id,
            map,
            created,
            btf,
            inner,
            users: AtomicU32::new(0),
            owner: Mutex::default(),
            held: Mutex::default(),
            charged,
            process: std::process::id(),
            shared: Arc::downgrade(self),
        });
        self.state().maps.set(id, Arc::downgrade(&object));
        Ok(object)
    }

    fn map_btf(&self, spec: &MapCreate, what: &str) -> Result<Option<Arc<BtfObject>>> {
        let Some(handle) = spec
            .btf
            .filter(|_| spec.btf_value_type_id != 0 || spec.btf_key_type_id != 0)
        else {
            return Ok(None);
        };
        let Object::Btf(object) = self.state().entry(handle).named(what)?.object else {
            return Err(refused(
                Errno::EINVAL,
                what,
                "the BTF handle is of something else",
            ));
        };
        let fits = |type_id: u32, size: u32| object.btf.size_of(type_id).is_ok_and(|n| n == size);
        // Data sections are arrays of one value, without a type for the index.
        let is_section = || {
            let value = object.btf.get(spec.btf_value_type_id);
            value.is_some_and(|value| value.kind() == Kind::Datasec) && spec.max_entries == 1
        };
        let keyless = match spec.map_type {
            MapType::Array => is_section(),
            other => matches!(other, MapType::BloomFilter | MapType::Arena),
        };
        if spec.btf_key_type_id == 0 && !keyless {
            let why = "maps of this type need BTF of the key";
            return Err(refused(Errno::EINVAL, what, why));
        }
        let key_fits = spec.btf_key_type_id == 0 || fits(spec.btf_key_type_id, spec.key_size);
        if !key_fits || !fits(spec.btf_value_type_id, spec.value_size) {
            return Err(refused(
                Errno::EINVAL,
                what,
                "the BTF types have other sizes than key and value",
            ));
        }
        Ok(Some(object))
    }

    fn charge(&self, spec: &MapSpec) -> std::result::Result<u64, Errno> {
        let lazily = spec.map_flags & BPF_F_NO_PREALLOC != 0;
        let element = u64::from(spec.key_size)
            + spec.value_stride() as u64
                * if spec.is_percpu() {
                    u64::from(spec.cpus)
                } else {
                    1
                };
        let bytes = match spec.map_type {
            MapType::Ringbuf | MapType::UserRingbuf => u64::from(spec.max_entries),
            MapType::Arena => 0,
            _ if lazily => 0,
            _ => element.saturating_mul(u64::from(spec.max_entries)),
        };
        let budget = self.options.memory_budget_bytes;
        let add = |used: u64| used.checked_add(bytes).filter(|total| *total <= budget);
        match self
            .charged
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
        {
            Ok(_) => Ok(bytes),
            Err(_) => Err(Errno::ENOMEM),
        }
    }
}

/// The keys of tries are structures; indexes and descriptors are numbers of 32 bits.
fn check_key_type(spec: &MapCreate, btf: Option<&BtfObject>) -> std::result::Result<(), Errno> {
    let Some(btf) = btf.filter(|_| spec.btf_key_type_id != 0) else {
        return Ok(());
    };
    let key = btf.btf.resolve(spec.btf_key_type_id);
    let is = |kind: Kind| key.is_some_and(|key| key.kind() == kind);
    let fits = match spec.map_type {
        MapType::LpmTrie => is(Kind::Struct),
        MapType::Array | MapType::PercpuArray => is(Kind::Int),
        t if is_storage(t) => is(Kind::Int),
        _ => true,
    };
    if fits { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Says why a map type is refused.
fn only_in_a_kernel(map_type: MapType, errno: Errno) -> String {
    let reason = skep_vm::map_type_reason(map_type).filter(|_| errno == Errno::EOPNOTSUPP);
    reason.map_or_else(String::new, |why| {
        format!("maps of type {map_type} exist only in a kernel: {why}")
    })
}

impl MapObject {
    /// Refuses what user space may not do through a handle of this mode.
    pub(crate) fn may(&self, allowed: bool) -> std::result::Result<(), Errno> {
        if allowed { Ok(()) } else { Err(Errno::EPERM) }
    }

    pub(crate) fn may_write(&self, mode: Mode) -> std::result::Result<(), Errno> {
        self.may(mode.write && !self.map.is_frozen())
    }

    /// Stores the object of a handle in this map.
    pub(crate) fn put_object(
        &self,
        shared: &Shared,
        key: &[u8],
        value: &[u8],
        flags: u64,
    ) -> std::result::Result<(), Errno> {
        if flags & BPF_F_LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        let index = key.try_into().ok().map(u32::from_ne_bytes);
        if self.map.map_type != MapType::HashOfMaps {
            if flags != 0 {
                return Err(Errno::EINVAL);
            }
            if index.is_none_or(|i| i >= self.map.max_entries) {
                return Err(Errno::E2BIG);
            }
        }
        let fd = value.try_into().map_err(|_| Errno::EINVAL)?;
        let handle = Handle(i32::from_ne_bytes(fd));
        if self.map.map_type == MapType::CgroupArray {
            return self
                .map
                .set_cgroup(key, storage::v2_group(handle.0)?, flags);
        }
        let object = shared.state().entry(handle)?.object;
        let (id, reference): (u32, Reference) = match (self.map.map_type, object) {
            (MapType::ProgArray, Object::Prog(prog)) => {
                self.admit(&prog.class)?;
                (prog.id, prog)
            }
            (MapType::ArrayOfMaps | MapType::HashOfMaps, Object::Map(map)) => {
                inner::check_fits(self.inner.as_deref(), &map)?;
                (map.id, map)
            }
            (MapType::PerfEventArray, _) => return Err(Errno::EBADF),
            _ => return Err(Errno::EINVAL),
        };
        self.hold(shared, key, id, reference, flags)
    }

    /// Stores `id` under `key` and keeps `reference` as long as it is there.
    pub(crate) fn hold(
        &self,
        shared: &Shared,
        key: &[u8],
        id: u32,
        reference: Reference,
        flags: u64,
    ) -> std::result::Result<(), Errno> {
        let mut held = lock(&self.held);
        let lease = shared.user_lease();
        let old = self.map.set_object(key, id, flags, lease.runner())?;
        held.entry(id).or_insert((reference, 0)).1 += 1;
        Self::forget(shared, &mut held, old);
        Ok(())
    }

    fn forget(shared: &Shared, held: &mut HashMap<u32, (Reference, u32)>, id: u32) {
        let Some((_, count)) = held.get_mut(&id) else {
            return;
        };
        *count -= 1;
        if *count == 0
            && let Some((reference, _)) = held.remove(&id)
        {
            shared.release_later(reference);
        }
    }

    /// Removes the object under `key`.
    pub(crate) fn remove_object(
        &self,
        shared: &Shared,
        key: &[u8],
    ) -> std::result::Result<(), Errno> {
        let mut held = lock(&self.held);
        let lease = shared.user_lease();
        let old = self.map.remove_object(key, lease.runner())?;
        Self::forget(shared, &mut held, old);
        Ok(())
    }

    /// A prog array without users is emptied, so that programs in it that use it can go; timers stop.
    pub(crate) fn last_user_left(&self) {
        self.stop_deferred();
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        if self.map.map_type == MapType::ProgArray {
            for index in 0..self.map.max_entries {
                let _empty = self.remove_object(&shared, &index.to_ne_bytes());
            }
        }
    }

    /// A program of this kind is put into the map, or names it: all must be of one kind.
    pub(crate) fn admit(&self, class: &MapOwner) -> std::result::Result<(), Errno> {
        let mut owner = lock(&self.owner);
        match &*owner {
            None => {
                *owner = Some(*class);
                Ok(())
            }
            Some(known) if known.admits(class, self.map.map_type) => Ok(()),
            Some(_) => Err(Errno::EINVAL),
        }
    }

    /// `BPF_MAP_FREEZE`
    pub(crate) fn freeze(&self, mode: Mode) -> std::result::Result<(), Errno> {
        if !self.map.spec().record.fields.is_empty() {
            return Err(Errno::ENOTSUPP);
        }
        // Held until the map is frozen: whoever wants to write comes before or after.
        let _writers =
            FileLock::take(self.map.file(), Sharing::Exclusive).map_err(|_| Errno::EBUSY)?;
        self.may_write(mode)?;
        self.map.freeze();
        Ok(())
    }

    /// What the verifier needs to know.
    pub(crate) fn describe(&self) -> MapDesc {
        let c = &self.created;
        MapDesc {
            name: c.name.clone(),
            map_type: c.map_type,
            key_size: c.key_size,
            value_size: c.value_size,
            max_entries: c.max_entries,
            map_flags: c.map_flags,
            map_extra: c.map_extra,
            record: Arc::clone(&self.map.spec().record),
            has_btf: c.btf_value_type_id != 0 || c.btf_vmlinux_value_type_id != 0,
            btf: self.btf.as_ref().map(|object| Arc::clone(&object.btf)),
            inner: self.inner.clone(),
            frozen: self.constant_bytes(),
            owner: *lock(&self.owner),
            id: self.id,
        }
    }

    /// The value of an array that neither programs nor user space can change any more.
    fn constant_bytes(&self) -> Option<Arc<[u8]>> {
        let constant = self.map.map_type == MapType::Array
            && self.map.max_entries == 1
            && self.map.map_flags & BPF_F_RDONLY_PROG != 0
            && self.map.is_frozen();
        constant.then(|| {
            let mut bytes = vec![0u8; self.map.value_size as usize];
            let runner = skep_maps::Runner {
                cpu: 0,
                token: crate::universe::thread_token(),
            };
            let _first = self
                .map
                .lookup_elem(&0u32.to_ne_bytes(), &mut bytes, 0, runner);
            bytes.into()
        })
    }

    /// `BPF_OBJ_GET_INFO_BY_FD`
    pub(crate) fn info(&self) -> MapInfo {
        let c = &self.created;
        MapInfo {
            map_type: c.map_type,
            id: self.id,
            key_size: c.key_size,
            value_size: c.value_size,
            max_entries: c.max_entries,
            map_flags: c.map_flags,
            name: c.name.clone(),
            map_extra: c.map_extra,
            btf_id: self.btf.as_ref().map_or(0, |object| object.id),
            btf_key_type_id: c.btf_key_type_id,
            btf_value_type_id: c.btf_value_type_id,
            btf_vmlinux_value_type_id: c.btf_vmlinux_value_type_id,
            frozen: self.map.is_frozen(),
            bytes_memlock: self.charged,
        }
    }

    /// Do elements hold handles?
    pub(crate) fn holds_objects(&self) -> bool {
        holds_objects(self.map.map_type)
    }
}
