//! Longest-prefix-match trie.
//!
//! Prefixes are the elements of a hash map (key: length and masked address). Lookups of whole IPv4 addresses go through a
//! table ([`table::Table`]) that holds for each address the element of its longest prefix;
//! other lookups ask the hash once for each prefix length in use, longest first.
//!
//! Concurrency (the kernel's): lookups take no lock and see each update or deletion of a prefix either done or not, address
//! by address. Updates and deletions hold one lock a map. If its owner died the table is built again from the elements.
//! As in hash maps, the value that a lookup found may become another prefix's once its own is deleted or replaced (the
//! kernel's stays until the program ends).
//!
//! Walks go from more to less specific prefixes, as in the kernel ([`order::Order`]), holding the lock for each step.

#[cfg(all(test, feature = "loom"))]
mod model;
mod order;
mod small;
mod table;

use crate::body::Body;
use crate::hash::{self, Hash};
use crate::header::{MapHeader, Ops, Runner};
use crate::lock::{self, Got};
use crate::region::{Layout, Memory, Region};
use crate::spec::MapSpec;
use crate::sync::{AtomicU32, AtomicU64};
use order::Order;
use skep_abi::Errno;
use skep_abi::map_flags::BPF_EXIST;
use std::sync::atomic::Ordering;
use table::{BUILDING, Table};

/// Bytes of the prefix length at the start of a key.
const LEN_BYTES: usize = 4;
/// Longest key: a length and 256 bytes of address (`LPM_KEY_SIZE_MAX`).
const KEY_BYTES_MAX: usize = LEN_BYTES + 256;
/// Words of the set of lengths: lengths go to 2048.
const LENGTH_WORDS: usize = 33;
/// Number of possible lengths.
const LENGTHS: usize = 2049;

/// Control words.
#[repr(C)]
#[derive(Debug)]
struct Control {
    lock: AtomicU32,
    reserved: AtomicU32,
    /// Which prefix lengths are in use.
    lengths: [AtomicU64; LENGTH_WORDS],
    /// How many prefixes have each length; looked at under the lock only.
    counts: [std::sync::atomic::AtomicU32; LENGTHS],
}

/// Process-private side.
#[derive(Debug)]
pub(crate) struct Lpm {
    hash: Hash,
    control: *const Control,
    /// Addresses as they were given, unmasked, one an element: what user space reads back as keys.
    given: *mut u8,
    address_bytes: usize,
    order: Order,
    table: Option<Table>,
}

pub(crate) fn create(spec: &MapSpec, memory: &Memory) -> Result<MapHeader, Errno> {
    let address_bytes = spec.key_size as usize - LEN_BYTES;
    let sizes = hash::sizes(spec).ok_or(Errno::ENOMEM)?;
    let given_at = sizes.control.next_multiple_of(64);
    let control_at = (given_at + sizes.total as usize * address_bytes).next_multiple_of(64);
    let order_at = (control_at + size_of::<Control>()).next_multiple_of(64);
    let order_bytes = Order::bytes(spec.max_entries, sizes.total);
    let table_at = (order_at + order_bytes).next_multiple_of(64);
    let table_bytes = if address_bytes == 4 {
        Table::bytes(spec.max_entries)
    } else {
        0
    };
    let layout = Layout::new(Some(sizes.data), Some(table_at + table_bytes))?;
    let region = Region::create(spec, layout, memory)?;
    let at = |offset: usize| region.control().wrapping_add(offset);
    #[cfg(feature = "loom")]
    {
        hash::make_atomics(spec, region.data(), region.control());
        crate::sync::make::<AtomicU32>(at(control_at).cast(), 2);
        crate::sync::make::<AtomicU64>(
            at(control_at + std::mem::offset_of!(Control, lengths)).cast(),
            LENGTH_WORDS,
        );
    }
    if region.is_fresh() {
        hash::seed(spec, region.control());
    }
    let lpm = Lpm {
        hash: Hash::new(spec, region.data(), region.control()).ok_or(Errno::ENOMEM)?,
        control: at(control_at).cast_const().cast(),
        given: at(given_at),
        address_bytes,
        order: Order::new(at(order_at), spec.max_entries, sizes.total),
        table: (address_bytes == 4).then(|| Table::new(at(table_at), spec.max_entries)),
    };
    #[cfg(feature = "loom")]
    lpm.table.iter().for_each(Table::make_atomics);
    if region.is_fresh() {
        lpm.hash.give_spares();
    }
    let lookup = if address_bytes == 4 {
        lookup_ipv4
    } else {
        lookup
    };
    let ops = Ops {
        lookup,
        update,
        delete,
    };
    Ok(MapHeader::new(spec, ops, Body::Lpm(lpm), region))
}

/// A key with the bits past its length cleared.
struct Prefix {
    bytes: [u8; KEY_BYTES_MAX],
    size: usize,
    len: u32,
}

impl Prefix {
    /// `None` if the length is more than the address has bits.
    fn of(key: &[u8]) -> Option<Self> {
        let len = u32::from_ne_bytes(key.get(..LEN_BYTES)?.try_into().ok()?);
        let size = key.len();
        let mut bytes = [0u8; KEY_BYTES_MAX];
        bytes.get_mut(..size)?.copy_from_slice(key);
        let mut prefix = Self { bytes, size, len };
        (len as usize <= (size - LEN_BYTES) * 8).then(|| {
            prefix.cut(len);
            prefix
        })
    }

    /// Shortens the prefix.
    fn cut(&mut self, len: u32) {
        self.len = len;
        self.bytes[..LEN_BYTES].copy_from_slice(&len.to_ne_bytes());
        let whole = LEN_BYTES + len as usize / 8;
        let rest = len % 8;
        if rest != 0 {
            self.bytes[whole] &= !(0xff >> rest);
        }
        let zero_from = whole + usize::from(rest != 0);
        self.bytes[zero_from.min(self.size)..self.size].fill(0);
    }

    fn key(&self) -> &[u8] {
        &self.bytes[..self.size]
    }

    /// The address of an IPv4 prefix.
    fn ipv4(&self) -> u32 {
        let b = &self.bytes[LEN_BYTES..];
        u32::from_be_bytes([b[0], b[1], b[2], b[3]])
    }
}

unsafe extern "C" fn lookup(map: *const MapHeader, key: *const u8, _: Runner) -> *mut u8 {
    // SAFETY: engines call with the header the function came from and a key of its size.
    let map = unsafe { &*map };
    let Body::Lpm(lpm) = &map.body else {
        return std::ptr::null_mut();
    };
    // SAFETY: as above.
    let found = Prefix::of(unsafe { map.key(key) }).and_then(|prefix| lpm.longest(map, prefix));
    found.map_or(std::ptr::null_mut(), |index| lpm.hash.user_value(index))
}

unsafe extern "C" fn lookup_ipv4(map: *const MapHeader, key: *const u8, runner: Runner) -> *mut u8 {
    let words = key.cast::<u32>();
    // Two loads, as programs store the words one by one: one load of both would have to wait for the stores to be done.
    // SAFETY: engines call with the header the function came from and a key of 8 bytes.
    let (header, len, address) =
        unsafe { (&*map, words.read_unaligned(), words.add(1).read_unaligned()) };
    if let Body::Lpm(Lpm {
        hash,
        table: Some(table),
        ..
    }) = &header.body
        && len == 32
    {
        let leaf = table.find(u32::from_be(address));
        if leaf != BUILDING {
            return match leaf.wrapping_sub(1) {
                index if index < hash.total() => hash.user_value(index),
                _ => std::ptr::null_mut(),
            };
        }
    }
    // SAFETY: the caller's promise, handed on.
    unsafe { lookup(map, key, runner) }
}

unsafe extern "C" fn update(
    map: *const MapHeader,
    key: *const u8,
    value: *const u8,
    flags: u64,
    runner: Runner,
) -> i64 {
    // SAFETY: as in `lookup`; the value has the map's size.
    let (map, key, value) = unsafe {
        let map = &*map;
        (
            map,
            map.key(key),
            std::slice::from_raw_parts(value, map.value_size as usize),
        )
    };
    let Body::Lpm(lpm) = &map.body else {
        return Errno::EINVAL.neg();
    };
    lpm.user_update(map, key, value, flags, runner)
        .map_or_else(Errno::neg, |()| 0)
}

unsafe extern "C" fn delete(map: *const MapHeader, key: *const u8, runner: Runner) -> i64 {
    // SAFETY: as in `lookup`.
    let (map, key) = unsafe { (&*map, (*map).key(key)) };
    let Body::Lpm(lpm) = &map.body else {
        return Errno::EINVAL.neg();
    };
    lpm.delete(map, key, runner).map_or_else(Errno::neg, |()| 0)
}

/// The lock of the map, held.
struct Held<'a>(&'a Control);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        lock::give(&self.0.lock);
    }
}

impl Lpm {
    fn control(&self) -> &Control {
        // SAFETY: the control words of this map.
        unsafe { &*self.control }
    }

    fn lock(&self, map: &MapHeader, runner: Runner) -> Held<'_> {
        let control = self.control();
        let got = lock::take(&control.lock, runner.token);
        if matches!(got, Got::Inherited { .. }) {
            self.rebuild(map);
        }
        Held(control)
    }

    /// Lengths in use that are at most `len`, longest first.
    fn lengths(&self, len: u32) -> impl Iterator<Item = u32> {
        (0..=len / 64).rev().flat_map(move |word| {
            let below = if word == len / 64 {
                u64::MAX >> (63 - len % 64)
            } else {
                u64::MAX
            };
            let mut bits = self.control().lengths[word as usize].load(Ordering::Acquire) & below;
            std::iter::from_fn(move || {
                let bit = 63u32.checked_sub(bits.leading_zeros())?;
                bits &= !(1 << bit);
                Some(word * 64 + bit)
            })
        })
    }

    /// The element of the longest prefix of `prefix`.
    fn longest(&self, map: &MapHeader, mut prefix: Prefix) -> Option<u32> {
        for len in self.lengths(prefix.len) {
            prefix.cut(len);
            let found = self.hash.user_find(map, prefix.key());
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The length of the prefix that element `index` holds, 0 if there is no such element.
    fn len_of(&self, map: &MapHeader, index: u32) -> u32 {
        if index >= self.hash.total() {
            return 0;
        }
        let key = self.hash.key_bytes(index, map.key_size as usize);
        key.get(..4)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u32::from_ne_bytes)
    }

    fn count(&self, len: u32, change: i32) {
        let control = self.control();
        let count = &control.counts[len as usize];
        let now = count.load(Ordering::Relaxed).wrapping_add_signed(change);
        count.store(now, Ordering::Relaxed);
        let (word, bit) = (&control.lengths[len as usize / 64], 1u64 << (len % 64));
        if now == 0 {
            word.fetch_and(!bit, Ordering::Release);
        } else {
            word.fetch_or(bit, Ordering::Release);
        }
    }

    /// Notes a prefix that is new.
    fn enter(&self, map: &MapHeader, prefix: &Prefix, index: u32) {
        self.count(prefix.len, 1);
        let address_of = |index| {
            let key = self.hash.key_bytes(index, map.key_size as usize);
            key.get(LEN_BYTES..).unwrap_or_default()
        };
        let address = &prefix.key()[LEN_BYTES..];
        self.order.insert(address, prefix.len, index, &address_of);
    }

    fn given(&self, index: u32) -> *mut u8 {
        self.given.wrapping_add(index as usize * self.address_bytes)
    }

    /// `BPF_MAP_UPDATE_ELEM`
    pub(crate) fn user_update(
        &self,
        map: &MapHeader,
        key: &[u8],
        value: &[u8],
        flags: u64,
        runner: Runner,
    ) -> Result<(), Errno> {
        if flags > BPF_EXIST {
            return Err(Errno::EINVAL);
        }
        let prefix = Prefix::of(key).ok_or(Errno::EINVAL)?;
        let _held = self.lock(map, runner);
        let old = self.hash.user_find(map, prefix.key());
        let put = self
            .hash
            .user_update(map, prefix.key(), value, flags, runner);
        put.map_err(|e| if e == Errno::E2BIG { Errno::ENOSPC } else { e })?;
        let Some(new) = self.hash.user_find(map, prefix.key()) else {
            return Ok(());
        };
        // SAFETY: one address an element.
        unsafe {
            self.given(new)
                .copy_from_nonoverlapping(key[LEN_BYTES..].as_ptr(), self.address_bytes);
        };
        match old {
            Some(old) => self.order.replace(old, new),
            None => self.enter(map, &prefix, new),
        }
        if let Some(table) = &self.table {
            table.insert(prefix.ipv4(), prefix.len, new + 1, &|leaf| {
                self.len_of(map, leaf.wrapping_sub(1))
            });
        }
        Ok(())
    }

    /// `BPF_MAP_DELETE_ELEM`
    pub(crate) fn delete(&self, map: &MapHeader, key: &[u8], runner: Runner) -> Result<(), Errno> {
        let prefix = Prefix::of(key).ok_or(Errno::EINVAL)?;
        let _held = self.lock(map, runner);
        let old = self
            .hash
            .user_find(map, prefix.key())
            .ok_or(Errno::ENOENT)?;
        if let Some(table) = &self.table {
            let shorter = prefix.len.checked_sub(1).and_then(|len| {
                let mut shorter = Prefix {
                    bytes: prefix.bytes,
                    ..prefix
                };
                shorter.cut(len);
                self.longest(map, shorter)
            });
            let leaf = shorter.map_or(0, |index| index + 1);
            table.remove(prefix.ipv4(), prefix.len, old + 1, leaf, &|l| {
                self.len_of(map, l.wrapping_sub(1))
            });
        }
        self.count(prefix.len, -1);
        self.order.remove(old);
        self.hash.user_remove(map, prefix.key(), &mut [], runner)
    }

    /// Makes the counts and the table agree with the elements again.
    #[cold]
    fn rebuild(&self, map: &MapHeader) {
        let control = self.control();
        control
            .counts
            .iter()
            .for_each(|c| c.store(0, Ordering::Relaxed));
        // Lengths that nothing has any more only cost a look; look-ups go by them meanwhile.
        if let Some(table) = &self.table {
            table.set_building(true);
            table.clear();
        }
        self.order.clear();
        self.hash.for_each_index(&mut |index| {
            let Some(prefix) = Prefix::of(self.hash.key_bytes(index, map.key_size as usize)) else {
                return;
            };
            self.restore_given(&prefix, index);
            self.enter(map, &prefix, index);
            if let Some(table) = &self.table {
                table.insert(prefix.ipv4(), prefix.len, index + 1, &|leaf| {
                    self.len_of(map, leaf.wrapping_sub(1))
                });
            }
        });
        if let Some(table) = &self.table {
            table.set_building(false);
        }
    }

    /// Gives an element whose address as given was not written before its owner died the address of its prefix.
    fn restore_given(&self, prefix: &Prefix, index: u32) {
        let mut key = prefix.bytes;
        let address = &mut key[LEN_BYTES..LEN_BYTES + self.address_bytes];
        let given = self.given(index);
        // SAFETY: one address an element.
        unsafe { given.copy_to_nonoverlapping(address.as_mut_ptr(), self.address_bytes) };
        if Prefix::of(&key[..prefix.size]).is_none_or(|p| p.key() != prefix.key()) {
            let address = &prefix.key()[LEN_BYTES..];
            // SAFETY: as above.
            unsafe { given.copy_from_nonoverlapping(address.as_ptr(), self.address_bytes) };
        }
    }

    /// `BPF_MAP_LOOKUP_ELEM`
    pub(crate) fn user_read(
        &self,
        map: &MapHeader,
        key: &[u8],
        value: &mut [u8],
    ) -> Result<(), Errno> {
        let prefix = Prefix::of(key).ok_or(Errno::ENOENT)?;
        let index = self.longest(map, prefix).ok_or(Errno::ENOENT)?;
        self.hash.user_read(map, index, value);
        Ok(())
    }

    /// `BPF_MAP_GET_NEXT_KEY`
    pub(crate) fn next_key(
        &self,
        map: &MapHeader,
        key: Option<&[u8]>,
        next: &mut [u8],
        runner: Runner,
    ) -> Result<(), Errno> {
        let prefix = key.and_then(Prefix::of);
        let _held = self.lock(map, runner);
        let after = prefix.and_then(|prefix| self.hash.user_find(map, prefix.key()));
        let index = self.order.next(after).ok_or(Errno::ENOENT)?;
        if index >= self.hash.total() {
            return Err(Errno::ENOENT);
        }
        let (len, address) = next.split_at_mut(LEN_BYTES);
        len.copy_from_slice(&self.len_of(map, index).to_ne_bytes());
        // SAFETY: one address an element.
        unsafe {
            self.given(index)
                .copy_to_nonoverlapping(address.as_mut_ptr(), self.address_bytes);
        };
        Ok(())
    }
}
