//! Tasks as owners of storage: the current thread stands for the current task.

use super::{Args, Row, helpers};
use skep_abi::Errno;

pub(super) const HELPERS: &[Row] = helpers! {
    35 "bpf_get_current_task" get_current_task;
    79 "bpf_skb_cgroup_id" root_cgroup;
    83 "bpf_skb_ancestor_cgroup_id" skb_ancestor_cgroup_id;
    122 "bpf_get_netns_cookie" get_netns_cookie;
    151 "bpf_skb_cgroup_classid" zero;
    156 "bpf_task_storage_get" task_storage_get;
    157 "bpf_task_storage_delete" task_storage_delete;
    158 "bpf_get_current_task_btf" get_current_task;
};

fn zero(_: &Args) -> u64 {
    0
}

/// The number of the control group that sockets are in which no task opened: the first one.
fn root_cgroup(_: &Args) -> u64 {
    1
}

/// skb, level: there is none below the root
fn skb_ancestor_cgroup_id(a: &Args) -> u64 {
    match a.get32(2) {
        0 => root_cgroup(a),
        _ => 0,
    }
}

/// The address of what stands for the current task.
fn get_current_task(a: &Args) -> u64 {
    let runner = a.runner();
    a.world().tasks.current(runner)
}

/// The number that owns the storage of the task at `at`.
fn owner(a: &Args, at: u64) -> Option<u64> {
    a.world().tasks.token(at).map(u64::from)
}

/// map, task, initial value or NULL, flags
fn task_storage_get(a: &Args) -> *mut u8 {
    match owner(a, a.get(2)) {
        // SAFETY: the verifier proved an initial value of the map's size, or NULL.
        Some(owner) => unsafe { a.map(1).storage_get(owner, a.ptr(3), a.get(4), a.runner()) },
        None => std::ptr::null_mut(),
    }
}

/// map, task
fn task_storage_delete(a: &Args) -> Result<i64, Errno> {
    let owner = owner(a, a.get(2)).ok_or(Errno::EINVAL)?;
    Ok(a.map(1).storage_delete(owner, a.runner()))
}

/// ctx or NULL: the inode of the network namespace, which is as unique as the kernel's cookie
fn get_netns_cookie(_: &Args) -> u64 {
    skep_sys::ids::network_namespace().unwrap_or(1)
}
