//! Objects of programs: allocation, lists, trees.
//!
//! An object has a header in front with its size and reference count. Nodes of lists and trees lie inside objects; heads
//! and roots inside map values or objects. Heads that are zero are empty. The verifier proves ownership and that the lock of
//! the head is held.

use super::{Args, Row, helpers};
use skep_abi::Errno;
use skep_btf::{Field, FieldKind, KptrTag, Record};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::Arc;
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
};

/// In front of each object.
#[repr(C, align(16))]
struct Header {
    bytes: u64,
    references: AtomicU64,
    /// What objects of its type own, from [`Arc::into_raw`]; null if nothing.
    owns: *const Record,
}

/// `bpf_mem_alloc` has no larger objects.
const MAX_BYTES: u64 = 4096;
/// Largest object with a copy a CPU, and bytes of all copies together.
const PERCPU_BYTES_MAX: u64 = 512;
const ALL_COPIES_MAX: u64 = 4 << 20;
/// Bytes of all objects of this process at most; then there is no memory for more.
const LIVE_BYTES_MAX: u64 = 1 << 30;
/// Bytes of the objects that are alive.
static LIVE_BYTES: AtomicU64 = AtomicU64::new(0);

/// Bytes of all objects of programs in this process.
#[must_use]
pub fn object_bytes() -> u64 {
    LIVE_BYTES.load(Ordering::Relaxed)
}

/// Bytes of the header.
const HEADER_BYTES: usize = size_of::<Header>();

fn layout(bytes: u64) -> Option<Layout> {
    let bytes = usize::try_from(bytes.min(ALL_COPIES_MAX)).ok()?;
    Layout::from_size_align(bytes + HEADER_BYTES, 16).ok()
}

/// `r1` is the size of the type and `r2` its id, which lowering put there, as it does with the offset of nodes below.
fn obj_new(a: &Args) -> u64 {
    match a.get(1) {
        bytes if bytes <= MAX_BYTES => allocate(bytes, a.program().object_record(a.get32(2))),
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
    allocate(bytes, None)
}

/// Alignment of the copies.
const COPY_ALIGN: u64 = 8;

fn cpus(a: &Args) -> u64 {
    u64::from(a.world().host.possible_cpus().max(1))
}

/// object, CPU: its copy, NULL if there is no such CPU
fn per_cpu_ptr(a: &Args) -> u64 {
    let cpu = u64::from(a.get32(2));
    if cpu >= cpus(a) {
        return 0;
    }
    a.get(1) + cpu * (header(a.get(1)).bytes / cpus(a))
}

/// object: the copy of the run's CPU
fn this_cpu_ptr(a: &Args) -> u64 {
    let stride = header(a.get(1)).bytes / cpus(a);
    a.get(1) + u64::from(a.runner().cpu) * stride
}

/// An object of zeros with one reference.
fn allocate(bytes: u64, owns: Option<&Arc<Record>>) -> u64 {
    let Some(layout) = layout(bytes) else {
        return 0;
    };
    let size = layout.size() as u64;
    if LIVE_BYTES.fetch_add(size, Ordering::Relaxed) > LIVE_BYTES_MAX {
        LIVE_BYTES.fetch_sub(size, Ordering::Relaxed);
        return 0;
    }
    // SAFETY: the layout is not empty.
    let at = unsafe { alloc_zeroed(layout) };
    if at.is_null() {
        LIVE_BYTES.fetch_sub(size, Ordering::Relaxed);
        return 0;
    }
    let header = Header {
        bytes,
        references: AtomicU64::new(1),
        owns: owns.map_or(std::ptr::null(), |record| Arc::into_raw(Arc::clone(record))),
    };
    // SAFETY: the block begins with room for a header and is aligned for it.
    unsafe { at.cast::<Header>().write(header) };
    at as u64 + HEADER_BYTES as u64
}

/// The header of the object at `at`.
fn header<'a>(at: u64) -> &'a Header {
    // SAFETY: the verifier proved a pointer to the start of an object that `obj_new` made and that is alive.
    unsafe { &*((at - HEADER_BYTES as u64) as *const Header) }
}

/// Gives one reference back; with the last one the object goes, and what it owns.
pub(crate) fn drop_object(at: u64) {
    let header = header(at);
    if header.references.fetch_sub(1, Ordering::AcqRel) != 1 {
        return;
    }
    if !header.owns.is_null() {
        // SAFETY: `allocate` got it from `Arc::into_raw`, and this was the last reference.
        let record = unsafe { Arc::from_raw(header.owns) };
        for field in &record.fields {
            let place = (at as *mut u8).wrapping_add(field.offset as usize);
            // SAFETY: a field of an object that programs of this process made.
            unsafe { release_objects(&record, field, place) };
        }
    }
    if let Some(layout) = layout(header.bytes) {
        LIVE_BYTES.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: `obj_new` allocated it with this layout, and this was the last reference.
        unsafe { dealloc((at - HEADER_BYTES as u64) as *mut u8, layout) }
    }
}

/// Releases what the special field at `at`, in a value or object of `record`, owns: the object that a stored pointer names,
/// the objects in a list or tree.
///
/// # Safety
/// `at` must be the place of the field in a value of a map (or an object) that only this process's programs wrote.
pub unsafe fn release_objects(record: &Record, field: &Field, at: *mut u8) {
    // SAFETY: the place of a field in a value, aligned; the second word is used only if the field has one.
    let words = unsafe { [0, 8].map(|n| AtomicU64::from_ptr(at.add(n).cast())) };
    match &field.kind {
        FieldKind::Kptr {
            tag: KptrTag::Ref | KptrTag::Percpu,
            target,
            ..
        } => {
            let object = words[0].swap(0, Ordering::AcqRel);
            if object != 0 && target == "bpf_cpumask" {
                super::cpumask::release_mask(object);
            } else if object != 0 {
                // No kfunc of the user backend gives out other types of the kernel.
                drop_object(object);
            }
        }
        FieldKind::ListHead { node_offset, .. } => {
            let first = locked(record, field, at, || {
                let last: *mut ListNode = words[1].swap(0, Ordering::Relaxed) as *mut ListNode;
                let first = words[0].swap(0, Ordering::Relaxed) as *mut ListNode;
                if !last.is_null() {
                    // SAFETY: a list of this process, whose lock is held: its last node, or the head if it is empty.
                    unsafe { (*last).next = std::ptr::null_mut() };
                }
                first
            });
            let is_empty = first.cast::<u8>() == at;
            let mut node = if is_empty {
                std::ptr::null_mut()
            } else {
                first
            };
            while !node.is_null() {
                // SAFETY: the list is ours alone now; its nodes lie in objects that it owns.
                let next = unsafe {
                    (*node).owner = std::ptr::null_mut();
                    (*node).next
                };
                drop_object(node as u64 - u64::from(*node_offset));
                node = next;
            }
            // An empty list pointed to its head, whose first word was written above.
            words[0].store(0, Ordering::Relaxed);
        }
        FieldKind::RbRoot { node_offset, .. } => {
            let root = locked(record, field, at, || {
                words[1].store(0, Ordering::Relaxed);
                words[0].swap(0, Ordering::Relaxed) as *mut TreeNode
            });
            release_tree(root, &mut |node| {
                drop_object(node - u64::from(*node_offset));
            });
        }
        _ => {}
    }
}

/// Runs `change` with the spin lock held that lies in the same value as `field`.
fn locked<T>(record: &Record, field: &Field, at: *mut u8, change: impl FnOnce() -> T) -> T {
    let Some(offset) = skep_maps::spin_lock_offset(record) else {
        return change();
    };
    let value = at.wrapping_sub(field.offset as usize);
    let word = value.wrapping_add(offset as usize).cast();
    // SAFETY: the lock lies in the same value.
    unsafe { skep_maps::spin_lock(word, skep_sys::task::token()) };
    let result = change();
    // SAFETY: taken above.
    unsafe { skep_maps::spin_unlock(word) };
    result
}

/// Calls `release` with every node of a tree that nobody else sees.
fn release_tree(root: *mut TreeNode, release: &mut dyn FnMut(u64)) {
    let mut node = root;
    while !node.is_null() {
        // SAFETY: all links of a tree are nodes of it or null; leaves go first, so that parents are still there.
        unsafe {
            if !(*node).left.is_null() {
                node = std::mem::replace(&mut (*node).left, std::ptr::null_mut());
            } else if !(*node).right.is_null() {
                node = std::mem::replace(&mut (*node).right, std::ptr::null_mut());
            } else {
                let parent = (*node).parent;
                (*node).owner = std::ptr::null_mut();
                (*node).parent = std::ptr::null_mut();
                release(node as u64);
                node = parent;
            }
        }
    }
}

fn obj_drop(a: &Args) {
    drop_object(a.get(1));
}

fn refcount_acquire(a: &Args) -> u64 {
    header(a.get(1)).references.fetch_add(1, Ordering::AcqRel);
    a.get(1)
}

/// `struct bpf_list_node` and `struct bpf_list_head`: next, previous, and for nodes the head they are in.
#[repr(C)]
struct ListNode {
    next: *mut ListNode,
    previous: *mut ListNode,
    owner: *mut ListNode,
}

/// A head as programs hold it has no owner word.
fn list_head(a: &Args, n: usize) -> *mut ListNode {
    let head: *mut ListNode = a.ptr(n).cast();
    // SAFETY: the verifier proved a list head, two words; all zero is an empty one.
    unsafe {
        if (*head).next.is_null() {
            (*head).next = head;
            (*head).previous = head;
        }
    }
    head
}

/// Puts the node of `r2` between two neighbours; with an error the object is given back.
fn list_push(a: &Args, back: bool) -> Result<i64, Errno> {
    let head = list_head(a, 1);
    let node: *mut ListNode = a.ptr(2).cast();
    // SAFETY: the verifier proved head and node, and that the lock of the list is held.
    unsafe {
        if !(*node).owner.is_null() {
            drop_object(a.get(2) - a.get(4));
            return Err(Errno::EINVAL);
        }
        let (previous, next) = if back {
            ((*head).previous, head)
        } else {
            (head, (*head).next)
        };
        (*node).next = next;
        (*node).previous = previous;
        (*node).owner = head;
        (*previous).next = node;
        (*next).previous = node;
    }
    Ok(0)
}

fn list_push_front(a: &Args) -> Result<i64, Errno> {
    list_push(a, false)
}

fn list_push_back(a: &Args) -> Result<i64, Errno> {
    list_push(a, true)
}

/// One end of the list, null if it is empty.
fn list_end(a: &Args, back: bool) -> *mut ListNode {
    let head = list_head(a, 1);
    // SAFETY: as in `list_push`.
    let node = unsafe { if back { (*head).previous } else { (*head).next } };
    if node == head {
        std::ptr::null_mut()
    } else {
        node
    }
}

fn list_pop(a: &Args, back: bool) -> *mut ListNode {
    let node = list_end(a, back);
    if !node.is_null() {
        // SAFETY: as in `list_push`.
        unsafe {
            (*(*node).previous).next = (*node).next;
            (*(*node).next).previous = (*node).previous;
            (*node).next = std::ptr::null_mut();
            (*node).previous = std::ptr::null_mut();
            (*node).owner = std::ptr::null_mut();
        }
    }
    node
}

fn list_pop_front(a: &Args) -> *mut ListNode {
    list_pop(a, false)
}

fn list_pop_back(a: &Args) -> *mut ListNode {
    list_pop(a, true)
}

fn list_front(a: &Args) -> *mut ListNode {
    list_end(a, false)
}

fn list_back(a: &Args) -> *mut ListNode {
    list_end(a, true)
}

/// `struct bpf_rb_node`; a plain binary search tree, as programs cannot tell.
#[repr(C)]
struct TreeNode {
    parent: *mut TreeNode,
    right: *mut TreeNode,
    left: *mut TreeNode,
    owner: *mut TreeRoot,
}

/// `struct bpf_rb_root`
#[repr(C)]
struct TreeRoot {
    root: *mut TreeNode,
    leftmost: *mut TreeNode,
}

fn tree(a: &Args) -> *mut TreeRoot {
    a.ptr(1).cast()
}

/// root, node, `less` callback, metadata, offset of the node in its object
fn rbtree_add(a: &Args) -> Result<i64, Errno> {
    let root = tree(a);
    let node: *mut TreeNode = a.ptr(2).cast();
    // SAFETY: the verifier proved root and node, and that the lock of the tree is held.
    unsafe {
        if !(*node).owner.is_null() {
            drop_object(a.get(2) - a.get(5));
            return Err(Errno::EINVAL);
        }
        let mut link = &raw mut (*root).root;
        let mut parent = std::ptr::null_mut();
        let mut is_leftmost = true;
        while !(*link).is_null() {
            parent = *link;
            if a.call(3, [node as u64, parent as u64, 0, 0, 0]) as u8 != 0 {
                link = &raw mut (*parent).left;
            } else {
                link = &raw mut (*parent).right;
                is_leftmost = false;
            }
        }
        (*node).parent = parent;
        (*node).left = std::ptr::null_mut();
        (*node).right = std::ptr::null_mut();
        (*node).owner = root;
        *link = node;
        if is_leftmost {
            (*root).leftmost = node;
        }
    }
    Ok(0)
}

/// The node after `node` in order, null at the end.
///
/// # Safety
/// `node` must be in a tree whose lock is held.
unsafe fn successor(node: *mut TreeNode) -> *mut TreeNode {
    // SAFETY: promised by the caller; all links of a tree are nodes of it or null.
    unsafe {
        if !(*node).right.is_null() {
            let mut next = (*node).right;
            while !(*next).left.is_null() {
                next = (*next).left;
            }
            return next;
        }
        let (mut child, mut parent) = (node, (*node).parent);
        while !parent.is_null() && child == (*parent).right {
            child = parent;
            parent = (*parent).parent;
        }
        parent
    }
}

/// Puts `new` (may be null) where `old` is.
///
/// # Safety
/// Both must be nodes of the tree of `root`, whose lock is held.
unsafe fn transplant(root: *mut TreeRoot, old: *mut TreeNode, new: *mut TreeNode) {
    // SAFETY: promised by the caller.
    unsafe {
        let parent = (*old).parent;
        if parent.is_null() {
            (*root).root = new;
        } else if (*parent).left == old {
            (*parent).left = new;
        } else {
            (*parent).right = new;
        }
        if !new.is_null() {
            (*new).parent = parent;
        }
    }
}

/// root, node: the node if it was in this tree, else null
fn rbtree_remove(a: &Args) -> *mut TreeNode {
    let root = tree(a);
    let node: *mut TreeNode = a.ptr(2).cast();
    // SAFETY: as in `rbtree_add`.
    unsafe {
        if (*node).owner != root {
            return std::ptr::null_mut();
        }
        if (*root).leftmost == node {
            (*root).leftmost = successor(node);
        }
        let (left, right) = ((*node).left, (*node).right);
        if left.is_null() || right.is_null() {
            transplant(root, node, if left.is_null() { right } else { left });
        } else {
            let next = successor(node);
            if (*next).parent != node {
                transplant(root, next, (*next).right);
                (*next).right = right;
                (*right).parent = next;
            }
            transplant(root, node, next);
            (*next).left = left;
            (*left).parent = next;
        }
        node.write(TreeNode {
            parent: std::ptr::null_mut(),
            right: std::ptr::null_mut(),
            left: std::ptr::null_mut(),
            owner: std::ptr::null_mut(),
        });
    }
    node
}

fn rbtree_first(a: &Args) -> *mut TreeNode {
    // SAFETY: as in `rbtree_add`.
    unsafe { (*tree(a)).leftmost }
}

fn rbtree_root(a: &Args) -> *mut TreeNode {
    // SAFETY: as in `rbtree_add`.
    unsafe { (*tree(a)).root }
}

/// root, node
fn rbtree_left(a: &Args) -> *mut TreeNode {
    child(a, |node| node.left)
}

fn rbtree_right(a: &Args) -> *mut TreeNode {
    child(a, |node| node.right)
}

fn child(a: &Args, which: impl Fn(&TreeNode) -> *mut TreeNode) -> *mut TreeNode {
    // SAFETY: as in `rbtree_add`.
    let node = unsafe { &*a.ptr(2).cast::<TreeNode>() };
    if node.owner == tree(a) {
        which(node)
    } else {
        std::ptr::null_mut()
    }
}
