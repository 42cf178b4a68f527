//! Iterators over tasks and mappings.
//!
//! Which tasks there are is looked up when an iteration begins, which threads a process has when it comes to it; those that
//! ended meanwhile are left out.

use super::Tasks;
use skep_abi::Errno;
use skep_sys::vmas::Vma;
use skep_sys::{task, vmas};
use std::vec::IntoIter;

/// `BPF_TASK_ITER_…`
const ALL_PROCS: u32 = 0;
const ALL_THREADS: u32 = 1;
const PROC_THREADS: u32 = 2;

/// An iteration that has begun.
#[derive(Debug)]
pub(crate) enum Iter {
    /// Over tasks.
    Tasks {
        processes: IntoIter<u32>,
        /// What is left of the process that it is at.
        threads: IntoIter<u32>,
        /// Comes to the threads of each process.
        all_threads: bool,
    },
    /// Over the mappings of a process.
    Vmas { process: u32, left: IntoIter<Vma> },
}

/// One of a new iteration.
fn over(all: Vec<u32>, threads: Vec<u32>, all_threads: bool) -> Iter {
    Iter::Tasks {
        processes: all.into_iter(),
        threads: threads.into_iter(),
        all_threads,
    }
}

impl Tasks {
    /// `bpf_iter_task_new`: over the threads of the process of the task at `task`, from that one on, or over all.
    ///
    /// # Errors
    /// `EINVAL` for unknown flags, or without a task where one is needed.
    pub(crate) fn iterate(&mut self, task: u64, flags: u32) -> Result<u64, Errno> {
        let iter = match flags {
            // The kernel's own task is the first one.
            ALL_PROCS | ALL_THREADS => over(task::processes(), vec![0], flags == ALL_THREADS),
            PROC_THREADS => {
                let first = self.status(task).ok_or(Errno::EINVAL)?;
                let mut threads = match first.process {
                    0 => Vec::new(),
                    process => task::threads(process),
                };
                let at = threads.iter().position(|t| *t == first.thread);
                threads.drain(..at.map_or(threads.len(), |at| at + 1));
                threads.insert(0, first.thread);
                over(Vec::new(), threads, false)
            }
            _ => return Err(Errno::EINVAL),
        };
        Ok(self.keep(iter))
    }

    /// `bpf_iter_task_vma_new`: over the mappings of a task that end behind `address`.
    ///
    /// # Errors
    /// `ENOENT` if it has no memory; that of reading `/proc/PID/maps`.
    pub(crate) fn iterate_vmas(&mut self, task: u64, address: u64) -> Result<u64, Errno> {
        let status = self.status(task).ok_or(Errno::ENOENT)?;
        if !status.has_memory {
            return Err(Errno::ENOENT);
        }
        let all = vmas::of(status.thread);
        let mut all = all.map_err(|e| e.raw_os_error().map_or(Errno::ENOENT, Errno))?;
        all.retain(|vma| address < vma.end);
        Ok(self.keep(Iter::Vmas {
            process: status.process,
            left: all.into_iter(),
        }))
    }

    /// Keeps an iteration; its number, never 0.
    fn keep(&mut self, iter: Iter) -> u64 {
        self.has_more = true;
        let free = self.iterators.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.iterators.push(None);
            self.iterators.len() - 1
        });
        self.iterators[at] = Some(iter);
        at as u64 + 1
    }

    fn iterator(&mut self, number: u64) -> Option<&mut Option<Iter>> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.iterators.get_mut(at)
    }

    /// The address of the next one; `None` at the end.
    pub(crate) fn next(&mut self, number: u64) -> Option<u64> {
        let mut iter = self.iterator(number)?.take()?;
        let found = self.next_of(&mut iter);
        *self.iterator(number)? = Some(iter);
        found
    }

    fn next_of(&mut self, iter: &mut Iter) -> Option<u64> {
        match iter {
            Iter::Tasks {
                processes,
                threads,
                all_threads,
            } => loop {
                let id = match (threads.next(), *all_threads) {
                    (Some(id), _) => id,
                    (None, false) => processes.next()?,
                    (None, true) => {
                        *threads = task::threads(processes.next()?).into_iter();
                        continue;
                    }
                };
                if let Some(at) = self.thread(id) {
                    return Some(at);
                }
                if !self.has_room() {
                    return None;
                }
            },
            Iter::Vmas { process, left } => self.vma(*process, left.next()?),
        }
    }

    /// Ends an iteration.
    pub(crate) fn end_iteration(&mut self, number: u64) {
        if let Some(iter) = self.iterator(number) {
            *iter = None;
        }
    }
}
