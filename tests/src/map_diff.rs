//! The same random operations on the user backend's maps and the kernel's: results, errno and final contents must agree.
//!
//! What cannot agree is kept apart: the order of walks over hashes, the fullness boundary of hashes without preallocation
//! (approximate in the kernel), evictions of LRU maps, false positives of bloom filters.

mod owners;

use crate::random::Random;
use skep_abi::MapType;
use skep_abi::map_flags::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use skep_bpf::{Backend, BatchCursor, Errno, Handle, MapCreate};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::RawFd;

/// Operations on one map before the next one is made.
const OPS_PER_MAP: u64 = 2000;
/// Times that an operation on local storage is tried again while the kernel is busy with its owner.
const AGAIN_MAX: usize = 10_000;
/// Inner maps that elements of maps of maps can name.
const INNER_MAPS: usize = 3;

/// Flags of updates and lookups, valid and not.
const FLAGS: &[u64] = &[0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 8, 1 << 63];

/// The map types that are compared, with their name in reports.
pub const TYPES: &[MapType] = &[
    MapType::Array,
    MapType::Hash,
    MapType::PercpuArray,
    MapType::PercpuHash,
    MapType::LruHash,
    MapType::LruPercpuHash,
    MapType::LpmTrie,
    MapType::Queue,
    MapType::Stack,
    MapType::BloomFilter,
    MapType::ArrayOfMaps,
    MapType::HashOfMaps,
    MapType::Devmap,
    MapType::DevmapHash,
    MapType::Cpumap,
    MapType::Xskmap,
    MapType::Ringbuf,
    MapType::UserRingbuf,
    MapType::PerfEventArray,
    MapType::ProgArray,
    MapType::CgroupArray,
    MapType::StackTrace,
    MapType::Arena,
    MapType::SkStorage,
    MapType::TaskStorage,
    MapType::InodeStorage,
    MapType::CgrpStorage,
];

/// A first difference.
pub type Difference = String;

/// One map in both backends.
struct Pair<'a> {
    user: &'a dyn Backend,
    kernel: &'a dyn Backend,
    maps: [Handle; 2],
    inner: [Vec<Handle>; 2],
    spec: MapCreate,
    value_len: usize,
    /// Numbers that keys are made from are below this.
    keys: u64,
    /// Keys of local storage, and the groups among the owners.
    owners: Option<(Vec<RawFd>, Vec<owners::Open>)>,
    pushed: BTreeSet<Vec<u8>>,
    random: Random,
}

/// Runs `operations` random operations on maps of one type; the first difference is the error.
///
/// # Errors
/// A sentence with the first difference.
pub fn compare(
    user: &dyn Backend,
    kernel: &dyn Backend,
    map_type: MapType,
    operations: u64,
    seed: u64,
) -> Result<(), Difference> {
    let mut random = Random::new(seed ^ u64::from(map_type.id()) << 32);
    let mut left = operations;
    while left > 0 {
        let (spec, keys) = spec_of(map_type, &mut random);
        let steps = left.min(OPS_PER_MAP);
        left -= steps;
        let Some(mut pair) = Pair::new(user, kernel, spec, keys, &mut random)? else {
            continue;
        };
        let outcome = (0..steps)
            .try_for_each(|_| pair.step())
            .and_then(|()| pair.finish());
        pair.close();
        outcome.map_err(|e| format!("{}: {e}", describe(&pair.spec)))?;
    }
    Ok(())
}

fn describe(spec: &MapCreate) -> String {
    format!(
        "{} key {} value {} entries {} flags {:#x}",
        spec.map_type, spec.key_size, spec.value_size, spec.max_entries, spec.map_flags
    )
}

/// A random map of a type, and how many different keys to use.
fn spec_of(map_type: MapType, random: &mut Random) -> (MapCreate, u64) {
    use MapType as T;
    let entries = 1 + random.below(40);
    let value = *random.of(&[1, 4, 8, 12, 16, 64, 100]);
    let hash_key = *random.of(&[1, 4, 4, 8, 8, 12, 16, 16, 20, 40]);
    let mut spec = MapCreate::new(map_type, 4, value, entries as u32);
    let mut keys = entries * 3 / 2 + 1;
    match map_type {
        T::Hash | T::PercpuHash => {
            spec.key_size = hash_key;
            if random.below(3) == 0 {
                spec.map_flags = BPF_F_NO_PREALLOC;
                keys = entries;
            }
        }
        T::LruHash | T::LruPercpuHash => {
            spec.key_size = hash_key;
            spec.max_entries = 4096;
            keys = 16;
        }
        T::LpmTrie => {
            spec.key_size = *random.of(&[5, 8, 8, 8, 12, 20]);
            spec.map_flags = BPF_F_NO_PREALLOC;
            keys = 64;
        }
        T::Queue | T::Stack | T::BloomFilter => spec.key_size = 0,
        T::ArrayOfMaps | T::ProgArray => spec.value_size = 4,
        T::HashOfMaps => {
            spec.key_size = hash_key;
            spec.value_size = 4;
            spec.map_flags = *random.of(&[0, BPF_F_NO_PREALLOC]);
            keys = if spec.map_flags == 0 { keys } else { entries };
        }
        T::Devmap | T::DevmapHash => spec.value_size = *random.of(&[4, 8]),
        T::Cpumap => {
            spec.value_size = *random.of(&[4, 8]);
            spec.max_entries = 1 + random.below(4) as u32;
            keys = u64::from(spec.max_entries) + 1;
        }
        T::Xskmap | T::PerfEventArray => spec.value_size = 4,
        T::StackTrace => spec.value_size = 8 * (1 + random.below(20) as u32),
        T::SkStorage | T::TaskStorage | T::InodeStorage | T::CgrpStorage => {
            spec.max_entries = 0;
            spec.map_flags = BPF_F_NO_PREALLOC;
        }
        T::Arena => {
            spec.key_size = 0;
            spec.value_size = 0;
            spec.map_flags = BPF_F_MMAPABLE;
        }
        T::Ringbuf | T::UserRingbuf => {
            spec.key_size = 0;
            spec.value_size = 0;
            spec.max_entries = 4096;
        }
        _ => {}
    }
    (spec, keys)
}

/// How many of a batch were done: the kernel leaves the field as it was if it refuses the whole batch.
fn done_of(done: u32, asked: usize, result: Result<(), Errno>) -> (u32, Result<(), Errno>) {
    let untouched = result.is_err() && done as usize == asked;
    (if untouched { 0 } else { done }, result)
}

fn errno<T>(result: skep_bpf::Result<T>) -> Result<T, Errno> {
    result.map_err(|e| e.errno)
}

impl<'a> Pair<'a> {
    /// `None` if both backends refuse the map alike.
    fn new(
        user: &'a dyn Backend,
        kernel: &'a dyn Backend,
        spec: MapCreate,
        keys: u64,
        random: &mut Random,
    ) -> Result<Option<Self>, Difference> {
        let is_outer = matches!(spec.map_type, MapType::ArrayOfMaps | MapType::HashOfMaps);
        let template = MapCreate::new(MapType::Array, 4, 8, 2);
        let owners = owners::keys(spec.map_type);
        let mut inner = [Vec::new(), Vec::new()];
        let mut made = Vec::new();
        for (backend, inner) in [user, kernel].into_iter().zip(&mut inner) {
            let mut spec = spec.clone();
            if is_outer {
                for _ in 0..INNER_MAPS {
                    inner.push(backend.map_create(&template).map_err(|e| e.to_string())?);
                }
                spec.inner_map = Some(inner[0]);
            }
            let btf = match owners {
                Some(_) => Some(owners::add_btf(backend, &mut spec)?),
                None => None,
            };
            made.push(errno(backend.map_create(&spec)));
            btf.into_iter().for_each(|btf| backend.close(btf));
        }
        match (made[0], made[1]) {
            (Ok(u), Ok(k)) => {
                let cpus = kernel.possible_cpus();
                let value_len = match spec.map_type {
                    MapType::PercpuArray | MapType::PercpuHash | MapType::LruPercpuHash => {
                        (spec.value_size as usize).next_multiple_of(8) * cpus
                    }
                    _ => spec.value_size as usize,
                };
                let random = random.fork();
                let pushed = BTreeSet::new();
                Ok(Some(Self {
                    user,
                    kernel,
                    maps: [u, k],
                    inner,
                    spec,
                    value_len,
                    keys,
                    owners,
                    pushed,
                    random,
                }))
            }
            (Err(a), Err(b)) if a == b => Ok(None),
            (a, b) => Err(format!(
                "create {}: user {a:?}, kernel {b:?}",
                describe(&spec)
            )),
        }
    }

    fn both<T>(
        &self,
        op: impl Fn(&dyn Backend, Handle, usize) -> skep_bpf::Result<T>,
    ) -> [Result<T, Errno>; 2] {
        let user = errno(op(self.user, self.maps[0], 0));
        let of_kernel = || errno(op(self.kernel, self.maps[1], 1));
        let mut kernel = of_kernel();
        // The kernel frees a map later; while it takes an owner's storage away, a new one is refused.
        for _ in 0..AGAIN_MAX {
            if self.owners.is_none() || kernel.as_ref().err() != Some(&Errno::EAGAIN) {
                break;
            }
            std::thread::yield_now();
            kernel = of_kernel();
        }
        [user, kernel]
    }

    fn key(&mut self) -> Vec<u8> {
        if let Some((owners, _)) = &self.owners {
            return self.random.of(owners).to_ne_bytes().to_vec();
        }
        let number = self.random.below(self.keys);
        let len = self.spec.key_size as usize;
        match self.spec.map_type {
            MapType::LpmTrie => {
                let bits = (len as u64 - 4) * 8;
                let prefix = if self.random.below(50) == 0 {
                    bits + 1
                } else {
                    self.random.below(bits + 1)
                };
                let mut key = (prefix as u32).to_ne_bytes().to_vec();
                let address = number.wrapping_mul(0x0101_0101_0101_0101) >> (number % 9);
                key.extend(address.to_le_bytes().iter().cycle().take(len - 4));
                key
            }
            _ if len == 4 => (number as u32).to_ne_bytes().to_vec(),
            _ => number
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .to_le_bytes()
                .iter()
                .copied()
                .cycle()
                .take(len)
                .collect(),
        }
    }

    /// The value of an update, for each backend (handles differ).
    fn values(&mut self) -> [Vec<u8>; 2] {
        let number = self.random.below(1 << 40);
        let handles = match self.spec.map_type {
            MapType::ArrayOfMaps | MapType::HashOfMaps => {
                Some(self.random.below(INNER_MAPS as u64 + 2) as usize)
            }
            MapType::ProgArray | MapType::PerfEventArray => {
                Some(INNER_MAPS + self.random.below(2) as usize)
            }
            _ => None,
        };
        if let Some(n) = handles {
            let number = |side: usize| match self.inner[side].get(n) {
                Some(handle) => handle.0,
                None if n == INNER_MAPS => -1,
                None => self.maps[side].0,
            };
            return [number(0), number(1)].map(|n| n.to_ne_bytes().to_vec());
        }
        if let Some(value) = self.target() {
            return [value.clone(), value];
        }
        if self.spec.map_type == MapType::BloomFilter {
            let number = number % 64;
            let value: Vec<u8> = number
                .to_le_bytes()
                .iter()
                .copied()
                .cycle()
                .take(self.value_len)
                .collect();
            return [value.clone(), value];
        }
        let value: Vec<u8> = number
            .to_le_bytes()
            .iter()
            .copied()
            .cycle()
            .take(self.value_len)
            .collect();
        [value.clone(), value]
    }

    /// Where packets go: a device, the queue of a CPU, a socket; half of them not there.
    fn target(&mut self) -> Option<Vec<u8>> {
        let word = match self.spec.map_type {
            MapType::Devmap | MapType::DevmapHash => *self.random.of(&[0u32, 1, 1, 1, u32::MAX]),
            MapType::Cpumap => *self.random.of(&[0u32, 1, 192, 16384, 16385]),
            MapType::Xskmap => self
                .random
                .of(&[-1, RawFd::MAX, owners::socket()])
                .cast_unsigned(),
            MapType::CgroupArray => self.random.of(owners::elements()).cast_unsigned(),
            _ => return None,
        };
        let mut value = word.to_ne_bytes().to_vec();
        value.resize(self.value_len, 0);
        Some(value)
    }

    fn flags(&mut self) -> u64 {
        if self.random.below(3) == 0 {
            *self.random.of(FLAGS)
        } else {
            0
        }
    }

    fn agree<T: PartialEq + std::fmt::Debug>(
        what: &str,
        results: [T; 2],
    ) -> Result<(), Difference> {
        let [user, kernel] = results;
        if user == kernel {
            return Ok(());
        }
        Err(format!("{what}: user {user:x?}, kernel {kernel:x?}"))
    }

    fn step(&mut self) -> Result<(), Difference> {
        match self.random.below(20) {
            0..8 => self.update(),
            8..12 => self.lookup(),
            12..15 => self.delete(),
            15..17 => self.lookup_and_delete(),
            17 => self.next_key(),
            18 => self.batch(),
            _ => self.lookup(),
        }
    }

    fn update(&mut self) -> Result<(), Difference> {
        let (key, values, flags) = (self.key(), self.values(), self.flags());
        let results = self.both(|b, map, side| b.map_update(map, &key, &values[side], flags));
        if results[0].is_ok() && self.spec.map_type == MapType::BloomFilter {
            self.pushed.insert(values[0].clone());
        }
        Self::agree(
            &format!("update {key:x?} {:x?} flags {flags:#x}", values[0]),
            results,
        )
    }

    /// What a lookup read, handles of inner maps replaced by their place.
    fn readable(&self, side: usize, value: Vec<u8>) -> Vec<u8> {
        if !matches!(
            self.spec.map_type,
            MapType::ArrayOfMaps | MapType::HashOfMaps
        ) {
            return value;
        }
        let backend = if side == 0 { self.user } else { self.kernel };
        let id = value.try_into().map_or(0, u32::from_ne_bytes);
        let place = self.inner[side]
            .iter()
            .position(|h| backend.map_info(*h).is_ok_and(|i| i.id == id));
        vec![place.map_or(0xff, |p| p as u8)]
    }

    fn lookup(&mut self) -> Result<(), Difference> {
        let (key, flags) = (self.key(), self.flags());
        let probe = self.values()[0].clone();
        let bloom = self.spec.map_type == MapType::BloomFilter;
        if bloom && flags == 0 && !self.pushed.contains(&probe) {
            return Ok(());
        }
        let results = self.both(|b, map, side| {
            let mut value = if bloom {
                probe.clone()
            } else {
                vec![0; self.value_len]
            };
            b.map_lookup(map, &key, &mut value, flags)?;
            Ok(self.readable(side, value))
        });
        Self::agree(&format!("lookup {key:x?} flags {flags:#x}"), results)
    }

    fn delete(&mut self) -> Result<(), Difference> {
        let key = self.key();
        Self::agree(
            &format!("delete {key:x?}"),
            self.both(|b, map, _| b.map_delete(map, &key)),
        )
    }

    fn lookup_and_delete(&mut self) -> Result<(), Difference> {
        let (key, flags) = (self.key(), self.flags());
        let results = self.both(|b, map, side| {
            let mut value = vec![0; self.value_len];
            b.map_lookup_and_delete(map, &key, &mut value, flags)?;
            Ok(self.readable(side, value))
        });
        Self::agree(
            &format!("lookup and delete {key:x?} flags {flags:#x}"),
            results,
        )
    }

    fn next_key(&mut self) -> Result<(), Difference> {
        let key = self.key();
        let ordered = matches!(
            self.spec.map_type,
            MapType::Array
                | MapType::PercpuArray
                | MapType::LpmTrie
                | MapType::ArrayOfMaps
                | MapType::ProgArray
                | MapType::Devmap
        );
        let first = self.random.below(4) == 0;
        let results = self.both(|b, map, _| {
            let mut next = vec![0; key.len()];
            let result = b.map_next_key(map, (!first).then_some(&key), &mut next);
            match result {
                Err(e) if !ordered && !first && e.errno == Errno::ENOENT => Ok(Vec::new()),
                other => other.map(|()| if ordered { next } else { Vec::new() }),
            }
        });
        Self::agree(&format!("next key of {key:x?}"), results)
    }

    fn batch(&mut self) -> Result<(), Difference> {
        if self.spec.key_size == 0 || self.value_len == 0 {
            return Ok(());
        }
        let count = self.random.below(6) as usize;
        let keys: Vec<u8> = (0..count).flat_map(|_| self.key()).collect();
        let values: Vec<[Vec<u8>; 2]> = (0..count).map(|_| self.values()).collect();
        let flags = if self.random.below(8) == 0 {
            *self.random.of(FLAGS)
        } else {
            0
        };
        let side_values = |side: usize| {
            values
                .iter()
                .flat_map(|v| v[side].clone())
                .collect::<Vec<u8>>()
        };
        if self.random.below(2) == 0 {
            let results = self.both(|b, map, side| {
                let (done, result) = b.map_update_batch(map, &keys, &side_values(side), flags);
                Ok(done_of(done, count, errno(result)))
            });
            return Self::agree(
                &format!("update batch of {count}, flags {flags:#x}: {keys:x?}"),
                results,
            );
        }
        let results = self.both(|b, map, _| {
            let (done, result) = b.map_delete_batch(map, &keys, flags);
            Ok(done_of(done, count, errno(result)))
        });
        Self::agree(
            &format!("delete batch of {count}, flags {flags:#x}: {keys:x?}"),
            results,
        )
    }

    /// Every element of one side.
    fn contents(&self, side: usize) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
        let (backend, map) = if side == 0 {
            (self.user, self.maps[0])
        } else {
            (self.kernel, self.maps[1])
        };
        let mut all = BTreeMap::new();
        let mut key: Option<Vec<u8>> = None;
        for _ in 0..100_000 {
            let mut next = vec![0; self.spec.key_size as usize];
            match errno(backend.map_next_key(map, key.as_deref(), &mut next)) {
                Ok(()) => {}
                Err(Errno::ENOENT) => return Ok(all),
                Err(e) => return Err(e),
            }
            let mut value = vec![0; self.value_len];
            let found = errno(backend.map_lookup(map, &next, &mut value, 0));
            if self.spec.map_type == MapType::LpmTrie || found.is_ok() {
                all.insert(next.clone(), self.readable(side, value));
            }
            key = Some(next);
        }
        Err(Errno::ELOOP)
    }

    /// Every element of one side, by one batch.
    fn batch_contents(
        &self,
        side: usize,
        delete: bool,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
        let (backend, map) = if side == 0 {
            (self.user, self.maps[0])
        } else {
            (self.kernel, self.maps[1])
        };
        let key_len = self.spec.key_size as usize;
        let room = 256;
        let (mut keys, mut values) = (vec![0; key_len * room], vec![0; self.value_len * room]);
        let mut cursor = BatchCursor::default();
        let done =
            errno(backend.map_lookup_batch(map, &mut cursor, &mut keys, &mut values, delete, 0))?;
        let pairs = keys
            .chunks(key_len)
            .zip(values.chunks(self.value_len))
            .take(done as usize);
        Ok(pairs
            .map(|(k, v)| (k.to_vec(), self.readable(side, v.to_vec())))
            .collect())
    }

    fn finish(&mut self) -> Result<(), Difference> {
        let keyed = self.spec.key_size != 0;
        if keyed {
            Self::agree("final contents", [self.contents(0), self.contents(1)])?;
            if self.value_len != 0 {
                Self::agree(
                    "batch of all",
                    [self.batch_contents(0, false), self.batch_contents(1, false)],
                )?;
                if self.random.below(4) == 0 {
                    Self::agree(
                        "deleting batch",
                        [self.batch_contents(0, true), self.batch_contents(1, true)],
                    )?;
                    Self::agree("after it", [self.contents(0), self.contents(1)])?;
                }
            }
        }
        if self.random.below(4) == 0 {
            Self::agree("freeze", self.both(|b, map, _| b.map_freeze(map)))?;
            Self::agree("second freeze", self.both(|b, map, _| b.map_freeze(map)))?;
            for _ in 0..20 {
                self.step().map_err(|e| format!("frozen: {e}"))?;
            }
        }
        Ok(())
    }

    fn close(&self) {
        for (side, backend) in [self.user, self.kernel].into_iter().enumerate() {
            backend.close(self.maps[side]);
            self.inner[side]
                .iter()
                .for_each(|handle| backend.close(*handle));
        }
    }
}

/// Makes random, mostly odd maps in both backends: the errno of creation must agree.
///
/// # Errors
/// A sentence with the first difference.
pub fn compare_creation(
    user: &dyn Backend,
    kernel: &dyn Backend,
    attempts: u64,
    seed: u64,
) -> Result<(), Difference> {
    let mut random = Random::new(seed);
    for _ in 0..attempts {
        let map_type = *random.of(CREATED);
        let mut spec = spec_of(map_type, &mut random).0;
        for _ in 0..random.below(3) {
            match random.below(5) {
                0 => spec.key_size = *random.of(&[0, 1, 3, 4, 5, 8, 260, 261, 1 << 22]),
                1 => {
                    spec.value_size = *random.of(&[
                        0,
                        1,
                        4,
                        7,
                        8,
                        64,
                        1016,
                        1024,
                        1 << 15,
                        (1 << 15) + 1,
                        1 << 22,
                        1 << 23,
                    ]);
                }
                2 => spec.max_entries = *random.of(&[0, 1, 2, 3, 100, 4096, 8192, 5000]),
                3 => spec.map_flags ^= 1 << random.below(20),
                _ => spec.map_extra = *random.of(&[0, 1, 15, 16, 4096]),
            }
        }
        if map_type == MapType::Cpumap {
            // The most CPUs there can be is a matter of the kernel's configuration.
            spec.max_entries = spec.max_entries.min(8);
        }
        let bytes = u64::from(spec.value_size) * u64::from(spec.max_entries);
        if bytes > CREATED_BYTES_MAX {
            continue;
        }
        spec.map_flags &= !(1 << 2 | 1 << 14 | 1 << 15 | 1 << 16);
        let made = [user, kernel].map(|b| errno(b.map_create(&spec)).map(|handle| b.close(handle)));
        if made[0] != made[1] {
            return Err(format!(
                "create {} extra {}: user {:?}, kernel {:?}",
                describe(&spec),
                spec.map_extra,
                made[0],
                made[1]
            ));
        }
    }
    Ok(())
}

/// Larger maps are not made: the backends have different limits.
const CREATED_BYTES_MAX: u64 = 1 << 26;

/// Types whose creation is compared.
const CREATED: &[MapType] = &[
    MapType::Array,
    MapType::Hash,
    MapType::PercpuArray,
    MapType::PercpuHash,
    MapType::LruHash,
    MapType::LruPercpuHash,
    MapType::LpmTrie,
    MapType::Queue,
    MapType::Stack,
    MapType::BloomFilter,
    MapType::ProgArray,
    MapType::PerfEventArray,
    MapType::CgroupArray,
    MapType::ArrayOfMaps,
    MapType::HashOfMaps,
    MapType::Ringbuf,
    MapType::UserRingbuf,
    MapType::StackTrace,
    MapType::Devmap,
    MapType::DevmapHash,
    MapType::Cpumap,
    MapType::Xskmap,
    MapType::TaskStorage,
    MapType::Arena,
];
