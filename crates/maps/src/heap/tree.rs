//! Trees of objects (`struct bpf_rb_root`, `struct bpf_rb_node`): red-black trees after Cormen, Leiserson, Rivest and Stein,
//! as the kernel has them: programs that walk a tree see the same shape.
//!
//! The lock of the tree is held: the verifier proved it. A node names the root it is in, which only tells trees apart.

use super::Heap;
use super::journal::Change;
use std::sync::atomic::{AtomicU64, Ordering};

/// Offsets of a node's words. The lowest bit of the parent's is set for a black node.
const PARENT: u64 = 0;
const RIGHT: u64 = 8;
const LEFT: u64 = 16;
const OWNER: u64 = 24;
const BLACK: u64 = 1;
/// Levels of a tree with as many nodes as the heap has room for: paths that are longer are damaged.
const LEVELS_MAX: usize = 64;

/// The words of a root.
pub(super) struct Root<'a> {
    root: &'a AtomicU64,
    leftmost: &'a AtomicU64,
}

impl Root<'_> {
    /// # Safety
    /// `at` must be a root that lives as long as the result is used, aligned.
    pub(super) unsafe fn at(at: *mut u8) -> Self {
        // SAFETY: promised by the caller.
        unsafe {
            Self {
                root: AtomicU64::from_ptr(at.cast()),
                leftmost: AtomicU64::from_ptr(at.add(8).cast()),
            }
        }
    }

    fn id(&self) -> u64 {
        self.root.as_ptr() as u64
    }
}

/// A tree that is being read or changed. Nodes are addresses, 0 is a leaf.
pub(super) struct Tree<'a> {
    heap: &'a Heap,
    root: Root<'a>,
    change: Change<'a>,
}

/// A side of a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}
use Side::{Left, Right};

impl Side {
    fn other(self) -> Self {
        match self {
            Left => Right,
            Right => Left,
        }
    }

    fn offset(self) -> u64 {
        match self {
            Left => LEFT,
            Right => RIGHT,
        }
    }
}

impl Heap {
    pub(super) fn load(&self, at: u64) -> u64 {
        self.word(at).map_or(0, |w| w.load(Ordering::Relaxed))
    }

    fn child(&self, node: u64, side: Side) -> u64 {
        match node {
            0 => 0,
            node => self.node(self.load(node + side.offset())),
        }
    }

    fn parent(&self, node: u64) -> u64 {
        match node {
            0 => 0,
            node => self.node(self.load(node + PARENT) & !BLACK),
        }
    }

    pub(super) fn is_black(&self, node: u64) -> bool {
        node == 0 || self.load(node + PARENT) & BLACK != 0
    }
}

impl Tree<'_> {
    fn set(&self, at: u64, value: u64) {
        if let Some(word) = self.heap.word(at) {
            self.change.set(word, value);
        }
    }

    fn child(&self, node: u64, side: Side) -> u64 {
        self.heap.child(node, side)
    }

    fn parent(&self, node: u64) -> u64 {
        self.heap.parent(node)
    }

    fn set_child(&self, node: u64, side: Side, child: u64) {
        self.set(node + side.offset(), child);
    }

    /// Gives `node`, if it is one, another parent.
    fn set_parent(&self, node: u64, parent: u64) {
        if node != 0 {
            let color = self.heap.load(node + PARENT) & BLACK;
            self.set(node + PARENT, parent | color);
        }
    }

    fn paint(&self, node: u64, black: bool) {
        if node != 0 && self.heap.is_black(node) != black {
            let word = self.heap.load(node + PARENT);
            self.set(node + PARENT, word ^ BLACK);
        }
    }

    fn side_of(&self, node: u64, parent: u64) -> Side {
        if self.child(parent, Left) == node {
            Left
        } else {
            Right
        }
    }

    /// Puts `new` where `old` is below `parent`, which is 0 for the root. The new one's own parent is left to the caller.
    fn replace(&self, parent: u64, old: u64, new: u64) {
        if parent == 0 {
            self.change.set(self.root.root, new);
        } else {
            self.set_child(parent, self.side_of(old, parent), new);
        }
    }

    /// The child of `node` on the other side comes up, and `node` goes down to `side`.
    fn rotate(&self, node: u64, side: Side) {
        let up = self.child(node, side.other());
        let (parent, between) = (self.parent(node), self.child(up, side));
        self.set_child(node, side.other(), between);
        self.set_parent(between, node);
        self.replace(parent, node, up);
        self.set_parent(up, parent);
        self.set_child(up, side, node);
        self.set_parent(node, up);
    }

    /// After `node`, which is red, was added.
    fn settle_added(&self, mut node: u64) {
        for _ in 0..LEVELS_MAX {
            let parent = self.parent(node);
            if parent == 0 {
                return self.paint(node, true);
            }
            if self.heap.is_black(parent) {
                return;
            }
            let above = self.parent(parent);
            let side = self.side_of(parent, above);
            let uncle = self.child(above, side.other());
            if !self.heap.is_black(uncle) {
                self.paint(parent, true);
                self.paint(uncle, true);
                self.paint(above, false);
                node = above;
                continue;
            }
            let mut top = parent;
            if self.child(parent, side.other()) == node {
                self.rotate(parent, side);
                top = node;
            }
            self.paint(top, true);
            self.paint(above, false);
            return self.rotate(above, side.other());
        }
    }

    /// After a black node was removed, and `node` (may be 0) came up in its place below `parent`.
    fn settle_removed(&self, mut node: u64, mut parent: u64) {
        for _ in 0..LEVELS_MAX {
            if parent == 0 || !self.heap.is_black(node) {
                break;
            }
            let side = self.side_of(node, parent);
            let mut sibling = self.child(parent, side.other());
            if !self.heap.is_black(sibling) {
                self.paint(sibling, true);
                self.paint(parent, false);
                self.rotate(parent, side);
                sibling = self.child(parent, side.other());
            }
            let (near, far) = (self.child(sibling, side), self.child(sibling, side.other()));
            if self.heap.is_black(near) && self.heap.is_black(far) {
                self.paint(sibling, false);
                node = parent;
                parent = self.parent(node);
                continue;
            }
            if self.heap.is_black(far) {
                self.paint(near, true);
                self.paint(sibling, false);
                self.rotate(sibling, side.other());
                sibling = self.child(parent, side.other());
            }
            self.paint(sibling, self.heap.is_black(parent));
            self.paint(parent, true);
            self.paint(self.child(sibling, side.other()), true);
            return self.rotate(parent, side);
        }
        self.paint(node, true);
    }

    /// The leftmost node below `node`.
    fn first_below(&self, mut node: u64) -> u64 {
        for _ in 0..LEVELS_MAX {
            match self.child(node, Left) {
                0 => break,
                next => node = next,
            }
        }
        node
    }

    /// The node after `node` in order, 0 at the end.
    fn successor(&self, mut node: u64) -> u64 {
        let right = self.child(node, Right);
        if right != 0 {
            return self.first_below(right);
        }
        for _ in 0..LEVELS_MAX {
            let parent = self.parent(node);
            if parent == 0 || self.side_of(node, parent) == Left {
                return parent;
            }
            node = parent;
        }
        0
    }

    /// Takes `node` out.
    pub(super) fn remove(&self, node: u64) {
        if self.root.leftmost.load(Ordering::Relaxed) == node {
            self.change.set(self.root.leftmost, self.successor(node));
        }
        let (left, right) = (self.child(node, Left), self.child(node, Right));
        if left == 0 || right == 0 {
            let (parent, only) = (self.parent(node), if left == 0 { right } else { left });
            let was_black = self.heap.is_black(node);
            self.replace(parent, node, only);
            self.set_parent(only, parent);
            if was_black {
                self.settle_removed(only, parent);
            }
            return;
        }
        let next = self.first_below(right);
        let (was_black, up) = (self.heap.is_black(next), self.child(next, Right));
        let mut parent = self.parent(next);
        if parent == node {
            parent = next;
        } else {
            self.replace(parent, next, up);
            self.set_parent(up, parent);
            self.set_child(next, Right, right);
            self.set_parent(right, next);
        }
        self.replace(self.parent(node), node, next);
        self.set(next + PARENT, self.heap.load(node + PARENT));
        self.set_child(next, Left, left);
        self.set_parent(left, next);
        if was_black {
            self.settle_removed(up, parent);
        }
    }
}

impl Heap {
    pub(super) fn tree<'a>(&'a self, root: Root<'a>, token: u32) -> Tree<'a> {
        let change = self.change(token);
        Tree {
            heap: self,
            root,
            change,
        }
    }

    /// Puts the node at `node`, of an object that the thread of `token` holds, into the tree at `root`; `less` tells whether
    /// it comes before another one. False if it is in a tree already.
    ///
    /// # Safety
    /// `root` must be a root whose lock is held, and live as long.
    #[must_use]
    pub unsafe fn tree_add(
        &self,
        root: *mut u8,
        node: u64,
        token: u32,
        mut less: impl FnMut(u64) -> bool,
    ) -> bool {
        // SAFETY: promised by the caller.
        let root = unsafe { Root::at(root) };
        let Some(owner) = self.word(node + OWNER) else {
            return false;
        };
        let free = owner.compare_exchange(0, root.id(), Ordering::AcqRel, Ordering::Relaxed);
        if free.is_err() {
            return false;
        }
        let (mut parent, mut side, mut is_leftmost) = (0, Left, true);
        let mut at = self.node(root.root.load(Ordering::Relaxed));
        for _ in 0..LEVELS_MAX {
            if at == 0 {
                break;
            }
            side = if less(at) { Left } else { Right };
            is_leftmost &= side == Left;
            parent = at;
            at = self.child(at, side);
        }
        let tree = self.tree(root, token);
        tree.set(node + PARENT, parent);
        tree.set(node + LEFT, 0);
        tree.set(node + RIGHT, 0);
        if parent == 0 {
            tree.change.set(tree.root.root, node);
        } else {
            tree.set_child(parent, side, node);
        }
        if is_leftmost {
            tree.change.set(tree.root.leftmost, node);
        }
        tree.settle_added(node);
        true
    }

    /// Takes the node at `node` out of the tree at `root`; false if it is not in it. The caller holds its object then.
    ///
    /// # Safety
    /// As [`Self::tree_add`].
    #[must_use]
    pub unsafe fn tree_remove(&self, root: *mut u8, node: u64, token: u32) -> bool {
        // SAFETY: promised by the caller.
        let root = unsafe { Root::at(root) };
        let node = self.node(node);
        if node == 0 || self.load(node + OWNER) != root.id() {
            return false;
        }
        let tree = self.tree(root, token);
        tree.remove(node);
        for offset in [PARENT, RIGHT, LEFT, OWNER] {
            tree.set(node + offset, 0);
        }
        true
    }

    /// The first node in order of the tree at `root`, 0 if it is empty.
    ///
    /// # Safety
    /// As [`Self::tree_add`].
    #[must_use]
    pub unsafe fn tree_first(&self, root: *mut u8) -> u64 {
        // SAFETY: promised by the caller.
        self.node(unsafe { Root::at(root) }.leftmost.load(Ordering::Relaxed))
    }

    /// The node at the root, 0 if the tree is empty.
    ///
    /// # Safety
    /// As [`Self::tree_add`].
    #[must_use]
    pub unsafe fn tree_root(&self, root: *mut u8) -> u64 {
        // SAFETY: promised by the caller.
        self.node(unsafe { Root::at(root) }.root.load(Ordering::Relaxed))
    }

    /// The left or right child of a node of the tree at `root`; 0 if there is none, or the node is not in it.
    #[must_use]
    pub fn tree_child(&self, root: *mut u8, node: u64, left: bool) -> u64 {
        let node = self.node(node);
        if node == 0 || self.load(node + OWNER) != root as u64 {
            return 0;
        }
        self.child(node, if left { Left } else { Right })
    }

    /// Takes all nodes out of the tree at `root`; each goes to `visit` when its links were read.
    pub(super) fn empty_tree(&self, root: &Root<'_>, token: u32, visit: &mut dyn FnMut(u64)) {
        let mut node = self.node(root.root.load(Ordering::Relaxed));
        let change = self.change(token);
        change.set(root.root, 0);
        change.set(root.leftmost, 0);
        drop(change);
        // Nodes without children go first: each node is met once from above and once from each child.
        for _ in 0..3 * self.nodes_max() {
            if node == 0 {
                return;
            }
            let child = [Left, Right].map(|side| (side, self.child(node, side)));
            if let Some((side, child)) = child.into_iter().find(|(_, child)| *child != 0) {
                if let Some(word) = self.word(node + side.offset()) {
                    word.store(0, Ordering::Relaxed);
                }
                node = child;
                continue;
            }
            let parent = self.parent(node);
            for offset in [PARENT, OWNER] {
                if let Some(word) = self.word(node + offset) {
                    word.store(0, Ordering::Release);
                }
            }
            visit(node);
            node = parent;
        }
    }
}
