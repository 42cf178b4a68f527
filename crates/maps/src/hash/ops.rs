//! Lookup, update and delete.

use super::bucket::{Bucket, Held};
use super::twin::Taken;
use super::{Hash, Key};
use crate::body::Body;
use crate::fields::{copy_value, copy_words, spin_lock_offset};
use crate::header::{MapHeader, Ops, Runner};
use crate::lock::Got;
use skep_abi::map_flags::{BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST};
use skep_abi::{Errno, MapType};
use std::sync::atomic::Ordering;

/// What distinguishes the types of hash map, known when compiling.
pub(super) trait Kind: Copy {
    const PERCPU: bool = false;
    const LRU: bool = false;
    /// Elements have two values.
    const TWINS: bool = false;
}
/// Hash.
#[derive(Clone, Copy)]
pub(super) struct Plain;
/// Per-CPU hash.
#[derive(Clone, Copy)]
pub(super) struct Percpu;
/// LRU hash.
#[derive(Clone, Copy)]
pub(super) struct Lru;
/// LRU per-CPU hash.
#[derive(Clone, Copy)]
pub(super) struct PercpuLru;
/// Hash of small values.
#[derive(Clone, Copy)]
pub(super) struct Twins;
/// LRU hash of small values.
#[derive(Clone, Copy)]
pub(super) struct TwinsLru;

impl Kind for Plain {}
impl Kind for Percpu {
    const PERCPU: bool = true;
}
impl Kind for Lru {
    const LRU: bool = true;
}
impl Kind for PercpuLru {
    const PERCPU: bool = true;
    const LRU: bool = true;
}
impl Kind for Twins {
    const TWINS: bool = true;
}
impl Kind for TwinsLru {
    const LRU: bool = true;
    const TWINS: bool = true;
}

/// What the value of an update holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Values {
    /// The one value, of per-CPU maps the runner's CPU's.
    One,
    /// The values of all CPUs, one after the other.
    EveryCpu,
}

/// A glance did not tell.
#[derive(Debug)]
struct Unsure;

/// Where an element hangs in its bucket.
#[derive(Clone, Copy, Debug)]
enum Place {
    Slot(usize),
    /// On the chain, behind this element or first.
    Chain(Option<u32>),
}

pub(super) const fn table<K: Key, V: Kind>() -> Ops {
    Ops {
        lookup: lookup::<K, V>,
        update: update::<K, V>,
        delete: delete::<K, V>,
    }
}

#[inline(always)]
fn tag_of(hash: u64) -> u16 {
    (hash >> 48) as u16
}

unsafe extern "C" fn lookup<K: Key, V: Kind>(
    map: *const MapHeader,
    key: *const u8,
    runner: Runner,
) -> *mut u8 {
    // SAFETY: engines call with the header the function came from and a key of its size.
    let map = unsafe { &*map };
    if let Body::Hash(hash) = &map.body {
        // SAFETY: as above.
        let key = unsafe { K::read(key, map.key_size as usize) };
        if let Ok(found) = hash.glance(key, key.hash(hash.seed)) {
            return found.map_or(std::ptr::null_mut(), |(index, elem)| {
                hash.looked_up::<K, V>(index, elem, runner.cpu)
            });
        }
    }
    // SAFETY: the caller's promise, handed on.
    unsafe { lookup_searching::<K, V>(map, key, runner) }
}

/// As [`lookup`], when a glance was not enough.
#[cold]
#[inline(never)]
unsafe extern "C" fn lookup_searching<K: Key, V: Kind>(
    map: *const MapHeader,
    key: *const u8,
    runner: Runner,
) -> *mut u8 {
    // SAFETY: as in `lookup`.
    let map = unsafe { &*map };
    let Body::Hash(hash) = &map.body else {
        return std::ptr::null_mut();
    };
    // SAFETY: as above.
    let key = unsafe { K::read(key, map.key_size as usize) };
    let found = hash.search(key, key.hash(hash.seed));
    found.map_or(std::ptr::null_mut(), |index| {
        hash.looked_up::<K, V>(index, hash.key_at(index), runner.cpu)
    })
}

unsafe extern "C" fn update<K: Key, V: Kind>(
    map: *const MapHeader,
    key: *const u8,
    value: *const u8,
    flags: u64,
    runner: Runner,
) -> i64 {
    // SAFETY: as in `lookup`; `value` has `value_size` bytes.
    unsafe {
        let map = &*map;
        let Body::Hash(hash) = &map.body else {
            return Errno::EINVAL.neg();
        };
        let key = K::read(key, map.key_size as usize);
        let put = Put {
            map,
            hash,
            value,
            values: Values::One,
            flags,
            runner,
        };
        match put.run::<K, V>(key) {
            Ok(()) => 0,
            Err(e) => e.neg(),
        }
    }
}

unsafe extern "C" fn delete<K: Key, V: Kind>(
    map: *const MapHeader,
    key: *const u8,
    runner: Runner,
) -> i64 {
    // SAFETY: as in `lookup`.
    let map = unsafe { &*map };
    let Body::Hash(hash) = &map.body else {
        return Errno::EINVAL.neg();
    };
    // SAFETY: as in `lookup`.
    let key = unsafe { K::read(key, map.key_size as usize) };
    match hash.remove::<K, V>(map, key, runner, std::ptr::null_mut()) {
        Ok(()) => 0,
        Err(e) => e.neg(),
    }
}

impl Hash {
    /// The element of `key`, without a lock.
    #[inline(always)]
    pub(super) fn find<K: Key>(&self, key: K) -> Option<u32> {
        let hash = key.hash(self.seed);
        match self.glance(key, hash) {
            Ok(found) => found.map(|(index, _)| index),
            Err(Unsure) => self.search(key, hash),
        }
    }

    /// What programs get for the element `index`, which lies at `elem`.
    #[inline(always)]
    fn looked_up<K: Key, V: Kind>(&self, index: u32, elem: *mut u8, cpu: u32) -> *mut u8 {
        let key_stride = K::STRIDE.unwrap_or(self.key_stride);
        if V::LRU {
            self.touch(index);
        }
        if V::TWINS {
            self.holding(elem, key_stride)
        } else if V::PERCPU {
            self.value_at::<V>(index, cpu)
        } else {
            elem.wrapping_add(key_stride)
        }
    }

    /// The element of `key`, and where it lies, as almost every lookup finds it: behind the first tag that matches; or that
    /// there is none, if no tag matches and nothing hangs on the chain.
    #[inline(always)]
    fn glance<K: Key>(&self, key: K, hash: u64) -> Result<Option<(u32, *mut u8)>, Unsure> {
        let bucket = self.bucket(hash as u32);
        let version = bucket.version();
        if let Some(slot) = bucket.candidates(tag_of(hash)).next() {
            let index = bucket.slots[slot].load(Ordering::Acquire).wrapping_sub(1);
            let elem = self.key_at(index);
            // SAFETY: the index was checked; elements are never unmapped.
            if index < self.total && unsafe { key.is_at(elem) } {
                return Ok(Some((index, elem)));
            }
        } else if bucket.chain.load(Ordering::Relaxed) == 0 && bucket.unchanged(version) {
            return Ok(None);
        }
        Err(Unsure)
    }

    /// The element of `key`: every candidate, then the chain, again if a writer came between.
    fn search<K: Key>(&self, key: K, hash: u64) -> Option<u32> {
        let bucket = self.bucket(hash as u32);
        loop {
            let version = bucket.version();
            for slot in bucket.candidates(tag_of(hash)) {
                let index = bucket.slots[slot].load(Ordering::Acquire).wrapping_sub(1);
                // SAFETY: the index was checked; elements are never unmapped.
                if index < self.total && unsafe { key.is_at(self.key_at(index)) } {
                    return Some(index);
                }
            }
            let found = if bucket.chain.load(Ordering::Relaxed) == 0 {
                None
            } else {
                self.find_in_chain(bucket, key)
            };
            if bucket.unchanged(version) {
                return found;
            }
        }
    }

    fn find_in_chain<K: Key>(&self, bucket: &Bucket, key: K) -> Option<u32> {
        let mut index = bucket.chain.load(Ordering::Acquire).wrapping_sub(1);
        for _ in 0..self.total {
            if index >= self.total {
                break;
            }
            // SAFETY: the index was checked.
            if unsafe { key.is_at(self.key_at(index)) } {
                return Some(index);
            }
            index = self.link(index).load(Ordering::Acquire).wrapping_sub(1);
        }
        None
    }

    /// Locks the bucket of `hash`; one whose owner died is put in order first.
    #[inline(always)]
    fn lock(&self, number: u32, runner: Runner) -> Result<Held<'_>, Errno> {
        let (held, got) = self.bucket(number).lock(runner.token)?;
        if matches!(got, Got::Inherited { .. }) {
            self.note_death();
            self.remove_duplicates(&held);
        }
        Ok(held)
    }

    /// A deletion that was cut short may have left an element in a slot and first on the chain.
    #[cold]
    fn remove_duplicates(&self, held: &Held<'_>) {
        let chain = held.bucket.chain.load(Ordering::Relaxed);
        let twice = chain != 0
            && held
                .bucket
                .slots
                .iter()
                .any(|s| s.load(Ordering::Relaxed) == chain);
        if twice && chain - 1 < self.total {
            let next = self.link(chain - 1).load(Ordering::Relaxed);
            held.bucket.chain.store(next, Ordering::Release);
        }
    }

    /// Locks the bucket of `hash` and finds `key` in it.
    ///
    /// It is searched before the lock is taken, so that the processor has the lines at hand when it is; that holds unless
    /// somebody changed the bucket in between.
    #[inline(always)]
    fn lock_and_find<K: Key>(
        &self,
        key: K,
        hash: u64,
        runner: Runner,
    ) -> Result<(Held<'_>, Option<(Place, u32)>), Errno> {
        let bucket = self.bucket(hash as u32);
        let version = bucket.version();
        let place = self.place(bucket, key, hash);
        if let Some(held) = bucket.lock_unchanged(version, runner.token) {
            return Ok((held, place));
        }
        let held = self.lock(hash as u32, runner)?;
        let place = self.place(bucket, key, hash);
        Ok((held, place))
    }

    /// Where the element of `key` is. Right as long as the bucket does not change.
    #[inline(always)]
    fn place<K: Key>(&self, bucket: &Bucket, key: K, hash: u64) -> Option<(Place, u32)> {
        for slot in bucket.candidates(tag_of(hash)) {
            let index = bucket.slots[slot].load(Ordering::Acquire).wrapping_sub(1);
            // SAFETY: the index was checked.
            if index < self.total && unsafe { key.is_at(self.key_at(index)) } {
                return Some((Place::Slot(slot), index));
            }
        }
        let mut before = None;
        let mut index = bucket.chain.load(Ordering::Acquire).wrapping_sub(1);
        for _ in 0..self.total {
            if index >= self.total {
                break;
            }
            // SAFETY: the index was checked.
            if unsafe { key.is_at(self.key_at(index)) } {
                return Some((Place::Chain(before), index));
            }
            before = Some(index);
            index = self.link(index).load(Ordering::Acquire).wrapping_sub(1);
        }
        None
    }

    /// Lets readers find the new element `index`.
    #[inline(always)]
    fn insert(&self, held: &mut Held<'_>, hash: u64, index: u32) {
        held.grown();
        if let Some(slot) = held.empty_slot() {
            held.publish(slot, tag_of(hash), index);
        } else {
            let first = held.bucket.chain.load(Ordering::Relaxed);
            self.link(index).store(first, Ordering::Relaxed);
            held.bucket.chain.store(index + 1, Ordering::Release);
        }
    }

    /// Puts the element `new` where `old` is.
    #[inline(always)]
    fn replace(&self, held: &mut Held<'_>, place: Place, old: u32, new: u32) {
        if let Place::Slot(slot) = place {
            held.bucket.slots[slot].store(new + 1, Ordering::Release);
        } else {
            let next = self.link(old).load(Ordering::Relaxed);
            self.link(new).store(next, Ordering::Relaxed);
            self.relink(held, place, new + 1);
        }
        held.changed();
    }

    /// Stores what the chain has at `place`.
    fn relink(&self, held: &Held<'_>, place: Place, link: u32) {
        match place {
            Place::Chain(Some(before)) => self.link(before).store(link, Ordering::Release),
            Place::Chain(None) => held.bucket.chain.store(link, Ordering::Release),
            Place::Slot(slot) => held.bucket.slots[slot].store(link, Ordering::Release),
        }
    }

    /// Takes the element `index` out of its bucket; a slot that gets free takes the first of the chain.
    #[inline(always)]
    fn unlink<K: Key>(&self, held: &mut Held<'_>, place: Place, index: u32, key_len: usize) {
        let first = held.bucket.chain.load(Ordering::Relaxed);
        match place {
            Place::Slot(slot) if first.wrapping_sub(1) < self.total => {
                let moved = first - 1;
                // SAFETY: the index was checked; keys are stored in whole words.
                let hash = unsafe { K::read(self.key_at(moved), key_len) }.hash(self.seed);
                held.publish(slot, tag_of(hash), moved);
                let next = self.link(moved).load(Ordering::Relaxed);
                // A reader who saw the slots before and does not find it on the chain any more has to look again.
                held.changed();
                held.bucket.chain.store(next, Ordering::Release);
            }
            Place::Slot(slot) => {
                held.bucket.slots[slot].store(0, Ordering::Release);
                held.changed();
            }
            Place::Chain(_) => {
                let next = self.link(index).load(Ordering::Relaxed);
                self.relink(held, place, next);
                held.changed();
            }
        }
    }

    /// Deletes `key`; before that copies its value to `out` unless that is null.
    #[inline(always)]
    pub(super) fn remove<K: Key, V: Kind>(
        &self,
        map: &MapHeader,
        key: K,
        runner: Runner,
        out: *mut u8,
    ) -> Result<(), Errno> {
        let hash = key.hash(self.seed);
        let _busy = self.enter(runner);
        let (mut held, place) = self.lock_and_find(key, hash, runner)?;
        let (place, index) = place.ok_or(Errno::ENOENT)?;
        let taken = self.take_listed::<V>(index, runner.token)?;
        if !out.is_null() {
            // SAFETY: callers pass room for the values of the map.
            unsafe { self.read_values::<V>(map, index, out) };
        }
        self.unlink::<K>(&mut held, place, index, map.key_size as usize);
        taken.into_iter().for_each(Taken::remove);
        self.drop_fields::<V>(map, index);
        self.give_free(&held, runner.cpu, index);
        Ok(())
    }

    /// Removes the element `index` if it is in the map and its bucket can be had; for evictions.
    pub(super) fn remove_index<K: Key, V: Kind>(
        &self,
        map: &MapHeader,
        index: u32,
        runner: Runner,
    ) -> bool {
        let len = map.key_size as usize;
        // SAFETY: callers pass an index below `total`.
        let hash = unsafe { K::read(self.key_at(index), len) }.hash(self.seed);
        let Ok(mut held) = self.lock(hash as u32, runner) else {
            return false;
        };
        let Some(place) = self.place_of_index(&held, index) else {
            return false;
        };
        let Ok(taken) = self.take_listed::<V>(index, runner.token) else {
            return false;
        };
        self.unlink::<K>(&mut held, place, index, len);
        taken.into_iter().for_each(Taken::remove);
        self.drop_fields::<V>(map, index);
        self.give_free(&held, runner.cpu, index);
        true
    }

    fn place_of_index(&self, held: &Held<'_>, index: u32) -> Option<Place> {
        let slots = &held.bucket.slots;
        if let Some(slot) = slots
            .iter()
            .position(|s| s.load(Ordering::Relaxed) == index + 1)
        {
            return Some(Place::Slot(slot));
        }
        let mut before = None;
        let mut at = held.bucket.chain.load(Ordering::Relaxed).wrapping_sub(1);
        for _ in 0..self.total {
            if at >= self.total || at == index {
                break;
            }
            before = Some(at);
            at = self.link(at).load(Ordering::Relaxed).wrapping_sub(1);
        }
        (at == index).then_some(Place::Chain(before))
    }

    /// Releases and zeroes the special fields of an element that leaves the map.
    #[inline(always)]
    fn drop_fields<V: Kind>(&self, map: &MapHeader, index: u32) {
        if map.spec.record.fields.is_empty() {
            return;
        }
        let cpus = if V::PERCPU { self.cpus } else { 1 };
        for cpu in 0..cpus {
            let value = self.value_at::<V>(index, cpu);
            map.release_fields(value);
            // SAFETY: a value of this map; the element is not in the map any more.
            unsafe { crate::fields::clear_fields(&map.spec.record, value) };
        }
    }

    /// Copies the value (all CPUs' values) of an element to user space's form.
    ///
    /// # Safety
    /// `out` has room for them.
    pub(super) unsafe fn read_values<V: Kind>(&self, map: &MapHeader, index: u32, out: *mut u8) {
        let len = map.value_size as usize;
        if !V::PERCPU {
            // SAFETY: the caller's promise.
            return unsafe { copy_words(self.value_at::<V>(index, 0), out, len) };
        }
        for cpu in 0..self.cpus {
            let to = out.wrapping_add(cpu as usize * self.value_stride);
            // SAFETY: the caller's promise; values are whole words.
            unsafe { copy_words(self.value_at::<V>(index, cpu), to, self.value_stride) };
        }
    }
}

/// An update.
pub(super) struct Put<'a> {
    pub(super) map: &'a MapHeader,
    pub(super) hash: &'a Hash,
    pub(super) value: *const u8,
    pub(super) values: Values,
    pub(super) flags: u64,
    pub(super) runner: Runner,
}

impl Put<'_> {
    /// Updates `key`.
    ///
    /// # Safety
    /// `value` holds what `values` says.
    #[inline(always)]
    pub(super) unsafe fn run<K: Key, V: Kind>(&self, key: K) -> Result<(), Errno> {
        let locked = self.flags & BPF_F_LOCK != 0;
        let lockable = !V::PERCPU && !V::LRU;
        if (if lockable {
            self.flags & !BPF_F_LOCK
        } else {
            self.flags
        }) > BPF_EXIST
            || locked && spin_lock_offset(&self.map.spec.record).is_none()
        {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the caller's promise.
        match unsafe { self.attempt::<K, V>(key) } {
            // SAFETY: the caller's promise.
            Err(Errno::E2BIG) => unsafe { self.run_when_full::<K, V>(key) },
            other => other,
        }
    }

    /// There was no free element: evict one, or look for lost ones, and try again.
    #[cold]
    unsafe fn run_when_full<K: Key, V: Kind>(&self, key: K) -> Result<(), Errno> {
        let mut full = Err(Errno::E2BIG);
        while V::LRU && full == Err(Errno::E2BIG) {
            if !self.hash.evict::<K, V>(self.map, self.runner) {
                break;
            }
            // SAFETY: the caller's promise.
            full = unsafe { self.attempt::<K, V>(key) };
        }
        if full == Err(Errno::E2BIG) && self.hash.sweep_is_due(self.runner) {
            self.hash.sweep(self.runner);
            // SAFETY: the caller's promise.
            full = unsafe { self.attempt::<K, V>(key) };
        }
        match full {
            Err(Errno::E2BIG) if V::LRU => Err(Errno::ENOMEM),
            other => other,
        }
    }

    #[inline(always)]
    unsafe fn attempt<K: Key, V: Kind>(&self, key: K) -> Result<(), Errno> {
        let hash = key.hash(self.hash.seed);
        // SAFETY: the caller's promise, handed on.
        if V::TWINS && self.flags != BPF_NOEXIST && unsafe { self.change_found::<K, V>(key, hash) }
        {
            return Ok(());
        }
        let _busy = self.hash.enter(self.runner);
        let (mut held, place) = self.hash.lock_and_find(key, hash, self.runner)?;
        // SAFETY: the caller's promise, handed on.
        unsafe {
            match place {
                Some(_) if self.flags & BPF_NOEXIST != 0 => Err(Errno::EEXIST),
                None if self.flags & BPF_EXIST != 0 => Err(Errno::ENOENT),
                Some((_, old)) if V::TWINS => {
                    let taken = self.hash.take_listed::<V>(old, self.runner.token)?;
                    taken
                        .into_iter()
                        .for_each(|taken| self.write_other::<V>(old, taken));
                    Ok(())
                }
                Some((place, old)) => {
                    self.change::<K, V>(&mut held, key, place, old);
                    Ok(())
                }
                None => {
                    let index = self.hash.take_free(self.runner.cpu).ok_or(Errno::E2BIG)?;
                    if V::TWINS {
                        self.hash.take_new(index, self.runner.token);
                    }
                    self.fill::<K, V>(key, index);
                    self.hash.insert(&mut held, hash, index);
                    if V::TWINS {
                        self.hash.give_new(index);
                    }
                    Ok(())
                }
            }
        }
    }

    /// Gives a key that is found at a glance its new value, without the bucket's lock. False if that does not work.
    ///
    /// # Safety
    /// As [`Self::run`].
    #[inline(always)]
    unsafe fn change_found<K: Key, V: Kind>(&self, key: K, hash: u64) -> bool {
        let Ok(Some((index, _))) = self.hash.glance(key, hash) else {
            return false;
        };
        let Some(taken) = self.hash.take_found(key, index, self.runner.token) else {
            return false;
        };
        // SAFETY: the caller's promise.
        unsafe { self.write_other::<V>(index, taken) };
        true
    }

    /// Writes the value of an element that does not hold, and lets it hold.
    ///
    /// # Safety
    /// As [`Self::run`].
    #[inline(always)]
    unsafe fn write_other<V: Kind>(&self, index: u32, taken: Taken<'_>) {
        let to = self.hash.other(index, &taken);
        // SAFETY: the caller's promise; maps whose elements have two values have no special fields.
        unsafe { copy_words(self.value, to, self.map.value_size as usize) };
        if V::LRU {
            self.hash.touch(index);
        }
        taken.give_other();
    }

    /// Writes a new element that readers do not see yet.
    #[inline(always)]
    unsafe fn fill<K: Key, V: Kind>(&self, key: K, index: u32) {
        // SAFETY: `index` is a free element that this thread took.
        unsafe {
            key.store(self.hash.key_at(index));
            if V::PERCPU && self.values == Values::One {
                for cpu in (0..self.hash.cpus).filter(|&cpu| cpu != self.runner.cpu) {
                    self.hash
                        .value_at::<V>(index, cpu)
                        .write_bytes(0, self.hash.value_stride);
                }
            }
            self.write::<V>(index);
        }
        if V::LRU {
            self.hash.forget(index);
        }
    }

    /// Gives an existing key its new value.
    #[inline(always)]
    unsafe fn change<K: Key, V: Kind>(&self, held: &mut Held<'_>, key: K, place: Place, old: u32) {
        // SAFETY: `old` is in the bucket that is held; the spare is this CPU's own.
        unsafe {
            if self.flags & BPF_F_LOCK != 0 {
                let value = self.hash.value_at::<V>(old, 0);
                self.map.copy_locked(self.value, value, value, self.runner);
                return;
            }
            let spare = if V::PERCPU {
                None
            } else {
                self.hash.take_spare(self.runner.cpu)
            };
            let Some(new) = spare else {
                return self.write::<V>(old);
            };
            self.fill::<K, V>(key, new);
            if V::LRU {
                self.hash.touch(new);
            }
            self.hash.replace(held, place, old, new);
            self.hash.drop_fields::<V>(self.map, old);
            self.hash.give_spare(held, self.runner.cpu, old);
        }
    }

    /// Writes the value of an element.
    #[inline(always)]
    unsafe fn write<V: Kind>(&self, index: u32) {
        let len = self.map.value_size as usize;
        let record = &self.map.spec.record;
        // SAFETY: `value` holds what `values` says.
        unsafe {
            if !V::PERCPU {
                let to = self.hash.value_at::<V>(index, 0);
                if self.value.is_null() {
                    return to.write_bytes(0, len);
                }
                if record.fields.is_empty() {
                    copy_words(self.value, to, len);
                } else {
                    copy_value(record, self.value, to, len);
                }
            } else if self.values == Values::One {
                let to = self.hash.value_at::<V>(index, self.runner.cpu);
                copy_value(record, self.value, to, len);
                self.map.release_fields(to);
            } else {
                // User space's values are whole words, and stay so, as in the kernel.
                let len = if record.fields.is_empty() {
                    self.hash.value_stride
                } else {
                    len
                };
                for cpu in 0..self.hash.cpus {
                    let from = self
                        .value
                        .wrapping_add(cpu as usize * self.hash.value_stride);
                    let to = self.hash.value_at::<V>(index, cpu);
                    copy_value(record, from, to, len);
                    self.map.release_fields(to);
                }
            }
        }
    }
}

/// Runs `$body` with `$K` as the key type for `$map` and `$V` as the kind of `$hash`, its body.
macro_rules! for_types {
    ($hash:expr, $map:expr, $K:ident, $V:ident => $body:expr) => {
        match $map.key_size {
            4 => for_types!(@kind $hash, $map, $K = super::Key4, $V => $body),
            8 => for_types!(@kind $hash, $map, $K = super::Key8, $V => $body),
            16 => for_types!(@kind $hash, $map, $K = super::Key16, $V => $body),
            _ => for_types!(@kind $hash, $map, $K = super::KeyN, $V => $body),
        }
    };
    (@kind $hash:expr, $map:expr, $K:ident = $key:ty, $V:ident => $body:expr) => {{
        type $K = $key;
        match $map.map_type {
            MapType::Hash if $hash.twins => { type $V = Twins; $body }
            MapType::LruHash if $hash.twins => { type $V = TwinsLru; $body }
            MapType::PercpuHash => { type $V = Percpu; $body }
            MapType::LruHash => { type $V = Lru; $body }
            MapType::LruPercpuHash => { type $V = PercpuLru; $body }
            _ => { type $V = Plain; $body }
        }
    }};
}

/// User space's side: keys and values as slices whose lengths the caller checked.
impl Hash {
    /// The element of `key`, not counting as a use.
    pub(crate) fn user_find(&self, map: &MapHeader, key: &[u8]) -> Option<u32> {
        // SAFETY: `key` has `key_size` bytes.
        for_types!(self, map, K, V => {
            let _: Option<V> = None;
            // SAFETY: `key` has `key_size` bytes.
            self.find(unsafe { K::read(key.as_ptr(), key.len()) })
        })
    }

    /// Copies the value of an element, of all CPUs in per-CPU maps.
    pub(crate) fn user_read(&self, map: &MapHeader, index: u32, out: &mut [u8]) {
        // SAFETY: `out` has room for the values, the index came from a lookup or walk.
        for_types!(self, map, K, V => {
            let _: Option<K> = None;
            // SAFETY: `out` has room for the values, the index came from a lookup or walk.
            unsafe { self.read_values::<V>(map, index, out.as_mut_ptr()) }
        });
    }

    /// The value of an element in place (not of per-CPU maps).
    #[inline]
    pub(crate) fn user_value(&self, index: u32) -> *mut u8 {
        self.value_in_place(index, 0)
    }

    /// The value of an element in place, of `cpu` in per-CPU maps.
    pub(crate) fn value_in_place(&self, index: u32, cpu: u32) -> *mut u8 {
        if self.twins {
            self.value_at::<Twins>(index, cpu)
        } else if self.percpu_stride == 0 {
            self.value_at::<Plain>(index, cpu)
        } else {
            self.value_at::<Percpu>(index, cpu)
        }
    }

    /// Updates `key`.
    pub(crate) fn user_update(
        &self,
        map: &MapHeader,
        key: &[u8],
        value: &[u8],
        flags: u64,
        runner: Runner,
    ) -> Result<(), Errno> {
        let values = if map.spec.is_percpu() {
            Values::EveryCpu
        } else {
            Values::One
        };
        let put = Put {
            map,
            hash: self,
            value: value.as_ptr(),
            values,
            flags,
            runner,
        };
        // SAFETY: key and value have the map's sizes.
        for_types!(self, map, K, V => unsafe { put.run::<K, V>(K::read(key.as_ptr(), key.len())) })
    }

    /// Makes an element for `key` with the value at `init`, zeros if that is null (local storage).
    ///
    /// # Safety
    /// `init` must be null or valid for reads of `value_size` bytes; `key` must have the map's size.
    pub(crate) unsafe fn create_value(
        &self,
        map: &MapHeader,
        key: &[u8],
        init: *const u8,
        runner: Runner,
    ) -> Result<(), Errno> {
        let put = Put {
            map,
            hash: self,
            value: init,
            values: Values::One,
            flags: BPF_NOEXIST,
            runner,
        };
        // SAFETY: the caller's promise.
        for_types!(self, map, K, V => unsafe { put.run::<K, V>(K::read(key.as_ptr(), key.len())) })
    }

    /// Deletes `key`, copying its value to `out` first if that is not empty.
    pub(crate) fn user_remove(
        &self,
        map: &MapHeader,
        key: &[u8],
        out: &mut [u8],
        runner: Runner,
    ) -> Result<(), Errno> {
        let to = if out.is_empty() {
            std::ptr::null_mut()
        } else {
            out.as_mut_ptr()
        };
        // SAFETY: key and value have the map's sizes.
        for_types!(self, map, K, V => {
            // SAFETY: key and value have the map's sizes.
            self.remove::<K, V>(map, unsafe { K::read(key.as_ptr(), key.len()) }, runner, to)
        })
    }
}
