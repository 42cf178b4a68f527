//! Local storage of tasks and control groups. The owner of a task's is its thread's token, of a group's its id.

use super::{Args, Row, helpers};
use skep_abi::Errno;

pub(super) const HELPERS: &[Row] = helpers! {
    122 "bpf_get_netns_cookie" get_netns_cookie;
    156 "bpf_task_storage_get" task_storage_get;
    157 "bpf_task_storage_delete" task_storage_delete;
    210 "bpf_cgrp_storage_get" cgrp_storage_get;
    211 "bpf_cgrp_storage_delete" cgrp_storage_delete;
};

/// The number that owns the storage of the task in argument 2.
fn task(a: &Args) -> Option<u64> {
    let status = a.world().tasks.status(a.get(2))?;
    Some(u64::from(status.token))
}

/// The number that owns the storage of the group in argument 2.
fn group(a: &Args) -> Option<u64> {
    Some(a.world().tasks.group(a.get(2))?.id)
}

/// map, owner, initial value or NULL, flags
fn get(a: &Args, owner: Option<u64>) -> *mut u8 {
    match owner {
        // SAFETY: the verifier proved an initial value of the map's size, or NULL.
        Some(owner) => unsafe { a.map(1).storage_get(owner, a.ptr(3), a.get(4), a.runner()) },
        None => std::ptr::null_mut(),
    }
}

/// map, owner
fn delete(a: &Args, owner: Option<u64>) -> Result<i64, Errno> {
    let owner = owner.ok_or(Errno::EINVAL)?;
    Ok(a.map(1).storage_delete(owner, a.runner()))
}

fn task_storage_get(a: &Args) -> *mut u8 {
    get(a, task(a))
}

fn task_storage_delete(a: &Args) -> Result<i64, Errno> {
    delete(a, task(a))
}

fn cgrp_storage_get(a: &Args) -> *mut u8 {
    get(a, group(a))
}

fn cgrp_storage_delete(a: &Args) -> Result<i64, Errno> {
    delete(a, group(a))
}

/// ctx or NULL: the inode of the network namespace, which is as unique as the kernel's cookie
fn get_netns_cookie(_: &Args) -> u64 {
    skep_sys::ids::network_namespace().unwrap_or(1)
}
