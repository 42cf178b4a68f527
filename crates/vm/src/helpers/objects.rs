//! Objects of programs: allocation, references, lists and trees, which the [`Heap`] keeps.
//!
//! The verifier proves ownership and that the lock of a list or tree is held.

use super::{Args, Row, helpers};
use skep_abi::Errno;
use skep_maps::Heap;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const KFUNCS: &[Row] = helpers! {
    0 "bpf_obj_new_impl" obj_new;
    0 "bpf_obj_drop_impl" obj_drop;
    0 "bpf_percpu_obj_new_impl" percpu_obj_new;
    0 "bpf_percpu_obj_drop_impl" obj_drop;
    0 "bpf_refcount_acquire_impl" refcount_acquire;
    0 "bpf_list_push_front_impl" list_push_front;
    0 "bpf_list_push_back_impl" list_push_back;
    0 "bpf_list_pop_front" list_pop_front;
    0 "bpf_list_pop_back" list_pop_back;
    0 "bpf_list_front" list_front;
    0 "bpf_list_back" list_back;
    0 "bpf_rbtree_add_impl" rbtree_add [calls_back];
    0 "bpf_rbtree_remove" rbtree_remove;
    0 "bpf_rbtree_first" rbtree_first;
    0 "bpf_rbtree_root" rbtree_root;
    0 "bpf_rbtree_left" rbtree_left;
    0 "bpf_rbtree_right" rbtree_right;
};

pub(super) const HELPERS: &[Row] = helpers! {
    153 "bpf_per_cpu_ptr" per_cpu_ptr;
    154 "bpf_this_cpu_ptr" this_cpu_ptr;
    194 "bpf_kptr_xchg" kptr_xchg;
};

/// `bpf_mem_alloc` has no larger objects.
const MAX_BYTES: u64 = 4096;
/// Largest object with a copy a CPU, and bytes of all copies together.
const PERCPU_BYTES_MAX: u64 = 512;
const ALL_COPIES_MAX: u64 = 4 << 20;
/// Alignment of the copies.
const COPY_ALIGN: u64 = 8;

/// `r1` is the size of the type and `r2` its id, which lowering put there, as it does with the offset of nodes below.
fn obj_new(a: &Args) -> u64 {
    match a.get(1) {
        bytes if bytes <= MAX_BYTES => allocate(a, bytes, a.program().owns(a.get32(2))),
        _ => 0,
    }
}

/// As [`obj_new`], a copy for each CPU, one after the other.
fn percpu_obj_new(a: &Args) -> u64 {
    let stride = a.get(1).next_multiple_of(COPY_ALIGN);
    let bytes = stride.saturating_mul(cpus(a));
    if stride > PERCPU_BYTES_MAX || bytes > ALL_COPIES_MAX {
        return 0;
    }
    allocate(a, bytes, 0)
}

/// An object that owns what line `owns` of the heap's table says; 0 if there is no memory.
pub(super) fn allocate(a: &Args, bytes: u64, owns: u32) -> u64 {
    a.heap()
        .map_or(0, |heap| heap.allocate(bytes, owns, a.runner().token))
}

fn cpus(a: &Args) -> u64 {
    u64::from(a.world().host.possible_cpus().max(1))
}

/// Bytes from one copy of an object to the next.
fn stride(a: &Args) -> u64 {
    a.heap().map_or(0, |heap| heap.object_bytes(a.get(1))) / cpus(a)
}

/// object, CPU: its copy, NULL if there is no such CPU
fn per_cpu_ptr(a: &Args) -> u64 {
    let cpu = u64::from(a.get32(2));
    if cpu >= cpus(a) {
        return 0;
    }
    a.get(1) + cpu * stride(a)
}

/// object: the copy of the run's CPU
fn this_cpu_ptr(a: &Args) -> u64 {
    a.get(1) + u64::from(a.runner().cpu) * stride(a)
}

/// Gives a reference of the program back.
pub(super) fn obj_drop(a: &Args) {
    if let Some(heap) = a.heap() {
        heap.drop_object(a.get(1), a.runner().token);
    }
}

/// object, whether the program knows that it is alive: the object, NULL if it goes
fn refcount_acquire(a: &Args) -> u64 {
    let is_alive = a.heap().is_some_and(|heap| heap.acquire(a.get(1)));
    if is_alive || a.get(2) != 0 {
        a.get(1)
    } else {
        0
    }
}

/// Place in a value, pointer: swaps them
fn kptr_xchg(a: &Args) -> u64 {
    // Without a heap no map has stored pointers, and there is nothing to store.
    let Some(heap) = a.heap() else { return 0 };
    let (token, new) = (a.runner().token, a.get(2));
    heap.stored(new, token);
    // SAFETY: the verifier proved an aligned place for a stored pointer.
    let old = unsafe { AtomicU64::from_ptr(a.ptr(1).cast()) }.swap(new, Ordering::AcqRel);
    heap.taken(old, token);
    heap.confined(old)
}

/// Puts the node of `r2` in with `add`, which tells whether it could; if not the object is given back.
fn put_in(a: &Args, node_offset: u64, add: impl FnOnce(&Heap) -> bool) -> Result<i64, Errno> {
    let heap = a.heap().ok_or(Errno::EINVAL)?;
    let (object, token) = (a.get(2) - node_offset, a.runner().token);
    // Before it is in: if this thread dies in between, an object is lost, and not one given back that others have.
    heap.stored(object, token);
    if add(heap) {
        return Ok(0);
    }
    heap.drop_object(object, token);
    Err(Errno::EINVAL)
}

fn list_push(a: &Args, back: bool) -> Result<i64, Errno> {
    put_in(a, a.get(4), |heap| {
        // SAFETY: the verifier proved a head, and that its lock is held.
        unsafe { heap.list_push(a.ptr(1), a.get(2), back, a.runner().token) }
    })
}

fn list_push_front(a: &Args) -> Result<i64, Errno> {
    list_push(a, false)
}

fn list_push_back(a: &Args) -> Result<i64, Errno> {
    list_push(a, true)
}

/// list, offset of the node in its object
fn list_pop(a: &Args, back: bool) -> u64 {
    let Some(heap) = a.heap() else { return 0 };
    let token = a.runner().token;
    // SAFETY: as in `list_push`.
    let node = unsafe { heap.list_pop(a.ptr(1), back, token) };
    if node != 0 {
        heap.taken(node - a.get(2), token);
    }
    node
}

fn list_pop_front(a: &Args) -> u64 {
    list_pop(a, false)
}

fn list_pop_back(a: &Args) -> u64 {
    list_pop(a, true)
}

/// One end of the list, null if it is empty.
fn list_end(a: &Args, back: bool) -> u64 {
    // SAFETY: as in `list_push`.
    a.heap()
        .map_or(0, |heap| unsafe { heap.list_end(a.ptr(1), back) })
}

fn list_front(a: &Args) -> u64 {
    list_end(a, false)
}

fn list_back(a: &Args) -> u64 {
    list_end(a, true)
}

/// root, node, `less` callback, metadata, offset of the node in its object
fn rbtree_add(a: &Args) -> Result<i64, Errno> {
    let less = |other| a.call(3, [a.get(2), other, 0, 0, 0]) as u8 != 0;
    put_in(a, a.get(5), |heap| {
        // SAFETY: the verifier proved a root, and that its lock is held.
        unsafe { heap.tree_add(a.ptr(1), a.get(2), a.runner().token, less) }
    })
}

/// root, node, offset of the node in its object: the node if it was in this tree, else null
fn rbtree_remove(a: &Args) -> u64 {
    let Some(heap) = a.heap() else { return 0 };
    let (node, token) = (a.get(2), a.runner().token);
    // SAFETY: as in `rbtree_add`.
    if !unsafe { heap.tree_remove(a.ptr(1), node, token) } {
        return 0;
    }
    heap.taken(node - a.get(3), token);
    node
}

fn rbtree_first(a: &Args) -> u64 {
    // SAFETY: as in `rbtree_add`.
    a.heap()
        .map_or(0, |heap| unsafe { heap.tree_first(a.ptr(1)) })
}

fn rbtree_root(a: &Args) -> u64 {
    // SAFETY: as in `rbtree_add`.
    a.heap()
        .map_or(0, |heap| unsafe { heap.tree_root(a.ptr(1)) })
}

/// root, node
fn rbtree_left(a: &Args) -> u64 {
    child(a, true)
}

fn rbtree_right(a: &Args) -> u64 {
    child(a, false)
}

fn child(a: &Args, left: bool) -> u64 {
    a.heap()
        .map_or(0, |heap| heap.tree_child(a.ptr(1), a.get(2), left))
}
