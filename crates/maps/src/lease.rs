//! Leases of per-CPU slots: who may act as which CPU, for all processes that share the table.
//!
//! A table has one word a slot, holding the token of the thread that has leased it, 0 if none. The first slots are CPUs,
//! for runs of programs; the others are for user space's operations, which never wait for a run to end. A dead thread's
//! lease is void. After fork a child has none: its threads have tokens of their own.

use crate::header::Runner;
use crate::lock::wait;
use skep_abi::Errno;
use skep_sys::mem::{self, Access, Mapping};
use std::sync::atomic::{AtomicU32, Ordering};

/// Slots for user space's operations.
pub const USER_SLOTS: u32 = 8;

/// Word of a slot that nobody gets any more; no thread has this token, as thread ids end before.
const RETIRED: u32 = u32::MAX;

/// A shared table of leases.
#[derive(Debug)]
pub struct LeaseTable {
    mapping: Mapping,
    cpus: u32,
}

/// A slot, leased until it is dropped.
#[derive(Debug)]
pub struct Lease<'a> {
    word: &'a AtomicU32,
    runner: Runner,
}

impl Lease<'_> {
    /// Who the lessee is to maps.
    #[must_use]
    pub fn runner(&self) -> Runner {
        self.runner
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.word.store(0, Ordering::Release);
    }
}

impl LeaseTable {
    /// A table for `cpus` CPUs, shared with children of this process.
    ///
    /// # Errors
    /// `ENOMEM` if there is no memory.
    pub fn new(cpus: u32) -> Result<Self, Errno> {
        let file = mem::anonymous_file(c"skep-leases", Self::bytes(cpus));
        Self::over(&file.map_err(|_| Errno::ENOMEM)?, cpus)
    }

    /// The table in `file`, which is as long as [`Self::bytes`] says.
    ///
    /// # Errors
    /// `ENOMEM` if it cannot be mapped.
    pub fn over(file: &std::fs::File, cpus: u32) -> Result<Self, Errno> {
        let len = usize::try_from(Self::bytes(cpus)).map_err(|_| Errno::ENOMEM)?;
        let mapping =
            Mapping::of_file(file, 0, len, Access::ReadWrite).map_err(|_| Errno::ENOMEM)?;
        Ok(Self { mapping, cpus })
    }

    /// Bytes of a table for `cpus` CPUs.
    #[must_use]
    pub fn bytes(cpus: u32) -> u64 {
        (u64::from(cpus) + u64::from(USER_SLOTS)) * 64
    }

    /// Number of CPUs.
    #[must_use]
    pub fn cpus(&self) -> u32 {
        self.cpus
    }

    fn word(&self, slot: u32) -> &AtomicU32 {
        // SAFETY: the table has a line for each slot; shared memory of atomics only.
        unsafe {
            &*self
                .mapping
                .base()
                .add(slot as usize * 64)
                .cast::<AtomicU32>()
        }
    }

    fn try_slot(&self, slot: u32, token: u32) -> Option<Lease<'_>> {
        let word = self.word(slot);
        let free = word.load(Ordering::Relaxed) == 0;
        let leased = free
            && word
                .compare_exchange(0, token, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        // Made only if it is ours: a lease that is dropped frees its slot.
        leased.then(|| Lease {
            word,
            runner: Runner { cpu: slot, token },
        })
    }

    fn inherit(&self, slot: u32, token: u32) -> Option<Lease<'_>> {
        let word = self.word(slot);
        let owner = word.load(Ordering::Relaxed);
        let dead = owner != 0 && owner != RETIRED && !skep_sys::task::is_alive(owner);
        let leased = dead
            && word
                .compare_exchange(owner, token, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        // Made only if it is ours: a lease that is dropped frees its slot.
        leased.then(|| Lease {
            word,
            runner: Runner { cpu: slot, token },
        })
    }

    /// `None` if the slots are retired.
    fn lease(&self, first: u32, count: u32, token: u32) -> Option<Lease<'_>> {
        let mut turn = 0;
        loop {
            let slots = || (0..count).map(|n| first + (token.wrapping_add(n)) % count);
            if let Some(lease) = slots().find_map(|slot| self.try_slot(slot, token)) {
                return Some(lease);
            }
            if slots().any(|slot| self.word(slot).load(Ordering::Relaxed) == RETIRED) {
                return None;
            }
            if wait(&mut turn)
                && let Some(lease) = slots().find_map(|slot| self.inherit(slot, token))
            {
                return Some(lease);
            }
        }
    }

    /// Leases a CPU for a run, waiting while all are taken.
    #[must_use]
    pub fn cpu(&self, token: u32) -> Lease<'_> {
        loop {
            if let Some(lease) = self.lease(0, self.cpus, token) {
                return lease;
            }
        }
    }

    /// Leases this very CPU, waiting while it is taken.
    ///
    /// # Errors
    /// `ENXIO` (as `BPF_F_TEST_RUN_ON_CPU` answers) if there is no such CPU.
    pub fn this_cpu(&self, cpu: u32, token: u32) -> Result<Lease<'_>, Errno> {
        if cpu >= self.cpus {
            return Err(Errno::ENXIO);
        }
        self.lease(cpu, 1, token).ok_or(Errno::ENXIO)
    }

    /// Waits until no slot of user space is leased, and retires them: for a table that is being replaced by another one.
    pub fn retire_user_slots(&self, token: u32) {
        for slot in self.cpus..self.cpus + USER_SLOTS {
            if let Some(lease) = self.lease(slot, 1, token) {
                lease.word.store(RETIRED, Ordering::Release);
                std::mem::forget(lease);
            }
        }
    }

    /// Leases a slot for an operation of user space; `None` if they are retired.
    #[must_use]
    pub fn user(&self, token: u32) -> Option<Lease<'_>> {
        self.lease(self.cpus, USER_SLOTS, token)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::LeaseTable;

    #[test]
    fn asking_for_a_slot_in_vain_leaves_it_leased() {
        let table = LeaseTable::new(1).unwrap();
        let token = skep_sys::task::token();
        let lease = table.try_slot(0, token).unwrap();
        for _ in 0..2 {
            assert!(table.try_slot(0, token).is_none());
            assert!(table.inherit(0, token).is_none());
        }
        drop(lease);
        assert!(table.try_slot(0, token).is_some());
    }
}
