//! Lists of objects (`struct bpf_list_head`, `struct bpf_list_node`): doubly linked, ends are 0. Zeros are an empty list.
//!
//! The lock of the list is held: the verifier proved it. A node names the head it is in, which only tells lists apart.

use super::Heap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Offsets of a node's words.
const NEXT: u64 = 0;
const PREVIOUS: u64 = 8;
const OWNER: u64 = 16;

/// The words of a head.
pub(super) struct Head<'a> {
    pub(super) first: &'a AtomicU64,
    pub(super) last: &'a AtomicU64,
}

impl Head<'_> {
    /// # Safety
    /// `at` must be a head that lives as long as the result is used, aligned.
    pub(super) unsafe fn at(at: *mut u8) -> Self {
        // SAFETY: promised by the caller.
        unsafe {
            Self {
                first: AtomicU64::from_ptr(at.cast()),
                last: AtomicU64::from_ptr(at.add(8).cast()),
            }
        }
    }

    fn id(&self) -> u64 {
        self.first.as_ptr() as u64
    }

    fn end(&self, back: bool) -> &AtomicU64 {
        if back { self.last } else { self.first }
    }
}

impl Heap {
    /// Puts the node at `node`, of an object that the thread of `token` holds, at an end of the list at `head`. False if it
    /// is in a list already.
    ///
    /// # Safety
    /// `head` must be a head whose lock is held, and live as long.
    #[must_use]
    pub unsafe fn list_push(&self, head: *mut u8, node: u64, back: bool, token: u32) -> bool {
        // SAFETY: promised by the caller.
        let head = unsafe { Head::at(head) };
        let words = [NEXT, PREVIOUS, OWNER].map(|offset| self.word(node + offset));
        let [Some(next), Some(previous), Some(owner)] = words else {
            return false;
        };
        // Another list's lock may be held by somebody who has another reference to the object.
        let free = owner.compare_exchange(0, head.id(), Ordering::AcqRel, Ordering::Relaxed);
        if free.is_err() {
            return false;
        }
        let change = self.change(token);
        let neighbour = self.node(head.end(back).load(Ordering::Relaxed));
        let (to_end, to_neighbour, its_link) = if back {
            (next, previous, NEXT)
        } else {
            (previous, next, PREVIOUS)
        };
        change.set(to_end, 0);
        change.set(to_neighbour, neighbour);
        let link = self.word(neighbour + its_link);
        change.set(link.unwrap_or(head.end(!back)), node);
        change.set(head.end(back), node);
        true
    }

    /// The node at an end of the list, 0 if it is empty.
    ///
    /// # Safety
    /// As [`Self::list_push`].
    #[must_use]
    pub unsafe fn list_end(&self, head: *mut u8, back: bool) -> u64 {
        // SAFETY: promised by the caller.
        let head = unsafe { Head::at(head) };
        self.node(head.end(back).load(Ordering::Relaxed))
    }

    /// Takes the node at an end out of the list, 0 if it is empty. The caller holds its object then.
    ///
    /// # Safety
    /// As [`Self::list_push`].
    #[must_use]
    pub unsafe fn list_pop(&self, head: *mut u8, back: bool, token: u32) -> u64 {
        // SAFETY: promised by the caller.
        let (node, head) = unsafe { (self.list_end(head, back), Head::at(head)) };
        let words = [NEXT, PREVIOUS, OWNER].map(|offset| self.word(node + offset));
        let [Some(next), Some(previous), Some(owner)] = words else {
            return 0;
        };
        let change = self.change(token);
        let (inward, its_link) = if back {
            (previous, NEXT)
        } else {
            (next, PREVIOUS)
        };
        let neighbour = self.node(inward.load(Ordering::Relaxed));
        let link = self.word(neighbour + its_link);
        change.set(link.unwrap_or(head.end(!back)), 0);
        change.set(head.end(back), neighbour);
        for word in [next, previous, owner] {
            change.set(word, 0);
        }
        node
    }

    /// Takes all nodes out of the list at `head`; each goes to `visit` when its links were read.
    pub(super) fn empty_list(&self, head: &Head<'_>, token: u32, visit: &mut dyn FnMut(u64)) {
        let mut node = self.node(head.first.load(Ordering::Relaxed));
        let change = self.change(token);
        change.set(head.first, 0);
        change.set(head.last, 0);
        drop(change);
        for _ in 0..self.nodes_max() {
            let (Some(next), Some(owner)) = (self.word(node + NEXT), self.word(node + OWNER))
            else {
                return;
            };
            let next = self.node(next.load(Ordering::Relaxed));
            // Each node once: what is in no list, or another one, came here by damage.
            if owner.swap(0, Ordering::AcqRel) != head.id() {
                return;
            }
            visit(node);
            node = next;
        }
    }
}
