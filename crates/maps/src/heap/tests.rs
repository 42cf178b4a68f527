//! The heap on its own: shapes of trees, changes that are cut short, objects of the dead, memory that others damage.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use super::Heap;
use super::tree::Root;
use crate::region::Memory;
use skep_btf::{Field, FieldKind, Record};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of the objects here: a node of a tree, or of a list, and a key.
const BYTES: u64 = 40;
const KEY: u64 = 32;

fn heap() -> Heap {
    Heap::new(&Memory::Anonymous).unwrap()
}

/// A head or root in memory of this test.
#[derive(Default)]
struct Place(Box<[AtomicU64; 2]>);

impl Place {
    fn at(&self) -> *mut u8 {
        self.0[0].as_ptr().cast()
    }
}

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

thread_local! {
    static TOKEN: u32 = skep_sys::task::token();
}

fn token() -> u32 {
    TOKEN.with(|token| *token)
}

/// A token that no thread has any more.
fn dead() -> u32 {
    std::thread::spawn(token).join().unwrap()
}

impl Heap {
    fn key(&self, node: u64) -> u64 {
        self.load(node + KEY)
    }

    fn new_object(&self, key: u64) -> u64 {
        let object = self.allocate(BYTES, 0, token());
        self.word(object + KEY)
            .unwrap()
            .store(key, Ordering::Relaxed);
        object
    }

    fn add(&self, place: &Place, key: u64) {
        let object = self.new_object(key);
        let less = |other| key < self.key(other);
        // SAFETY: a root of this test, which is alone.
        assert!(unsafe { self.tree_add(place.at(), object, token(), less) });
    }

    /// Keys below `node` in order, and black nodes on each way down; the rules of red-black trees are checked.
    fn below(&self, node: u64, parent: u64, keys: &mut Vec<u64>) -> u32 {
        if node == 0 {
            return 1;
        }
        assert_eq!(self.load(node) & !1, parent, "the way back");
        let (left, right) = (self.load(node + 16), self.load(node + 8));
        if !self.is_black(node) {
            assert!(self.is_black(left) && self.is_black(right), "red below red");
        }
        let on_left = self.below(left, node, keys);
        keys.push(self.key(node));
        let on_right = self.below(right, node, keys);
        assert_eq!(on_left, on_right, "black nodes on every way");
        on_left + u32::from(self.is_black(node))
    }

    fn keys(&self, place: &Place) -> Vec<u64> {
        let mut keys = Vec::new();
        // SAFETY: a root of this test, which is alone.
        let (root, first) = unsafe { (self.tree_root(place.at()), self.tree_first(place.at())) };
        assert!(self.is_black(root));
        self.below(root, 0, &mut keys);
        assert_eq!(keys.first().copied(), (first != 0).then(|| self.key(first)));
        keys
    }

    fn journals_in_use(&self) -> usize {
        let journals = self.control().journals.iter();
        journals.filter(|journal| !journal.is_free()).count()
    }

    /// Every word of the blocks in use.
    fn contents(&self) -> Vec<u64> {
        let end = 1 << 13;
        let words = (0..end).map(|n| self.base() + super::CONTROL_BYTES as u64 + n * 8);
        words.map(|at| self.load(at)).collect()
    }
}

#[test]
fn trees_stay_in_order_and_in_balance() {
    let (heap, place, mut numbers) = (heap(), Place::default(), Numbers(3));
    let mut expected: Vec<u64> = Vec::new();
    for turn in 0..4000 {
        let grows = turn / 500 % 2 == 0;
        if expected.is_empty() || numbers.below(4) < if grows { 3 } else { 1 } {
            let key = numbers.below(200);
            heap.add(&place, key);
            expected.push(key);
        } else {
            // Some way down.
            // SAFETY: a root of this test, which is alone.
            let mut node = unsafe { heap.tree_root(place.at()) };
            for _ in 0..numbers.below(7) {
                let next = heap.tree_child(place.at(), node, numbers.below(2) == 0);
                node = if next == 0 { node } else { next };
            }
            let key = heap.key(node);
            // SAFETY: as above.
            assert!(unsafe { heap.tree_remove(place.at(), node, token()) });
            heap.drop_object(node, token());
            expected.swap_remove(expected.iter().position(|k| *k == key).unwrap());
        }
        expected.sort_unstable();
        assert_eq!(heap.keys(&place), expected);
    }
}

#[test]
fn a_change_that_death_cut_short_is_rolled_back() {
    let (heap, place, mut numbers) = (heap(), Place::default(), Numbers(5));
    let start = place.at() as usize;
    heap.learn(start..start + 16);
    for key in 0..60 {
        heap.add(&place, numbers.below(50) * 100 + key);
    }
    for _ in 0..40 {
        let (before, keys) = (heap.contents(), heap.keys(&place));
        let gone = dead();
        // SAFETY: a root of this test, which is alone.
        let tree = heap.tree(unsafe { Root::at(place.at()) }, gone);
        // SAFETY: as above.
        let mut node = unsafe { heap.tree_root(place.at()) };
        for _ in 0..numbers.below(5) {
            let next = heap.tree_child(place.at(), node, numbers.below(2) == 0);
            node = if next == 0 { node } else { next };
        }
        tree.remove(node);
        std::mem::forget(tree);
        assert!(heap.contents() != before, "something changed");
        heap.roll_back(gone, token());
        assert!(heap.contents() == before, "nothing changed");
        assert_eq!(heap.keys(&place), keys);
    }
}

#[test]
fn words_outside_of_known_memory_are_not_rolled_back() {
    let (heap, gone, word) = (heap(), dead(), AtomicU64::new(1));
    let change = heap.change(gone);
    change.set(&word, 2);
    std::mem::forget(change);
    heap.roll_back(gone, token());
    assert_eq!(word.load(Ordering::Relaxed), 2);
}

#[test]
fn what_the_dead_held_comes_back() {
    let (heap, gone) = (heap(), dead());
    let held = heap.allocate(BYTES, 0, gone);
    let stored = heap.allocate(BYTES, 0, gone);
    heap.stored(stored, gone);
    let live = heap.new_object(1);
    let bytes = heap.live_bytes();
    heap.give_back_for_the_dead(token());
    assert_eq!(heap.live_bytes(), bytes / 3 * 2);
    assert_eq!(heap.allocate(BYTES, 0, token()), held, "its block is free");
    assert_eq!(heap.key(live), 1);
}

/// A thread dies before a new block has its class.
#[test]
fn what_the_dead_held_is_found_behind_a_block_that_was_never_cut() {
    let (heap, gone) = (heap(), dead());
    let uncut = heap.allocate(1000, 0, gone);
    let held = heap.allocate(BYTES, 0, gone);
    let header = heap.header(uncut).unwrap();
    for word in [&header.kind, &header.references, &header.holder] {
        word.store(0, Ordering::Relaxed);
    }
    heap.give_back_for_the_dead(token());
    assert_eq!(heap.allocate(BYTES, 0, token()), held);
}

#[test]
fn memory_ends_and_comes_back() {
    let heap = heap();
    let large = |heap: &Heap| heap.allocate(4 << 20, 0, token());
    let all: Vec<u64> = std::iter::from_fn(|| Some(large(&heap)).filter(|at| *at != 0)).collect();
    assert!(all.len() > 150, "{}", all.len());
    assert_eq!(heap.allocate((4 << 20) + 1, 0, token()), 0);
    for at in &all {
        heap.drop_object(*at, token());
    }
    assert_eq!(heap.live_bytes(), 0);
    assert_ne!(large(&heap), 0);
}

#[test]
fn nobody_gets_an_object_that_went() {
    let heap = heap();
    let object = heap.new_object(1);
    assert!(heap.acquire(object));
    heap.drop_object(object, token());
    heap.drop_object(object, token());
    assert!(!heap.acquire(object), "its last reference is gone");
    assert_eq!(heap.live_bytes(), 0);
    assert_eq!(heap.new_object(2), object, "its block is free, once");
    assert_ne!(heap.new_object(3), object);
}

#[test]
fn whoever_dies_while_it_rolls_back_leaves_that_to_the_next_owner() {
    let (heap, place, first, second) = (heap(), Place::default(), dead(), dead());
    let start = place.at() as usize;
    heap.learn(start..start + 16);
    let change = heap.change(first);
    change.set(&place.0[0], 2);
    std::mem::forget(change);
    // The second one took the lock over, and the journal, and went no further.
    let journals = &heap.control().journals;
    journals[first as usize % journals.len()].give_to(first, second);
    heap.roll_back(second, token());
    assert_eq!(place.0[0].load(Ordering::Relaxed), 0);
}

/// A record with one owning field.
fn record(kind: FieldKind) -> Record {
    Record {
        fields: vec![Field {
            kind,
            offset: 24,
            size: 16,
        }],
    }
}

#[test]
fn a_long_chain_of_owners_goes_without_a_deep_stack() {
    let heap = heap();
    let list = record(FieldKind::ListHead {
        value_type: 1,
        node_offset: 0,
    });
    let owns = heap.type_of(&list, token()).unwrap();
    assert_eq!(heap.type_of(&list, token()), Some(owns), "known already");
    let first = heap.allocate(BYTES, owns, token());
    let mut last = first;
    for _ in 0..50_000 {
        let next = heap.allocate(BYTES, owns, token());
        let head = (last + 24) as *mut u8;
        heap.stored(next, token());
        // SAFETY: a head in an object of this test, which is alone.
        assert!(unsafe { heap.list_push(head, next, false, token()) });
        last = next;
    }
    heap.drop_object(first, token());
    assert_eq!(heap.live_bytes(), 0);
}

/// A thread dies while it changes a list in an object that only it holds.
#[test]
fn what_the_dead_were_changing_is_put_in_order_before_it_goes() {
    let (heap, gone) = (heap(), dead());
    let mut owner = record(FieldKind::ListHead {
        value_type: 1,
        node_offset: 0,
    });
    owner.fields.push(Field {
        kind: FieldKind::SpinLock,
        offset: 16,
        size: 4,
    });
    let owns = heap.type_of(&owner, token()).unwrap();
    let object = heap.allocate(BYTES, owns, gone);
    let head = (object + 24) as *mut u8;
    for key in 0..3 {
        let node = heap.new_object(key);
        heap.stored(node, token());
        // SAFETY: a head in an object of this test, which is alone.
        assert!(unsafe { heap.list_push(head, node, true, token()) });
    }
    heap.word(object + 16)
        .unwrap()
        .store(u64::from(gone), Ordering::Relaxed);
    let change = heap.change(gone);
    change.set(heap.word(object + 24).unwrap(), 0);
    std::mem::forget(change);
    heap.give_back_for_the_dead(token());
    assert_eq!(heap.live_bytes(), 0, "the list's objects go, too");
    assert_eq!(heap.journals_in_use(), 0);
}

/// A pointer may be anywhere in the window, and an access reach a little further.
#[test]
fn whatever_a_pointer_becomes_accesses_hit_the_file() {
    let heap = heap();
    let (first, end) = (
        heap.base() - (16 << 20),
        heap.base() + (4 << 30) + (16 << 20),
    );
    for at in (first..end).step_by(64 << 20).chain([end - 8]) {
        assert!(at < heap.base() || at >= heap.base() + (4 << 30) || heap.confined(at) == at);
        // SAFETY: in the window or its guards, aligned.
        let word = unsafe { AtomicU64::from_ptr(at as *mut u64) };
        let _readable = word.load(Ordering::Relaxed);
    }
    let copy = heap.new_object(5) + KEY + (3 << 30);
    // SAFETY: as above.
    let copy = unsafe { AtomicU64::from_ptr(copy as *mut u64) };
    assert_eq!(copy.load(Ordering::Relaxed), 5);
}

#[test]
fn an_object_is_no_longer_than_objects_can_be() {
    let heap = heap();
    let object = heap.new_object(1);
    heap.word(object - 16)
        .unwrap()
        .store(u64::MAX, Ordering::Relaxed);
    assert!(heap.object_bytes(object) <= 4 << 20);
}

#[test]
fn chains_without_end_are_left() {
    let heap = heap();
    let list = record(FieldKind::ListHead {
        value_type: 1,
        node_offset: 0,
    });
    let owns = heap.type_of(&list, token()).unwrap();
    let objects: Vec<u64> = (0..3000)
        .map(|_| heap.allocate(BYTES, owns, token()))
        .collect();
    let node = heap.new_object(1);
    for (offset, value) in [(0, node), (16, 1)] {
        heap.word(node + offset)
            .unwrap()
            .store(value, Ordering::Relaxed);
    }
    for object in objects {
        // Each one's list is a node that is its own successor.
        heap.word(object + 24)
            .unwrap()
            .store(node, Ordering::Relaxed);
        heap.drop_object(object, token());
    }
    assert_eq!(heap.key(node), 1);
}

/// Whatever others write into the file, nothing else is touched, and every operation ends.
#[test]
fn damage_stays_in_the_heap() {
    for seed in 0..30 {
        let (heap, tree, list) = (heap(), Place::default(), Place::default());
        let mut numbers = Numbers(seed);
        let mut objects = Vec::new();
        for turn in 0..400 {
            let key = numbers.below(99);
            if turn > 100 {
                scribble(&heap, &[&tree, &list], &mut numbers);
            }
            let node = heap.new_object_or_nothing(key);
            // SAFETY: heads and roots of this test, which is alone.
            unsafe {
                match numbers.below(6) {
                    0 | 1 => {
                        let _added =
                            heap.tree_add(tree.at(), node, token(), |other| key < heap.key(other));
                    }
                    2 => {
                        let _pushed = heap.list_push(list.at(), node, key & 1 == 0, token());
                    }
                    3 => {
                        let root = heap.tree_root(tree.at());
                        let _removed = heap.tree_remove(tree.at(), root, token());
                    }
                    4 => {
                        let popped = heap.list_pop(list.at(), key & 1 == 0, token());
                        heap.drop_object(popped, token());
                    }
                    _ => objects.push(node),
                }
            }
        }
        heap.roll_back(token(), token());
        for object in objects {
            heap.drop_object(object, token());
        }
    }
}

/// Writes numbers and addresses over words of blocks, heads and roots.
fn scribble(heap: &Heap, places: &[&Place], numbers: &mut Numbers) {
    let inside =
        |numbers: &mut Numbers| heap.base() + super::CONTROL_BYTES as u64 + numbers.below(400) * 8;
    let word = match numbers.below(4) {
        0 => numbers.below(1 << 30) << 20 | numbers.below(256),
        1 => 0x7fff_0000_0000 + numbers.below(1 << 20) * 8,
        _ => inside(numbers),
    };
    match numbers.below(6) {
        0 => places[numbers.below(2) as usize].0[numbers.below(2) as usize]
            .store(word, Ordering::Relaxed),
        1 => {
            let stacks = &heap.control().blocks.free;
            stacks[word as usize % stacks.len()].store(word, Ordering::Relaxed);
        }
        _ => {
            let at = inside(numbers);
            heap.word(at).unwrap().store(word, Ordering::Relaxed);
        }
    }
}

impl Heap {
    fn new_object_or_nothing(&self, key: u64) -> u64 {
        let object = self.allocate(BYTES, 0, token());
        if let Some(word) = self.word(object + KEY) {
            word.store(key, Ordering::Relaxed);
        }
        object
    }
}
