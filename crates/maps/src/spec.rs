//! What a map is to be.

use skep_abi::{Errno, MapType};
use skep_btf::Record;
use skep_sys::mem::PAGE;
use std::fs::File;
use std::os::unix::fs::FileExt;
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
    /// What the creator wants to find in the file again (name, BTF); the map does not look at it.
    pub notes: Arc<[u8]>,
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
            notes: Arc::default(),
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
const MAGIC: [u8; 8] = *b"skepmap\x02";
/// Bytes of the numbers behind it.
const NUMBERS_BYTES: usize = 40;
/// Most CPUs a map can have copies for.
const CPUS_MAX: u32 = 8192;
/// Most bytes of notes.
const NOTES_BYTES_MAX: u64 = 1 << 24;

impl MapSpec {
    /// Writes the numbers that describe the map into its file's last page.
    pub(crate) fn write_to(&self, page: *mut [u8; PAGE]) {
        let numbers = [
            self.map_type.id(),
            self.key_size,
            self.value_size,
            self.max_entries,
            self.map_flags,
            self.cpus,
            self.map_extra as u32,
            (self.map_extra >> 32) as u32,
            u32::try_from(self.notes.len()).unwrap_or(u32::MAX),
            u32::from(self.has_btf),
        ];
        let mut bytes = [0u8; 8 + NUMBERS_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        for (to, number) in bytes[8..].chunks_exact_mut(4).zip(numbers) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        // SAFETY: the page belongs to a file that was just made and nobody else knows.
        unsafe { page.cast::<[u8; 8 + NUMBERS_BYTES]>().write(bytes) };
    }

    /// What `file` says that its map is, special fields left out. Checked as for creation.
    ///
    /// # Errors
    /// `EINVAL` for anything but the file of a map.
    pub(crate) fn read_from(file: &File) -> Result<Self, Errno> {
        let invalid = |_| Errno::EINVAL;
        let len = file.metadata().map_err(invalid)?.len();
        let page_at = len.checked_sub(PAGE as u64).ok_or(Errno::EINVAL)?;
        let mut bytes = [0u8; 8 + NUMBERS_BYTES];
        file.read_exact_at(&mut bytes, page_at).map_err(invalid)?;
        let (magic, numbers) = bytes.split_at(8);
        if magic != MAGIC {
            return Err(Errno::EINVAL);
        }
        let number = |i: usize| {
            let at = &numbers[i * 4..i * 4 + 4];
            u32::from_le_bytes([at[0], at[1], at[2], at[3]])
        };
        let notes_len = u64::from(number(8));
        let pages = notes_len.next_multiple_of(PAGE as u64);
        if notes_len > NOTES_BYTES_MAX || pages > page_at {
            return Err(Errno::EINVAL);
        }
        let mut notes = vec![0u8; notes_len as usize];
        file.read_exact_at(&mut notes, page_at - pages)
            .map_err(invalid)?;
        let map_type = MapType::from_id(number(0)).ok_or(Errno::EINVAL)?;
        let spec = Self {
            map_flags: number(4),
            map_extra: u64::from(number(6)) | u64::from(number(7)) << 32,
            has_btf: number(9) != 0,
            notes: notes.into(),
            ..Self::new(map_type, number(1), number(2), number(3), number(5))
        };
        if spec.cpus == 0 || spec.cpus > CPUS_MAX || spec.check().is_err() {
            return Err(Errno::EINVAL);
        }
        Ok(spec)
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
