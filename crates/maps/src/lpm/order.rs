//! The trie that walks follow: one node a prefix, and one wherever two prefixes part. Lookups do not need it.
//!
//! A walk meets what is below a prefix before the prefix itself, the half whose next bit is 0 first: from more to less
//! specific, as in the kernel. After a key that is not in the map it begins again.
//!
//! Whoever reads or changes it holds the map's lock. Lengths grow on the way down, so that even in a trie which somebody
//! scribbled over every way ends.

use std::sync::atomic::{AtomicU32, Ordering};

/// Words before the nodes.
#[repr(C)]
#[derive(Debug)]
struct Head {
    root: AtomicU32,
    /// Nodes from here on were never used.
    unused: AtomicU32,
    /// First of the nodes given back; the next one is its first child.
    free: AtomicU32,
    reserved: AtomicU32,
}

/// A node. Links are numbers of nodes plus one, 0 for none.
#[repr(C)]
#[derive(Debug)]
struct Node {
    child: [AtomicU32; 2],
    parent: AtomicU32,
    /// Bits that all prefixes from here on have in common.
    len: AtomicU32,
    /// The element of the prefix that ends here plus one, 0 if none does.
    leaf: AtomicU32,
}

/// Process-private side of the trie.
#[derive(Debug)]
pub(super) struct Order {
    head: *const Head,
    nodes: *const Node,
    node_count: u32,
    /// The link of each element's node.
    node_of: *const AtomicU32,
    elements: u32,
}

/// Tells the address of an element.
type AddressOf<'a> = &'a dyn Fn(u32) -> &'a [u8];

/// Bit `at` of an address, from the front.
fn bit(address: &[u8], at: u32) -> usize {
    let byte = address.get(at as usize / 8).copied().unwrap_or(0);
    usize::from(byte >> (7 - at % 8) & 1)
}

/// How many bits the beginnings of two addresses have in common, `most` at most.
fn common(a: &[u8], b: &[u8], most: u32) -> u32 {
    let mut bits = 0;
    for (a, b) in a.iter().zip(b) {
        bits += (a ^ b).leading_zeros();
        if a != b || bits >= most {
            break;
        }
    }
    bits.min(most)
}

fn get(word: &AtomicU32) -> u32 {
    word.load(Ordering::Relaxed)
}

fn set(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Relaxed);
}

impl Node {
    fn children(&self) -> [u32; 2] {
        [get(&self.child[0]), get(&self.child[1])]
    }
}

impl Order {
    /// Each prefix has a node, and between two at most one where they part.
    fn node_count(prefixes: u32) -> u32 {
        prefixes.saturating_mul(2)
    }

    fn elements_at(prefixes: u32) -> usize {
        size_of::<Head>() + Self::node_count(prefixes) as usize * size_of::<Node>()
    }

    /// Bytes for so many prefixes and elements.
    pub(super) fn bytes(prefixes: u32, elements: u32) -> usize {
        Self::elements_at(prefixes) + elements as usize * size_of::<AtomicU32>()
    }

    /// Over the memory at `at`, zero bytes when new.
    pub(super) fn new(at: *mut u8, prefixes: u32, elements: u32) -> Self {
        let part = |offset: usize| at.wrapping_add(offset).cast_const();
        Self {
            head: part(0).cast(),
            nodes: part(size_of::<Head>()).cast(),
            node_count: Self::node_count(prefixes),
            node_of: part(Self::elements_at(prefixes)).cast(),
            elements,
        }
    }

    fn head(&self) -> &Head {
        // SAFETY: lies in the map's memory, atomics only.
        unsafe { &*self.head }
    }

    fn node(&self, link: u32) -> Option<&Node> {
        let number = link.wrapping_sub(1);
        // SAFETY: the number was checked; atomics only.
        (number < self.node_count).then(|| unsafe { &*self.nodes.add(number as usize) })
    }

    fn node_of(&self, element: u32) -> Option<&AtomicU32> {
        // SAFETY: the number was checked.
        (element < self.elements).then(|| unsafe { &*self.node_of.add(element as usize) })
    }

    /// The element whose prefix ends at `node`.
    fn leaf(&self, node: &Node) -> Option<u32> {
        let element = get(&node.leaf).checked_sub(1)?;
        (element < self.elements).then_some(element)
    }

    /// The child of `node` on side `side`, if it is further down.
    fn child(&self, node: &Node, side: usize) -> Option<(u32, &Node)> {
        let link = get(&node.child[side]);
        let child = self.node(link)?;
        (get(&child.len) > get(&node.len)).then_some((link, child))
    }

    /// A new node.
    fn make(&self, len: u32, leaf: u32) -> Option<(u32, &Node)> {
        let head = self.head();
        let mut link = get(&head.free);
        if let Some(free) = self.node(link) {
            set(&head.free, get(&free.child[0]));
        } else {
            link = get(&head.unused).wrapping_add(1);
            self.node(link)?;
            set(&head.unused, link);
        }
        let node = self.node(link)?;
        for (word, value) in [(&node.len, len), (&node.leaf, leaf), (&node.parent, 0)] {
            set(word, value);
        }
        node.child.iter().for_each(|c| set(c, 0));
        if let Some(place) = self.node_of(leaf.wrapping_sub(1)) {
            set(place, link);
        }
        Some((link, node))
    }

    fn give_back(&self, link: u32, node: &Node) {
        let free = &self.head().free;
        set(&node.child[0], get(free));
        set(free, link);
    }

    /// Puts `new` where `old` was below the node `parent` (the root if there is none).
    fn hang(&self, parent: u32, old: u32, new: u32) {
        let place = match self.node(parent) {
            Some(p) if get(&p.child[0]) == old => &p.child[0],
            Some(p) => &p.child[1],
            None => &self.head().root,
        };
        set(place, new);
        if let Some(node) = self.node(new) {
            set(&node.parent, parent);
        }
    }

    fn adopt(&self, parent: u32, node: &Node, side: usize, child: u32) {
        set(&node.child[side], child);
        if let Some(child) = self.node(child) {
            set(&child.parent, parent);
        }
    }

    /// An element that has as many of the first bits of this prefix as any has.
    fn nearest(&self, address: &[u8], len: u32) -> Option<u32> {
        let mut node = self.node(get(&self.head().root))?;
        while get(&node.len) < len
            && let Some((_, child)) = self.child(node, bit(address, get(&node.len)))
        {
            node = child;
        }
        while get(&node.leaf) == 0 {
            (_, node) = self.child(node, 0).or_else(|| self.child(node, 1))?;
        }
        self.leaf(node)
    }

    /// Enters the prefix of `element`, which is not there yet.
    pub(super) fn insert(&self, address: &[u8], len: u32, element: u32, address_of: AddressOf<'_>) {
        let root = &self.head().root;
        let Some(near) = self.nearest(address, len) else {
            set(
                root,
                self.make(len, element + 1).map_or(0, |(link, _)| link),
            );
            return;
        };
        let near_address = address_of(near);
        let near_len = self
            .node_of(near)
            .and_then(|link| self.node(get(link)))
            .map_or(0, |node| get(&node.len));
        let shared = common(address, near_address, len.min(near_len));
        let (mut parent, mut at) = (0, get(root));
        while let Some(node) = self.node(at).filter(|n| get(&n.len) < shared) {
            parent = at;
            at = self
                .child(node, bit(address, get(&node.len)))
                .map_or(0, |(link, _)| link);
        }
        let Some(node) = self.node(at) else { return };
        if get(&node.len) > shared {
            self.insert_above(parent, at, shared, (address, len, element), near_address);
        } else if shared == len {
            set(&node.leaf, element + 1);
            if let Some(place) = self.node_of(element) {
                set(place, at);
            }
        } else if let Some((link, _)) = self.make(len, element + 1) {
            self.adopt(at, node, bit(address, shared), link);
        }
    }

    /// Enters a prefix that has only `shared` bits with all below the node `at`, one of whose addresses is `other`.
    fn insert_above(
        &self,
        parent: u32,
        at: u32,
        shared: u32,
        (address, len, element): (&[u8], u32, u32),
        other: &[u8],
    ) {
        let Some((link, node)) = self.make(len, element + 1) else {
            return;
        };
        if shared == len {
            self.hang(parent, at, link);
            return self.adopt(link, node, bit(other, len), at);
        }
        let Some((fork, node)) = self.make(shared, 0) else {
            return self.give_back(link, node);
        };
        self.hang(parent, at, fork);
        self.adopt(fork, node, bit(address, shared), link);
        self.adopt(fork, node, bit(other, shared), at);
    }

    /// The prefix of `old` is in the element `new` from now on.
    pub(super) fn replace(&self, old: u32, new: u32) {
        let Some([was, is]) = self.node_of(old).zip(self.node_of(new)).map(<[_; 2]>::from) else {
            return;
        };
        let link = get(was);
        if let Some(node) = self.node(link).filter(|n| get(&n.leaf) == old + 1) {
            set(&node.leaf, new + 1);
            set(is, link);
        }
    }

    /// Takes the prefix of an element out.
    pub(super) fn remove(&self, element: u32) {
        let link = self.node_of(element).map_or(0, get);
        let Some(node) = self.node(link).filter(|n| get(&n.leaf) == element + 1) else {
            return;
        };
        set(&node.leaf, 0);
        let parent = get(&node.parent);
        self.cut(link, node);
        if let Some(node) = self.node(parent).filter(|n| get(&n.leaf) == 0) {
            self.cut(parent, node);
        }
    }

    /// Takes a node out that holds nothing and where nothing parts.
    fn cut(&self, link: u32, node: &Node) {
        let [a, b] = node.children();
        if a == 0 || b == 0 {
            self.hang(get(&node.parent), link, a | b);
            self.give_back(link, node);
        }
    }

    /// The element with which a walk goes on after this key, or begins.
    pub(super) fn next(&self, after: Option<u32>) -> Option<u32> {
        let after = after.and_then(|element| self.node_of(element)).map(get);
        match after.and_then(|link| Some((link, self.node(link)?))) {
            Some((link, node)) => self.following(link, node),
            None => self.first_below(get(&self.head().root)),
        }
    }

    fn following<'a>(&'a self, mut link: u32, mut node: &'a Node) -> Option<u32> {
        loop {
            let above = get(&node.parent);
            let parent = self.node(above).filter(|p| get(&p.len) < get(&node.len))?;
            let [first, second] = parent.children();
            if first == link && second != 0 {
                return self.first_below(second);
            }
            if let Some(element) = self.leaf(parent) {
                return Some(element);
            }
            (link, node) = (above, parent);
        }
    }

    fn first_below(&self, link: u32) -> Option<u32> {
        let mut node = self.node(link)?;
        while let Some((_, child)) = self.child(node, 0).or_else(|| self.child(node, 1)) {
            node = child;
        }
        self.leaf(node)
    }

    /// Empties the trie.
    pub(super) fn clear(&self) {
        let head = self.head();
        [&head.root, &head.unused, &head.free]
            .into_iter()
            .for_each(|word| set(word, 0));
    }
}
