//! User space's side of maps: the element commands of `bpf(2)`, with the kernel's checks and errno.
//!
//! Access modes and frozen maps are checked above, where handles are known. Values of per-CPU maps are all CPUs' values,
//! each rounded up to 8 bytes. Maps of objects (programs, maps) are written through [`Map::set_object`].

use crate::array::check_update;
use crate::body::Body;
use crate::fields::{copy_value, copy_words, spin_lock_offset, zero_fields};
use crate::header::Runner;
use crate::map::Map;
use crate::target;
use skep_abi::map_flags::{BPF_EXIST, BPF_F_LOCK};
use skep_abi::{Errno, MapType};

/// Does the type hold ids of other objects (`IS_FD_MAP`)?
#[must_use]
pub fn holds_objects(map_type: MapType) -> bool {
    matches!(
        map_type,
        MapType::ProgArray
            | MapType::PerfEventArray
            | MapType::CgroupArray
            | MapType::ArrayOfMaps
            | MapType::HashOfMaps
    )
}

/// Does the type hold values of owners that the kernel knows?
#[must_use]
pub fn is_storage(map_type: MapType) -> bool {
    matches!(
        map_type,
        MapType::SkStorage | MapType::TaskStorage | MapType::InodeStorage | MapType::CgrpStorage
    )
}

impl Map {
    /// Bytes of a value in user space's form (`bpf_map_value_size`).
    #[must_use]
    pub fn user_value_bytes(&self) -> usize {
        if self.spec.is_percpu() {
            self.spec.value_stride() * self.spec.cpus as usize
        } else if holds_objects(self.map_type) {
            4
        } else {
            self.value_size as usize
        }
    }

    fn check_sizes(&self, key: &[u8], value_len: usize) -> Result<(), Errno> {
        if key.len() != self.key_size as usize || value_len != self.user_value_bytes() {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    fn check_lock_flag(&self, flags: u64) -> Result<(), Errno> {
        if flags & BPF_F_LOCK != 0 && spin_lock_offset(&self.spec.record).is_none() {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    /// `BPF_MAP_LOOKUP_ELEM`
    ///
    /// # Errors
    /// The kernel's.
    pub fn lookup_elem(
        &self,
        key: &[u8],
        value: &mut [u8],
        flags: u64,
        runner: Runner,
    ) -> Result<(), Errno> {
        if flags & !BPF_F_LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        self.check_lock_flag(flags)?;
        self.check_sizes(key, value.len())?;
        match &self.body {
            Body::Array => self.read_array(key, value, flags, runner),
            Body::Hash(hash) => {
                let index = hash.user_find(self, key).ok_or(Errno::ENOENT)?;
                if flags & BPF_F_LOCK != 0 {
                    self.read_value(hash.user_value(index), value, flags, runner);
                } else {
                    hash.user_read(self, index, value);
                    self.hide_fields(value);
                }
                Ok(())
            }
            Body::Queue(queue) => queue.peek(self, value.as_mut_ptr(), runner),
            Body::Bloom(bloom) => bloom.peek(value),
            Body::Objects(objects) => objects.user_read(self, key, value),
            Body::Lpm(lpm) => lpm.user_read(self, key, value),
            Body::Ring(_) => Err(Errno::ENOTSUPP),
            Body::Arena(_) => Err(Errno::EINVAL),
            Body::Stacks(stacks) => stacks.user_read(self, key, value, crate::stacks::Take::No),
        }
    }

    fn read_array(
        &self,
        key: &[u8],
        value: &mut [u8],
        flags: u64,
        runner: Runner,
    ) -> Result<(), Errno> {
        // SAFETY: the sizes were checked.
        let first = unsafe { self.lookup(key.as_ptr(), Runner { cpu: 0, ..runner }) };
        if first.is_null() {
            return Err(Errno::ENOENT);
        }
        if self.percpu_stride == 0 {
            self.read_value(first, value, flags, runner);
            return Ok(());
        }
        let stride = self.spec.value_stride();
        for (cpu, part) in value.chunks_exact_mut(stride).enumerate() {
            let from = first.wrapping_add(cpu * self.percpu_stride as usize);
            // SAFETY: every CPU's copy is as long as the stride.
            unsafe { copy_words(from, part.as_mut_ptr(), stride) };
        }
        self.hide_fields(value);
        Ok(())
    }

    /// Copies one value in place to user space.
    fn read_value(&self, from: *mut u8, value: &mut [u8], flags: u64, runner: Runner) {
        // SAFETY: `from` is a value of this map, `value` has its size.
        unsafe {
            if flags & BPF_F_LOCK != 0 {
                self.copy_locked(from, value.as_mut_ptr(), from, runner);
            } else {
                copy_words(from, value.as_mut_ptr(), value.len());
            }
        }
        self.hide_fields(value);
    }

    fn hide_fields(&self, values: &mut [u8]) {
        if self.spec.record.fields.is_empty() {
            return;
        }
        let stride = if self.spec.is_percpu() {
            self.spec.value_stride()
        } else {
            values.len().max(1)
        };
        for value in values.chunks_exact_mut(stride) {
            zero_fields(&self.spec.record, value);
        }
    }

    /// `BPF_MAP_UPDATE_ELEM`; objects are set with [`Self::set_object`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn update_elem(
        &self,
        key: &[u8],
        value: &[u8],
        flags: u64,
        runner: Runner,
    ) -> Result<(), Errno> {
        self.check_lock_flag(flags)?;
        self.check_sizes(key, value.len())?;
        match &self.body {
            Body::Array => self.write_array(key, value, flags, runner),
            Body::Hash(hash) => {
                if self.map_type != MapType::DevmapHash {
                    return hash.user_update(self, key, value, flags, runner);
                }
                let found = hash.user_find(self, key).is_some();
                target::check_hashed_device(found, value, flags)?;
                // The kernel does not ask whether the key exists.
                hash.user_update(self, key, value, flags & !BPF_EXIST, runner)
            }
            Body::Queue(queue) => queue.push(self, value.as_ptr(), flags, runner),
            Body::Bloom(bloom) => bloom.push(value, flags),
            Body::Objects(objects) => objects.user_write(self, key, value, flags),
            Body::Lpm(lpm) => lpm.user_update(self, key, value, flags, runner),
            Body::Ring(_) => Err(Errno::ENOTSUPP),
            Body::Arena(_) => Err(Errno::EOPNOTSUPP),
            Body::Stacks(_) => Err(Errno::EINVAL),
        }
    }

    fn write_array(
        &self,
        key: &[u8],
        value: &[u8],
        flags: u64,
        runner: Runner,
    ) -> Result<(), Errno> {
        // SAFETY: the sizes were checked.
        let first = unsafe { self.lookup(key.as_ptr(), Runner { cpu: 0, ..runner }) };
        check_update(self, !first.is_null(), flags)?;
        let len = self.value_size as usize;
        if self.percpu_stride == 0 {
            // SAFETY: an element of this map; the sizes were checked.
            unsafe {
                if flags & BPF_F_LOCK != 0 {
                    self.copy_locked(value.as_ptr(), first, first, runner);
                } else {
                    copy_value(&self.spec.record, value.as_ptr(), first, len);
                }
            }
            self.release_fields(first);
            return Ok(());
        }
        for (cpu, part) in value.chunks_exact(self.spec.value_stride()).enumerate() {
            let to = first.wrapping_add(cpu * self.percpu_stride as usize);
            // User space's values are whole words, and stay so, as in the kernel.
            let len = if self.spec.record.fields.is_empty() {
                part.len()
            } else {
                len
            };
            // SAFETY: every CPU has its copy.
            unsafe { copy_value(&self.spec.record, part.as_ptr(), to, len) };
            self.release_fields(to);
        }
        Ok(())
    }

    /// `BPF_MAP_DELETE_ELEM`; objects are removed with [`Self::remove_object`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete_elem(&self, key: &[u8], runner: Runner) -> Result<(), Errno> {
        if key.len() != self.key_size as usize {
            return Err(Errno::EINVAL);
        }
        match &self.body {
            Body::Array => Err(Errno::EINVAL),
            Body::Hash(hash) => hash.user_remove(self, key, &mut [], runner),
            Body::Queue(_) => Err(Errno::EINVAL),
            Body::Bloom(_) => Err(Errno::EOPNOTSUPP),
            Body::Objects(objects) => objects.remove(self, key).map(drop),
            Body::Lpm(lpm) => lpm.delete(self, key, runner),
            Body::Ring(_) => Err(Errno::ENOTSUPP),
            Body::Arena(_) => Err(Errno::EOPNOTSUPP),
            Body::Stacks(stacks) => stacks.delete(key),
        }
    }

    /// `BPF_MAP_GET_NEXT_KEY`
    ///
    /// # Errors
    /// `ENOENT` after the last key; the kernel's.
    pub fn next_key(
        &self,
        key: Option<&[u8]>,
        next: &mut [u8],
        runner: Runner,
    ) -> Result<(), Errno> {
        let len = self.key_size as usize;
        if next.len() != len || key.is_some_and(|k| k.len() != len) {
            return Err(Errno::EINVAL);
        }
        match &self.body {
            Body::Array => self.next_array_key(key, next),
            Body::Hash(hash) => {
                let index = hash.next_index(key).ok_or(Errno::ENOENT)?;
                next.copy_from_slice(hash.key_bytes(index, len));
                Ok(())
            }
            Body::Queue(_) => Err(Errno::EINVAL),
            Body::Bloom(_) => Err(Errno::EOPNOTSUPP),
            Body::Objects(objects) => match objects.next_key(self, key, next) {
                Some(result) => result,
                None => self.next_array_key(key, next),
            },
            Body::Lpm(lpm) => lpm.next_key(self, key, next, runner),
            Body::Ring(_) => Err(Errno::ENOTSUPP),
            Body::Arena(_) => Err(Errno::EOPNOTSUPP),
            Body::Stacks(stacks) => stacks.next_key(key, next),
        }
    }

    fn next_array_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        let index = key
            .and_then(|k| k.try_into().ok())
            .map_or(u32::MAX, u32::from_ne_bytes);
        let following = if index >= self.max_entries {
            0
        } else {
            index + 1
        };
        if following == self.max_entries {
            return Err(Errno::ENOENT);
        }
        next.copy_from_slice(&following.to_ne_bytes());
        Ok(())
    }

    /// `BPF_MAP_LOOKUP_AND_DELETE_ELEM`
    ///
    /// # Errors
    /// The kernel's; `ENOTSUPP` for types without.
    pub fn lookup_and_delete_elem(
        &self,
        key: &[u8],
        value: &mut [u8],
        flags: u64,
        runner: Runner,
    ) -> Result<(), Errno> {
        if flags & !BPF_F_LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        if flags != 0 && matches!(self.map_type, MapType::Queue | MapType::Stack) {
            return Err(Errno::EINVAL);
        }
        self.check_lock_flag(flags)?;
        self.check_sizes(key, value.len())?;
        match &self.body {
            Body::Queue(queue) => queue.pop(self, value.as_mut_ptr(), runner),
            Body::Hash(hash)
                if !matches!(self.map_type, MapType::HashOfMaps | MapType::DevmapHash) =>
            {
                hash.user_remove(self, key, value, runner)?;
                self.hide_fields(value);
                Ok(())
            }
            Body::Stacks(stacks) => stacks.user_read(self, key, value, crate::stacks::Take::Yes),
            _ => Err(Errno::ENOTSUPP),
        }
    }
}
