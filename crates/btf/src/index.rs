//! Indexes that are built when first asked for: types by name, declaration tags by what they tag.

use crate::parsed::Btf;
use crate::types::Kind;

/// What an index holds. A kernel has more functions than named types, and most objects ask for types alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Named {
    /// Everything that has a name but functions.
    Types,
    /// `BTF_KIND_FUNC`.
    Functions,
}

impl Named {
    pub(crate) fn of(kind: Kind) -> Self {
        if kind == Kind::Func {
            Self::Functions
        } else {
            Self::Types
        }
    }
}

/// Types of one blob by essential name: a hash table of chains. Small, because most of the time to build it goes to fresh
/// pages of memory.
pub(crate) struct Names {
    /// Place + 1 of the first entry of each bucket's chain, 0 for none.
    buckets: Vec<u32>,
    entries: Vec<Entry>,
}

/// A named type, and the place + 1 of the next one in its chain, 0 for none.
struct Entry {
    id: u32,
    next: u32,
}

/// Types of a blob for each bucket: most have no name, and each index holds a part of the others.
const TYPES_PER_BUCKET: usize = 8;

/// The part of a name that CO-RE compares: without the flavor, which is what follows the last `___` (three underscores
/// between other characters).
#[must_use]
pub fn essential_name(name: &str) -> &str {
    name.get(..essential_bytes(name.as_bytes()).len())
        .unwrap_or(name)
}

fn essential_bytes(name: &[u8]) -> &[u8] {
    let is_separator = |b: &[u8]| matches!(b, [before, b'_', b'_', b'_', after] if *before != b'_' && *after != b'_');
    match name.windows(5).rposition(is_separator) {
        Some(at) => &name[..=at],
        None => name,
    }
}

/// One byte in each of a word's eight.
const EACH: u64 = 0x0101_0101_0101_0101;

/// The top bit of each byte of `word` that is zero.
const fn zero_bytes(word: u64) -> u64 {
    const LOW: u64 = EACH * 0x7f;
    !(((word & LOW) + LOW) | word | LOW)
}

/// The eight bytes of `text` from `at` on, with zeros behind its end.
fn word_at(text: &[u8], at: usize) -> u64 {
    if let Some(word) = text.get(at..).and_then(|rest| rest.first_chunk()) {
        return u64::from_le_bytes(*word);
    }
    let mut word = [0; 8];
    let rest = text.get(at..).unwrap_or_default();
    word[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(word)
}

/// Hash of the essential part of the name that begins `text` and ends with it or with a zero byte. Eight bytes at a time,
/// because it runs over every name of a kernel.
fn hash(text: &[u8]) -> usize {
    let (mut h, mut at, mut before) = (0u64, 0, 0u64);
    loop {
        let word = word_at(text, at);
        let end = zero_bytes(word);
        // The bytes in front of the end: all eight if there is none.
        let word = word & (end & end.wrapping_neg()).wrapping_sub(1) & !end;
        let underscores = zero_bytes(word ^ (EACH * u64::from(b'_')));
        // With those of the word before in front.
        let one = underscores << 8 | before >> 56;
        let two = underscores << 16 | before >> 48;
        if underscores & one & two != 0 {
            return hash_with_underscores(text);
        }
        h = mix(h, word);
        if end != 0 {
            return finish(h);
        }
        before = underscores;
        at += 8;
    }
}

const fn mix(h: u64, word: u64) -> u64 {
    (h.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn finish(h: u64) -> usize {
    usize::try_from(h >> 32).unwrap_or(0)
}

/// As [`hash`], for the few names that may have a flavor.
#[cold]
fn hash_with_underscores(text: &[u8]) -> usize {
    let end = text.iter().position(|&b| b == 0).unwrap_or(text.len());
    let name = essential_bytes(&text[..end]);
    let words = 0..=name.len() / 8;
    finish(words.fold(0, |h, i| mix(h, word_at(name, 8 * i))))
}

impl Names {
    pub(crate) fn build(btf: &Btf, what: Named) -> Self {
        let count = (btf.type_count() - btf.first_id()) as usize;
        let mut buckets = vec![0u32; (count / TYPES_PER_BUCKET + 1).next_power_of_two()];
        let mask = buckets.len() - 1;
        let mut entries = Vec::with_capacity(buckets.len());
        // From the last to the first, so that chains ascend.
        btf.for_each_name_backwards(what, &mut |id, name| {
            let bucket = &mut buckets[hash(name) & mask];
            entries.push(Entry { id, next: *bucket });
            // No more entries than types, whose ids are u32.
            *bucket = entries.len() as u32;
        });
        Self { buckets, entries }
    }

    /// The types whose essential name is that of `name`, ascending; with their names.
    pub(crate) fn find<'a>(
        &'a self,
        btf: &'a Btf,
        name: &str,
    ) -> impl Iterator<Item = (u32, &'a str)> + use<'a> {
        let mut at = self.buckets[hash(name.as_bytes()) & (self.buckets.len() - 1)];
        let name = essential_name(name).to_owned();
        std::iter::from_fn(move || {
            while at != 0 {
                let Entry { id, next } = self.entries[at as usize - 1];
                at = next;
                let found = btf.str(btf.get(id)?.name_off());
                if essential_name(found) == name {
                    return Some((id, found));
                }
            }
            None
        })
    }
}

/// Declaration tags: (tagged type, tag), sorted.
pub(crate) struct Tags(Vec<(u32, u32)>);

impl Tags {
    pub(crate) fn build(btf: &Btf) -> Self {
        let mut tags: Vec<(u32, u32)> = btf
            .own_types()
            .filter(|ty| ty.kind() == Kind::DeclTag)
            .map(|ty| (ty.size_or_type(), ty.id()))
            .collect();
        tags.sort_unstable();
        Self(tags)
    }

    pub(crate) fn find(&self, type_id: u32) -> &[(u32, u32)] {
        let start = self.0.partition_point(|&(tagged, _)| tagged < type_id);
        let end = self.0.partition_point(|&(tagged, _)| tagged <= type_id);
        &self.0[start..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_essential_name_wherever_it_ends() {
        for len in 0..40 {
            let name: String = ('a'..='z').cycle().take(len).collect();
            let mut buried = name.clone().into_bytes();
            buried.extend_from_slice(b"\0next\0");
            assert_eq!(hash(name.as_bytes()), hash(&buried), "{name}");
            let flavor = format!("{name}___some_flavor");
            if len > 0 {
                assert_eq!(hash(name.as_bytes()), hash(flavor.as_bytes()), "{flavor}");
            }
        }
    }

    #[test]
    fn flavors_are_no_part_of_the_name() {
        #[rustfmt::skip]
        const CASES: &[(&str, &str)] = &[
            ("task_struct",        "task_struct"),
            ("task_struct___new",  "task_struct"),
            ("a___b___c",          "a___b"),
            ("a____b",             "a____b"),
            ("___b",               "___b"),
            ("a___",               "a___"),
            ("_a___b",             "_a"),
            ("",                   ""),
        ];
        for &(name, essential) in CASES {
            assert_eq!(essential_name(name), essential);
            assert_eq!(essential_bytes(name.as_bytes()), essential.as_bytes());
            let other = format!("{essential}___other");
            if essential != name {
                assert_eq!(hash(name.as_bytes()), hash(other.as_bytes()), "{name}");
            }
        }
    }
}
