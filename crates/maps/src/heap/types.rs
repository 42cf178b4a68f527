//! What objects own, by type: written once into shared memory, so that every process can release an object.
//!
//! The table has a line for each different way to own something; programs of all processes use the same lines. Line 0 owns
//! nothing.

use super::Heap;
use crate::{lock, sync};
use skep_btf::{Field, FieldKind, KptrTag, Record};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Lines of the table.
const LINES: usize = 1024;
/// Fields in a line; no structure has more special ones (`BTF_FIELDS_MAX`).
const FIELDS: usize = 15;

/// The table.
#[repr(C)]
pub(super) struct Control {
    lock: sync::AtomicU32,
    /// Lines that are written.
    count: AtomicU32,
    lines: [[AtomicU64; FIELDS]; LINES],
}

/// A special field that matters when its owner goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owned {
    /// A pointer to an object.
    Pointer,
    /// A list of objects, whose nodes lie so many bytes inside.
    List(u32),
    /// A tree of objects.
    Tree(u32),
    /// The lock of the lists and trees beside it.
    Lock,
}

impl Owned {
    /// What a field is, if it matters.
    pub(super) fn of(field: &Field) -> Option<Self> {
        Some(match &field.kind {
            FieldKind::Kptr {
                tag: KptrTag::Ref | KptrTag::Percpu,
                ..
            } => Self::Pointer,
            FieldKind::ListHead { node_offset, .. } => Self::List(*node_offset),
            FieldKind::RbRoot { node_offset, .. } => Self::Tree(*node_offset),
            FieldKind::SpinLock => Self::Lock,
            _ => return None,
        })
    }

    /// As a word, with its offset; never 0. `None` for offsets that no object is long enough for.
    fn word(self, offset: u32) -> Option<u64> {
        let (kind, node) = match self {
            Self::Pointer => (1, 0),
            Self::List(node) => (2, node),
            Self::Tree(node) => (3, node),
            Self::Lock => (4, 0),
        };
        let (offset, node) = (u16::try_from(offset).ok()?, u16::try_from(node).ok()?);
        Some(kind | u64::from(offset) << 16 | u64::from(node) << 32)
    }

    fn from_word(word: u64) -> Option<(Self, u64)> {
        let node = u32::from((word >> 32) as u16);
        let owned = match word as u16 {
            1 => Self::Pointer,
            2 => Self::List(node),
            3 => Self::Tree(node),
            4 => Self::Lock,
            _ => return None,
        };
        Some((owned, u64::from((word >> 16) as u16)))
    }
}

impl Heap {
    /// The line for what objects of `record` own; `None` if the table is full, or objects would be longer than they can be.
    #[must_use]
    pub fn type_of(&self, record: &Record, token: u32) -> Option<u32> {
        let mut line = [0u64; FIELDS];
        let fields = record.fields.iter();
        let fields = fields.filter_map(|f| Some((Owned::of(f)?, f.offset)));
        for (to, (owned, offset)) in line.iter_mut().zip(fields) {
            *to = owned.word(offset)?;
        }
        if line[0] == 0 {
            return Some(0);
        }
        let table = &self.control().types;
        // Lines are counted last: what a dead owner left unfinished is not there.
        lock::take(&table.lock, token);
        let found = table.find_or_add(&line);
        lock::give(&table.lock);
        found
    }

    /// The fields of a line, with their offsets.
    pub(super) fn fields(&self, line: u32) -> impl Iterator<Item = (Owned, u64)> {
        let written = (line as usize)
            .checked_sub(1)
            .and_then(|line| self.control().types.lines.get(line));
        let words = written.into_iter().flatten();
        words.map_while(|word| Owned::from_word(word.load(Ordering::Relaxed)))
    }
}

impl Control {
    fn find_or_add(&self, line: &[u64; FIELDS]) -> Option<u32> {
        let count = (self.count.load(Ordering::Acquire) as usize).min(LINES);
        let same = |known: &[AtomicU64; FIELDS]| {
            known
                .iter()
                .zip(line)
                .all(|(a, b)| a.load(Ordering::Relaxed) == *b)
        };
        if let Some(at) = self.lines[..count].iter().position(same) {
            return u32::try_from(at + 1).ok();
        }
        for (to, word) in self.lines.get(count)?.iter().zip(line) {
            to.store(*word, Ordering::Relaxed);
        }
        let next = u32::try_from(count + 1).ok()?;
        self.count.store(next, Ordering::Release);
        Some(next)
    }
}
