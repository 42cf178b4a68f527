//! Indexes that are built when first asked for: types by name, declaration tags by what they tag.

use crate::parsed::Btf;
use crate::types::Kind;

/// Types of one blob by name: a hash table of chains through ids.
pub(crate) struct Names {
    first_id: u32,
    /// First id of each bucket's chain, 0 for none.
    buckets: Vec<u32>,
    /// For each type of the blob the next id of its chain, 0 for none.
    next: Vec<u32>,
}

/// FNV-1a over the bytes, spread once more.
fn hash(name: &[u8]) -> usize {
    let mut h = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in name {
        h = (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
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
            let name = btf.str_bytes(ty.name_off()).unwrap_or_default();
            let bucket = &mut buckets[hash(name) & mask];
            next[(id - first_id) as usize] = *bucket;
            *bucket = id;
        }
        Self {
            first_id,
            buckets,
            next,
        }
    }

    pub(crate) fn find<'a>(
        &'a self,
        btf: &'a Btf,
        name: &'a str,
    ) -> impl Iterator<Item = u32> + 'a {
        let mut at = self.buckets[hash(name.as_bytes()) & (self.buckets.len() - 1)];
        std::iter::from_fn(move || {
            while at != 0 {
                let id = at;
                at = self.next[(id - self.first_id) as usize];
                let found = btf.get(id).map(|ty| ty.name_off())?;
                if btf.str_bytes(found) == Some(name.as_bytes()) {
                    return Some(id);
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
