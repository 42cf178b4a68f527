//! Element commands: access modes, maps of objects, batches.

use crate::map_object::MapObject;
use crate::state::Mode;
use crate::storage;
use crate::universe::Shared;
use skep_abi::map_flags::BPF_F_LOCK;
use skep_abi::{Errno, MapType};
use skep_bpf::BatchCursor;
use skep_maps::{Runner, is_storage};

type Outcome<T = ()> = Result<T, Errno>;

/// Types with batch commands that look up (and update); hash types can delete too.
const BATCHED: &[MapType] = &[
    MapType::Array,
    MapType::PercpuArray,
    MapType::Hash,
    MapType::PercpuHash,
    MapType::LruHash,
    MapType::LruPercpuHash,
    MapType::LpmTrie,
    MapType::ArrayOfMaps,
    MapType::HashOfMaps,
];

impl MapObject {
    fn as_user<T>(&self, shared: &Shared, run: impl FnOnce(Runner) -> T) -> T {
        let lease = shared.user_lease();
        run(lease.runner())
    }

    /// Variables at the beginning of an arena.
    pub(crate) fn arena_init(&self, shared: &Shared, bytes: &[u8]) -> Outcome {
        self.as_user(shared, |runner| self.map.arena_init(bytes, runner))
    }

    /// `BPF_MAP_LOOKUP_ELEM`
    pub(crate) fn lookup(
        &self,
        shared: &Shared,
        mode: Mode,
        key: &[u8],
        value: &mut [u8],
        flags: u64,
    ) -> Outcome {
        self.may(mode.read)?;
        if is_storage(self.map.map_type) {
            self.check_lookup_flags(flags)?;
            let owner = storage::owner(self.map.map_type, key)?;
            return self.as_user(shared, |runner| {
                self.map.lookup_elem(&owner, value, flags, runner)
            });
        }
        self.as_user(shared, |runner| {
            self.map.lookup_elem(key, value, flags, runner)
        })
    }

    /// What lookups and updates of every type refuse.
    fn check_lock_flag(&self, flags: u64) -> Outcome {
        let has_lock = skep_maps::spin_lock_offset(&self.map.spec().record).is_some();
        if flags & BPF_F_LOCK != 0 && !has_lock {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    fn check_lookup_flags(&self, flags: u64) -> Outcome {
        if flags & !BPF_F_LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        self.check_lock_flag(flags)
    }

    /// `BPF_MAP_UPDATE_ELEM`
    pub(crate) fn update(
        &self,
        shared: &Shared,
        mode: Mode,
        key: &[u8],
        value: &[u8],
        flags: u64,
    ) -> Outcome {
        self.may_write(mode)?;
        self.put(shared, key, value, flags)
    }

    fn put(&self, shared: &Shared, key: &[u8], value: &[u8], flags: u64) -> Outcome {
        if self.holds_objects() {
            return self.put_object(shared, key, value, flags);
        }
        if is_storage(self.map.map_type) {
            self.check_lock_flag(flags)?;
            let owner = storage::owner(self.map.map_type, key)?;
            return self.as_user(shared, |runner| {
                self.map.update_elem(&owner, value, flags, runner)
            });
        }
        self.as_user(shared, |runner| {
            self.map.update_elem(key, value, flags, runner)
        })
    }

    /// `BPF_MAP_DELETE_ELEM`
    pub(crate) fn delete(&self, shared: &Shared, mode: Mode, key: &[u8]) -> Outcome {
        self.may_write(mode)?;
        self.take_out(shared, key)
    }

    fn take_out(&self, shared: &Shared, key: &[u8]) -> Outcome {
        if self.holds_objects() {
            return self.remove_object(shared, key);
        }
        if is_storage(self.map.map_type) {
            let owner = storage::owner(self.map.map_type, key)?;
            return self.as_user(shared, |runner| self.map.delete_elem(&owner, runner));
        }
        self.as_user(shared, |runner| self.map.delete_elem(key, runner))
    }

    /// `BPF_MAP_GET_NEXT_KEY`
    pub(crate) fn next_key(
        &self,
        shared: &Shared,
        mode: Mode,
        key: Option<&[u8]>,
        next: &mut [u8],
    ) -> Outcome {
        self.may(mode.read)?;
        if is_storage(self.map.map_type) {
            return Err(Errno::ENOTSUPP);
        }
        self.as_user(shared, |runner| self.map.next_key(key, next, runner))
    }

    /// `BPF_MAP_LOOKUP_AND_DELETE_ELEM`
    pub(crate) fn lookup_and_delete(
        &self,
        shared: &Shared,
        mode: Mode,
        key: &[u8],
        value: &mut [u8],
        flags: u64,
    ) -> Outcome {
        if flags & !BPF_F_LOCK != 0 {
            return Err(Errno::EINVAL);
        }
        self.may(mode.read)?;
        self.may_write(mode)?;
        if is_storage(self.map.map_type) {
            self.check_lock_flag(flags)?;
            return Err(Errno::ENOTSUPP);
        }
        self.as_user(shared, |runner| {
            self.map.lookup_and_delete_elem(key, value, flags, runner)
        })
    }

    fn batched(&self) -> Outcome {
        if BATCHED.contains(&self.map.map_type) {
            Ok(())
        } else {
            Err(Errno::ENOTSUPP)
        }
    }

    fn check_batch_flags(&self, flags: u64) -> Outcome {
        let has_lock = skep_maps::spin_lock_offset(&self.map.spec().record).is_some();
        let allowed = if has_lock { BPF_F_LOCK } else { 0 };
        if flags & !allowed == 0 {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    fn can_delete_batch(&self) -> bool {
        !matches!(
            self.map.map_type,
            MapType::Array | MapType::PercpuArray | MapType::ArrayOfMaps
        )
    }

    /// `BPF_MAP_LOOKUP_BATCH` and `BPF_MAP_LOOKUP_AND_DELETE_BATCH`
    #[expect(clippy::too_many_arguments, reason = "the fields of the command")]
    pub(crate) fn lookup_batch(
        &self,
        shared: &Shared,
        mode: Mode,
        cursor: &mut BatchCursor,
        keys: &mut [u8],
        values: &mut [u8],
        delete: bool,
        flags: u64,
    ) -> Outcome<u32> {
        self.may(mode.read)?;
        if delete {
            self.may_write(mode)?;
        }
        self.batched()?;
        let both_in_one = self.can_delete_batch() && self.map.map_type != MapType::LpmTrie;
        if delete && !both_in_one {
            return Err(Errno::ENOTSUPP);
        }
        self.check_batch_flags(flags)?;
        let (key_len, value_len) = (self.map.key_size as usize, self.map.user_value_bytes());
        let room = (keys.len() / key_len).min(values.len() / value_len);
        let mut done = 0;
        let mut at = cursor.position.clone();
        let mut next = vec![0u8; key_len];
        while done < room {
            if self
                .next_key(shared, Mode::FULL, at.as_deref(), &mut next)
                .is_err()
            {
                cursor.done = true;
                break;
            }
            let value = &mut values[done * value_len..(done + 1) * value_len];
            let found = self.as_user(shared, |runner| {
                self.map.lookup_elem(&next, value, flags, runner)
            });
            if found.is_ok() {
                keys[done * key_len..(done + 1) * key_len].copy_from_slice(&next);
                done += 1;
            }
            at = Some(next.clone());
        }
        if delete {
            for key in keys.chunks_exact(key_len).take(done) {
                let _gone_already = self.take_out(shared, key);
            }
            at = None;
        } else if !cursor.done && done == room {
            cursor.done = self
                .next_key(shared, Mode::FULL, at.as_deref(), &mut next)
                .is_err();
        }
        cursor.position = at;
        u32::try_from(done).map_err(|_| Errno::E2BIG)
    }

    /// `BPF_MAP_UPDATE_BATCH`
    pub(crate) fn update_batch(
        &self,
        shared: &Shared,
        mode: Mode,
        keys: &[u8],
        values: &[u8],
        flags: u64,
    ) -> (u32, Outcome) {
        let allowed = self
            .may_write(mode)
            .and_then(|()| self.batched())
            .and_then(|()| self.check_batch_flags(flags));
        if let Err(e) = allowed {
            return (0, Err(e));
        }
        let key_len = self.map.key_size as usize;
        let pairs = keys
            .chunks_exact(key_len)
            .zip(values.chunks_exact(self.map.user_value_bytes()));
        run_batch(pairs, |(key, value)| self.put(shared, key, value, flags))
    }

    /// `BPF_MAP_DELETE_BATCH`
    pub(crate) fn delete_batch(
        &self,
        shared: &Shared,
        mode: Mode,
        keys: &[u8],
        flags: u64,
    ) -> (u32, Outcome) {
        let allowed = self
            .may_write(mode)
            .and_then(|()| self.batched())
            .and_then(|()| {
                if self.can_delete_batch() {
                    Ok(())
                } else {
                    Err(Errno::ENOTSUPP)
                }
            })
            .and_then(|()| self.check_batch_flags(flags));
        if let Err(e) = allowed {
            return (0, Err(e));
        }
        let keys = keys.chunks_exact(self.map.key_size as usize);
        run_batch(keys, |key| self.take_out(shared, key))
    }
}

/// Runs `each` until one fails: how many were done, and why it stopped.
fn run_batch<T>(
    items: impl Iterator<Item = T>,
    mut each: impl FnMut(T) -> Outcome,
) -> (u32, Outcome) {
    let mut done = 0;
    for item in items {
        if let Err(e) = each(item) {
            return (done, Err(e));
        }
        done += 1;
    }
    (done, Ok(()))
}
