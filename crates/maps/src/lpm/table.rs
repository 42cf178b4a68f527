//! The IPv4 table: 65,536 entries for the first 16 bits; below them one small node, or nodes of 256 entries for the next 8
//! and the last 8 bits.
//!
//! An entry is 0 (no prefix), a leaf (element plus one), [`SMALL`] with a small node's number (in the root only), or [`NODE`]
//! with a node's number. A node is there exactly if some prefix below it is longer than its own position; nodes follow a
//! small one once that is full. Writers hold the map's lock. A node that is given back changes the epoch first, and a reader
//! that passed nodes looks whether the epoch is what it was.

use super::small::{Below, Contents, Full, Small};
use crate::sync::{AtomicU32, fence};
use std::hint::select_unpredictable;
use std::sync::atomic::Ordering;

/// What a look-up gives while the table is built again: ask the hash.
pub(super) const BUILDING: u32 = u32::MAX;
/// The entry names a node.
const NODE: u32 = 1 << 31;
/// The entry names a small node.
const SMALL: u32 = 1 << 30;
/// Entries of the root; in a model two, for addresses whose first 15 bits are zeros.
const ROOT: usize = if cfg!(feature = "loom") { 2 } else { 1 << 16 };
/// Entries of a node; in a model four, for addresses that have bits only where those are told apart.
const FANOUT: usize = if cfg!(feature = "loom") { 4 } else { 256 };

/// Words before the root.
#[repr(C, align(64))]
#[derive(Debug)]
#[cfg_attr(feature = "loom", derive(Default))]
struct Head {
    /// Changes whenever nodes are given back.
    epoch: AtomicU32,
    /// Nodes from here on were never used.
    unused: AtomicU32,
    /// First of the nodes given back, plus one; the next one is in its entry 0.
    free: AtomicU32,
    /// The same of small nodes.
    small_unused: AtomicU32,
    small_free: AtomicU32,
    /// Not 0 while the table is built again.
    building: AtomicU32,
}

/// Process-private side of the table.
#[derive(Debug)]
pub(super) struct Table {
    head: *const Head,
    root: *const AtomicU32,
    small: *const Small,
    small_count: u32,
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
            .min(SMALL - 1)
    }

    /// One for each entry of the root that has prefixes below, and one to copy to.
    fn small_count(prefixes: u32) -> u32 {
        prefixes.min(ROOT as u32) + 1
    }

    fn nodes_at(prefixes: u32) -> usize {
        let small = Self::small_count(prefixes) as usize * size_of::<Small>();
        size_of::<Head>() + ROOT * size_of::<AtomicU32>() + small
    }

    /// Bytes of a table for that many prefixes.
    pub(super) fn bytes(prefixes: u32) -> usize {
        let entries = Self::node_count(prefixes) as usize * FANOUT;
        Self::nodes_at(prefixes) + entries * size_of::<AtomicU32>()
    }

    pub(super) fn new(at: *mut u8, prefixes: u32) -> Self {
        let root = at.wrapping_add(size_of::<Head>());
        Self {
            head: at.cast_const().cast(),
            root: root.cast_const().cast(),
            small: root
                .wrapping_add(ROOT * size_of::<AtomicU32>())
                .cast_const()
                .cast(),
            small_count: Self::small_count(prefixes),
            nodes: at
                .wrapping_add(Self::nodes_at(prefixes))
                .cast_const()
                .cast(),
            node_count: Self::node_count(prefixes),
        }
    }

    /// Loom's atomics do not begin as zero bytes.
    #[cfg(feature = "loom")]
    pub(super) fn make_atomics(&self) {
        use crate::sync::make;
        make::<Head>(self.head, 1);
        make::<AtomicU32>(self.root, ROOT);
        make::<Small>(self.small, self.small_count as usize);
        make::<AtomicU32>(self.nodes, self.node_count as usize * FANOUT);
    }

    #[inline(always)]
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

    /// The small node that `entry` names, if it names one.
    #[inline(always)]
    fn small(&self, entry: u32) -> Option<&Small> {
        let node = entry & !SMALL;
        // SAFETY: the node's number was checked.
        (entry & (SMALL | NODE) == SMALL && node < self.small_count)
            .then(|| unsafe { &*self.small.add(node as usize) })
    }

    /// The leaf of `address`, 0 for none.
    ///
    /// Which addresses have a small node nobody can predict, so that a wrong guess would cost more than the look at a
    /// node that does not count.
    #[inline(always)]
    pub(super) fn find(&self, address: u32) -> u32 {
        let head = self.head();
        let epoch = head.epoch.load(Ordering::Acquire);
        let entry = self.root((address >> 16) as usize).load(Ordering::Acquire);
        if entry & NODE == 0 && head.building.load(Ordering::Relaxed) == 0 {
            let is_small = entry & SMALL != 0;
            let number = select_unpredictable(is_small, entry, SMALL);
            if let Some(small) = self.small(number) {
                let below = small.find(address as u16);
                fence(Ordering::Acquire);
                if head.epoch.load(Ordering::Relaxed) == epoch {
                    return select_unpredictable(is_small, below, entry);
                }
            }
        }
        self.find_below(address)
    }

    /// Says whether the table is being built again; readers that are under way look again.
    ///
    /// The epoch changes before as well as after: a reader that has an entry of a table half built, and then finds that
    /// nobody builds it, would else see the epoch that it began with.
    pub(super) fn set_building(&self, building: bool) {
        let head = self.head();
        head.epoch.fetch_add(1, Ordering::Release);
        head.building.store(building.into(), Ordering::Release);
        head.epoch.fetch_add(1, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// As [`Self::find`], of addresses below nodes, and whatever a writer disturbed.
    #[inline(never)]
    fn find_below(&self, address: u32) -> u32 {
        loop {
            let epoch = self.head().epoch.load(Ordering::Acquire);
            if self.head().building.load(Ordering::Relaxed) != 0 {
                return BUILDING;
            }
            let mut entry = self.root((address >> 16) as usize).load(Ordering::Acquire);
            if let Some(small) = self.small(entry) {
                entry = small.find(address as u16);
            } else {
                for shift in [8, 0] {
                    match self.child(entry, (address >> shift) as usize % FANOUT) {
                        Some(child) => entry = child.load(Ordering::Acquire),
                        None => break,
                    }
                }
            }
            fence(Ordering::Acquire);
            if self.head().epoch.load(Ordering::Relaxed) == epoch {
                return entry;
            }
        }
    }

    /// The entry that covers `address` at depth `level` below `top`, its entry of the root; nodes are made on the way.
    fn descend<'a>(
        &'a self,
        top: &'a AtomicU32,
        address: u32,
        level: u32,
    ) -> Option<&'a AtomicU32> {
        let mut at = top;
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

    fn for_span(
        &self,
        top: &AtomicU32,
        address: u32,
        len: u32,
        change: &mut dyn FnMut(&AtomicU32),
    ) {
        let (level, span) = Self::span(address, len);
        let Some(first) = self.descend(top, address, level) else {
            return;
        };
        // A corrupted table may name one node many times.
        let mut nodes_left = self.node_count;
        for i in 0..span.count {
            // SAFETY: a prefix's entries lie side by side in one table: `first` is aligned to `count`.
            let entry = unsafe { &*std::ptr::from_ref(first).add(i) };
            self.for_leaves(entry, 2 - level, &mut nodes_left, change);
        }
        debug_assert!(span.first.is_multiple_of(span.count));
    }

    /// Calls `change` with the leaves at and below `entry`, which has at most `levels` levels of nodes.
    fn for_leaves(
        &self,
        entry: &AtomicU32,
        levels: u32,
        nodes_left: &mut u32,
        change: &mut dyn FnMut(&AtomicU32),
    ) {
        let value = entry.load(Ordering::Relaxed);
        if let Some(small) = self.small(value) {
            let rest = AtomicU32::new(small.read().rest);
            change(&rest);
            let (bits, len, leaf) = (0, 0, rest.into_inner());
            small.replace(Below { bits, len, leaf });
            return;
        }
        if value & NODE == 0 {
            return change(entry);
        }
        if levels == 0 || *nodes_left == 0 {
            return;
        }
        *nodes_left -= 1;
        for i in 0..FANOUT {
            if let Some(child) = self.child(value, i) {
                self.for_leaves(child, levels - 1, nodes_left, change);
            }
        }
    }

    /// Enters a prefix (or its new element).
    pub(super) fn insert(&self, address: u32, len: u32, leaf: u32, len_of: LenOf<'_>) {
        let top = self.root((address >> 16) as usize);
        if len > 16 && self.insert_small(top, Below::new(address, len, leaf)) {
            return;
        }
        self.insert_below(top, address, len, leaf, len_of);
    }

    fn insert_below(&self, top: &AtomicU32, address: u32, len: u32, leaf: u32, len_of: LenOf<'_>) {
        self.for_span(top, address, len, &mut |entry| {
            let old = entry.load(Ordering::Relaxed);
            if old == 0 || len_of(old) <= len {
                entry.store(leaf, Ordering::Release);
            }
        });
    }

    /// Enters a prefix into the small node at `top`, which is made if there is none. False if there are (now) nodes instead,
    /// into which it has to go.
    fn insert_small(&self, top: &AtomicU32, below: Below) -> bool {
        let entry = top.load(Ordering::Relaxed);
        if entry & NODE != 0 {
            return false;
        }
        let mut contents = match self.small(entry) {
            Some(small) if small.replace(below) => return true,
            Some(small) => small.read(),
            None => Contents::new(entry),
        };
        match contents.add(below) {
            Ok(()) => self.put_small(top, &contents),
            Err(Full) => {
                self.spread_out(top, &contents);
                false
            }
        }
    }

    /// Puts a new small node (the leaf alone if that is all) at `top` and gives the old one back.
    fn put_small(&self, top: &AtomicU32, contents: &Contents) -> bool {
        let new = if contents.prefixes().is_empty() {
            contents.rest
        } else {
            let Some(new) = self.take_small() else {
                return false;
            };
            if let Some(small) = self.small(new) {
                small.write(contents);
            }
            new
        };
        self.put_top(top, new);
        true
    }

    /// Replaces what is at `top`; a small node that was there is given back.
    fn put_top(&self, top: &AtomicU32, new: u32) {
        let old = top.swap(new, Ordering::AcqRel);
        if let Some(small) = self.small(old) {
            let head = self.head();
            head.epoch.fetch_add(1, Ordering::Release);
            fence(Ordering::SeqCst);
            let next = head.small_free.load(Ordering::Relaxed);
            small.link().store(u64::from(next), Ordering::Relaxed);
            head.small_free.store((old & !SMALL) + 1, Ordering::Relaxed);
        }
    }

    fn take_small(&self) -> Option<u32> {
        let head = self.head();
        let free = SMALL | head.small_free.load(Ordering::Relaxed).wrapping_sub(1) & !NODE;
        if let Some(small) = self.small(free) {
            let next = small.link().load(Ordering::Relaxed) as u32;
            head.small_free.store(next, Ordering::Relaxed);
            return Some(free);
        }
        let unused = head.small_unused.load(Ordering::Relaxed);
        self.small(SMALL | unused)?;
        head.small_unused.store(unused + 1, Ordering::Relaxed);
        Some(SMALL | unused)
    }

    /// Replaces a full small node by nodes.
    fn spread_out(&self, top: &AtomicU32, contents: &Contents) {
        let staged = AtomicU32::new(contents.rest);
        for below in contents.prefixes().iter().rev() {
            // From short to long: each one covers what is there.
            let (address, len) = (u32::from(below.bits), 16 + below.len);
            self.for_span(&staged, address, len, &mut |entry| {
                entry.store(below.leaf, Ordering::Relaxed);
            });
        }
        self.put_top(top, staged.into_inner());
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
        let top = self.root((address >> 16) as usize);
        if len > 16
            && let Some(small) = self.small(top.load(Ordering::Relaxed))
        {
            let mut contents = small.read();
            if contents.take(Below::new(address, len, leaf)) {
                self.put_small(top, &contents);
            }
            return;
        }
        self.for_span(top, address, len, &mut |entry| {
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
        let top = self.root((address >> 16) as usize);
        let Some(at) = self.descend(top, address, depth) else {
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
        for word in [
            &head.free,
            &head.unused,
            &head.small_free,
            &head.small_unused,
        ] {
            word.store(0, Ordering::Relaxed);
        }
    }
}
