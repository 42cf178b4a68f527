//! What running programs ask of their universe.

use crate::universe::lock;
use skep_abi::Errno;
use skep_vm::Host;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

/// Lines a trace reader may fall behind before the oldest are lost.
const TRACE_LINES_MAX: usize = 1 << 16;

/// Lines waiting for one reader.
pub(crate) type TraceQueue = Arc<Mutex<VecDeque<String>>>;

/// The universe's side of [`Host`].
#[derive(Debug)]
pub(crate) struct UniverseHost {
    cpus: u32,
    readers: Mutex<Vec<Weak<Mutex<VecDeque<String>>>>>,
}

impl UniverseHost {
    pub(crate) fn new(cpus: u32) -> Self {
        Self {
            cpus,
            readers: Mutex::default(),
        }
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

    fn send_clone(&self, _: &[u8], _: u32, _: bool) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
}
