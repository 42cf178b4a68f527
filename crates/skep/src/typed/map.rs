//! Maps with the types of their keys and values.

use super::Plain;
use crate::load::Loaded;
use skep_bpf::{Backend, Errno, Handle, Result};
use std::fmt;
use std::marker::PhantomData;
use zerocopy::IntoBytes;

/// A map of a loaded object: where it is, not what is in it.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../examples/packets.bpf.o")?, "packets.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::typed::{MapHandle, map};
///
/// let raw: MapHandle<'_> = map(&loaded, "services").ok_or("no such map")?;
/// assert_eq!(raw.backend().map_info(raw.handle())?.max_entries, 1024);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct MapHandle<'a> {
    backend: &'a dyn Backend,
    handle: Handle,
    /// Elements it holds at most.
    max_entries: u32,
    /// Bytes of a value.
    value_size: usize,
}

/// A map whose elements have no types here: of programs, of maps, of devices, of owners.
pub type RawMap<'a> = MapHandle<'a>;

impl fmt::Debug for MapHandle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MapHandle").field(&self.handle).finish()
    }
}

impl<'a> MapHandle<'a> {
    /// The backend that has it.
    #[must_use]
    pub fn backend(&self) -> &'a dyn Backend {
        self.backend
    }

    /// Its handle in the backend.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle
    }

    fn get<K: Plain>(&self, key: &K, value: &mut [u8]) -> Result<bool> {
        found(
            self.backend
                .map_lookup(self.handle, key.as_bytes(), value, 0),
        )
    }

    /// Every key, as the kernel walks them: one that is deleted meanwhile makes the walk start over.
    fn keys<K: Plain>(&self) -> impl Iterator<Item = Result<K>> + use<'a, K> {
        let map = *self;
        let mut last: Option<K> = None;
        let mut left = 2 * u64::from(map.max_entries) + 1;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let mut next = K::new_zeroed();
            let key = last.as_ref().map(IntoBytes::as_bytes);
            match found(
                map.backend
                    .map_next_key(map.handle, key, next.as_mut_bytes()),
            ) {
                Ok(true) => {
                    last = Some(next);
                    Some(Ok(next))
                }
                Ok(false) => None,
                Err(error) => {
                    left = 0;
                    Some(Err(error))
                }
            }
        })
    }
}

/// True, or false for `ENOENT`.
fn found(result: Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.errno == Errno::ENOENT => Ok(false),
        Err(error) => Err(error),
    }
}

/// The map of this name; `None` if it was not created.
#[must_use]
pub fn map<'a, M: From<MapHandle<'a>>>(loaded: &'a Loaded, name: &str) -> Option<M> {
    let map = loaded.map(name)?;
    Some(M::from(MapHandle {
        backend: loaded.backend().as_ref(),
        handle: map.handle,
        max_entries: map.spec.max_entries,
        value_size: map.spec.value_size as usize,
    }))
}

/// Implements `From<MapHandle>` and `Debug` for wrappers of a handle.
macro_rules! wrapper {
    ($($name:ident<$($part:ident),+>)*) => {$(
        impl<'a, $($part: Plain),+> From<MapHandle<'a>> for $name<'a, $($part),+> {
            fn from(map: MapHandle<'a>) -> Self {
                Self { map, types: PhantomData }
            }
        }
        impl<'a, $($part: Plain),+> $name<'a, $($part),+> {
            /// Where it is.
            #[must_use]
            pub fn raw(&self) -> MapHandle<'a> {
                self.map
            }
        }
    )*};
}

wrapper! { Map<K, V> PerCpuMap<K, V> Queue<V> Global<V> }

/// A hash, LRU hash, array or LPM trie.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../examples/packets.bpf.o")?, "packets.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::typed::{Map, map};
///
/// let services: Map<'_, u32, [u64; 2]> = map(&loaded, "services").ok_or("no such map")?;
/// services.insert(&7, &[1, 2])?;
/// assert_eq!(services.get(&7)?, Some([1, 2]));
/// assert!(services.remove(&7)? && services.get(&7)?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Map<'a, K, V> {
    map: MapHandle<'a>,
    types: PhantomData<(K, V)>,
}

impl<'a, K: Plain, V: Plain> Map<'a, K, V> {
    /// The value of a key.
    ///
    /// # Errors
    /// Those of the backend, except `ENOENT`.
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        let mut value = V::new_zeroed();
        Ok(self.map.get(key, value.as_mut_bytes())?.then_some(value))
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// Those of the backend: `E2BIG` if the map is full.
    pub fn insert(&self, key: &K, value: &V) -> Result<()> {
        self.update(key, value, 0)
    }

    /// `BPF_MAP_UPDATE_ELEM` with its flags (`BPF_NOEXIST` 1, `BPF_EXIST` 2).
    ///
    /// # Errors
    /// Those of the backend.
    pub fn update(&self, key: &K, value: &V, flags: u64) -> Result<()> {
        let (backend, handle) = (self.map.backend, self.map.handle);
        backend.map_update(handle, key.as_bytes(), value.as_bytes(), flags)
    }

    /// Deletes an element; false if there was none.
    ///
    /// # Errors
    /// Those of the backend, except `ENOENT`.
    pub fn remove(&self, key: &K) -> Result<bool> {
        found(self.map.backend.map_delete(self.map.handle, key.as_bytes()))
    }

    /// Every element; those that vanish during the walk are left out.
    pub fn iter(&self) -> impl Iterator<Item = Result<(K, V)>> + use<'a, K, V> {
        let map = *self;
        map.map.keys::<K>().filter_map(move |key| match key {
            Ok(key) => map.get(&key).map(|v| v.map(|v| (key, v))).transpose(),
            Err(error) => Some(Err(error)),
        })
    }
}

/// A map with one value a CPU.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../tests/objects/typed.bpf.o")?, "typed.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::typed::{PerCpuMap, map};
///
/// type Value = [u8; 10]; // the C structure
/// let counts: PerCpuMap<'_, u32, Value> = map(&loaded, "per_cpu").ok_or("no such map")?;
/// let values = counts.get(&0)?.ok_or("no such element")?;
/// assert_eq!(values.len(), backend.possible_cpus());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PerCpuMap<'a, K, V> {
    map: MapHandle<'a>,
    types: PhantomData<(K, V)>,
}

impl<'a, K: Plain, V: Plain> PerCpuMap<'a, K, V> {
    /// Bytes from one CPU's value to the next one's.
    const STRIDE: usize = size_of::<V>().next_multiple_of(8);

    /// The values of a key, by CPU.
    ///
    /// # Errors
    /// Those of the backend, except `ENOENT`.
    pub fn get(&self, key: &K) -> Result<Option<Vec<V>>> {
        let mut bytes = vec![0u8; Self::STRIDE * self.map.backend.possible_cpus()];
        if !self.map.get(key, &mut bytes)? {
            return Ok(None);
        }
        let values = bytes.chunks_exact(Self::STRIDE.max(1));
        Ok(Some(values.map(super::member::<V>).collect()))
    }

    /// Sets the values of a key, one a CPU; CPUs beyond `values` get zeroes.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn insert(&self, key: &K, values: &[V]) -> Result<()> {
        let mut bytes = vec![0u8; Self::STRIDE * self.map.backend.possible_cpus()];
        for (to, value) in bytes.chunks_exact_mut(Self::STRIDE.max(1)).zip(values) {
            super::set_member(to, value);
        }
        self.map
            .backend
            .map_update(self.map.handle, key.as_bytes(), &bytes, 0)
    }

    /// Deletes an element; false if there was none.
    ///
    /// # Errors
    /// Those of the backend, except `ENOENT`.
    pub fn remove(&self, key: &K) -> Result<bool> {
        found(self.map.backend.map_delete(self.map.handle, key.as_bytes()))
    }

    /// Every element; those that vanish during the walk are left out.
    pub fn iter(&self) -> impl Iterator<Item = Result<(K, Vec<V>)>> + use<'a, K, V> {
        let map = *self;
        map.map.keys::<K>().filter_map(move |key| match key {
            Ok(key) => map.get(&key).map(|v| v.map(|v| (key, v))).transpose(),
            Err(error) => Some(Err(error)),
        })
    }
}

/// A queue or stack.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../tests/objects/typed.bpf.o")?, "typed.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::typed::{Queue, map};
///
/// let waiting: Queue<'_, u64> = map(&loaded, "waiting").ok_or("no such map")?;
/// waiting.push(&7)?;
/// assert_eq!((waiting.pop()?, waiting.pop()?), (Some(7), None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Queue<'a, V> {
    map: MapHandle<'a>,
    types: PhantomData<V>,
}

impl<V: Plain> Queue<'_, V> {
    /// Adds a value.
    ///
    /// # Errors
    /// Those of the backend: `E2BIG` if it is full.
    pub fn push(&self, value: &V) -> Result<()> {
        self.map
            .backend
            .map_update(self.map.handle, &[], value.as_bytes(), 0)
    }

    /// Takes the next value.
    ///
    /// # Errors
    /// Those of the backend, except `ENOENT`.
    pub fn pop(&self) -> Result<Option<V>> {
        let mut value = V::new_zeroed();
        let popped =
            self.map
                .backend
                .map_lookup_and_delete(self.map.handle, &[], value.as_mut_bytes(), 0);
        Ok(found(popped)?.then_some(value))
    }

    /// The next value, which stays.
    ///
    /// # Errors
    /// Those of the backend, except `ENOENT`.
    pub fn peek(&self) -> Result<Option<V>> {
        let mut value = V::new_zeroed();
        let looked = self
            .map
            .backend
            .map_lookup(self.map.handle, &[], value.as_mut_bytes(), 0);
        Ok(found(looked)?.then_some(value))
    }
}

/// The variables of a data section of a loaded object.
///
/// ```
/// # use skep_bpf::Backend;
/// # use std::sync::Arc;
/// # let universe = skep_user::Universe::new(skep_user::Options::default())?;
/// # let backend: Arc<dyn Backend> = Arc::new(universe.clone());
/// # let object = skep::typed::open(&std::fs::read("../../tests/objects/emit.bpf.o")?, "emit.bpf.o")?;
/// # let loaded = skep::typed::load(&object, &backend)?;
/// use skep::typed::{Global, map};
///
/// let variables: Global<'_, u32> = map(&loaded, ".bss").ok_or("no such map")?;
/// assert_eq!(variables.get()?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Global<'a, V> {
    map: MapHandle<'a>,
    types: PhantomData<V>,
}

impl<V: Plain> Global<'_, V> {
    /// The variables now.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn get(&self) -> Result<V> {
        let mut bytes = vec![0u8; self.map.value_size];
        self.map.get(&[0u8; 4], &mut bytes)?;
        Ok(super::member(&bytes))
    }

    /// Sets all of them at once: what programs write to others meanwhile is lost.
    ///
    /// # Errors
    /// Those of the backend: `EPERM` for constants, which are frozen.
    pub fn set(&self, value: &V) -> Result<()> {
        let mut bytes = vec![0u8; self.map.value_size];
        super::set_member(&mut bytes, value);
        self.map
            .backend
            .map_update(self.map.handle, &[0; 4], &bytes, 0)
    }
}
