//! Tasks that programs find: by number, by iteration; their mappings and memory.
//!
//! Images of tasks last as long as the run, so that references to them are not counted (see [`crate::tasks`]).

use super::{Args, Row, helpers};
use crate::fault;
use skep_abi::Errno;

pub(super) const HELPERS: &[Row] = helpers! {
    35 "bpf_get_current_task" get_current_task;
    158 "bpf_get_current_task_btf" get_current_task;
    180 "bpf_find_vma" find_vma [calls_back];
    191 "bpf_copy_from_user_task" copy_from_user_task;
};

pub(super) const KFUNCS: &[Row] = helpers! {
    0 "bpf_task_acquire" task_acquire;
    0 "bpf_task_release" task_release;
    0 "bpf_task_from_pid" task_from_pid;
    0 "bpf_task_from_vpid" task_from_pid;
    0 "bpf_iter_task_new" iter_task_new;
    0 "bpf_iter_task_next" iter_next;
    0 "bpf_iter_task_destroy" iter_destroy;
    0 "bpf_iter_task_vma_new" iter_task_vma_new;
    0 "bpf_iter_task_vma_next" iter_next;
    0 "bpf_iter_task_vma_destroy" iter_destroy;
};

/// The address of what stands for the current task.
fn get_current_task(a: &Args) -> u64 {
    let runner = a.runner();
    a.world().tasks.current(runner)
}

/// The task, but for the kernel's own one, which has no references to give out.
fn task_acquire(a: &Args) -> u64 {
    let status = a.world().tasks.status(a.get(1));
    if status.is_some_and(|task| task.thread != 0) {
        a.get(1)
    } else {
        0
    }
}

fn task_release(_: &Args) {}

/// id of a thread, in this process's namespace
fn task_from_pid(a: &Args) -> u64 {
    match a.get32(1) {
        0 => 0,
        id => a.world().tasks.thread(id).unwrap_or_default(),
    }
}

/// Puts the number of an iteration, 0 for none, where the program keeps its state.
fn put(a: &Args, number: Result<u64, Errno>) -> Result<i64, Errno> {
    // SAFETY: the verifier proved an iterator on the stack, whose first word is ours.
    unsafe { a.ptr(1).cast::<u64>().write(number.unwrap_or_default()) };
    number.map(|_| 0)
}

fn number(a: &Args) -> u64 {
    // SAFETY: as in `put`.
    unsafe { a.ptr(1).cast::<u64>().read() }
}

/// iterator, task or NULL, flags
fn iter_task_new(a: &Args) -> Result<i64, Errno> {
    put(a, a.world().tasks.iterate(a.get(2), a.get32(3)))
}

/// iterator, task, address to begin with
fn iter_task_vma_new(a: &Args) -> Result<i64, Errno> {
    put(a, a.world().tasks.iterate_vmas(a.get(2), a.get(3)))
}

/// The address of the next one, or NULL.
fn iter_next(a: &Args) -> u64 {
    a.world().tasks.next(number(a)).unwrap_or_default()
}

fn iter_destroy(a: &Args) {
    a.world().tasks.end_iteration(number(a));
}

/// task, address, callback, its context, flags
fn find_vma(a: &Args) -> Result<i64, Errno> {
    if a.get(5) != 0 {
        return Err(Errno::EINVAL);
    }
    let found = a.world().tasks.find_vma(a.get(1), a.get(2));
    let vma = found.ok_or(Errno::ENOENT)?;
    a.call(3, [a.get(1), vma, a.get(4), 0, 0]);
    Ok(0)
}

/// destination, size, address, task, flags
fn copy_from_user_task(a: &Args) -> Result<i64, Errno> {
    if a.get(5) != 0 {
        return Err(Errno::EINVAL);
    }
    let len = a.get32(2) as usize;
    if len == 0 {
        return Ok(0);
    }
    let mut bytes = vec![0; len];
    let from = a.world().tasks.status(a.get(4));
    let is_read = from.is_some_and(|task| fault::read_of(task.thread, a.get(3), &mut bytes));
    if !is_read {
        a.zero(1, len);
        return Err(Errno::EFAULT);
    }
    a.write(1, &bytes);
    Ok(0)
}
