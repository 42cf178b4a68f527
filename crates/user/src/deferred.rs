//! Timers and work queues: callbacks that run later, on one thread of the universe.
//!
//! The field in a map's value holds a number; what it means stands here, in the process whose programs made it: its kind, its
//! callback with a reference to the program, when it is due. A number that does not name the very field is as no timer. The
//! upper half of the field's word is the token of the process, so that others can tell a timer of a dead one, which is as
//! none. After fork timers stay with the parent: the child's programs are told `EOPNOTSUPP`.
//!
//! Locks: the table's lock is taken under bucket locks (a deleted element releases its timer), so nothing that touches a map
//! happens while it is held.

use crate::load::ProgObject;
use crate::map_object::MapObject;
use crate::universe::{Shared, lock, thread_token};
use skep_abi::Errno;
use skep_btf::FieldKind;
use skep_maps::Runner;
use skep_vm::world::{Clock, Deferred, Start};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Timers one universe may have.
const DEFERRED_MAX: usize = 1 << 20;
/// Later than this is never.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// How long the thread sleeps at most, before it asks whether its universe is still there.
const NAP: Duration = Duration::from_secs(1);

/// A function of a program, which is kept alive.
#[derive(Clone, Debug)]
struct Callback {
    program: Arc<ProgObject>,
    func: u64,
}

/// One timer or work queue.
#[derive(Debug)]
struct Entry {
    field: u64,
    /// Where in its value the field lies.
    offset: u32,
    map_id: u32,
    what: Deferred,
    callback: Option<Callback>,
    due: Option<Instant>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<u32, Entry>,
    last_id: u32,
    queue: BTreeSet<(Instant, u32)>,
    /// The entry whose callback runs, and the thread.
    running: Option<(u32, u32)>,
    has_thread: bool,
}

/// All timers and work queues of a universe.
#[derive(Debug)]
pub(crate) struct DeferredCalls {
    /// The process that made it.
    process: u32,
    table: Mutex<Table>,
    /// Something is due earlier, or the thread has to end.
    earlier: Condvar,
    /// A callback has ended.
    ended: Condvar,
}

/// A callback to run, and on which value.
struct Due {
    callback: Callback,
    value: u64,
    map_id: u32,
}

/// The word that stands in a field.
fn field_word<'a>(field: u64) -> &'a AtomicU64 {
    // SAFETY: callers pass the address of a timer or work queue in a value of a map: aligned to 8, and the map lives.
    unsafe { AtomicU64::from_ptr(field as *mut u64) }
}

fn owner_of(word: u64) -> u32 {
    (word >> 32) as u32
}

impl Table {
    fn id_of(&self, field: u64) -> Option<u32> {
        let id = field_word(field).load(Ordering::Acquire) as u32;
        let entry = self.entries.get(&id)?;
        (entry.field == field).then_some(id)
    }

    fn unqueue(&mut self, id: u32) -> bool {
        let Some(due) = self.entries.get_mut(&id).and_then(|e| e.due.take()) else {
            return false;
        };
        self.queue.remove(&(due, id))
    }

    fn new_id(&mut self) -> Option<u32> {
        if self.entries.len() >= DEFERRED_MAX {
            return None;
        }
        loop {
            self.last_id = self.last_id.wrapping_add(1).max(1);
            if !self.entries.contains_key(&self.last_id) {
                return Some(self.last_id);
            }
        }
    }

    /// Takes the first entry if it is due, and marks it running on `thread`.
    fn take_due(&mut self, thread: u32) -> Option<Due> {
        let &(due, id) = self.queue.first()?;
        if due > Instant::now() {
            return None;
        }
        self.queue.pop_first();
        let entry = self.entries.get_mut(&id)?;
        entry.due = None;
        if field_word(entry.field).load(Ordering::Acquire) as u32 != id {
            // Another process deleted the element.
            return None;
        }
        let callback = entry.callback.clone()?;
        self.running = Some((id, thread));
        Some(Due {
            callback,
            value: entry.field - u64::from(entry.offset),
            map_id: entry.map_id,
        })
    }
}

/// When `start` is, seen from now.
fn delay(start: Start, what: Deferred) -> Duration {
    let ns = match (start, what) {
        (Start::After(ns), _) => ns,
        (Start::At(ns), Deferred::Timer(clock)) => {
            let now = match clock {
                Clock::Realtime => skep_sys::clock::real_time_ns(),
                Clock::Monotonic => skep_sys::clock::monotonic_ns(),
                Clock::Boottime => skep_sys::clock::since_boot_ns(),
            };
            // Times are signed in the kernel: what is negative is past.
            let left = ns.cast_signed().saturating_sub(now.cast_signed());
            u64::try_from(left).unwrap_or(0)
        }
        (Start::At(_), Deferred::Work) => 0,
    };
    Duration::from_nanos(ns).min(FOREVER)
}

impl DeferredCalls {
    pub(crate) fn new() -> Self {
        Self {
            process: std::process::id(),
            table: Mutex::default(),
            earlier: Condvar::new(),
            ended: Condvar::new(),
        }
    }

    /// In a child nothing may be touched: its parent's threads may have held the lock.
    fn is_own(&self) -> Result<(), Errno> {
        if std::process::id() == self.process {
            Ok(())
        } else {
            Err(Errno::EOPNOTSUPP)
        }
    }

    /// Makes the field at `field` a timer or work queue.
    pub(crate) fn init(&self, what: Deferred, map: &MapObject, field: u64) -> Result<(), Errno> {
        self.is_own()?;
        let mut table = lock(&self.table);
        // Asked under the lock: who takes the last user away waits for it before releasing timers.
        if map.users.load(Ordering::SeqCst) == 0 {
            return Err(Errno::EPERM);
        }
        let word = field_word(field);
        let old = word.load(Ordering::Acquire);
        if old != 0 && skep_sys::task::is_alive(owner_of(old)) {
            return Err(Errno::EBUSY);
        }
        let id = table.new_id().ok_or(Errno::ENOMEM)?;
        let new = u64::from(skep_sys::task::token_of(self.process)) << 32 | u64::from(id);
        word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
            .map_err(|_| Errno::EBUSY)?;
        table.entries.insert(
            id,
            Entry {
                field,
                offset: offset_of(map, what),
                map_id: map.id,
                what,
                callback: None,
                due: None,
            },
        );
        Ok(())
    }

    /// Says what the timer calls.
    pub(crate) fn set_callback(
        &self,
        shared: &Shared,
        field: u64,
        program: Arc<ProgObject>,
        func: u64,
    ) -> Result<(), Errno> {
        self.is_own()?;
        // Dropped after the table's lock: with the last reference its timers are released.
        let map;
        let old = {
            let mut table = lock(&self.table);
            let id = table.id_of(field).ok_or(Errno::EINVAL)?;
            let entry = table.entries.get_mut(&id).ok_or(Errno::EINVAL)?;
            map = shared.state().maps.get(entry.map_id);
            if map
                .as_ref()
                .is_none_or(|map| map.users.load(Ordering::SeqCst) == 0)
            {
                return Err(Errno::EPERM);
            }
            entry.callback.replace(Callback { program, func })
        };
        forget(shared, old);
        Ok(())
    }

    /// Lets the callback run then.
    pub(crate) fn start(
        &self,
        shared: &Arc<Shared>,
        field: u64,
        start: Start,
    ) -> Result<(), Errno> {
        self.is_own()?;
        let mut table = lock(&self.table);
        let id = table.id_of(field).ok_or(Errno::EINVAL)?;
        table.unqueue(id);
        let entry = table.entries.get_mut(&id).ok_or(Errno::EINVAL)?;
        if entry.callback.is_none() {
            return Err(Errno::EINVAL);
        }
        let due = Instant::now() + delay(start, entry.what);
        entry.due = Some(due);
        table.queue.insert((due, id));
        if !table.has_thread {
            table.has_thread = true;
            let universe = Arc::downgrade(shared);
            let spawned = std::thread::Builder::new()
                .name("skep-timers".to_owned())
                .spawn(move || run(&universe));
            if spawned.is_err() {
                table.has_thread = false;
                return Err(Errno::ENOMEM);
            }
        }
        self.earlier.notify_all();
        Ok(())
    }

    /// Stops the timer and forgets its callback; waits for a callback that runs.
    pub(crate) fn cancel(
        &self,
        shared: &Shared,
        field: u64,
        runner: Runner,
    ) -> Result<bool, Errno> {
        self.is_own()?;
        let mut table = lock(&self.table);
        let id = table.id_of(field).ok_or(Errno::EINVAL)?;
        if table.running == Some((id, runner.token)) {
            return Err(Errno::EDEADLK);
        }
        let active = table.unqueue(id);
        let old = table.entries.get_mut(&id).and_then(|e| e.callback.take());
        // A callback of another timer cannot wait for this one: one thread runs them all.
        while table
            .running
            .is_some_and(|(running, thread)| running == id && thread != runner.token)
        {
            let waited = self.ended.wait(table);
            table = waited.unwrap_or_else(PoisonError::into_inner);
        }
        drop(table);
        forget(shared, old);
        Ok(active)
    }

    /// The field's element goes: the timer stops. A callback that runs is not waited for.
    pub(crate) fn release(&self, shared: &Shared, field: u64) {
        if self.is_own().is_err() || field_word(field).load(Ordering::Acquire) == 0 {
            return;
        }
        let old = {
            let mut table = lock(&self.table);
            let Some(id) = table.id_of(field) else {
                return;
            };
            table.unqueue(id);
            field_word(field).store(0, Ordering::Release);
            table.entries.remove(&id).and_then(|e| e.callback)
        };
        forget(shared, old);
    }

    /// The map goes: so does what its elements still have, as those that other processes deleted.
    pub(crate) fn forget_map(&self, shared: &Shared, map_id: u32) {
        if self.is_own().is_err() {
            return;
        }
        let mut callbacks = Vec::new();
        {
            let mut table = lock(&self.table);
            let ids = table.entries.iter().filter(|(_, e)| e.map_id == map_id);
            for id in ids.map(|(id, _)| *id).collect::<Vec<_>>() {
                table.unqueue(id);
                callbacks.extend(table.entries.remove(&id).and_then(|e| e.callback));
            }
        }
        callbacks
            .into_iter()
            .for_each(|callback| forget(shared, Some(callback)));
    }

    /// Takes the due entry whose callback is to run next and marks it running; waits for one.
    fn next(&self, universe: &Weak<Shared>) -> bool {
        let mut table = lock(&self.table);
        loop {
            if universe.strong_count() == 0 {
                return false;
            }
            let now = Instant::now();
            let until = match table.queue.first() {
                Some(&(due, _)) if due <= now => return true,
                Some(&(due, _)) => (due - now).min(NAP),
                None => NAP,
            };
            let waited = self.earlier.wait_timeout(table, until);
            table = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A callback's program goes once no run can use it any more.
fn forget(shared: &Shared, callback: Option<Callback>) {
    if let Some(callback) = callback {
        shared.release_later(callback.program);
    }
}

/// The thread that runs callbacks, until the universe is gone.
fn run(universe: &Weak<Shared>) {
    let Some(host) = universe.upgrade().map(|shared| Arc::clone(&shared.host)) else {
        return;
    };
    while host.deferred.next(universe) {
        let Some(shared) = universe.upgrade() else {
            return;
        };
        run_one(&shared);
    }
}

/// Runs the callback that is due. It counts as running only once there is a CPU for it: a program that waits for its end
/// may have the last one.
fn run_one(shared: &Arc<Shared>) {
    let calls = &shared.host.deferred;
    let lease = shared.leases().cpu(thread_token());
    let token = lease.runner().token;
    shared.with_worker(&lease, |worker| {
        let Some(due) = lock(&calls.table).take_due(token) else {
            return;
        };
        let map = shared.state().maps.get(due.map_id);
        if let Some(map) = map {
            let mut index = [0u8; 4];
            let key = map.map.key_of(due.value as *const u8, &mut index);
            let args = [map.map.as_ptr() as u64, key as u64, due.value];
            let Callback { program, func } = &due.callback;
            // SAFETY: the verifier allowed this function as the callback of a timer in values of this map, which is alive.
            unsafe { worker.run_callback(&program.program, *func, args) };
            shared.release_later(map);
        }
        lock(&calls.table).running = None;
        calls.ended.notify_all();
        shared.release_later(due.callback.program);
    });
}

/// Where in values of `map` its timer or work queue lies.
fn offset_of(map: &MapObject, what: Deferred) -> u32 {
    let fields = &map.map.spec().record.fields;
    let is_it = |kind: &FieldKind| match what {
        Deferred::Timer(_) => *kind == FieldKind::Timer,
        Deferred::Work => *kind == FieldKind::Workqueue,
    };
    fields
        .iter()
        .find(|f| is_it(&f.kind))
        .map_or(0, |f| f.offset)
}
