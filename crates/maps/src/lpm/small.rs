//! Small nodes of the IPv4 table: half a cache line that holds all prefixes longer than 16 bits below one entry of the root, as
//! long as they are few, and the leaf that covers the rest.
//!
//! A slot is one word: mask and prefix of the lower 16 bits of the address in the upper half, the leaf in the lower one. The
//! longest prefixes come first; the first slot that matches decides. The last slot in use has an empty mask, so one always
//! matches. A slot's leaf is replaced in place; any other change makes a new node.

use crate::sync::AtomicU64;
use std::hint::select_unpredictable;
use std::sync::atomic::Ordering;

/// Slots of a node.
const SLOTS: usize = 4;
/// Prefixes a node holds besides the leaf for the rest.
pub(super) const PREFIXES_MAX: usize = SLOTS - 1;

/// One node, half a cache line.
#[repr(C, align(32))]
#[derive(Debug)]
#[cfg_attr(feature = "loom", derive(Default))]
pub(super) struct Small([AtomicU64; SLOTS]);

/// A prefix below the root: the lower 16 bits of its address, how many of them count, its leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Below {
    pub(super) bits: u16,
    pub(super) len: u32,
    pub(super) leaf: u32,
}

/// What a small node holds, outside of shared memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contents {
    prefixes: [Below; PREFIXES_MAX],
    count: usize,
    /// The leaf of all other addresses.
    pub(super) rest: u32,
}

/// No room for another prefix.
#[derive(Debug)]
pub(super) struct Full;

impl Below {
    /// A prefix of more than 16 bits.
    pub(super) fn new(address: u32, len: u32, leaf: u32) -> Self {
        Self {
            bits: address as u16,
            len: len - 16,
            leaf,
        }
    }

    fn slot(self) -> u64 {
        let mask = !(0xffff_u32 >> self.len) as u16;
        u64::from(mask) << 48 | u64::from(self.bits & mask) << 32 | u64::from(self.leaf)
    }

    fn from_slot(slot: u64) -> Self {
        Self {
            bits: (slot >> 32) as u16,
            len: ((slot >> 48) as u16).leading_ones(),
            leaf: slot as u32,
        }
    }

    fn is_same_prefix(self, other: Self) -> bool {
        (self.slot() ^ other.slot()) >> 32 == 0
    }
}

impl Small {
    /// The leaf of the address with these lower bits.
    ///
    /// Compares with every slot: where the first match is nobody can predict.
    #[inline(always)]
    pub(super) fn find(&self, bits: u16) -> u32 {
        let mut leaf = 0;
        for slot in self.0.iter().rev() {
            let slot = slot.load(Ordering::Relaxed);
            let is_match = bits & (slot >> 48) as u16 == (slot >> 32) as u16;
            leaf = select_unpredictable(is_match, slot as u32, leaf);
        }
        leaf
    }

    /// What the node holds.
    pub(super) fn read(&self) -> Contents {
        let mut contents = Contents::new(0);
        for slot in &self.0 {
            let below = Below::from_slot(slot.load(Ordering::Relaxed));
            if below.len == 0 || contents.count == PREFIXES_MAX {
                contents.rest = below.leaf;
                break;
            }
            contents.prefixes[contents.count] = below;
            contents.count += 1;
        }
        contents
    }

    /// Fills a node that nobody sees yet.
    pub(super) fn write(&self, contents: &Contents) {
        let rest = Below {
            bits: 0,
            len: 0,
            leaf: contents.rest,
        };
        let all = contents.prefixes().iter().chain([&rest]);
        for (slot, below) in self.0.iter().zip(all) {
            slot.store(below.slot(), Ordering::Relaxed);
        }
    }

    /// Gives the prefix (of length 0: the rest) another leaf in place; false if it is not there.
    pub(super) fn replace(&self, below: Below) -> bool {
        for slot in &self.0 {
            let found = Below::from_slot(slot.load(Ordering::Relaxed));
            if found.is_same_prefix(below) {
                slot.store(below.slot(), Ordering::Release);
                return true;
            }
            if found.len == 0 {
                break;
            }
        }
        false
    }

    /// The word that links free nodes.
    pub(super) fn link(&self) -> &AtomicU64 {
        &self.0[0]
    }
}

impl Contents {
    /// No prefix yet.
    pub(super) fn new(rest: u32) -> Self {
        let none = Below {
            bits: 0,
            len: 0,
            leaf: 0,
        };
        Self {
            prefixes: [none; PREFIXES_MAX],
            count: 0,
            rest,
        }
    }

    /// The prefixes, longest first.
    pub(super) fn prefixes(&self) -> &[Below] {
        &self.prefixes[..self.count]
    }

    /// Adds a prefix that is not there.
    pub(super) fn add(&mut self, below: Below) -> Result<(), Full> {
        if self.count == PREFIXES_MAX {
            return Err(Full);
        }
        let at = self.prefixes().partition_point(|p| p.len > below.len);
        self.prefixes.copy_within(at..self.count, at + 1);
        self.prefixes[at] = below;
        self.count += 1;
        Ok(())
    }

    /// Takes a prefix out; false if it is not there.
    pub(super) fn take(&mut self, below: Below) -> bool {
        let Some(at) = self.prefixes().iter().position(|p| p.is_same_prefix(below)) else {
            return false;
        };
        self.prefixes.copy_within(at + 1..self.count, at);
        self.count -= 1;
        true
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn below(bits: u16, len: u32, leaf: u32) -> Below {
        Below { bits, len, leaf }
    }

    #[test]
    fn the_longest_prefix_decides() {
        let mut contents = Contents::new(9);
        contents.add(below(0x1200, 8, 1)).unwrap();
        contents.add(below(0x1234, 16, 2)).unwrap();
        contents.add(below(0x1230, 12, 3)).unwrap();
        let node = Small(Default::default());
        node.write(&contents);
        for (bits, leaf) in [(0x1234, 2), (0x1235, 3), (0x1240, 1), (0x1300, 9)] {
            assert_eq!(node.find(bits), leaf, "{bits:#x}");
        }
        assert!(node.replace(below(0x1230, 12, 4)));
        assert!(!node.replace(below(0x1230, 13, 4)));
        assert!(node.replace(below(0, 0, 8)));
        assert_eq!([node.find(0x1235), node.find(0)], [4, 8]);
        let mut again = node.read();
        assert!(again.take(below(0x1234, 16, 0)));
        assert!(!again.take(below(0x1234, 16, 0)));
        assert_eq!(again.prefixes().len(), 2);
        again.add(below(0x4321, 16, 1)).unwrap();
        assert!(again.add(below(0xffff, 16, 1)).is_err());
    }
}
