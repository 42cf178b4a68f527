//! What a map is to be.

use skep_abi::MapType;
use skep_btf::Record;
use std::sync::Arc;

/// The arguments of a map's creation, handles resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MapSpec {
    /// Map type.
    pub map_type: MapType,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Maximal number of elements.
    pub max_entries: u32,
    /// `BPF_F_*`
    pub map_flags: u32,
    /// `map_extra`: hash functions of a bloom filter, address of an arena.
    pub map_extra: u64,
    /// Per-CPU slots, `num_possible_cpus`.
    pub cpus: u32,
    /// Special fields of the value.
    pub record: Arc<Record>,
    /// Key and value have BTF types.
    pub has_btf: bool,
}

impl MapSpec {
    /// A map without flags or special fields, for `cpus` per-CPU slots.
    #[must_use]
    pub fn new(
        map_type: MapType,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        cpus: u32,
    ) -> Self {
        Self {
            map_type,
            key_size,
            value_size,
            max_entries,
            map_flags: 0,
            map_extra: 0,
            cpus,
            record: Arc::default(),
            has_btf: false,
        }
    }

    /// With `BPF_F_*` flags.
    #[must_use]
    pub fn with_flags(mut self, map_flags: u32) -> Self {
        self.map_flags = map_flags;
        self
    }
}

/// First bytes of the describing page.
const MAGIC: [u8; 8] = *b"skepmap\x01";

impl MapSpec {
    /// Writes the numbers that describe the map into its file's last page.
    pub(crate) fn write_to(&self, page: *mut [u8; skep_sys::mem::PAGE]) {
        let numbers = [
            self.map_type.id(),
            self.key_size,
            self.value_size,
            self.max_entries,
            self.map_flags,
            self.cpus,
            self.map_extra as u32,
            (self.map_extra >> 32) as u32,
        ];
        let mut bytes = [0u8; 40];
        bytes[..8].copy_from_slice(&MAGIC);
        for (to, number) in bytes[8..].chunks_exact_mut(4).zip(numbers) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        // SAFETY: the page belongs to a file that was just made and nobody else knows.
        unsafe { page.cast::<[u8; 40]>().write(bytes) };
    }

    /// Bytes from one value to the next where values are laid out in rows of 8 bytes.
    #[must_use]
    pub fn value_stride(&self) -> usize {
        (self.value_size as usize).next_multiple_of(8)
    }

    /// Do values exist once a CPU?
    #[must_use]
    pub fn is_percpu(&self) -> bool {
        matches!(
            self.map_type,
            MapType::PercpuArray
                | MapType::PercpuHash
                | MapType::LruPercpuHash
                | MapType::PercpuCgroupStorage
        )
    }
}
