//! Control groups (v2). Their images last as long as the run, so that references to them are not counted (see
//! [`crate::tasks`]).

use super::{Args, Row, helpers};
use skep_abi::Errno;

pub(super) const HELPERS: &[Row] = helpers! {
    33 "bpf_skb_under_cgroup" skb_under_cgroup;
    37 "bpf_current_task_under_cgroup" current_task_under_cgroup;
    79 "bpf_skb_cgroup_id" get_current_cgroup_id;
    80 "bpf_get_current_cgroup_id" get_current_cgroup_id;
    83 "bpf_skb_ancestor_cgroup_id" skb_ancestor_cgroup_id;
    123 "bpf_get_current_ancestor_cgroup_id" get_current_ancestor_cgroup_id;
    151 "bpf_skb_cgroup_classid" zero;
};

pub(super) const KFUNCS: &[Row] = helpers! {
    0 "bpf_cgroup_acquire" cgroup_acquire;
    0 "bpf_cgroup_release" cgroup_release;
    0 "bpf_cgroup_ancestor" cgroup_ancestor;
    0 "bpf_cgroup_from_id" cgroup_from_id;
    0 "bpf_task_under_cgroup" task_under_cgroup;
};

fn zero(_: &Args) -> u64 {
    0
}

fn get_current_cgroup_id(a: &Args) -> u64 {
    a.world().tasks.own_group(None).unwrap_or(1)
}

/// The id of the group at the level in argument `n`, 0 if the own one lies above.
fn own_at_level(a: &Args, n: usize) -> u64 {
    let level = usize::try_from(a.get32(n).cast_signed()).ok();
    let own = level.and_then(|level| a.world().tasks.own_group(Some(level)));
    own.unwrap_or_default()
}

/// level
fn get_current_ancestor_cgroup_id(a: &Args) -> u64 {
    own_at_level(a, 1)
}

/// packet, level: packets of test runs are those of who runs the test
fn skb_ancestor_cgroup_id(a: &Args) -> u64 {
    own_at_level(a, 2)
}

/// Is this thread in the group that the array in argument `n` has at the index behind it, or below?
fn own_is_under(a: &Args, n: usize) -> Result<u64, Errno> {
    let index = a.get32(n + 1);
    if index >= a.map(n).max_entries {
        return Err(Errno::E2BIG);
    }
    match a.map(n).cgroup_id(index) {
        0 => Err(Errno::EAGAIN),
        id => Ok(u64::from(a.world().tasks.own_groups().contains(&id))),
    }
}

/// map, index
fn current_task_under_cgroup(a: &Args) -> Result<u64, Errno> {
    own_is_under(a, 1)
}

/// packet, map, index
fn skb_under_cgroup(a: &Args) -> Result<u64, Errno> {
    own_is_under(a, 2)
}

fn cgroup_acquire(a: &Args) -> u64 {
    a.get(1)
}

fn cgroup_release(_: &Args) {}

/// group, level
fn cgroup_ancestor(a: &Args) -> u64 {
    let level = usize::try_from(a.get32(2).cast_signed()).ok();
    let above = level.and_then(|level| a.world().tasks.group_above(a.get(1), level));
    above.unwrap_or_default()
}

fn cgroup_from_id(a: &Args) -> u64 {
    a.world().tasks.group_by_id(a.get(1)).unwrap_or_default()
}

/// task, group
fn task_under_cgroup(a: &Args) -> u64 {
    let id = a.world().tasks.group(a.get(2)).map(|group| group.id);
    u64::from(id.is_some_and(|id| a.world().tasks.is_under(a.get(1), id)))
}
