//! What running programs ask of their universe.

use crate::deferred::DeferredCalls;
use crate::universe::{Shared, lock};
use skep_abi::Errno;
use skep_maps::{MapHeader, Runner};
use skep_vm::tasks::TaskLayout;
use skep_vm::world::{Deferred, Start};
use skep_vm::{Host, Program};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, Weak};

/// Lines a trace reader may fall behind before the oldest are lost.
const TRACE_LINES_MAX: usize = 1 << 16;

/// Lines waiting for one reader.
pub(crate) type TraceQueue = Arc<Mutex<VecDeque<String>>>;

/// The universe's side of [`Host`].
#[derive(Debug)]
pub(crate) struct UniverseHost {
    cpus: u32,
    readers: Mutex<Vec<Weak<Mutex<VecDeque<String>>>>>,
    pub(crate) deferred: DeferredCalls,
    /// Where the kernel's BTF says that fields of tasks lie.
    task_layout: OnceLock<Option<Arc<TaskLayout>>>,
    /// The universe, set when it is made.
    pub(crate) shared: OnceLock<Weak<Shared>>,
}

impl UniverseHost {
    pub(crate) fn new(cpus: u32) -> Self {
        Self {
            cpus,
            readers: Mutex::default(),
            deferred: DeferredCalls::new(),
            task_layout: OnceLock::new(),
            shared: OnceLock::new(),
        }
    }

    fn universe(&self) -> Result<Arc<Shared>, Errno> {
        let shared = self.shared.get().and_then(Weak::upgrade);
        shared.ok_or(Errno::EOPNOTSUPP)
    }

    /// A queue that gets every line from now on, until it is dropped.
    pub(crate) fn subscribe(&self) -> TraceQueue {
        let queue = TraceQueue::default();
        let mut readers = lock(&self.readers);
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(Arc::downgrade(&queue));
        queue
    }
}

impl Host for UniverseHost {
    fn trace(&self, line: &str) {
        for reader in lock(&self.readers).iter().filter_map(Weak::upgrade) {
            let mut lines = lock(&reader);
            if lines.len() == TRACE_LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(line.trim_end_matches('\n').to_owned());
        }
    }

    fn possible_cpus(&self) -> u32 {
        self.cpus
    }

    fn task_layout(&self) -> Option<Arc<TaskLayout>> {
        let layout = self.task_layout.get_or_init(|| {
            let universe = self.universe().ok()?;
            let btf = universe.options.kernel_btf.as_deref()?;
            TaskLayout::of(btf).map(Arc::new)
        });
        layout.clone()
    }

    fn send_clone(&self, _: &[u8], _: u32, _: bool) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    fn deferred_init(&self, what: Deferred, map: &MapHeader, field: u64) -> Result<(), Errno> {
        let map = self.universe()?.state().maps.get(map.id());
        let map = map.ok_or(Errno::EPERM)?;
        self.deferred.init(what, &map, field)
    }

    fn deferred_set_callback(&self, field: u64, program: &Program, func: u64) -> Result<(), Errno> {
        let shared = self.universe()?;
        let id = program.id.load(Ordering::Relaxed);
        let program = shared.state().progs.get(id).ok_or(Errno::EINVAL)?;
        self.deferred.set_callback(&shared, field, program, func)
    }

    fn deferred_start(&self, field: u64, start: Start) -> Result<(), Errno> {
        self.deferred.start(&self.universe()?, field, start)
    }

    fn timer_cancel(&self, field: u64, runner: Runner) -> Result<bool, Errno> {
        let shared = self.universe()?;
        self.deferred.cancel(&shared, field, runner)
    }
}
