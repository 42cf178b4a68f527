//! Indexes that are built when first asked for: types by name, declaration tags by what they tag.

use crate::parsed::Btf;
use crate::types::Kind;

/// Types of one blob by essential name: a hash table of chains through ids.
pub(crate) struct Names {
    first_id: u32,
    /// First id of each bucket's chain, 0 for none.
    buckets: Vec<u32>,
    /// For each type of the blob the next id of its chain, 0 for none.
    next: Vec<u32>,
}

/// The part of a name that CO-RE compares: without the flavor, which is what follows the last `___` (three underscores
/// between other characters).
#[must_use]
pub fn essential_name(name: &str) -> &str {
    let bytes = name.as_bytes();
    let Some(last) = bytes.len().checked_sub(5) else {
        return name;
    };
    let is_separator = |at: &usize| {
        let b = &bytes[*at..*at + 5];
        b[0] != b'_' && &b[1..4] == b"___" && b[4] != b'_'
    };
    let at = (0..=last).rev().find(is_separator);
    at.and_then(|at| name.get(..at + 1)).unwrap_or(name)
}

/// Hash of the essential part of the name that begins `text` and ends with it or with a zero byte: FNV-1a, spread once
/// more. One pass, because it runs over every name of a kernel.
fn hash(text: &[u8]) -> usize {
    let mut h = 0xcbf2_9ce4_8422_2325_u64;
    let mut essential = None;
    // The hash in front of the underscores that are being passed, and how many they are.
    let (mut before, mut run) = (h, 0usize);
    for (at, &byte) in text.iter().enumerate() {
        if byte == 0 {
            break;
        }
        if byte == b'_' {
            if run == 0 {
                before = h;
            }
            run += 1;
        } else {
            if run == 3 && at > 3 {
                essential = Some(before);
            }
            run = 0;
        }
        h = (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let h = essential.unwrap_or(h);
    usize::try_from((h ^ h >> 29) & 0xffff_ffff).unwrap_or(0)
}

impl Names {
    pub(crate) fn build(btf: &Btf) -> Self {
        let first_id = btf.first_id();
        let count = (btf.type_count() - first_id) as usize;
        let mut buckets = vec![0u32; (count + 1).next_power_of_two()];
        let mut next = vec![0u32; count];
        let mask = buckets.len() - 1;
        // From the last to the first, so that chains ascend.
        for id in (first_id..btf.type_count()).rev() {
            let Some(ty) = btf.get(id) else { continue };
            if ty.name_off() == 0 {
                continue;
            }
            let bucket = &mut buckets[hash(btf.str_rest(ty.name_off())) & mask];
            next[(id - first_id) as usize] = *bucket;
            *bucket = id;
        }
        Self {
            first_id,
            buckets,
            next,
        }
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
                let id = at;
                at = self.next[(id - self.first_id) as usize];
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
            let other = format!("{essential}___other");
            if essential != name {
                assert_eq!(hash(name.as_bytes()), hash(other.as_bytes()), "{name}");
            }
        }
    }
}
