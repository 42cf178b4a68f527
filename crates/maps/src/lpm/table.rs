//! The IPv4 table: 65,536 entries for the first 16 bits, nodes of 256 entries for the next 8 and the last 8.
//!
//! An entry is 0 (no prefix), a leaf (element plus one), or [`NODE`] with a node's number. A node is there exactly if some
//! prefix below it is longer than its own position. Writers hold the map's lock. A node that is given back changes the
//! epoch first, and a reader that passed nodes looks whether the epoch is what it was.

use std::sync::atomic::{AtomicU32, Ordering, fence};

/// The entry names a node.
const NODE: u32 = 1 << 31;
/// Entries of the root.
const ROOT: usize = 1 << 16;
/// Entries of a node.
const FANOUT: usize = 256;

/// Words before the root.
#[repr(C, align(64))]
#[derive(Debug)]
struct Head {
    /// Changes whenever nodes are given back.
    epoch: AtomicU32,
    /// Nodes from here on were never used.
    unused: AtomicU32,
    /// First of the nodes given back, plus one; the next one is in its entry 0.
    free: AtomicU32,
}

/// Process-private side of the table.
#[derive(Debug)]
pub(super) struct Table {
    head: *const Head,
    root: *const AtomicU32,
    nodes: *const AtomicU32,
    node_count: u32,
}

/// Tells the prefix length of a leaf.
type LenOf<'a> = &'a dyn Fn(u32) -> u32;

/// A range of entries that a prefix covers, below `entry` if it is a node.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    count: usize,
}

impl Table {
    fn node_count(prefixes: u32) -> u32 {
        // A prefix longer than 16 bits needs one node, one longer than 24 two; there are 2¹⁶ of the upper kind at most.
        prefixes
            .saturating_add(prefixes.min(ROOT as u32))
            .min(NODE - 1)
    }

    /// Bytes of a table for that many prefixes.
    pub(super) fn bytes(prefixes: u32) -> usize {
        size_of::<Head>() + ROOT * 4 + Self::node_count(prefixes) as usize * FANOUT * 4
    }

    pub(super) fn new(at: *mut u8, prefixes: u32) -> Self {
        let root = at.wrapping_add(size_of::<Head>());
        Self {
            head: at.cast_const().cast(),
            root: root.cast_const().cast(),
            nodes: root.wrapping_add(ROOT * 4).cast_const().cast(),
            node_count: Self::node_count(prefixes),
        }
    }

    fn head(&self) -> &Head {
        // SAFETY: lies in the map's memory, atomics only.
        unsafe { &*self.head }
    }

    #[inline(always)]
    fn root(&self, index: usize) -> &AtomicU32 {
        debug_assert!(index < ROOT);
        // SAFETY: callers pass 16 bits.
        unsafe { &*self.root.add(index) }
    }

    /// Entry `index` of the node that `entry` names, if it names one.
    #[inline(always)]
    fn child(&self, entry: u32, index: usize) -> Option<&AtomicU32> {
        let node = entry & !NODE;
        // SAFETY: the node's number was checked, callers pass 8 bits.
        (entry & NODE != 0 && node < self.node_count)
            .then(|| unsafe { &*self.nodes.add(node as usize * FANOUT + index) })
    }

    /// The leaf of `address`, 0 for none.
    #[inline(always)]
    pub(super) fn find(&self, address: u32) -> u32 {
        loop {
            let epoch = self.head().epoch.load(Ordering::Acquire);
            let mut entry = self.root((address >> 16) as usize).load(Ordering::Acquire);
            if entry & NODE == 0 {
                return entry;
            }
            for shift in [8, 0] {
                match self.child(entry, (address >> shift) as usize % FANOUT) {
                    Some(child) => entry = child.load(Ordering::Acquire),
                    None => break,
                }
            }
            fence(Ordering::Acquire);
            if self.head().epoch.load(Ordering::Relaxed) == epoch {
                return entry;
            }
        }
    }

    /// The entry that covers `address` at depth `level` (0: root), nodes made on the way.
    fn descend(&self, address: u32, level: u32) -> Option<&AtomicU32> {
        let mut at = self.root((address >> 16) as usize);
        for depth in 0..level {
            let entry = at.load(Ordering::Relaxed);
            let entry = if entry & NODE == 0 {
                self.make_node(at, entry)?
            } else {
                entry
            };
            at = self.child(entry, (address >> (8 - 8 * depth)) as usize % FANOUT)?;
        }
        Some(at)
    }

    /// Replaces the leaf at `at` by a node full of it.
    fn make_node(&self, at: &AtomicU32, leaf: u32) -> Option<u32> {
        let head = self.head();
        let free = head.free.load(Ordering::Relaxed);
        let node = if let Some(next) = self
            .child(NODE | free.wrapping_sub(1) & !NODE, 0)
            .filter(|_| free != 0)
        {
            head.free
                .store(next.load(Ordering::Relaxed), Ordering::Relaxed);
            free - 1
        } else {
            let unused = head.unused.load(Ordering::Relaxed);
            if unused >= self.node_count {
                return None;
            }
            head.unused.store(unused + 1, Ordering::Relaxed);
            unused
        };
        for i in 0..FANOUT {
            self.child(NODE | node, i)?.store(leaf, Ordering::Relaxed);
        }
        at.store(NODE | node, Ordering::Release);
        Some(NODE | node)
    }

    /// Level and entries that a prefix of `len` bits covers.
    fn span(address: u32, len: u32) -> (u32, Span) {
        let level = len.saturating_sub(9) / 8;
        let level = level.min(2);
        let bits_to_here = 16 + 8 * level;
        let index =
            (address >> (32 - bits_to_here)) as usize % if level == 0 { ROOT } else { FANOUT };
        (
            level,
            Span {
                first: index,
                count: 1 << (bits_to_here - len.min(bits_to_here)),
            },
        )
    }

    fn for_span(&self, address: u32, len: u32, change: &mut dyn FnMut(&AtomicU32)) {
        let (level, span) = Self::span(address, len);
        let Some(first) = self.descend(address, level) else {
            return;
        };
        for i in 0..span.count {
            // SAFETY: a prefix's entries lie side by side in one table: `first` is aligned to `count`.
            let entry = unsafe { &*std::ptr::from_ref(first).add(i) };
            self.for_leaves(entry, change);
        }
        debug_assert!(span.first.is_multiple_of(span.count));
    }

    fn for_leaves(&self, entry: &AtomicU32, change: &mut dyn FnMut(&AtomicU32)) {
        let value = entry.load(Ordering::Relaxed);
        if value & NODE == 0 {
            return change(entry);
        }
        for i in 0..FANOUT {
            if let Some(child) = self.child(value, i) {
                self.for_leaves(child, change);
            }
        }
    }

    /// Enters a prefix (or its new element).
    pub(super) fn insert(&self, address: u32, len: u32, leaf: u32, len_of: LenOf<'_>) {
        self.for_span(address, len, &mut |entry| {
            let old = entry.load(Ordering::Relaxed);
            if old == 0 || len_of(old) <= len {
                entry.store(leaf, Ordering::Release);
            }
        });
    }

    /// Takes a prefix out; `shorter` is the leaf of the next shorter one.
    pub(super) fn remove(
        &self,
        address: u32,
        len: u32,
        leaf: u32,
        shorter: u32,
        len_of: LenOf<'_>,
    ) {
        self.for_span(address, len, &mut |entry| {
            if entry.load(Ordering::Relaxed) == leaf {
                entry.store(shorter, Ordering::Release);
            }
        });
        let (level, _) = Self::span(address, len);
        for depth in (0..level).rev() {
            self.fold(address, depth, len_of);
        }
    }

    /// Gives the node at depth `depth` on the way to `address` back if no prefix below is longer than its position.
    fn fold(&self, address: u32, depth: u32, len_of: LenOf<'_>) {
        let Some(at) = self.descend(address, depth) else {
            return;
        };
        let entry = at.load(Ordering::Relaxed);
        let Some(first) = self.child(entry, 0) else {
            return;
        };
        let leaf = first.load(Ordering::Relaxed);
        let same = |i| {
            self.child(entry, i)
                .is_some_and(|c| c.load(Ordering::Relaxed) == leaf)
        };
        let short = leaf & NODE == 0 && (leaf == 0 || len_of(leaf) <= 16 + 8 * depth);
        if !short || !(1..FANOUT).all(same) {
            return;
        }
        at.store(leaf, Ordering::Release);
        let head = self.head();
        head.epoch.fetch_add(1, Ordering::Release);
        fence(Ordering::SeqCst);
        first.store(head.free.load(Ordering::Relaxed), Ordering::Relaxed);
        head.free.store((entry & !NODE) + 1, Ordering::Relaxed);
    }

    /// Empties the table.
    pub(super) fn clear(&self) {
        for i in 0..ROOT {
            self.root(i).store(0, Ordering::Release);
        }
        let head = self.head();
        head.epoch.fetch_add(1, Ordering::SeqCst);
        head.free.store(0, Ordering::Relaxed);
        head.unused.store(0, Ordering::Relaxed);
    }
}
